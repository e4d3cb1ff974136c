"""Losses, penalties and accuracies: pure functions of arrays, one value for a minibatch.

Argument order: model outputs first, labels second (`mean_squared_error` alone keeps the order of the
TensorFlow 1 function whose semantics it has). Nothing here knows of models, optimizers or data.
"""

from jaxexp.losses.accuracies import accuracy as accuracy
from jaxexp.losses.likelihoods import softmax_cross_entropy as softmax_cross_entropy
from jaxexp.losses.penalties import l2_penalty as l2_penalty
from jaxexp.losses.regression import half_squared_error as half_squared_error

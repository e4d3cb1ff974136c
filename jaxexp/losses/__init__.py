"""Losses, penalties and accuracies: pure functions of arrays, one value for a minibatch.

Argument order: model outputs first, labels second (`mean_squared_error` alone keeps the order of the
TensorFlow 1 function whose semantics it has). Nothing here knows of models, optimizers or data.
"""

from jaxexp.losses.accuracies import accuracy as accuracy
from jaxexp.losses.accuracies import threshold_accuracy as threshold_accuracy
from jaxexp.losses.dice import ClassWeights as ClassWeights
from jaxexp.losses.dice import foreground_dice as foreground_dice
from jaxexp.losses.dice import generalized_dice as generalized_dice
from jaxexp.losses.dice import soft_dice as soft_dice
from jaxexp.losses.likelihoods import Rows as Rows
from jaxexp.losses.likelihoods import bernoulli_nll as bernoulli_nll
from jaxexp.losses.likelihoods import categorical_nll as categorical_nll
from jaxexp.losses.likelihoods import gaussian_nll as gaussian_nll
from jaxexp.losses.likelihoods import gaussian_nll_from_mse as gaussian_nll_from_mse
from jaxexp.losses.likelihoods import sigmoid_cross_entropy as sigmoid_cross_entropy
from jaxexp.losses.likelihoods import softmax_cross_entropy as softmax_cross_entropy
from jaxexp.losses.margins import focal as focal
from jaxexp.losses.margins import generalized_cross_entropy as generalized_cross_entropy
from jaxexp.losses.margins import hinge as hinge
from jaxexp.losses.margins import ramp as ramp
from jaxexp.losses.margins import smoothed_zero_one as smoothed_zero_one
from jaxexp.losses.penalties import l2_penalty as l2_penalty
from jaxexp.losses.regression import Reduction as Reduction
from jaxexp.losses.regression import half_squared_error as half_squared_error
from jaxexp.losses.regression import mean_squared_error as mean_squared_error

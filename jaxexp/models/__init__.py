"""Models as pairs of pure functions: a multilayer perceptron, and any flax module.

Bare pytrees, Equinox and Haiku models need nothing from here: an experiment's functions call them as they are.
"""

from jaxexp.models.functional import functional as functional
from jaxexp.models.initializers import uniform_symmetric as uniform_symmetric
from jaxexp.models.lstm import lstm_regressor as lstm_regressor
from jaxexp.models.mlp import mlp as mlp
from jaxexp.models.model import Model as Model

"""Models as pairs of pure functions: any flax module, a perceptron, an LSTM, and nets that segment images.

Bare pytrees, Equinox and Haiku models need nothing from here: an experiment's functions call them as they are.
"""

from jaxexp.models.activations import tanh as tanh
from jaxexp.models.cnn import cnn as cnn
from jaxexp.models.functional import functional as functional
from jaxexp.models.initializers import uniform_symmetric as uniform_symmetric
from jaxexp.models.lstm import lstm_regressor as lstm_regressor
from jaxexp.models.mlp import mlp as mlp
from jaxexp.models.model import Model as Model
from jaxexp.models.segmenter import segmenter as segmenter
from jaxexp.models.u_net import u_net as u_net

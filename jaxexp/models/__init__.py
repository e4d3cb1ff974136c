"""Models as pairs of pure functions: any flax module, a perceptron, an LSTM, and nets that segment images.

Bare pytrees, Equinox and Haiku models need nothing from here: an experiment's functions call them as they are. Models
that are flax modules are loaded at first use, since flax takes some tenths of a second to import.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxexp.models.activations import tanh as tanh
from jaxexp.models.cnn import cnn as cnn
from jaxexp.models.initializers import uniform_symmetric as uniform_symmetric
from jaxexp.models.mlp import mlp as mlp
from jaxexp.models.model import Model as Model

if TYPE_CHECKING:
    from jaxexp.models.encoder_decoder import u_net as u_net
    from jaxexp.models.flax_modules import functional as functional
    from jaxexp.models.lstm import lstm_regressor as lstm_regressor
    from jaxexp.models.voxelwise import segmenter as segmenter

_OF_FLAX = {
    "functional": "flax_modules",
    "lstm_regressor": "lstm",
    "segmenter": "voxelwise",
    "u_net": "encoder_decoder",
}


def __getattr__(name: str) -> Any:
    if name in _OF_FLAX:
        return getattr(importlib.import_module(f"jaxexp.models.{_OF_FLAX[name]}"), name)
    raise AttributeError(f"module 'jaxexp.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_OF_FLAX]

"""jaxexp trains one experiment over thousands of (hyperparameters x seeds) as a few compiled programs.

The names below are loaded at first use, so that the command line answers before JAX is imported.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxexp import datasets as datasets
    from jaxexp import figures as figures
    from jaxexp import gradients as gradients
    from jaxexp import losses as losses
    from jaxexp import minibatches as minibatches
    from jaxexp import models as models
    from jaxexp import optimizers as optimizers
    from jaxexp.cli import main as main
    from jaxexp.configs import config as config
    from jaxexp.configs import dynamic as dynamic
    from jaxexp.configs import static as static
    from jaxexp.errors import JaxexpError as JaxexpError
    from jaxexp.estimates import difference as difference
    from jaxexp.estimates import measured as measured
    from jaxexp.estimates import share as share
    from jaxexp.estimates import trial as trial
    from jaxexp.experiment import Experiment as Experiment
    from jaxexp.experiment import from_train as from_train
    from jaxexp.experiment import supervised as supervised
    from jaxexp.export import to_pandas as to_pandas
    from jaxexp.plans import plan as plan
    from jaxexp.statistics import check as check
    from jaxexp.study import Claim as Claim
    from jaxexp.study import Study as Study
    from jaxexp.study import above as above
    from jaxexp.study import below as below
    from jaxexp.study import between as between
    from jaxexp.sweep import cases as cases
    from jaxexp.sweep import choice as choice
    from jaxexp.sweep import geomspace as geomspace
    from jaxexp.sweep import grid as grid
    from jaxexp.sweep import linspace as linspace
    from jaxexp.sweep import logspace as logspace
    from jaxexp.sweep import loguniform as loguniform
    from jaxexp.sweep import paired as paired
    from jaxexp.sweep import sampled as sampled
    from jaxexp.sweep import uniform as uniform
    from jaxexp.worker import load as load
    from jaxexp.worker import run as run

__version__ = "0.1.0"

# On a CPU XLA splits long sums by the size of its thread pool, so that bits would depend on the cores at hand. One
# thread a process is also what is fastest for small programs. It counts until JAX's backend has started.
_bridge = sys.modules.get("jax._src.xla_bridge")
if _bridge is None or not _bridge.backends_are_initialized():
    os.environ.setdefault("NPROC", "1")

_MODULES = ("datasets", "figures", "gradients", "losses", "minibatches", "models", "optimizers")
_NAMES = {
    "cli": ("main",),
    "configs": ("config", "dynamic", "static"),
    "errors": ("JaxexpError",),
    "estimates": ("difference", "measured", "share", "trial"),
    "experiment": ("Experiment", "from_train", "supervised"),
    "export": ("to_pandas",),
    "plans": ("plan",),
    "statistics": ("check",),
    "study": ("Claim", "Study", "above", "below", "between"),
    "sweep": (
        *("cases", "choice", "geomspace", "grid", "linspace"),
        *("loguniform", "logspace", "paired", "sampled", "uniform"),
    ),
    "worker": ("load", "run"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [*_HOME, *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"jaxexp.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"jaxexp.{name}")
    raise AttributeError(f"module 'jaxexp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]

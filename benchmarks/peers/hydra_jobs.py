"""Hydra: a multirun whose basic launcher calls the compiled objective in this process, one job a run."""

import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import hydra
import numpy as np
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from benchmarks.natural import objective
from benchmarks.task import Task


def sweep(task: Task) -> Callable[[], np.ndarray]:
    """Returns the function that trains a task as one multirun and returns final losses [num_seeds, num_trials]."""
    train = objective(task)
    ConfigStore.instance().store("run", {"seed": 0, "trial": 0})
    losses: list[float] = []

    def job(config: DictConfig) -> None:
        losses.append(train(config.seed, *task.hyperparameters[config.trial]))

    launch: Any = hydra.main(version_base=None, config_path=None, config_name="run")(job)

    def run() -> np.ndarray:
        losses.clear()
        with tempfile.TemporaryDirectory(prefix="jaxexp-hydra-") as folder:
            words = [f"seed={_listed(task.num_seeds)}", f"trial={_listed(task.num_trials)}"]
            folders = [f"hydra.sweep.dir={folder}", f"hydra.run.dir={folder}"]
            with mock.patch.object(sys, "argv", [Path(__file__).name, "--multirun", *words, *folders]):
                launch()
        logging.root.handlers.clear()  # the files of these jobs, which are gone
        return np.array(losses).reshape(task.num_seeds, task.num_trials)

    return run


def _listed(count: int) -> str:
    return ",".join(map(str, range(count)))

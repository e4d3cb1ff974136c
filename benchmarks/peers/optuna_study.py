"""Optuna: a study whose `GridSampler` goes through a task's grid, around the compiled objective of a careful user."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna

from benchmarks.natural import objective
from benchmarks.task import Task


def sweep(task: Task, sqlite: bool = False) -> Callable[[], np.ndarray]:
    """Returns the function that trains a task, a whole grid, in one study and returns the losses in Optuna's order.

    Args:
        task: The runs.
        sqlite: Whether the study is kept in a file, so that it could be resumed, or in memory.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    train = objective(task)
    rates, momenta = (np.unique(column).tolist() for column in task.hyperparameters.T)
    space = {"learning_rate": rates, "momentum": momenta, "seed": list(range(task.num_seeds))}

    def trained(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("learning_rate", rates[0], rates[-1])
        momentum = trial.suggest_float("momentum", momenta[0], momenta[-1])
        return train(trial.suggest_int("seed", 0, task.num_seeds - 1), rate, momentum)

    def run() -> np.ndarray:
        with tempfile.TemporaryDirectory(prefix="jaxexp-optuna-") as folder:
            storage = f"sqlite:///{Path(folder) / 'study.db'}" if sqlite else None
            study = optuna.create_study(storage=storage, sampler=optuna.samplers.GridSampler(space, seed=0))
            study.optimize(trained, n_trials=task.num_runs)
            return np.array([trial.value for trial in study.trials])

    return run

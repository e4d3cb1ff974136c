"""joblib: `Parallel` over the runs; its processes are started, and have compiled, before a repeat begins."""

from collections.abc import Callable

import joblib
import numpy as np

from benchmarks.peers import descendants, kept_objective
from benchmarks.task import Task


def sweep(task: Task, log: str, num_jobs: int = 2) -> Callable[[], np.ndarray]:
    """Returns the function that trains a task `num_jobs` at a time; final losses [num_seeds, num_trials]."""
    folder, path = kept_objective.written(task)
    runs = [(path, seed, trial) for seed in range(task.num_seeds) for trial in range(task.num_trials)]

    def run() -> np.ndarray:
        assert folder  # the workers read its file
        losses = joblib.Parallel(n_jobs=num_jobs)(joblib.delayed(kept_objective.trained)(*each) for each in runs)
        return np.array(losses).reshape(task.num_seeds, task.num_trials)

    run()
    return descendants.logged(run, log)

"""A new process for each trial, as a shell loop or a job array has: it imports, compiles, trains and prints a loss."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np

from benchmarks.peers import kept_objective
from benchmarks.task import Task


def sweep(task: Task) -> Callable[[], np.ndarray]:
    """Returns the function that trains a task, one process after another; final losses [num_seeds, num_trials]."""
    folder, path = kept_objective.written(task)

    def trained(seed: int, trial: int) -> float:
        assert folder  # the process reads its file
        words = [sys.executable, "-m", "benchmarks.peers.fresh_process", path, str(seed), str(trial)]
        return float(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)

    return lambda: np.array(
        [[trained(seed, trial) for trial in range(task.num_trials)] for seed in range(task.num_seeds)]
    )


if __name__ == "__main__":
    print(kept_objective.trained(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

"""What a contender is given, as NumPy arrays in one file: it needs neither jaxexp nor JAX to read it.

A task is a workload's sweep: points, hyperparameters, initial values of each seed and, where there are minibatches, the
order in which each seed sees the examples. Every contender trains the same runs and returns their final losses.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Task(NamedTuple):
    """The runs of a workload.

    Attributes:
        workload: W1, W2, W3 or W4.
        num_steps: Steps of each run.
        inputs: [num_examples, ...] float32.
        labels: [num_examples] float32 0 or 1 (W1), or int32 classes.
        eval_inputs: [num_eval, ...] float32; the final loss is taken on these.
        eval_labels: As `labels`.
        hyperparameters: float32 [num_trials, 2]: the learning rate, and momentum (W1, W3, W4) or l2 (W2).
        kernels: One array a layer, float32 [num_seeds, in, out], or [num_seeds, height, width, in, out].
        biases: One array a layer, float32 [num_seeds, out].
        table: int32 [num_seeds, num_steps, batch_size], the examples of each step; batch_size 0 is a full batch.
    """

    workload: str
    num_steps: int
    inputs: np.ndarray
    labels: np.ndarray
    eval_inputs: np.ndarray
    eval_labels: np.ndarray
    hyperparameters: np.ndarray
    kernels: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    table: np.ndarray

    @property
    def num_trials(self) -> int:
        """Pairs of hyperparameters."""
        return len(self.hyperparameters)

    @property
    def num_seeds(self) -> int:
        """Repetitions of each pair."""
        return len(self.table)

    @property
    def num_runs(self) -> int:
        """Runs: trials times seeds."""
        return self.num_trials * self.num_seeds

    def part(self, seeds: slice = slice(None), trials: slice = slice(None)) -> "Task":
        """Returns the task of some of the seeds and trials."""
        return self._replace(
            hyperparameters=self.hyperparameters[trials],
            kernels=tuple(kernel[seeds] for kernel in self.kernels),
            biases=tuple(bias[seeds] for bias in self.biases),
            table=self.table[seeds],
        )

    def at_most(self, num_runs: int) -> "Task":
        """Returns a task of about `num_runs` runs, at least 1: all trials of fewer seeds, or fewer trials of one."""
        if num_runs >= self.num_trials:
            return self.part(seeds=slice(min(self.num_seeds, num_runs // self.num_trials)))
        # Spread over the sweep: the first trials alone would all have the lowest learning rate.
        return self.part(seeds=slice(1), trials=slice(None, None, -(-self.num_trials // max(1, num_runs))))


def save(task: Task, path: Path) -> None:
    """Writes a task as an npz file without pickles."""
    arrays: dict[str, Any] = task._asdict()
    for name in ("kernels", "biases"):
        arrays |= {f"{name}_{number}": array for number, array in enumerate(arrays.pop(name))}
    np.savez(path, allow_pickle=False, **arrays)


def load(path: Path) -> Task:
    """Returns the task of a file that `save` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        arrays: dict[str, Any] = {name: archive[name] for name in archive.files}
    for name in ("kernels", "biases"):
        numbers = range(sum(key.startswith(name) for key in arrays))
        arrays[name] = tuple(arrays.pop(f"{name}_{number}") for number in numbers)
    return Task(**{**arrays, "workload": str(arrays["workload"]), "num_steps": int(arrays["num_steps"])})

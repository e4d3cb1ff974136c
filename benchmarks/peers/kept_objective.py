"""A trial as worker processes call it: the objective of a task's file, compiled once in each process and kept.

A function defined beside the study would be pickled, and so compiled, anew for each trial; this is the fast way.
"""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import natural
from benchmarks import task as tasks
from benchmarks.task import Task


def trained(path: str, seed: int, trial: int) -> float:
    """Returns the final loss of one run of the task in the file `path`."""
    task, train = _compiled(path)
    return train(seed, *task.hyperparameters[trial])


@functools.cache
def _compiled(path: str) -> tuple[Task, Callable[..., float]]:
    task = tasks.load(Path(path))
    return task, natural.objective(task)


def written(task: Task) -> tuple[tempfile.TemporaryDirectory[str], str]:
    """Returns a temporary folder, to be kept while it is needed, and the path of the task's file in it."""
    folder = tempfile.TemporaryDirectory(prefix="jaxexp-peers-")
    path = Path(folder.name) / "task.npz"
    tasks.save(task, path)
    return folder, str(path)

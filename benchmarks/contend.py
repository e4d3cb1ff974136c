"""One contender in a process of its own: prepares a task, compiles, then trains it whenever it is told to.

`python -m benchmarks.contend MODULE:FUNCTION TASK.npz [--core N] [--options JSON]`; FUNCTION(task, **options) returns
the function that trains the task. It needs NumPy and what MODULE imports, so a peer runs in a virtual environment
without jaxexp. Messages are lines of JSON on standard output; whatever else is printed goes to standard error.
"""

import argparse
import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import IO, Any


def main() -> None:
    """Answers each line on standard input with a measurement, until there is none."""
    began = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("function")
    parser.add_argument("task", type=Path)
    parser.add_argument("--core", type=int)
    parser.add_argument("--options", default="{}")
    given = parser.parse_args()
    if given.core is not None:  # before JAX starts: it counts the cores
        os.sched_setaffinity(0, {given.core})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        run = _prepared(given.function, given.task, json.loads(given.options))
    except ImportError as problem:
        say(answers, missing=str(problem))
        return
    say(answers, prepare_seconds=time.perf_counter() - began)
    for _ in sys.stdin:
        say(answers, **measured(run))


def _prepared(name: str, path: Path, options: dict[str, Any]) -> Any:
    from benchmarks import task

    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)(task.load(path), **options)


def say(answers: IO[str], **message: Any) -> None:
    """Writes one line."""
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def measured(run: Any) -> dict[str, Any]:
    """Trains once and returns runs, wall and CPU seconds (of children too), median loss and peak memory."""
    import numpy as np

    cpu, wall = _cpu_seconds(), time.perf_counter()
    losses = np.asarray(run(), np.float64)
    seconds = time.perf_counter() - wall
    finite = losses[np.isfinite(losses)]
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "num_runs": losses.size,
        "seconds": seconds,
        "cpu_seconds": _cpu_seconds() - cpu,
        "median_loss": float(np.median(finite)) if finite.size else None,
        "peak_bytes": peak * 1024,
    }


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()

"""Ray Tune: two trials at a time in actors that are reused, so that each compiles the objective once in a `fit`.

It starts servers of its own, so the command gives it a network namespace with the loopback interface alone: where there
is another interface, Ray puts that one's address in place of 127.0.0.1.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0"}

import numpy as np
import ray
from ray import tune

from benchmarks.peers import descendants, kept_objective
from benchmarks.task import Task


def sweep(task: Task, log: str, num_jobs: int = 2) -> Callable[[], np.ndarray]:
    """Returns the function that trains a task in one `Tuner.fit` and returns the losses in Ray's order.

    Raises:
        ImportError: There is a network beside the loopback interface.
    """
    if len(Path("/proc/net/route").read_text().splitlines()) > 1:
        raise ImportError("Ray needs a network namespace of its own, and `unshare --map-root-user --net` fails here")
    folder, path = kept_objective.written(task)
    ray.init(num_cpus=num_jobs, include_dashboard=False, log_to_driver=False, logging_level="error")
    axes = {
        "seed": tune.grid_search(list(range(task.num_seeds))),
        "trial": tune.grid_search(list(range(task.num_trials))),
    }

    def trained(config: dict[str, Any]) -> None:
        tune.report({"loss": kept_objective.trained(path, config["seed"], config["trial"])})

    def run() -> np.ndarray:
        settings = tune.RunConfig(storage_path=folder.name, verbose=0)
        reuse = tune.TuneConfig(reuse_actors=True, max_concurrent_trials=num_jobs)
        trainable = tune.with_resources(trained, {"cpu": 1})
        results = tune.Tuner(trainable, param_space=axes, run_config=settings, tune_config=reuse).fit()
        return np.array([result.metrics["loss"] for result in results])

    return descendants.logged(run, log, every_seconds=0.1)  # `fit` ends its actors, and the raylet ignores that

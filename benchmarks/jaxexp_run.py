"""jaxexp itself as a contender: what `jaxexp run` does, run folder and worker processes included."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import workloads
from benchmarks.task import Task
from jaxexp import jobs, launch, plans, timing, worker
from jaxexp.plans import Tile


def spread(
    task: Task, *, num_workers: int, num_seeds: int | None = None, natural: bool = False
) -> Callable[[], np.ndarray]:
    """Returns the function that trains a task's study into a new run folder and returns all final losses.

    The study is the one of the task's workload with as many steps and seeds. The tile is chosen and one short run of
    the same program warms the compile cache, which worker processes share, before anything is measured.

    Args:
        task: The task; its trials must be all of the workload's.
        num_workers: Worker processes at most: jaxexp starts more than one only where the work is long enough.
        num_seeds: More seeds than the task has.
        natural: Whether to train the flax module in natural layout; by one process.
    """
    module = workloads.module(task.workload)
    made = (module.natural if natural else module.study).replace(
        seeds=num_seeds or task.num_seeds, num_steps=task.num_steps
    )
    if natural and num_workers > 1:
        raise ValueError("worker processes train the `study` of a file: natural=True needs num_workers=1")
    words = [f"seeds={made.seeds}", f"num_steps={made.num_steps}"]
    order = launch.Order(str(workloads.path(task.workload)), False, words, None)
    source = jobs.Source(task.workload, workloads.path(task.workload).read_text(), workloads.FOLDER)

    def train(wanted: Any, num_processes: int, tile: Tile | None = None) -> np.ndarray:
        with tempfile.TemporaryDirectory(prefix="jaxexp-benchmark-") as folder:
            job = jobs.prepare(wanted, Path(folder) / "run", tile=tile, yes=True, source=source)
            for _ in launch.spread(job, order, num_processes):
                pass
            dataset = worker.collect(job)
        return dataset["test_loss"].isel(eval_step=-1).transpose("seed", "trial").values

    tile = timing.fastest(plans.plan(made, yes=True)).tile
    train(made.replace(num_steps=max(1, task.num_steps // 50)), 1, tile)
    return lambda: train(made, num_workers)


def bare(task: Task) -> Callable[[], np.ndarray]:
    """Returns the function that trains a task's study in memory, without a run folder."""
    module = workloads.module(task.workload)
    made = module.study.replace(seeds=task.num_seeds, num_steps=task.num_steps)
    worker.run(made.replace(num_steps=max(1, task.num_steps // 50)), yes=True)
    return lambda: worker.run(made, yes=True)["test_loss"].isel(eval_step=-1).transpose("seed", "trial").values

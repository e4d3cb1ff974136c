"""A job in the foreground: shows its progress, stops where it is asked to, and narrows the tile where memory lacks."""

import contextlib
import time
from typing import NamedTuple

from jaxexp import devices, display, jobs, launch, signals
from jaxexp.errors import Interrupted, OutOfMemoryError, StoreError
from jaxexp.jobs import Job
from jaxexp.launch import Order
from jaxexp.worker import Committed


class Done(NamedTuple):
    """A job that is done.

    Attributes:
        job: The job, in a narrower tile where memory did not suffice for the first.
        num_runs: How many runs were trained for it here; other processes may have trained others.
        seconds: What it took.
    """

    job: Job
    num_runs: int
    seconds: float


def train(job: Job, order: Order, num_workers: int | None, quiet: bool) -> Done:
    """Does a job and shows its progress; stops after the segment in which a signal asks for it.

    Args:
        job: What `jobs.prepare` gave, with a folder.
        order: How worker processes find the study.
        num_workers: Processes at most; one for each core where None.
        quiet: Whether to show no progress.

    Raises:
        Interrupted: If it was asked to stop; everything finished is committed.
        OutOfMemoryError: If not even a single lane fits into memory.
    """
    while True:
        try:
            return _train(job, order, devices.num_cores() if num_workers is None else num_workers, quiet)
        except OutOfMemoryError as problem:
            display.err.print(str(problem), markup=False)
        job = jobs.narrowed(job)  # not before the error, which holds on to the memory, is forgotten
        display.err.print(f"going on in tiles of {job.plan.tile.trials}x{job.plan.tile.seeds}")


def _train(job: Job, order: Order, num_workers: int, quiet: bool) -> Done:
    began, num_runs = time.perf_counter(), 0
    events, lost = launch.spread(job, order, num_workers), ""
    with signals.heard("stopping after this segment; Ctrl-C again stops at once") as asked:
        try:
            with display.Meter(job, quiet) as meter, contextlib.closing(events):
                for event in events:
                    if event is not None:
                        meter.show(event)
                    if isinstance(event, Committed) and event.own:
                        num_runs += event.batch.num_runs
                    if asked:
                        break
        except StoreError as problem:
            if not asked:
                raise
            lost = f" (what was in flight is lost: {problem})"
    if asked:
        told = f"interrupted; everything finished is committed in {job.folder}{lost}. To go on:\n  "
        raise Interrupted(told + signals.command(fresh=False), asked[0])
    return Done(job, num_runs, time.perf_counter() - began)

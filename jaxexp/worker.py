"""The worker: takes the batches of a plan, trains them and commits them to the run folder.

It yields what happens and shows nothing. Closing the generator between two events stops the work with
everything finished committed and the tile in flight checkpointed.
"""

import contextlib
import functools
import itertools
import time
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxexp import checkpoints, claims, devices, earlier, engine, jobs, matching, store
from jaxexp.engine import Segment
from jaxexp.errors import MismatchError, OutOfMemoryError, StoreError
from jaxexp.extension import Shorter
from jaxexp.jobs import Job, Source
from jaxexp.plans import Batch, Tile
from jaxexp.results import Result, dataset
from jaxexp.study import Study

CHECKPOINT_SECONDS = 30.0
_WAIT_SECONDS = 0.2
"""Between two looks at what other processes have done, when all that is left is theirs."""


class Committed(NamedTuple):
    """A batch that was trained and, where there is a folder, committed to it.

    Attributes:
        batch: The batch.
        result: Its result; None where another process has trained it.
        own: Whether this process or a worker of its own has.
    """

    batch: Batch
    result: Result | None
    own: bool = True


def work(
    job: Job, batches: Iterable[Batch] | None = None, *, keep_state: bool = False
) -> Generator[Segment | Committed]:
    """Yields a `Segment` after each segment and a `Committed` after each batch of a job.

    Closing the generator commits nothing more, but checkpoints the batch in flight.

    Args:
        job: What `prepare` gave.
        batches: Those to train, taken when the one before is done; all pending ones, group by group, where None.
        keep_state: Whether results carry the final states.
    """
    devices.use_compile_cache()
    ordered = sorted(job.pending, key=lambda batch: batch.group)
    needed = list(dict.fromkeys(batch.group for batch in ordered))
    with contextlib.ExitStack() as stack:
        program = stack.enter_context(engine.compiler(job.plan, job.lowered, needed))
        own = stack.enter_context(contextlib.closing(_own(job, ordered))) if batches is None else batches
        before = shorter(job)
        for batch in own:
            yield from one_batch(job, program(batch.group), batch, before, keep_state=keep_state)


def _own(job: Job, ordered: Sequence[Batch]) -> Generator[Batch]:
    """The batches of a job that no other process does; ends when all are done."""
    with contextlib.closing(claims.Queue(job.folder, job.plan.digest, ordered)) as queue:
        while queue.pending:
            batch = queue.take()
            if batch is None:
                time.sleep(_WAIT_SECONDS)
                continue
            yield batch
            queue.done(batch)


def shorter(job: Job) -> Shorter:
    """Returns what a job's folder knows of the same runs trained for fewer steps."""
    return Shorter(job.plan, job.folder, matching.bits_environment(devices.environment()))


def one_batch(
    job: Job, made: engine.Compiled, batch: Batch, before: Shorter, *, keep_state: bool = False
) -> Generator[Segment | Committed]:
    """Yields the events of one batch of a job: trains it, from where it was left off, and commits it.

    Args:
        job: The job.
        made: The compiled program of the batch's group.
        batch: The batch.
        before: What `shorter` gave; a checkpoint of the batch comes first.
        keep_state: Whether its result carries the final states; in a folder small ones are always kept.
    """
    folder, digest = job.folder, job.plan.digest
    own = job.digests.get(made.group.name, {})
    environment = {**before.environment, "program": made.fingerprint, "data": own.get("data")}
    if own and (made.fingerprint, made.group.data_digest) != (own["program"], own["data"]):
        raise MismatchError(
            f"the experiment or its data have changed since {folder} was asked for: put them back (data must be the "
            "same whenever they are made), or use another --name"
        )
    keep_state = keep_state or (folder is not None and job.plan.keeps_states)
    begun = functools.partial(before.begun, batch.group, made.fingerprint)
    snapshot = checkpoints.read(folder, job.plan, made, batch, environment) if folder else None
    event, written, unwritten = None, time.monotonic(), False
    try:
        for event in engine.train(job.plan, made, batch, snapshot=snapshot, begun=begun, keep_state=keep_state):
            if isinstance(event, Result):
                if folder:
                    check_folder(job)
                    store.write_chunk(folder, digest, batch.name, event, environment)
                    store.remove_checkpoints(folder, digest, batch.name)
                unwritten = False
                yield Committed(batch, event)
                continue
            unwritten = True
            if folder and time.monotonic() - written > CHECKPOINT_SECONDS:
                checkpoints.write(folder, digest, event, environment)
                written, unwritten = time.monotonic(), False
            yield event
    except GeneratorExit:
        if folder and unwritten and isinstance(event, Segment):
            checkpoints.write(folder, digest, event, environment)
        raise


def check_folder(job: Job) -> None:
    """Checks that a job's folder is still the one that it was prepared in.

    Raises:
        StoreError: If another is in its place.
    """
    if job.folder is not None and job.begun != store.identity(job.folder):
        raise StoreError(
            f"{job.folder} was moved or started over meanwhile: what this process trains is not kept, and what it had "
            "committed is where the folder was moved to"
        )


def collect(job: Job) -> Any:
    """Returns the dataset of a job's plan from what is committed in its folder.

    Raises:
        StoreError: If it has none, or a file of it is damaged; if the folder was moved or started over meanwhile.
    """
    if job.folder is None:
        raise StoreError("this job has no folder to read: give `folder=`, or use `jx.run(study)` for results in memory")
    try:
        plan, others = job.plan, jobs.other_plans(job.plan, store.plans(job.folder))
        found = itertools.chain(
            earlier.results(job.folder, others, plan.trials, plan.seeds), store.results(job.folder, plan.digest)
        )
        return dataset(plan.trials, plan.seeds, found, _attributes(store.record(job.folder), plan.steps))
    finally:  # afterwards, for it may be started over while it is read; and what is wrong then is not what it seems
        check_folder(job)


def _attributes(record: dict[str, Any], steps: tuple[int, int, int]) -> dict[str, Any]:
    names = ("num_steps", "evaluate_every", "log_every")
    return {"experiment": record["experiment"], **dict(zip(names, steps, strict=True))}


def load(folder: Path | str) -> Any:
    """Returns the results of a run folder as an `xarray.Dataset`, also while it is being written.

    All trials and seeds that the folder was ever asked for are there; `status` says which have run.

    Args:
        folder: The run folder.

    Raises:
        StoreError: If there is no run, or a file of it is damaged.
    """
    folder = Path(folder)
    known, trials, seeds = earlier.asked(folder)
    found = earlier.results(folder, sorted(known, key=lambda stored: stored.steps[0]), trials, seeds)
    return dataset(trials, seeds, found, _attributes(store.record(folder), known[-1].steps))


def run(
    study: Study,
    folder: Path | str | None = None,
    *,
    tile: Tile | None = None,
    fresh: bool = False,
    yes: bool = False,
    source: Source | None = None,
) -> Any:
    """Trains what is left of a study and returns its results as an `xarray.Dataset`.

    Args:
        study: The study.
        folder: The run folder: what it already has is kept. In memory where None.
        tile: The (trials, seeds) that one program call trains; chosen where None.
        fresh: Whether to put an existing folder aside and start over.
        yes: Whether more than 100,000 runs are meant.
        source: Where the study comes from, for the record.

    Raises:
        JaxexpError: As `prepare`.

    Example:
        >>> import jaxexp as jx
        >>> @jx.config
        ... class Config:
        ...     x: float = 0.0
        >>> square = jx.from_train(lambda key, config: {"y": config.x**2})
        >>> study = jx.Study(experiment=square, config=Config(), sweep=jx.grid(x=(1.0, 2.0)), seeds=1)
        >>> run(study)["y"].values.ravel().tolist()
        [1.0, 4.0]
    """
    job = jobs.prepare(study, None if folder is None else Path(folder), tile=tile, fresh=fresh, yes=yes, source=source)
    results: list[Result] | None = None
    while results is None:
        with contextlib.suppress(OutOfMemoryError):  # which holds on to the memory until it is forgotten
            results = [event.result for event in work(job) if isinstance(event, Committed) and event.result]
        if results is None:
            job = jobs.narrowed(job)
    if job.folder is not None:
        return collect(job)
    return dataset(job.plan.trials, job.plan.seeds, results, _attributes({"experiment": "study"}, job.plan.steps))

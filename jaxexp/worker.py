"""The worker: takes the batches of a plan, trains them and commits them to the run folder.

It yields what happens and shows nothing. Closing the generator between two events stops the work with
everything finished committed and the tile in flight checkpointed.
"""

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from jaxexp import checkpoints, claims, devices, earlier, engine, jobs, matching, store
from jaxexp.engine import Dispatched, Segment, Trained
from jaxexp.errors import JaxexpError, MismatchError, OutOfMemoryError, StoreError
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
    job: Job,
    batches: Iterable[Batch | None] | None = None,
    *,
    keep_state: bool = False,
) -> Generator[Segment | Committed]:
    """Yields a `Segment` after each segment and a `Committed` after each batch of a job.

    A batch is committed while the device trains the next. Closing the generator commits a batch that waits for that,
    and checkpoints the one in flight.

    Args:
        job: What `prepare` gave.
        batches: Those to train, taken when the one before is trained; all pending ones, group by group, where None.
            A None among them says that the next may be long in coming.
        keep_state: Whether results carry the final states; in a folder small ones are always kept.
    """
    devices.use_compile_cache()
    ordered = sorted(job.pending, key=lambda batch: batch.group)
    needed = list(dict.fromkeys(batch.group for batch in ordered))
    with contextlib.ExitStack() as stack:
        program = stack.enter_context(engine.compiler(job.plan, job.lowered, needed))
        if batches is not None:
            yield from train(job, program, batches, keep_state=keep_state)
            return
        queue = stack.enter_context(contextlib.closing(claims.Queue(job.folder, job.plan.digest, ordered)))
        events = stack.enter_context(contextlib.closing(train(job, program, _own(queue), keep_state=keep_state)))
        for event in events:
            if isinstance(event, Committed):
                queue.done(event.batch)
            yield event


def _own(queue: claims.Queue) -> Iterator[Batch | None]:
    """The batches of a queue that no other process does; ends when all are done."""
    while queue.pending:
        batch = queue.take()
        yield batch
        if batch is None:
            time.sleep(_WAIT_SECONDS)


def train(
    job: Job,
    program: Callable[[int], engine.Compiled],
    batches: Iterable[Batch | None],
    *,
    keep_state: bool = False,
) -> Generator[Segment | Committed]:
    """Does what `work` does, with programs by group that the caller has."""
    before, waiting, group = shorter(job), _Waiting(job), None
    with contextlib.closing(waiting):
        try:
            for batch in batches:
                if batch is None or batch.group != group:  # now, for a program may have to be compiled
                    yield from waiting.committed()
                if batch is not None:
                    group = batch.group
                    yield from _one_batch(job, program(group), batch, before, waiting, keep_state)
        except JaxexpError:
            yield from waiting.committed()  # before the caller hears what is wrong with the next
            raise
        yield from waiting.committed()


class _Waiting:
    """A batch of a job that is trained and not committed yet, if there is one."""

    def __init__(self, job: Job):
        self._job = job
        self._last: tuple[Batch, Trained, dict[str, Any]] | None = None

    def add(self, batch: Batch, trained: Trained, environment: dict[str, Any]) -> None:
        """Takes note of a batch that is trained, in which environment."""
        self._last = batch, trained, environment

    def committed(self) -> Iterator[Committed]:
        """Commits the batch to the job's folder, if it has one, and yields the event."""
        if self._last is None:
            return
        (batch, trained, environment), self._last = self._last, None
        folder, digest, result = self._job.folder, self._job.plan.digest, trained.result()
        if folder:
            check_folder(self._job)
            store.write_chunk(folder, digest, batch.name, result, environment)
            store.remove_checkpoints(folder, digest, batch.name)
        yield Committed(batch, result)

    def close(self) -> None:
        """Commits the batch, and nobody is told."""
        for _ in self.committed():
            pass


def shorter(job: Job) -> Shorter:
    """Returns what a job's folder knows of the same runs trained for fewer steps."""
    return Shorter(job.plan, job.folder, matching.bits_environment(devices.environment()))


def _one_batch(
    job: Job, made: engine.Compiled, batch: Batch, before: Shorter, waiting: _Waiting, keep_state: bool
) -> Generator[Segment | Committed]:
    """Trains one batch of a job, from where it was left off; commits the one before as soon as the device is busy."""
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
    events = engine.train(job.plan, made, batch, snapshot=snapshot, begun=begun, keep_state=keep_state)
    event, unwritten, written = None, None, time.monotonic()
    try:
        for event in events:
            if isinstance(event, Dispatched):
                yield from waiting.committed()
            elif isinstance(event, Trained):
                yield from waiting.committed()  # there is one where a checkpoint had all steps of this batch
                waiting.add(batch, event, environment)
            else:
                unwritten = event
                if folder and time.monotonic() - written > CHECKPOINT_SECONDS:
                    check_folder(job)
                    checkpoints.write(folder, digest, event, environment)
                    unwritten, written = None, time.monotonic()
                yield event._replace(snapshot=None)
    except GeneratorExit:
        if isinstance(event, Dispatched):
            unwritten = _ended(events)
        if folder and unwritten:
            check_folder(job)
            checkpoints.write(folder, digest, unwritten, environment)
        raise


def _ended(events: Iterator[Dispatched | Segment | Trained]) -> Segment | None:
    """The segment that the device has been given, when it has ended; None where memory did not suffice."""
    with contextlib.suppress(OutOfMemoryError):
        return cast(Segment, next(events))
    return None


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

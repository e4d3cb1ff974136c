"""The worker: takes the batches of a plan, trains them and commits them to the run folder.

It yields what happens and shows nothing. Closing the generator between two events stops the work with
everything finished committed and the tile in flight checkpointed.
"""

import contextlib
import dataclasses
import functools
import itertools
import shutil
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxexp import checkpoints, claims, configs, devices, earlier, engine, files, matching, plans, store, timing, trees
from jaxexp.engine import Segment
from jaxexp.errors import JaxexpError, MismatchError, OutOfMemoryError, StoreError
from jaxexp.extension import Shorter
from jaxexp.plans import Batch, Group, Plan, Tile
from jaxexp.program import Lowered
from jaxexp.results import Result, dataset, positions
from jaxexp.store import StoredPlan
from jaxexp.study import Study

CHECKPOINT_SECONDS = 30.0
_WAIT_SECONDS = 0.2
"""Between two looks at what other processes have done, when all that is left is theirs."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a study comes from: the experiment's name, the text of its file, the file's folder, and how it was asked.

    Attributes:
        name: The experiment's.
        text: Of its file.
        folder: The file's.
        full: Whether its full size was asked for.
        path: The file, as it was given; nothing where it is found by its name.
        words: The `key=value` of the command line.
        samples: What --samples said.
    """

    name: str = "study"
    text: str = ""
    folder: Path = Path()
    full: bool = False
    path: str = ""
    words: tuple[str, ...] = ()
    samples: int | None = None


class Job(NamedTuple):
    """What is to be done in a folder.

    Attributes:
        plan: The plan.
        folder: The run folder, or None where results stay in memory.
        pending: The batches to train.
        lowered: The program of each group that has one of them.
        num_done: Runs of the plan that are there already.
        source: Where the study comes from; None where nothing is recorded.
        quarantined: Where damaged files of the folder were put; what they held is done anew.
        digests: For each group, by the text of its static fields, its program's and its data's digest, as the folder
            records them.
        begun: What tells the folder's record from one that another process, told to start over, puts in its place.
    """

    plan: Plan
    folder: Path | None
    pending: tuple[Batch, ...]
    lowered: dict[int, Lowered]
    num_done: int
    source: Source | None = None
    quarantined: tuple[Path, ...] = ()
    digests: Mapping[str, Mapping[str, str]] = {}
    begun: tuple[int, int] | None = None


class Committed(NamedTuple):
    """A batch that was trained and, where there is a folder, committed to it (by another process: no result here)."""

    batch: Batch
    result: Result | None


def prepare(
    study: Study,
    folder: Path | None = None,
    *,
    tile: Tile | None = None,
    fresh: bool = False,
    yes: bool = False,
    source: Source | None = None,
    shard: tuple[int, int] | None = None,
    allow_mixed: bool = False,
) -> Job:
    """Returns what is to be done for a study in a folder, after every check that needs no compilation.

    Args:
        study: The study.
        folder: The run folder, made where it is missing; in memory where None.
        tile: The tile to train in; chosen where None, and a folder that exists has its own.
        fresh: Whether to put an existing folder aside (it is kept, under another name) and start over.
        yes: Whether more than 100,000 runs are meant.
        source: Where the study comes from, for the record.
        shard: (i, n) for the i-th of n parts of the batches alone.
        allow_mixed: Whether results of another machine or version of JAX, which may have other bits, may join.

    Raises:
        ConfigError, SweepError, StudyError: If the study cannot be trained as it is written.
        StoreError: If the folder cannot be written, or holds results of other code, data or tile.
    """
    plan = plans.plan(study, tile=tile, yes=yes)
    if folder is None:
        return _job(plan if tile else timing.fastest(plan), None, ())
    if fresh and store.exists(folder):
        _refuse_where_others_work(folder)
        shutil.move(folder, _aside(folder))
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not store.exists(folder) and "plans" not in there and there - store.NAMES:
        raise StoreError(f"{folder} holds other files and no run: choose another --name; nothing there was touched")
    files.make_folder(folder)
    if tile is None and not store.exists(folder):
        plan = timing.fastest(plan)
    with files.locked(folder):  # of two that begin at once the second finds the folder of the first
        quarantined = tuple(store.quarantine(path) for path, _ in list(store.damaged(folder)))
        known = store.plans(folder)
        if known or store.exists(folder):
            plan = _in_folder(plan, folder, known, tile)
        job = _job(plan, folder, known, source or Source(), allow_mixed)
    return job._replace(pending=_shard(job, shard), quarantined=quarantined)


def _shard(job: Job, shard: tuple[int, int] | None) -> tuple[Batch, ...]:
    if shard is None:
        return job.pending
    number, count = shard
    own = {batch.name for position, batch in enumerate(plans.batches(job.plan)) if position % count == number - 1}
    return tuple(batch for batch in job.pending if batch.name in own)


def _refuse_where_others_work(folder: Path) -> None:
    working = [name for name, dead in claims.held(folder) if not dead]
    if working:
        raise StoreError(
            f"{folder} is in use: another process trains batch {working[0]} there; stop it, or use another --name (if "
            f"it ran on a machine that is gone, `jaxexp gc {folder} --all` removes its claims)"
        )


def num_left(job: Job) -> int:
    """Returns how many runs of a job's plan are not done, by whomever."""
    return sum(batch.num_runs for batch in _pending(job.plan, job.folder)) if job.folder else 0


def reopen(study: Study, folder: Path) -> Job:
    """Returns the job of a study whose plan the folder has, for another process to take part in.

    It checks no code: give the job the `digests` of the one that was prepared, and each batch does.

    Args:
        study: The study.
        folder: The run folder in which `prepare` was called for it.

    Raises:
        StoreError: If the folder has no such plan.
    """
    known = store.plans(folder)
    plan = plans.plan(study, tile=known[0].tile, yes=True) if known else None
    if plan is None or plan.asked not in {stored.asked for stored in known}:
        raise StoreError(f"{folder} was not asked for this study: prepare it there first")
    plan = _in_folder(plan, folder, known, None)
    pending = _pending(plan, folder)
    done = plan.num_runs - sum(batch.num_runs for batch in pending)
    return Job(plan, folder, pending, {}, done, begun=store.identity(folder))


def _pending(plan: Plan, folder: Path | None) -> tuple[Batch, ...]:
    there = store.committed(folder, plan.digest) if folder else set()
    return tuple(batch for batch in plans.batches(plan) if batch.name not in there)


def _aside(folder: Path) -> Path:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    return aside


def _in_folder(plan: Plan, folder: Path, known: list[StoredPlan], tile: Tile | None) -> Plan:
    """The plan in the folder's tile, less what other plans of the folder have done."""
    kept = known[0].tile if known else Tile(*store.record(folder)["tile"])
    if tile is not None and tile != kept:
        raise StoreError(
            f"{folder} is trained in tiles of {kept.trials}x{kept.seeds}, not {tile.trials}x{tile.seeds}, and another "
            "tile has other bits: leave --tile out, or use another --name"
        )
    plan = plans.in_folder(plan, kept, None)
    for stored in known:
        if stored.asked == plan.asked:
            return plans.in_folder(plan, kept, stored.done)
    done = np.zeros((len(plan.trials), len(plan.seeds)), bool)
    for result in earlier.results(folder, _others(plan, known), plan.trials, plan.seeds):
        done[result.trial, positions(plan.seeds, result.seed)] = True
    return plans.in_folder(plan, kept, done if done.any() else None)


def _job(
    plan: Plan,
    folder: Path | None,
    known: Sequence[StoredPlan],
    source: Source | None = None,
    allow_mixed: bool = False,
) -> Job:
    """Lowers the programs, checks them against the folder's, and finds what is left to train."""
    pending = _pending(plan, folder)
    lowered = {index: engine.lower(plan, index) for index in range(len(plan.groups))}
    programs, begun = {}, None
    if folder is not None and source is not None:
        programs, record = digests(plan, lowered), record_of(plan, source)
        if known or store.exists(folder):
            matching.check_fields(folder, record["fields"], known)
            matching.check_same(
                folder, record, programs | _of_before(plan, folder, known, programs, source), allow_mixed
            )
        store.make_folders(folder)
        if plan.digest not in {stored.digest for stored in known}:
            store.add_plan(folder, plan, programs, len(known))
        if not store.exists(folder):
            store.create(folder, record)
        begun = store.identity(folder)
    done = plan.num_runs - sum(batch.num_runs for batch in pending)
    return Job(plan, folder, pending, lowered, done, source, digests=programs, begun=begun)


def _of_before(
    plan: Plan, folder: Path, known: Sequence[StoredPlan], programs: Mapping[str, Any], source: Source
) -> dict[str, dict[str, str]]:
    """The digests, by the code at hand, of groups that a folder has and the plan has not.

    Of all of them where the experiment file is another than the recorded one, for what has changed may be what they
    alone train; else of one, and only where nothing else can be compared: what the file imports may have changed.
    """
    same = store.exists(folder) and store.record(folder).get("source") == source.text
    if not known or (same and any(programs.keys() & stored.programs.keys() for stored in known)):
        return {}
    found: dict[str, dict[str, str]] = {}
    for stored in known[-1:] if same else known:
        if stored.programs.keys() <= programs.keys() | found.keys():
            continue
        try:
            again = plans.plan(earlier.study_of(plan.study, stored, [0] if same else None), tile=plan.tile, yes=True)
        except JaxexpError as problem:
            raise MismatchError(
                f"what {folder} was trained with cannot be made by the experiment as it is now: use another --name, or "
                f"--fresh to start over beside it\n{problem}"
            ) from problem
        left = [n for n, group in enumerate(again.groups) if _group_name(group) not in programs.keys() | found.keys()]
        found |= digests(again, {index: engine.lower(again, index) for index in left})
    return found


def digests(plan: Plan, lowered: Mapping[int, Lowered]) -> dict[str, dict[str, str]]:
    """Returns for each group that was lowered, by its static fields, the digests of its program and of its data."""
    return {
        _group_name(plan.groups[index]): {"program": one.fingerprint, "data": trees.digest(plan.groups[index].data)}
        for index, one in lowered.items()
    }


def narrowed(job: Job) -> Job:
    """Returns the same job in tiles of half the lanes, for one that does not fit into memory.

    Args:
        job: A job of which nothing is committed yet; the records of its folder are made anew.

    Raises:
        OutOfMemoryError: If its tile is one lane, or the folder has results in this tile, which other bits would join.
    """
    trials, seeds = job.plan.tile
    if trials * seeds == 1:
        raise OutOfMemoryError("a single run does not fit into memory: make the model, the data or minibatch smaller")
    tile = Tile(trials, -(-seeds // 2)) if seeds >= trials else Tile(-(-trials // 2), seeds)
    if job.folder is None:
        return _job(plans.in_folder(job.plan, tile, None), None, ())
    if any(job.folder.glob("chunks/*.npz")):
        raise OutOfMemoryError(
            f"a tile of {trials}x{seeds} does not fit into memory any more, and {job.folder} has results in it, which "
            "other bits must not join: free memory, use --workers 1, or another --name"
        )
    with files.locked(job.folder):
        _refuse_where_others_work(job.folder)
        for path in (job.folder / "run.json", *job.folder.glob("plans/*.npz"), *job.folder.glob("checkpoints/*.npz")):
            path.unlink(missing_ok=True)
        return _job(plans.in_folder(job.plan, tile, None), job.folder, (), job.source or Source())


def _group_name(group: Group) -> str:
    static = {field.name: getattr(group.config, field.name) for field in _fields(group.config) if not field.dynamic}
    return ", ".join(f"{name}={configs.text_of(value)}" for name, value in sorted(static.items())) or "all"


def _fields(config: Any) -> Iterator[configs.Field]:
    return iter(configs.fields(config).values())


def record_of(plan: Plan, source: Source) -> dict[str, Any]:
    """Returns what `run.json` says of a plan that is begun here and now."""
    return {
        "experiment": source.name,
        "source": source.text,
        "full": source.full,
        "path": source.path,
        "words": list(source.words),
        "samples": source.samples,
        "fields": {f.name: "dynamic" if f.dynamic else "static" for f in _fields(plan.study.config)},
        "tile": list(plan.tile),
        "git": devices.git_state(source.folder),
        **devices.environment(),
    }


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
    environment = matching.bits_environment(devices.environment()) if folder else {}
    own = job.digests.get(_group_name(made.group), {})
    environment |= {"program": made.fingerprint, "data": own.get("data")}
    if own and (made.fingerprint, trees.digest(made.group.data)) != (own["program"], own["data"]):
        raise MismatchError(f"the experiment or its data have changed since {folder} was asked for: start again")
    keep_state = keep_state or (folder is not None and plans.keeps_states(job.plan))
    begun = functools.partial(before.begun, batch.group, made.fingerprint)
    snapshot = checkpoints.read(folder, job.plan, made, batch, environment) if folder else None
    event, written, unwritten = None, time.monotonic(), False
    try:
        for event in engine.train(job.plan, made, batch, snapshot=snapshot, begun=begun, keep_state=keep_state):
            if isinstance(event, Result):
                if folder:
                    if job.begun != store.identity(folder):
                        raise StoreError(f"{folder} was started over meanwhile: what this process trains is not kept")
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


def _others(plan: Plan, known: Sequence[StoredPlan]) -> list[StoredPlan]:
    """The other plans of a folder that train for the same steps."""
    return [stored for stored in known if stored.asked != plan.asked and stored.steps == plan.steps]


def collect(job: Job) -> Any:
    """Returns the dataset of a job's plan from what is committed in its folder."""
    if job.folder is None:
        raise StoreError("this job has no folder to read: give `folder=`, or use `jx.run(study)` for results in memory")
    plan, others = job.plan, _others(job.plan, store.plans(job.folder))
    found = itertools.chain(
        earlier.results(job.folder, others, plan.trials, plan.seeds), store.results(job.folder, plan.digest)
    )
    return dataset(plan.trials, plan.seeds, found, _attributes(store.record(job.folder), plan.steps))


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
    job = prepare(study, None if folder is None else Path(folder), tile=tile, fresh=fresh, yes=yes, source=source)
    results: list[Result] | None = None
    while results is None:
        with contextlib.suppress(OutOfMemoryError):  # which holds on to the memory until it is forgotten
            results = [event.result for event in work(job) if isinstance(event, Committed) and event.result]
        if results is None:
            job = narrowed(job)
    if job.folder is not None:
        return collect(job)
    return dataset(job.plan.trials, job.plan.seeds, results, _attributes({"experiment": "study"}, job.plan.steps))

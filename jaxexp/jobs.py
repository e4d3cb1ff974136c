"""Jobs: what is to be done for a study in a run folder, checked against what the folder has.

Programs are lowered here and compared with the folder's, but nothing is compiled and nothing is trained.
"""

import contextlib
import dataclasses
import errno
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxexp import (
    catalog,
    claims,
    configs,
    devices,
    earlier,
    engine,
    files,
    matching,
    plans,
    store,
    stored_plans,
    timing,
)
from jaxexp.errors import JaxexpError, MismatchError, OutOfMemoryError, StoreError
from jaxexp.plans import Batch, Plan, Tile
from jaxexp.program import Lowered
from jaxexp.results import positions
from jaxexp.stored_plans import StoredPlan
from jaxexp.study import Study


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

    def texts(self) -> dict[str, Any]:
        """Returns the code as a record says it, once all that it imports is loaded."""
        return {"source": self.text, "modules": catalog.modules(self.name, self.folder) if self.text else {}}


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
        shard: (i, n) where it is the i-th of n parts of the batches alone.
    """

    plan: Plan
    folder: Path | None
    pending: tuple[Batch, ...]
    lowered: dict[int, Lowered]
    num_done: int
    source: Source | None = None
    quarantined: tuple[Path, ...] = ()
    digests: Mapping[str, Mapping[str, str]] = {}
    begun: tuple[int, bytes] | None = None
    shard: tuple[int, int] | None = None


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
    checked: Mapping[str, Mapping[str, str]] = {},
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
        checked: Digests of groups that jobs of the same code, prepared just before, had; they are not made again.

    Raises:
        ConfigError, SweepError, StudyError: If the study cannot be trained as it is written.
        StoreError: If the folder cannot be written, or holds results of other code, data or tile.
    """
    plan = plans.plan(study, tile=tile, yes=yes)
    if folder is None:
        return _job(plan if tile else timing.fastest(plan), None, ())
    if fresh and (store.exists(folder) or "plans" in _names(folder)):
        _refuse_where_others_work(folder)
        _put_aside(folder)
    there = _names(folder)
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
        job = _job(plan, folder, known, source or Source(), allow_mixed, checked)
    return _part(job, shard)._replace(quarantined=quarantined)


def _names(folder: Path) -> set[str]:
    """What lies in a folder, but for temporary files: another process may be just beginning there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return {path.name for path in folder.iterdir() if not files.is_temporary(path)}
    return set()


def _part(job: Job, shard: tuple[int, int] | None) -> Job:
    """The job less the batches that are not in its part of them."""
    if shard is None:
        return job
    number, count = shard
    own = {batch.name for position, batch in enumerate(plans.batches(job.plan)) if position % count == number - 1}
    return job._replace(pending=tuple(batch for batch in job.pending if batch.name in own), shard=shard)


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


def reopen(study: Study, folder: Path, digest: str) -> Job:
    """Returns the job of a study whose plan the folder has, for another process to take part in.

    It checks no code: give the job the `digests` of the one that was prepared, and each batch does.

    Args:
        study: The study.
        folder: The run folder in which `prepare` was called for it.
        digest: The digest of the plan that `prepare` gave.

    Raises:
        StoreError: If the folder has no such plan.
    """
    stored = next((stored for stored in store.plans(folder) if stored.digest == digest), None)
    plan = plans.plan(study, tile=stored.tile, yes=True) if stored else None
    if stored is None or plan is None or plan.asked != stored.asked:
        raise StoreError(f"{folder} was not asked for this study: prepare it there first")
    plan = plans.in_folder(plan, stored.tile, stored.done)
    pending = _pending(plan, folder)
    done = plan.num_runs - sum(batch.num_runs for batch in pending)
    return Job(plan, folder, pending, {}, done, begun=store.identity(folder))


def _pending(plan: Plan, folder: Path | None) -> tuple[Batch, ...]:
    there = store.committed(folder, plan.digest) if folder else set()
    return tuple(batch for batch in plans.batches(plan) if batch.name not in there)


def _put_aside(folder: Path) -> None:
    """Renames a folder to the first name of its kind that is free; of two who do so at once both find one."""
    for number in itertools.count(1):
        aside = folder.with_name(f"{folder.name}.old-{number}")
        if aside.exists():
            continue
        try:
            folder.rename(aside)
        except FileNotFoundError:
            return
        except OSError as problem:
            if problem.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise StoreError(f"{folder} cannot be put aside ({problem.strerror}): use another --name") from problem
        else:
            return


def _in_folder(plan: Plan, folder: Path, known: list[StoredPlan], tile: Tile | None) -> Plan:
    """The plan in the folder's tile, less what other plans of the folder have done."""
    kept = known[0].tile if known else Tile(*store.record(folder)["tile"])
    if tile is not None and tile != kept:
        raise StoreError(
            f"{folder} is trained in tiles of {kept.trials}x{kept.seeds}, not {tile.trials}x{tile.seeds}, and another "
            "tile has other bits: leave --tile out, or use another --name"
        )
    plan = plans.in_folder(plan, kept, None)
    for stored in reversed([stored for stored in known if stored.asked == plan.asked]):
        made = plans.in_folder(plan, kept, stored.done)
        there = _there(made, folder, other_plans(made, known))
        # What it counts on may be gone since, with a damaged chunk of another plan, and another may have done its rest.
        lost = np.bool_(False) if stored.done is None else stored.done & ~there
        if not lost.any() and not (_left(made, folder) & there).any():
            return made
    done = _there(plan, folder, [stored for stored in known if stored.steps == plan.steps])
    return plans.in_folder(plan, kept, done if done.any() else None)


def _left(plan: Plan, folder: Path) -> np.ndarray:
    """Which runs of a plan are in none of its own chunks, bool [num_trials, num_seeds]."""
    left = np.zeros((len(plan.trials), len(plan.seeds)), bool)
    for trials, seeds in (tile for batch in _pending(plan, folder) for tile in batch.tiles):
        left[np.ix_(trials, positions(plan.seeds, seeds))] = True
    return left


def _there(plan: Plan, folder: Path, known: Sequence[StoredPlan]) -> np.ndarray:
    """Which runs of a plan some plans of the folder have results of, bool [num_trials, num_seeds]."""
    found = np.zeros((len(plan.trials), len(plan.seeds)), bool)
    for result in earlier.results(folder, known, plan.trials, plan.seeds):
        found[result.trial, positions(plan.seeds, result.seed)] = True
    return found


def _job(
    plan: Plan,
    folder: Path | None,
    known: Sequence[StoredPlan],
    source: Source | None = None,
    allow_mixed: bool = False,
    checked: Mapping[str, Mapping[str, str]] = {},
) -> Job:
    """Lowers the programs, checks them against the folder's, and finds what is left to train."""
    pending = _pending(plan, folder)
    lowered = {index: engine.lower(plan, index) for index in range(len(plan.groups))}
    programs, begun = {}, None
    if folder is not None and source is not None:
        programs, record = digests(plan, lowered), record_of(plan, source)
        if known or store.exists(folder):
            matching.check_fields(folder, record["fields"], known)
            matching.check_same(folder, record, _of_before(plan, folder, known, {**checked, **programs}), allow_mixed)
        store.make_folders(folder)
        if plan.digest not in {stored.digest for stored in known}:
            stored_plans.add(folder, plan, programs)
        if not store.exists(folder):
            store.create(folder, record)
        begun = store.identity(folder)
    done = plan.num_runs - sum(batch.num_runs for batch in pending)
    return Job(plan, folder, pending, lowered, done, source, digests=programs, begun=begun)


def _of_before(
    plan: Plan, folder: Path, known: Sequence[StoredPlan], programs: Mapping[str, Any]
) -> dict[str, dict[str, str]]:
    """The digests, by the code and data at hand, of all groups that a folder has, where some are known already.

    What has changed may be what groups that are not asked for train or read, and their results are in the same table.
    """
    found = {**programs}
    for stored in known:
        if stored.programs.keys() <= found.keys():
            continue
        try:
            again = plans.plan(earlier.study_of(plan.study, stored), tile=plan.tile, yes=True)
        except JaxexpError as problem:
            raise MismatchError(
                f"what {folder} was trained with cannot be made by the experiment as it is now: use another --name, or "
                f"--fresh to start over beside it\n{problem}"
            ) from problem
        left = [n for n, group in enumerate(again.groups) if group.name not in found]
        found |= digests(again, {index: engine.lower(again, index) for index in left})
    return found


def digests(plan: Plan, lowered: Mapping[int, Lowered]) -> dict[str, dict[str, str]]:
    """Returns for each group that was lowered, by its static fields, the digests of its program and of its data."""
    return {
        plan.groups[index].name: {"program": one.fingerprint, "data": plan.groups[index].data_digest}
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
        return _part(_job(plans.in_folder(job.plan, tile, None), job.folder, (), job.source or Source()), job.shard)


def record_of(plan: Plan, source: Source) -> dict[str, Any]:
    """Returns what `run.json` says of a plan that is begun here and now."""
    return {
        "experiment": source.name,
        **source.texts(),
        "full": source.full,
        "path": source.path,
        "words": list(source.words),
        "samples": source.samples,
        "fields": {f.name: "dynamic" if f.dynamic else "static" for f in configs.fields(plan.study.config).values()},
        "tile": list(plan.tile),
        "git": devices.git_state(source.folder),
        **devices.environment(),
    }


def other_plans(plan: Plan, known: Sequence[StoredPlan]) -> list[StoredPlan]:
    """The other plans of a folder that train for the same steps."""
    return [stored for stored in known if stored.digest != plan.digest and stored.steps == plan.steps]

"""A recorded study trained again, and how its results compare: identical, within tolerance, equivalent or different.

A quantity is one number a seed: what a claim estimates, or a metric's last value of a trial. The same seeds are
the same starts and minibatches, so that comparisons are paired. Writes nothing but its own record.
"""

import datetime
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxexp import devices, files, jobs, matching, plans, quantities, recorded, statistics, store
from jaxexp.errors import MismatchError, StoreError
from jaxexp.jobs import Job
from jaxexp.plans import Tile
from jaxexp.quantities import Trained
from jaxexp.recorded import Asked
from jaxexp.statistics import Comparison

ORDER = ("identical", "within tolerance", "equivalent", "undecided", "different")
"""The verdicts, from the best to the worst."""

IDENTICAL, WITHIN, EQUIVALENT, UNDECIDED, DIFFERENT = ORDER

MARGIN, NEGLIGIBLE = 0.5, 0.1
"""Means that differ by less than so many standard deviations over seeds count as equivalent, unless a test finds that
they differ; below the second, even then: rounding can shift all seeds a little one way."""

LEVEL = 0.05
"""The chance that anything at all comes out different where nothing is, with Holm over all quantities."""


class Judged(NamedTuple):
    """The verdict on one quantity.

    Attributes:
        quantity: The claim's sentence, or the metric and the trial.
        verdict: One of `ORDER`.
        difference: The largest absolute difference of a seed.
        tolerance: What is allowed for rounding: relative, of the larger of the two numbers.
        comparison: Of the means, paired by seed.
        margin: The difference of means that counts as none.
        finite: How many seeds gave a finite number before, and now.
    """

    quantity: str
    verdict: str
    difference: float
    tolerance: float
    comparison: Comparison
    margin: float
    finite: tuple[int, int]


class Reproduction(NamedTuple):
    """A recorded study trained again.

    Attributes:
        verdict: The worst of all quantities.
        judged: Of each quantity.
        changed: What of the machine, its software, the code and the data is not as recorded, each as
            "name: before -> now".
        num_runs: Runs that were trained again.
        not_judged: What could not be compared, claim by claim, and why.
        warnings: What a reader has to know of the verdict.
    """

    verdict: str
    judged: list[Judged]
    changed: list[str]
    num_runs: int
    not_judged: list[str]
    warnings: list[str]


def begun(folder: Path, asked: Asked, again: Path, before: Sequence[Trained] = ()) -> Job:
    """Returns the job that trains one of a folder's plans again, in the recorded tile.

    Args:
        folder: The run folder, or the reference.
        asked: One of what `recorded.asked` gave.
        again: A run folder for the results of all of them, so that what two plans share is trained once; what an
            interrupted reproduction has left there is not trained anew.
        before: The plans that were trained again before this one.

    Raises:
        MismatchError: If that was trained by other code or on another machine.
        StoreError: If it is the recorded folder itself, or holds anything else; if nothing is recorded to compare with.
    """
    if not (folder / "claims.npz").exists() and not any((folder / "chunks").glob("[0-9]*.npz")):
        raise StoreError(f"{folder} has neither claims nor results to compare with: `jaxexp status {folder}`")
    if folder.resolve() in (again.resolve(), *again.resolve().parents):
        raise StoreError(f"{again} is what is to be reproduced, or a part of it: train again in another folder")
    _check_writable(folder)
    record = store.record(folder)
    tile = Tile(*record["tile"])
    try:
        source, checked = recorded.source(folder, asked.order), {}
        for one in before:
            checked |= one.job.digests
        return jobs.prepare(asked.study, again, tile=tile, yes=True, source=source, checked=checked)
    except MismatchError as problem:
        raise MismatchError(f"{again} was begun otherwise: train again in another folder\n{problem}") from problem


def _check_writable(folder: Path) -> None:
    """Checks that the verdict can be recorded, before anything is trained."""
    below = folder / "reproductions"
    try:
        files.make_folder(below if below.exists() or below.is_symlink() else folder, own=below.is_symlink())
    except StoreError as problem:
        raise StoreError(
            f"{problem.__cause__ or problem}: the verdict is recorded in {folder}, which cannot be written: reproduce "
            "a copy of it"
        ) from problem


def judge(folder: Path, trained: Sequence[Trained]) -> Reproduction:
    """Compares what was trained again with what a folder records.

    Args:
        folder: The run folder, or the reference.
        trained: All that `recorded.asked` gave, trained again in the same order.

    Raises:
        StoreError: If the folder has nothing to compare with, or a file of it is damaged.
    """
    environment, code = _changed(folder, trained)
    claims, not_judged = quantities.claims(folder, trained)
    metrics, missing = quantities.metrics(folder, trained)
    pairs, not_judged = {**claims, **metrics}, not_judged + missing
    pairs = {name: pair for name, pair in pairs.items() if len(pair.seeds)}
    if not pairs:
        why = "".join(f"\n{line}" for line in not_judged)
        raise StoreError(f"{folder} has nothing that could be compared with what was trained again{why}")
    judged = compared(
        {name: (pair.before, pair.now) for name, pair in pairs.items()},
        {name: pair.num_steps for name, pair in pairs.items()},
        same_machine=not environment,
        otherwise_before={name for name, pair in pairs.items() if not pair.same},
    )
    worst = max((found.verdict for found in judged), key=ORDER.index)
    num_runs = sum(batch.num_runs for one in trained for batch in plans.batches(one.job.plan))
    digests = any(one.asked.stored for one in trained)
    warnings = _kept(trained) + _warnings(judged, environment, code, digests)
    return Reproduction(worst, judged, environment + code, num_runs, not_judged, warnings)


def _kept(trained: Sequence[Trained]) -> list[str]:
    """What was there before anything was trained: the verdict on it is no better than its origin."""
    first = trained[0]
    if first.num_new == first.job.plan.num_runs:
        return []
    num_new = sum(one.num_new for one in trained)
    return [f"{num_new:,} runs were trained now; all others were in {first.job.folder} before, and are judged as found"]


def _changed(folder: Path, trained: Sequence[Trained]) -> tuple[list[str], list[str]]:
    """What bits depend on beside the program, and what of code and data, is not as it was."""
    record, machine = store.record(folder), devices.environment()
    now, before = matching.bits_environment(machine), matching.bits_environment(record)
    environment = [f"{name}: {before[name]} -> {now[name]}" for name in now if now[name] != before[name]]
    chunks = list(store.environments(folder))
    others = [name for name, found in chunks if matching.bits_environment(found) != before]
    if others:
        environment.append(f"chunks: {len(others)} of them, {others[0]} first, were trained elsewhere than the rest")
    code = []
    source = recorded.source(folder)
    for name in matching.changed_texts(record, source.texts()):
        what = f"module {name}" if name else f"experiment file {source.path}".strip()
        code.append(f"{what}: another than the recorded one")
    elsewhere = any(matching.lowers_otherwise(there, machine) for there in (record, *(found for _, found in chunks)))
    versions = (record.get("versions") or {}, machine["versions"])
    for name in [name for name in versions[1] if name not in now["versions"]]:
        if versions[0].get(name) != versions[1][name]:
            code.append(f"{name}: {versions[0].get(name)} -> {versions[1][name]}")
    for asked, job, *_ in trained:
        there = asked.stored.programs if asked.stored else {}
        for group in there.keys() & job.digests.keys():
            if there[group]["data"] != job.digests[group]["data"]:
                code.append(f"data: other than the recorded ones (group {group})")
            if there[group]["program"] != job.digests[group]["program"] and not elsewhere:
                code.append(f"program: another than the recorded one (group {group})")
    return environment, list(dict.fromkeys(code))


def _warnings(judged: Sequence[Judged], environment: Sequence[str], code: Sequence[str], digests: bool) -> list[str]:
    """What a reader has to know of verdicts; `digests` says whether data and programs could be compared."""
    gone = sum(found.finite[0] > 0 and not found.finite[1] for found in judged)
    told = [f"{gone} of {len(judged)} quantities are finite at no seed any more"] if gone else []
    differing = sum(found.verdict != IDENTICAL for found in judged)
    if environment or not differing:
        return told
    differing = f"{differing} of {len(judged)} quantities have other bits"
    if code:
        return [*told, f"{differing}: see what has changed in code or data"]
    return [
        *told,
        f"{differing}, though nothing that is recorded has changed, neither of the machine, JAX and its settings nor "
        + ("of code and data: a fault of the machine" if digests else "of code: a reference does not record data")
        + ", or a change in what the experiment reads or imports",
    ]


def compared(
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]],
    num_steps: int | Mapping[str, int],
    same_machine: bool = False,
    otherwise_before: Collection[str] = (),
) -> list[Judged]:
    """Returns the verdict on each quantity.

    *Identical*: the same bits at every seed, of a metric at every step that was recorded. On the machine and software
    of the record anything else is *different*, since nothing there explains it. *Within tolerance*: no seed's numbers
    differ, relative to the larger, by more than epsilon of their dtype times the number of steps, and never by more
    than its square root. *Different*: a paired t-test finds that means differ, and not that it is by less than
    `NEGLIGIBLE` standard deviations of the seeds; or so many more or fewer seeds are finite as chance does not explain;
    each at half of `LEVEL`, with Holm over all quantities. *Equivalent*: else, where the means' difference is within
    `MARGIN` standard deviations by two one-sided tests. *Undecided*: neither; too few seeds.

    Args:
        pairs: By name, numbers [num_seeds] before and now, of the same seeds.
        num_steps: Steps of training, of all or by name.
        same_machine: Whether nothing that bits depend on has changed.
        otherwise_before: Names of those that had other bits at an earlier step.
    """
    found = []
    for name, (old, new) in pairs.items():
        old, new = np.asarray(old), np.asarray(new)
        both = np.isfinite(old) & np.isfinite(new)
        spread = float(np.std(old[both].astype(np.float64), ddof=1)) if both.sum() > 1 else 0.0
        differences = np.full(old.shape, np.nan)
        differences[both] = new[both].astype(np.float64) - old[both].astype(np.float64)
        count = num_steps if isinstance(num_steps, int) else num_steps[name]
        tolerance = min(float(np.finfo(old.dtype).eps) * count, float(np.finfo(old.dtype).eps) ** 0.5)
        size = np.maximum(np.abs(old), np.abs(new))[both]
        same_finite = bool(np.array_equal(old[~both], new[~both], equal_nan=True))
        within = same_finite and bool((np.abs(differences[both]) <= tolerance * size).all())
        comparison = statistics.paired(differences, MARGIN * spread)
        identical = quantities.same_bits(old, new) and name not in otherwise_before
        verdict = IDENTICAL if identical else WITHIN if within else UNDECIDED
        if verdict != IDENTICAL and same_machine:
            verdict = DIFFERENT
        largest = float(np.abs(differences[both]).max()) if both.any() else 0.0
        counts = (int(np.isfinite(old).sum()), int(np.isfinite(new).sum()))
        found.append(Judged(name, verdict, largest, tolerance, comparison, MARGIN * spread, counts))
    open_ = [number for number, judged in enumerate(found) if judged.verdict == UNDECIDED]
    # Each quantity is tested twice, for its mean and for how many seeds are finite: half of the level each.
    adjusted = statistics.holm([found[number].comparison.p_different for number in open_])
    gone = statistics.holm([_gone(found[number].finite, len(pairs[found[number].quantity][0])) for number in open_])
    for number, probability, lost in zip(open_, adjusted, gone, strict=True):
        judged = found[number]
        ends = max(abs(judged.comparison.low), abs(judged.comparison.high))
        negligible = ends < judged.margin * NEGLIGIBLE / MARGIN
        if (probability <= LEVEL / 2 and not negligible) or lost <= LEVEL / 2:
            verdict = DIFFERENT
        else:
            verdict = EQUIVALENT if judged.comparison.equivalent else UNDECIDED
        found[number] = judged._replace(verdict=verdict)
    return found


def _gone(finite: tuple[int, int], num_seeds: int) -> float:
    """The chance of so many more, or fewer, finite seeds, by Fisher's exact test."""
    from scipy.stats import fisher_exact

    table = [[count, num_seeds - count] for count in finite]
    return float(fisher_exact(table)[1])  # pyright: ignore[reportArgumentType]


def keep(folder: Path, found: Reproduction) -> Path:
    """Writes the record of a reproduction beside what it reproduces, `reproductions/NUMBER.json`; returns its path."""
    files.make_folder(folder / "reproductions", own=True)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    path = _numbered(folder / "reproductions")
    try:
        files.write(path, files.json_text({**document(found), "when": today}).encode())
    except StoreError:
        path.unlink(missing_ok=True)
        raise
    return path


def _numbered(folder: Path) -> Path:
    """Makes an empty file of the first number that is free: of two reproductions that end at once each has its own."""
    number = 1
    while True:
        path = folder / f"{number:03d}.json"
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return path


def document(found: Reproduction) -> dict[str, Any]:
    """Returns a reproduction as plain values, for JSON."""
    return {
        "verdict": found.verdict,
        "runs": found.num_runs,
        "changed": found.changed,
        "not_judged": found.not_judged,
        "warnings": found.warnings,
        "environment": devices.environment(),
        "margin_in_standard_deviations": MARGIN,
        "level": LEVEL,
        "quantities": [{**judged._asdict(), "comparison": judged.comparison._asdict()} for judged in found.judged],
    }

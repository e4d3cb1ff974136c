"""A recorded study trained again, and how its results compare: identical, within tolerance, equivalent or different.

A quantity is one number a seed: what a claim estimates, or a metric's last evaluation of a trial. The same seeds are
the same starts and minibatches, so that comparisons are paired. Writes nothing but its own record.
"""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxexp import devices, files, jobs, matching, plans, recorded, statistics, store
from jaxexp.errors import MismatchError, StoreError
from jaxexp.jobs import Job
from jaxexp.plans import Tile
from jaxexp.recorded import Asked
from jaxexp.results import NOT_RUN
from jaxexp.statistics import Comparison
from jaxexp.trials import union

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


class Trained(NamedTuple):
    """One of a folder's plans after it was trained again, its results, and how many runs were not there before."""

    asked: Asked
    job: Job
    dataset: Any
    num_new: int


class _Pair(NamedTuple):
    """The numbers of common seeds, before and now; [num_seeds] each, of runs of so many steps."""

    seeds: np.ndarray
    before: np.ndarray
    now: np.ndarray
    num_steps: int


def begun(folder: Path, asked: Asked, again: Path) -> Job:
    """Returns the job that trains one of a folder's plans again, in the recorded tile.

    Args:
        folder: The run folder, or the reference.
        asked: One of what `recorded.asked` gave.
        again: A run folder for the results of all of them, so that what two plans share is trained once; what an
            interrupted reproduction has left there is not trained anew.

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
        return jobs.prepare(asked.study, again, tile=tile, yes=True, source=recorded.source(folder))
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
    claims, not_judged = _claims(folder, trained)
    metrics, missing = _metrics(folder, trained)
    pairs, not_judged = {**claims, **metrics}, not_judged + missing
    pairs = {name: pair for name, pair in pairs.items() if len(pair.seeds)}
    if not pairs:
        why = "".join(f"\n{line}" for line in not_judged)
        raise StoreError(f"{folder} has nothing that could be compared with what was trained again{why}")
    judged = compared(
        {name: (pair.before, pair.now) for name, pair in pairs.items()},
        {name: pair.num_steps for name, pair in pairs.items()},
        same_machine=not environment,
    )
    worst = max((found.verdict for found in judged), key=ORDER.index)
    num_runs = sum(batch.num_runs for one in trained for batch in plans.batches(one.job.plan))
    warnings = _kept(trained) + _warnings(judged, environment, code)
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
    others = [name for name, found in store.environments(folder) if matching.bits_environment(found) != before]
    if others:
        environment.append(f"chunks: {len(others)} of them, {others[0]} first, were trained elsewhere than the rest")
    code = []
    for name in matching.changed_texts(record, recorded.source(folder).texts()):
        code.append(f"{f'module {name}' if name else 'experiment file'}: another than the recorded one")
    versions = (record.get("versions") or {}, machine["versions"])
    for name in [name for name in versions[1] if name not in now["versions"]]:
        if versions[0].get(name) != versions[1][name]:
            code.append(f"{name}: {versions[0].get(name)} -> {versions[1][name]}")
    for asked, job, *_ in trained:
        there = asked.stored.programs if asked.stored else {}
        for group in there.keys() & job.digests.keys():
            if there[group]["data"] != job.digests[group]["data"]:
                code.append(f"data: other than the recorded ones (group {group})")
            if there[group]["program"] != job.digests[group]["program"] and not environment:
                code.append(f"program: another than the recorded one (group {group})")
    return environment, list(dict.fromkeys(code))


def _warnings(judged: Sequence[Judged], environment: Sequence[str], code: Sequence[str]) -> list[str]:
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
        "of code and data: a fault of the machine, or a change in what the experiment imports",
    ]


def _claims(folder: Path, trained: Sequence[Trained]) -> tuple[dict[str, _Pair], list[str]]:
    """For each claim its sentence with its numbers, and the sentences of those that cannot be compared, and why."""
    path, pairs, not_judged = folder / "claims.npz", {}, []
    if not trained[-1].asked.study.claims:
        return pairs, not_judged
    if not path.is_file():
        return pairs, [f"claims: {folder} has no claims.npz, so that they were never judged there"]
    kept = files.read_npz(path)
    chosen = _of_claims(kept, trained)
    if chosen is None:
        return pairs, [f"claims: judged after {int(kept['num_steps'])} steps, and no plan of {folder} has so many"]
    claims, again = chosen.asked.study.claims, chosen.dataset
    statements = files.array_text(kept["statements"]) if "statements" in kept else [c.statement for c in claims]
    for claim in claims:
        name = f"{statements.index(claim.statement):02d}" if claim.statement in statements else ""
        if name not in kept:
            not_judged.append(f"{claim.statement}: not among the recorded claims")
            continue
        try:
            now = statistics.per_seed(claim, again)
            if np.isfinite(kept[name]).any() and not np.isfinite(now.values).any():
                statistics.per_seed(claim, again.assign_attrs(absent="refuse"))  # not a fault of what was not trained
        except (LookupError, ValueError) as problem:
            not_judged.append(f"{claim.statement}: its estimate fails on what was trained again ({problem!r})")
            continue
        pair = _common(kept[f"{name}:seed"], kept[name], now["seed"].values, now.values, chosen.job.plan.steps[0])
        pairs[claim.statement] = pair
        if not len(pair.seeds):
            not_judged.append(f"{claim.statement}: none of its seeds was trained again")
    known = {claim.statement for claim in claims}
    gone = [statement for statement in statements if statement not in known]
    return pairs, not_judged + [f"{statement}: the experiment does not claim it any more" for statement in gone]


def _of_claims(kept: Mapping[str, np.ndarray], trained: Sequence[Trained]) -> Trained | None:
    """What the recorded claims were judged on: of the plans of their steps the last, of their seeds if there is one."""
    if "num_steps" not in kept or trained[0].asked.stored is None:
        return trained[0]
    of_steps = [one for one in trained if one.asked.stored and one.asked.stored.steps[0] == int(kept["num_steps"])]
    seeds = kept.get("00:seed", np.zeros(0))
    of_seeds = [one for one in of_steps if one.asked.stored and set(one.asked.stored.seeds) == set(seeds)]
    return (of_seeds or of_steps or [None])[-1]


def _common(old_seeds: np.ndarray, old: np.ndarray, new_seeds: np.ndarray, new: np.ndarray, num_steps: int) -> _Pair:
    """The numbers of the seeds that both have, in the same order."""
    seeds, before, now = np.intersect1d(old_seeds, new_seeds, assume_unique=True, return_indices=True)
    return _Pair(seeds, old[before], new[now], num_steps)


def _metrics(folder: Path, trained: Sequence[Trained]) -> tuple[dict[str, _Pair], list[str]]:
    """For each trial and metric its name, and its last values at the common seeds before and now; what is missing."""
    found, missing = dict[str, _Pair](), list[str]()
    tables = [one.asked.stored.trials for one in trained if one.asked.stored]
    fields = list(union(tables).columns) if tables else []
    for asked, _, again, _ in trained:
        if asked.stored is None:
            continue
        for name, pair in _of_plan(recorded.results(folder, asked.stored), again, fields):
            if pair is None:
                missing.append(f"{name}: {folder} has no such trial")
            else:
                found[name] = _joined(found[name], pair) if name in found else pair
    return found, missing


def _joined(one: _Pair, other: _Pair) -> _Pair:
    """The numbers of both; of a seed that both have, the second's."""
    seeds, first = np.unique(np.concatenate([other.seeds, one.seeds]), return_index=True)
    before, now = (np.concatenate([getattr(pair, name) for pair in (other, one)]) for name in ("before", "now"))
    return _Pair(seeds, before[first], now[first], other.num_steps)


def _of_plan(before: Any, again: Any, swept: Sequence[str]) -> Iterator[tuple[str, _Pair | None]]:
    """The quantities of one plan, of the runs that are there before and now; None of a trial that was not before."""
    when = "eval_step" if any("eval_step" in values.dims for values in again.data_vars.values()) else "step"
    names = [name for name in again.data_vars if when in again[name].dims and name in before]
    varied = [name for name in again.coords if again[name].dims == ("trial",) and name != "trial"]
    fields = [name for name in dict.fromkeys((*swept, *varied)) if name in before.coords and name in again.coords]
    rows = {_row(before, fields, trial): trial for trial in range(before.sizes["trial"])}
    step = again[when].values[-1] if names else -1
    at = f"after {step} steps" if when == "eval_step" else f"at step {step}"
    for trial in range(again.sizes["trial"]):
        row = _row(again, fields, trial)
        label = ", ".join(f"{field}={value}" for field, value in zip(fields, row, strict=True)) or "all"
        if row not in rows:
            yield label, None
            continue
        there, here = before.isel(trial=rows[row]), again.isel(trial=trial)
        there, here = (one.isel(seed=one["status"].values != NOT_RUN) for one in (there, here))
        for name in names:
            if step in there[when].values:
                old, new = (one[name].sel({when: step}).values for one in (there, here))
                pair = _common(there["seed"].values, old, here["seed"].values, new, int(again.attrs["num_steps"]))
                yield f"{name} {at} ({label})", pair


def _row(dataset: Any, fields: Sequence[str], trial: int) -> tuple[Any, ...]:
    return tuple(dataset[field].values.ravel()[trial if dataset[field].dims else 0] for field in fields)


def compared(
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]],
    num_steps: int | Mapping[str, int],
    same_machine: bool = False,
) -> list[Judged]:
    """Returns the verdict on each quantity.

    *Identical*: the same bits at every seed. On the machine and software of the record anything else is *different*,
    since nothing there explains it. *Within tolerance*: no seed's numbers differ, relative to the larger, by more than
    epsilon of their dtype times the number of steps, and never by more than its square root. *Different*: a paired
    t-test finds that means differ, and not that it is by less than `NEGLIGIBLE` standard deviations of the seeds; or
    so many more or fewer seeds are finite as chance does not explain; each at half of `LEVEL`, with Holm over all
    quantities. *Equivalent*: else, where the means' difference is within `MARGIN` standard deviations by two one-sided
    tests. *Undecided*: neither; too few seeds.

    Args:
        pairs: By name, numbers [num_seeds] before and now, of the same seeds.
        num_steps: Steps of training, of all or by name.
        same_machine: Whether nothing that bits depend on has changed.
    """
    found = []
    for name, (old, new) in pairs.items():
        old, new = np.asarray(old), np.asarray(new)
        both = np.isfinite(old) & np.isfinite(new)
        spread = float(np.std(old[both].astype(np.float64), ddof=1)) if both.sum() > 1 else 0.0
        differences = np.where(both, new.astype(np.float64) - old.astype(np.float64), np.nan)
        count = num_steps if isinstance(num_steps, int) else num_steps[name]
        tolerance = min(float(np.finfo(old.dtype).eps) * count, float(np.finfo(old.dtype).eps) ** 0.5)
        size = np.maximum(np.abs(old), np.abs(new))[both]
        same_finite = bool(np.array_equal(old[~both], new[~both], equal_nan=True))
        within = same_finite and bool((np.abs(differences[both]) <= tolerance * size).all())
        comparison = statistics.paired(differences, MARGIN * spread)
        verdict = IDENTICAL if old.tobytes() == new.astype(old.dtype).tobytes() else WITHIN if within else UNDECIDED
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

"""A recorded study trained again, and how its results compare: identical, within tolerance, equivalent or different.

A quantity is one number a seed: what a claim estimates, or a metric's last evaluation of a trial. The same seeds are
the same starts and minibatches, so that comparisons are paired. Writes nothing but its own record.
"""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxexp import catalog, devices, files, overrides, recorded, statistics, store, worker
from jaxexp.errors import StoreError
from jaxexp.launch import Order
from jaxexp.plans import Tile
from jaxexp.statistics import Comparison
from jaxexp.study import Study
from jaxexp.worker import Job

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
        changed: What of the machine and its software is not as recorded, each as "name: before -> now".
        num_runs: Runs that were trained again.
    """

    verdict: str
    judged: list[Judged]
    changed: list[str]
    num_runs: int


def again(folder: Path, wanted: Order, temporary: Path) -> tuple[Study, Job]:
    """Returns the study that an order means, and the job that trains it in the recorded tile.

    Args:
        folder: The run folder, or the reference.
        wanted: What `recorded.order` gave.
        temporary: A folder for its results.
    """
    made = overrides.chosen(catalog.load(wanted.path), wanted.full, wanted.words, wanted.samples)
    tile = Tile(*store.record(folder)["tile"])
    return made, worker.prepare(made, temporary, tile=tile, yes=True)


def judge(folder: Path, made: Study, dataset: Any) -> Reproduction:
    """Compares what was trained again with what a folder records.

    Args:
        folder: The run folder, or the reference.
        made: The study.
        dataset: The results of training it again.
    """
    record = store.record(folder)
    now = store.bits_environment(devices.environment())
    before = store.bits_environment(record)
    changed = [f"{name}: {before[name]} -> {now[name]}" for name in now if now[name] != before[name]]
    pairs = dict(_claims(folder, made, dataset))
    if (folder / "plans").is_dir():
        pairs |= dict(_metrics(worker.load(folder), dataset))
    pairs = {name: (old, new) for name, (old, new) in pairs.items() if len(old)}
    if not pairs:
        raise StoreError(f"{folder} has neither claims nor results to compare with")
    judged = compared(pairs, made.num_steps, same_machine=not changed)
    worst = max((found.verdict for found in judged), key=ORDER.index)
    if recorded.source(record).text != record.get("source"):
        changed.append("experiment file: another than the recorded one")
    return Reproduction(worst, judged, changed, int(dataset["status"].size))


def _claims(folder: Path, made: Study, again: Any) -> Any:
    """For each claim its sentence, and the numbers of the common seeds before and now."""
    path = folder / "claims.npz"
    if not path.is_file() or not made.claims:
        return
    kept = files.read_npz(path)
    asked = store.plans(folder) if (folder / "plans").is_dir() else []
    if "num_steps" in kept and asked and int(kept["num_steps"]) != asked[0].steps[0]:
        return  # a later command, of more steps, has judged the claims
    statements = files.array_text(kept["statements"]) if "statements" in kept else [c.statement for c in made.claims]
    for claim in made.claims:
        name = f"{statements.index(claim.statement):02d}" if claim.statement in statements else ""
        if name in kept:
            now = statistics.per_seed(claim, again)
            yield claim.statement, _common(kept[f"{name}:seed"], kept[name], now["seed"].values, now.values)


def _common(
    old_seeds: np.ndarray, old: np.ndarray, new_seeds: np.ndarray, new: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the seeds that both have, in the same order."""
    _, before, now = np.intersect1d(old_seeds, new_seeds, assume_unique=True, return_indices=True)
    return old[before], new[now]


def _metrics(before: Any, again: Any) -> Any:
    """For each trial and evaluated metric its name, and the last evaluations of the common seeds before and now."""
    names = [name for name in again.data_vars if "eval_step" in again[name].dims and name in before]
    on_trial = [name for some in (before, again) for name in some.coords if some[name].dims == ("trial",)]
    fields = [name for name in dict.fromkeys(on_trial) if name != "trial" and name in before.coords]
    rows = {_row(before, fields, trial): trial for trial in range(before.sizes["trial"])}
    for trial in range(again.sizes["trial"]):
        row = _row(again, fields, trial)
        if row not in rows:
            continue
        label = ", ".join(f"{field}={value}" for field, value in zip(fields, row, strict=True)) or "all"
        for name in names:
            step = again["eval_step"].values[-1]
            kept = before[name].isel(trial=rows[row])
            if step not in kept["eval_step"].values:
                continue
            old, new = kept.sel(eval_step=step).values, again[name].isel(trial=trial, eval_step=-1).values
            seeds = (before["seed"].values, again["seed"].values)
            yield f"{name} after {step} steps ({label})", _common(seeds[0], old, seeds[1], new)


def _row(dataset: Any, fields: Sequence[str], trial: int) -> tuple[Any, ...]:
    return tuple(dataset[field].values.ravel()[trial if dataset[field].dims else 0] for field in fields)


def compared(
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], num_steps: int, same_machine: bool = False
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
        num_steps: Steps of training.
        same_machine: Whether nothing that bits depend on has changed.
    """
    found = []
    for name, (old, new) in pairs.items():
        old, new = np.asarray(old), np.asarray(new)
        both = np.isfinite(old) & np.isfinite(new)
        spread = float(np.std(old[both].astype(np.float64), ddof=1)) if both.sum() > 1 else 0.0
        differences = np.where(both, new.astype(np.float64) - old.astype(np.float64), np.nan)
        tolerance = min(float(np.finfo(old.dtype).eps) * num_steps, float(np.finfo(old.dtype).eps) ** 0.5)
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
    number = 1
    while (path := folder / "reproductions" / f"{number:03d}.json").exists():
        number += 1
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    files.write(path, files.json_text({**document(found), "when": today}).encode())
    return path


def document(found: Reproduction) -> dict[str, Any]:
    """Returns a reproduction as plain values, for JSON."""
    return {
        "verdict": found.verdict,
        "runs": found.num_runs,
        "changed": found.changed,
        "environment": devices.environment(),
        "margin_in_standard_deviations": MARGIN,
        "level": LEVEL,
        "quantities": [{**judged._asdict(), "comparison": judged.comparison._asdict()} for judged in found.judged],
    }

"""What a reproduction judges: for each claim and each metric of a trial its numbers by seed, before and now.

The same seeds are the same starts and minibatches, so that numbers are paired. Knows no verdict.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxexp import files, recorded, statistics
from jaxexp.errors import StudyError
from jaxexp.jobs import Job
from jaxexp.recorded import Asked
from jaxexp.results import NOT_RUN
from jaxexp.study import Claim
from jaxexp.trials import union

_STATUS = {"status", "status_step"}
_MAX_ALONE = 32
"""Seeds at which an estimate is taken anew, with the others changed."""


class Trained(NamedTuple):
    """One of a folder's plans after it was trained again, its results, and how many runs were not there before."""

    asked: Asked
    job: Job
    dataset: Any
    num_new: int


class Pair(NamedTuple):
    """The numbers of common seeds, before and now; [num_seeds] each, of runs of so many steps.

    `same` says whether what was recorded of a metric before has the same bits, too.
    """

    seeds: np.ndarray
    before: np.ndarray
    now: np.ndarray
    num_steps: int
    same: bool = True


def claims(folder: Path, trained: Sequence[Trained]) -> tuple[dict[str, Pair], list[str]]:
    """Returns for each claim its sentence with its numbers; and what cannot be compared, claim by claim, and why.

    Args:
        folder: The run folder, or the reference.
        trained: All that `recorded.asked` gave, trained again in the same order.
    """
    path, pairs, not_judged = folder / "claims.npz", {}, []
    if not trained[-1].asked.study.claims:
        return pairs, not_judged
    if not path.is_file():
        return pairs, [f"claims: {folder} has no claims.npz, so that they were never judged there"]
    kept = files.read_npz(path)
    chosen = _of_claims(kept, trained)
    if chosen is None:
        return pairs, [f"claims: judged after {int(kept['num_steps'])} steps, and no plan of {folder} has so many"]
    claimed, again = chosen.asked.study.claims, chosen.dataset
    fewer = bool(_recorded_seeds(kept, chosen.asked) - set(again["seed"].values.tolist()))
    statements = files.array_text(kept["statements"]) if "statements" in kept else [c.statement for c in claimed]
    for claim in claimed:
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
        if fewer and _depends_on_others(claim, again, now):
            not_judged.append(
                f"{claim.statement}: its estimate at a seed depends on other seeds, and not all were trained again: "
                "leave --seeds out"
            )
            continue
        pair = _common(kept[f"{name}:seed"], kept[name], now["seed"].values, now.values, chosen.job.plan.steps[0])
        pairs[claim.statement] = pair
        if not len(pair.seeds):
            not_judged.append(f"{claim.statement}: none of its seeds was trained again")
    known = {claim.statement for claim in claimed}
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


def _recorded_seeds(kept: Mapping[str, np.ndarray], asked: Asked) -> set[int]:
    """The seeds on which the recorded claims were judged; of a reference, those of which they are."""
    seeds = [values for name, values in kept.items() if name.endswith(":seed")]
    return set(np.concatenate([*seeds, asked.stored.seeds if asked.stored else []]).tolist())


def _depends_on_others(claim: Claim, again: Any, values: Any) -> bool:
    """Whether a claim estimates another number at a seed where the others are not there, or their trials are turned.

    Turned, since others that choose a trial may choose the same one without those that are not there.
    """
    rounding = float(np.finfo(values.dtype).eps) ** 0.5
    size = float(np.abs(values.where(np.isfinite(values), 0)).max()) if values.size else 0.0
    turned = again.map(lambda array: array.copy(data=array.values[::-1]), keep_attrs=True)  # the first dim is `trial`
    for seed in again["seed"].values[:_MAX_ALONE].tolist():
        for changed in (again.sel(seed=[seed]), again.where(again["seed"] == seed, turned)):
            try:
                found = statistics.per_seed(claim, changed)
            except StudyError:
                return True
            first, second = (array.values[array["seed"].values == seed] for array in (values, found))
            if not np.allclose(first, second, rounding, rounding * size, equal_nan=True):
                return True
    return False


def _common(old_seeds: np.ndarray, old: np.ndarray, new_seeds: np.ndarray, new: np.ndarray, num_steps: int) -> Pair:
    """The numbers of the seeds that both have, in the same order."""
    seeds, before, now = np.intersect1d(old_seeds, new_seeds, assume_unique=True, return_indices=True)
    return Pair(seeds, old[before], new[now], num_steps)


def metrics(folder: Path, trained: Sequence[Trained]) -> tuple[dict[str, Pair], list[str]]:
    """Returns for each trial and metric its last values at the common seeds before and now, and what is missing.

    Args:
        folder: The run folder; a reference keeps no metrics.
        trained: All that `recorded.asked` gave, trained again in the same order.
    """
    found, missing = dict[str, Pair](), list[str]()
    tables = [one.asked.stored.trials for one in trained if one.asked.stored]
    fields = list(union(tables).columns) if tables else []
    for asked, _, again, _ in trained:
        if asked.stored is None:
            continue
        before = recorded.results(folder, asked.stored)
        missing += _not_compared(before, again)
        for name, pair in of_plan(before, again, fields):
            if pair is None:
                missing.append(f"{name}: {folder} has no such trial")
            elif not len(pair.seeds):
                missing.append(f"{name}: none of its runs is recorded")
            else:
                found[name] = _joined(found[name], pair) if name in found else pair
    return found, list(dict.fromkeys(missing))


def _not_compared(before: Any, again: Any) -> Iterator[str]:
    """Yields of each metric that, or of which steps, only one of two datasets has what that is."""
    for name in sorted((before.keys() | again.keys()) - _STATUS):
        if name not in again:
            yield f"{name}: recorded, and not measured any more"
        elif name not in before:
            yield f"{name}: measured now, and not recorded"
        else:
            old, new = (set(one[name][one[name].dims[-1]].values.tolist()) for one in (before, again))
            if not old <= new:
                yield f"{name}: recorded at {len(old - new)} steps at which it was not measured again"
            if new and max(new) not in old:
                yield f"{name}: not recorded at step {max(new)}, the last at which it was measured again"


def _joined(one: Pair, other: Pair) -> Pair:
    """The numbers of both; of a seed that both have, the second's."""
    seeds, first = np.unique(np.concatenate([other.seeds, one.seeds]), return_index=True)
    before, now = (np.concatenate([getattr(pair, name) for pair in (other, one)]) for name in ("before", "now"))
    return Pair(seeds, before[first], now[first], other.num_steps, one.same and other.same)


def of_plan(before: Any, again: Any, swept: Sequence[str]) -> Iterator[tuple[str, Pair | None]]:
    """Yields the quantities of the runs that two datasets have, and None of a trial that the first has not.

    Args:
        before: Results.
        again: Those that were trained again; of each metric the last values count.
        swept: Hyperparameters that name a trial, beside those that vary in `again`.
    """
    names = [name for name in again.data_vars if name in before and name not in _STATUS]
    varied = [name for name in again.coords if again[name].dims == ("trial",) and name != "trial"]
    fields = [name for name in dict.fromkeys((*swept, *varied)) if name in before.coords and name in again.coords]
    rows = {_row(before, fields, trial): trial for trial in range(before.sizes["trial"])}
    for trial in range(again.sizes["trial"]):
        row = _row(again, fields, trial)
        label = ", ".join(f"{field}={value}" for field, value in zip(fields, row, strict=True)) or "all"
        if row not in rows:
            yield label, None
            continue
        there, here = before.isel(trial=rows[row]), again.isel(trial=trial)
        there, here = (one.isel(seed=one["status"].values != NOT_RUN) for one in (there, here))
        ended = _common(there["seed"].values, _endings(there), here["seed"].values, _endings(here), 0)
        for name in names:
            pair = _of_metric(there[name], here[name], int(again.attrs["num_steps"]))
            if pair is not None:
                pair = pair._replace(same=pair.same and same_bits(ended.before, ended.now))
                step = here[here[name].dims[-1]].values[-1]
                at = f"after {step} steps" if "eval_step" in here[name].dims else f"at step {step}"
                yield f"{name} {at} ({label})", pair


def _endings(runs: Any) -> np.ndarray:
    """What became of the runs of a trial, and at which step, [seed, 2]."""
    return np.stack([runs[name].values.astype(np.int32) for name in ("status", "status_step")], axis=1)


def _of_metric(before: Any, now: Any, num_steps: int) -> Pair | None:
    """The last values of a metric of one trial, [seed, step] each; None where there was none of that step before."""
    steps, first, second = np.intersect1d(before[before.dims[-1]], now[now.dims[-1]], return_indices=True)
    if not len(steps) or steps[-1] != now[now.dims[-1]].values[-1]:
        return None
    old, new = before.values[:, first], now.values[:, second]
    pair = _common(before["seed"].values, old, now["seed"].values, new, num_steps)
    return pair._replace(before=pair.before[:, -1], now=pair.now[:, -1], same=same_bits(pair.before, pair.now))


def same_bits(before: np.ndarray, now: np.ndarray) -> bool:
    """Returns whether two arrays hold the same bits."""
    return before.tobytes() == now.astype(before.dtype).tobytes()


def _row(dataset: Any, fields: Sequence[str], trial: int) -> tuple[Any, ...]:
    return tuple(dataset[field].values.ravel()[trial if dataset[field].dims else 0] for field in fields)

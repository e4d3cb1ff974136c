"""One run of a folder again, inside its tile, with the same bits; and where it stops being finite, if it does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxexp import devices, engine, jobs, matching, plans, recorded, store, trees
from jaxexp.engine import Compiled
from jaxexp.errors import StoreError
from jaxexp.plans import Plan
from jaxexp.program import NEVER, Clock, Progress, Records, Tiles
from jaxexp.results import Result
from jaxexp.signature import RUN, SHARED
from jaxexp.stored_plans import StoredPlan
from jaxexp.trials import aligned, union


class Replay(NamedTuple):
    """What was seen of a run that was trained again.

    Attributes:
        hyperparameters: Name and value of each that the sweep varies.
        metrics: The last value of each metric.
        differing: Names of the metrics whose recorded values have other bits in the folder; none where it is identical.
        not_finite_step: The first step whose metrics were not finite; None where all were.
        not_finite_metrics: The metrics that were not, at that step.
        parameter_step: How many steps had been done when the state first held a number that is not finite; None where
            it never did.
        parameters: The leaves of the state that held one then.
    """

    hyperparameters: dict[str, Any]
    metrics: dict[str, float]
    differing: list[str]
    not_finite_step: int | None
    not_finite_metrics: list[str]
    parameter_step: int | None
    parameters: list[str]


_HINT = "put back what has changed since, for a replay is of what was trained"


def replay(folder: Path, trial: int, seed: int) -> Replay:
    """Trains one run again and compares it with what the folder has of it.

    Args:
        folder: The run folder.
        trial: The row of its table, as `jx.load` numbers them.
        seed: The seed.

    Raises:
        StoreError: If the folder has no such run, or its code or data have changed.
    """
    stored, row, kept = _found(folder, trial, seed)
    plan = recorded.run_plan(folder, stored, row, seed)
    lowered = {0: engine.lower(plan, 0)}
    now = jobs.record_of(plan, recorded.source(folder))
    matching.check_same(folder, now, jobs.digests(plan, lowered), allow_mixed=True, hint=_HINT)
    devices.use_compile_cache()
    (batch,) = plans.batches(plan)
    with engine.compiler(plan, lowered, [0]) as program:
        made = program(0)
        (trained,) = (event for event in engine.train(plan, made, batch) if isinstance(event, engine.Trained))
        result = trained.result()
        bad = int(result.status_step[0])
        hunt = _Hunt(plan, made) if bad >= 0 else None
        metrics = hunt.metrics(bad) if hunt else []
        parameters = hunt.parameters(bad) if hunt else (None, [])
    again, before = ({**found.logged, **found.evaluated} for found in (result, kept))
    columns = {name: column[row] for name, column in stored.trials.columns.items()}
    return Replay(
        hyperparameters={k: v.item() if isinstance(v, np.generic) else v for k, v in columns.items()},
        metrics={name: float(values[0, -1]) for name, values in again.items()},
        differing=[name for name in again if again[name][0].tobytes() != before[name][0].tobytes()],
        not_finite_step=bad if bad >= 0 else None,
        not_finite_metrics=metrics,
        parameter_step=parameters[0],
        parameters=parameters[1],
    )


def _found(folder: Path, trial: int, seed: int) -> tuple[StoredPlan, int, Result]:
    """The plan that has trained a run, the run's row in its table, and what was measured of it."""
    known = store.plans(folder)
    if not known:
        raise StoreError(f"{folder} holds a record and no results, so that there is no run to replay")
    every, seeds = union([stored.trials for stored in known]), np.concatenate([stored.seeds for stored in known])
    for stored in sorted(known, key=lambda stored: -stored.steps[0]):
        rows = aligned(stored.trials, every)
        for result in store.results(folder, stored.digest):
            (where,) = np.nonzero((rows[result.trial] == trial) & (result.seed == seed))
            if len(where):
                return stored, int(result.trial[where[0]]), _of_run(result, int(where[0]))
    raise StoreError(
        f"{folder} has no run of trial {trial} with seed {seed}: its table has the trials 0 to {len(every) - 1} and "
        f"seeds from {min(seeds)} to {max(seeds)}; "
        f"`jaxexp status {folder}` says what has run"
    )


def _of_run(result: Result, where: int) -> Result:
    logged, evaluated = (
        {name: values[where : where + 1] for name, values in metrics.items()}
        for metrics in (result.logged, result.evaluated)
    )
    return result._replace(logged=logged, evaluated=evaluated)


class _Hunt:
    """The program of a run whose metrics stop being finite, called for as many steps as are wanted at a time."""

    def __init__(self, plan: Plan, made: Compiled):
        (batch,) = plans.batches(plan)
        self._plan, self._made = plan, made
        self._tiles: Tiles = engine.tile_arrays(plan, made, batch.tiles[:1])

    def metrics(self, bad: int) -> list[str]:
        """Returns which metrics were not finite at the step where the first was."""
        before = max(0, bad - 1)
        progress, _ = self._advanced(self._made.blank, 0, before)
        progress, evaluated = self._advanced(progress, before, bad)
        names = []
        if bad < self._plan.study.num_steps:  # else nothing but the evaluation at the end comes after it
            _, logged = self._advanced(progress, bad, bad + 1)
            names += [name for name, values in logged.logged.items() if not np.isfinite(values[0, 0, 0, 0])]
        if bad in engine.eval_steps(self._plan.study, 0, self._plan.study.num_steps):
            names += [name for name, values in evaluated.evaluated.items() if not np.isfinite(values[0, 0, 0, 0])]
        return names

    def parameters(self, bad: int) -> tuple[int | None, list[str]]:
        """Returns after how many steps the state was first not finite, by halving, and which of its leaves were not."""
        low, num_steps = 0, self._plan.study.num_steps
        progress, _ = self._advanced(self._made.blank, 0, 0)
        if self._not_finite(progress):
            return 0, self._not_finite(progress)
        high, found = 0, []
        for high in sorted({min(bad, num_steps), min(bad + 1, num_steps)} - {0}):  # a state may become finite again
            found = self._not_finite(self._advanced(progress, 0, high)[0])
            if found:
                break
        while found and high - low > 1:
            middle = (low + high) // 2
            there, _ = self._advanced(progress, low, middle)
            names = self._not_finite(there)
            if names:
                high, found = middle, names
            else:
                low, progress = middle, there
        return (high, found) if found else (None, [])

    def _advanced(self, progress: Progress, start: int, stop: int) -> tuple[Progress, Records]:
        num_steps, evaluate_every, _ = self._plan.steps
        if start == stop > 0:
            return progress, Records({}, {})
        clock = Clock(*map(np.int32, (1, start, stop, num_steps, evaluate_every, 1)))
        made, records = self._made.call(progress, self._tiles, self._made.data, clock)
        return made._replace(first_bad=np.full_like(progress.first_bad, NEVER)), jax.device_get(records)

    def _not_finite(self, progress: Progress) -> list[str]:
        signature = self._made.group.signature
        names, leaves = trees.leaf_names(signature.state), jax.device_get(progress.leaves)
        return [
            name
            for name, leaf, owner in zip(names, leaves, signature.owners, strict=True)
            if not np.isfinite(_lane(leaf, owner)).all()
        ]


def _lane(leaf: np.ndarray, owner: int) -> np.ndarray:
    """A leaf of the first tile's first run."""
    index: Sequence[int] = (0,) if owner == SHARED else (0, 0, 0) if owner == RUN else (0, 0)
    return leaf[tuple(index)]

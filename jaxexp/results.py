"""Results as labelled arrays: batches of runs in, one `xarray.Dataset` out.

Knows neither where results come from nor what they mean.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxexp import configs
from jaxexp.study import Table

OK, NOT_FINITE, STOPPED_EARLY, NOT_RUN = 0, 1, 2, 3
"""What became of a run: the values of `status`."""


class Result(NamedTuple):
    """What was measured of n runs.

    Attributes:
        trial: Rows of the trial table, int32 [n].
        seed: uint32 [n].
        status: `OK` or `NOT_FINITE`, int8 [n].
        status_step: The first step at which a metric was not finite, -1 where all were, int32 [n].
        step: Logged steps: numbers of updates done when the step's metrics were computed, int32 [k].
        eval_step: Numbers of updates done when was evaluated, int32 [e].
        logged: The step's metrics by name, [n, k].
        evaluated: Evaluation's metrics by name, [n, e].
        state: The final state's leaves [n, ...] in flattening order, where they were asked for.
    """

    trial: np.ndarray
    seed: np.ndarray
    status: np.ndarray
    status_step: np.ndarray
    step: np.ndarray
    eval_step: np.ndarray
    logged: dict[str, np.ndarray]
    evaluated: dict[str, np.ndarray]
    state: tuple[np.ndarray, ...] = ()

    def at(self, wanted: np.ndarray) -> "Result":
        """Returns the results of some of the runs, which a mask or their numbers name."""
        return self._replace(
            **{name: getattr(self, name)[wanted] for name in ("trial", "seed", "status", "status_step")},
            logged={name: values[wanted] for name, values in self.logged.items()},
            evaluated={name: values[wanted] for name, values in self.evaluated.items()},
            state=tuple(leaf[wanted] for leaf in self.state),
        )


def joined(parts: Sequence[Result]) -> Result:
    """Returns one result of several with the same steps and metrics, their runs one after the other."""
    first = parts[0]
    if len(parts) == 1:
        return first
    by_run = ("trial", "seed", "status", "status_step")
    return first._replace(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in by_run},
        logged={name: np.concatenate([part.logged[name] for part in parts]) for name in first.logged},
        evaluated={name: np.concatenate([part.evaluated[name] for part in parts]) for name in first.evaluated},
        state=tuple(np.concatenate(leaves) for leaves in zip(*(part.state for part in parts), strict=True)),
    )


def positions(seeds: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Returns where each wanted seed stands in a list of seeds, in whatever order that is.

    Example:
        >>> positions(np.asarray([9, 2]), np.asarray([2, 9, 9])).tolist()
        [1, 0, 0]
    """
    order = np.argsort(seeds, kind="stable")
    return order[np.searchsorted(seeds, wanted, sorter=order)]


def dataset(trials: Table, seeds: np.ndarray, results: Iterable[Result], attributes: Mapping[str, Any]) -> Any:
    """Returns the results as an `xarray.Dataset` with dims `trial`, `seed`, `step` and `eval_step`.

    Every hyperparameter is a coordinate: on `trial` where the sweep varies it, else a scalar. `status` and
    `status_step` are [trial, seed]; a run without result has status 3 (not run) and NaN metrics.

    Args:
        trials: The trials, in order.
        seeds: The seeds, uint32 [num_seeds].
        results: Results of any of those runs; of a run given twice the later counts.
        attributes: Goes into the dataset's `attrs`.
    """
    import xarray  # takes over a second: only those who look at results pay for it

    shape = (len(trials), len(seeds))
    status, status_step = np.full(shape, NOT_RUN, np.int8), np.full(shape, -1, np.int32)
    steps: dict[str, np.ndarray] = {"step": np.zeros(0, np.int32), "eval_step": np.zeros(0, np.int32)}
    filled: dict[str, tuple[str, np.ndarray]] = {}
    for result in results:
        column = positions(seeds, result.seed)
        status[result.trial, column] = result.status
        status_step[result.trial, column] = result.status_step
        for dimension, metrics in (("step", result.logged), ("eval_step", result.evaluated)):
            steps[dimension], filled = _grown(dimension, steps[dimension], getattr(result, dimension), filled)
            where = np.searchsorted(steps[dimension], getattr(result, dimension))
            for name, values in metrics.items():
                if name not in filled:
                    empty = np.full((*shape, len(steps[dimension])), np.nan, values.dtype)
                    filled[name] = (dimension, empty)
                filled[name][1][result.trial[:, None], column[:, None], where[None, :]] = values
    variables = {name: (("trial", "seed", dimension), array) for name, (dimension, array) in filled.items()}
    return xarray.Dataset(
        {**variables, "status": (("trial", "seed"), status), "status_step": (("trial", "seed"), status_step)},
        coords={"trial": np.arange(len(trials)), "seed": seeds, **steps, **_coordinates(trials)},
        attrs=dict(attributes),
    )


def status_at(dataset: Any, at: int | None = None) -> np.ndarray:
    """Returns the status of each run as it is after so many steps, int8 [trial, seed].

    A run that is OK after fewer steps, in a folder where others were trained for more, is not run there.

    Args:
        dataset: Results.
        at: After how many steps; the last evaluation, or record of a step's metrics, where None.
    """
    status = dataset["status"].values
    for dimension in ("eval_step", "step"):
        of_steps = [array for array in dataset.values() if dimension in array.dims]
        known = dataset[dimension].values.tolist() if of_steps else []
        if known and (at is None or at in known):
            there = of_steps[0].isel({dimension: -1 if at is None else known.index(at)}).transpose("trial", "seed")
            return np.where((status == OK) & np.isnan(there.values), np.int8(NOT_RUN), status)
    return status


def whole_seeds(dataset: Any) -> Any:
    """Returns the results at the seeds at which every trial has run, or at all seeds where there is none such.

    Some trials may have more seeds than others: `jaxexp compare --until` trains two arms alone.

    Args:
        dataset: Results.
    """
    whole = (status_at(dataset) != NOT_RUN).all(axis=0)
    return dataset.isel(seed=whole) if whole.any() else dataset


def seeds_told(dataset: Any) -> str:
    """Returns how many seeds each trial has run, as text: `8`, or `8 to 68` where some trials have more than others.

    Args:
        dataset: Results.
    """
    counts = (status_at(dataset) != NOT_RUN).sum(axis=1)
    low, high = (int(counts.min()), int(counts.max())) if counts.size else (0, 0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _grown(
    dimension: str, known: np.ndarray, steps: np.ndarray, filled: dict[str, tuple[str, np.ndarray]]
) -> tuple[np.ndarray, dict[str, tuple[str, np.ndarray]]]:
    """The union of known and new steps, and the arrays on that dimension widened to it."""
    if np.array_equal(known, steps) or not len(steps):
        return known, filled
    union = np.union1d(known, steps).astype(np.int32)
    if len(union) == len(known):
        return known, filled
    widened = {}
    for name, (own, array) in filled.items():
        if own == dimension:
            wide = np.full((*array.shape[:2], len(union)), np.nan, array.dtype)
            wide[..., np.searchsorted(union, known)] = array
            array = wide
        widened[name] = (own, array)
    return union, widened


def _coordinates(trials: Table) -> dict[str, Any]:
    varied = {name: ("trial", _labels(column)) for name, column in trials.columns.items()}
    fixed = {name: _label(value) for name, value in trials.base.items() if name not in varied}
    return {**fixed, **varied}


def _labels(column: np.ndarray) -> np.ndarray:
    if column.dtype != object:
        return column
    return np.asarray([configs.text_of(value) for value in column])  # as a folder's plans have it


def _label(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else configs.text_of(value)

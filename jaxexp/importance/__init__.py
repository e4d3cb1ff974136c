"""Which hyperparameters matter: shares of variance, averages over the others, and the surroundings of the best trial.

Values are of the mean over the seeds that were run in every trial, and every value of a hyperparameter weighs the
same. What seeds alone would spread the means is subtracted. Reads datasets, trains nothing.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxexp import comparisons, tables
from jaxexp.errors import StudyError, suggestion
from jaxexp.importance import anova, forests
from jaxexp.results import NOT_FINITE
from jaxexp.statistics import Estimate, choose_and_judge, mean_interval

_ALIKE = "all trials have the same mean, so there is nothing to explain"
_WITHIN_NOISE = "trials do not differ by more than noise (F test at 5 %): run more seeds"


class Shares(NamedTuple):
    """How much of the variance between trials each hyperparameter accounts for.

    Attributes:
        main: The share of each hyperparameter alone; those that are swept side by side are one, `a+b`.
        pairs: The share of each pair beyond what the two do alone.
        rest: What is left: three and more at once. With a forest, everything but `main`.
        method: How it was computed, in words.
        noise: The share of the spread of the trials' means that seeds alone explain, and that was subtracted first.
        num_trials: Trials that were used.
        left_out: Why trials were left out, a sentence each.
        num_diverged: Runs that stopped being finite, hence were not used.
    """

    main: dict[str, float]
    pairs: dict[tuple[str, str], float]
    rest: float
    method: str
    noise: float
    num_trials: int
    left_out: tuple[str, ...]
    num_diverged: int


class Neighbour(NamedTuple):
    """What is lost one step away from the best trial, in one hyperparameter.

    Attributes:
        name: The hyperparameter.
        best: Its value in the best trial.
        value: The next value that was swept with all else equal.
        lost: By how much the metric is worse there, paired by seed, on seeds that the best trial was not chosen by.
    """

    name: str
    best: Any
    value: Any
    lost: Estimate


class _Factor(NamedTuple):
    """A hyperparameter, or several that move together: its values, and the number of its value in each trial."""

    name: str
    values: list[Any]
    codes: np.ndarray


def shares(dataset: Any, metric: str, at: int | None = None) -> Shares:
    """Returns the share of the variance between trials that each hyperparameter, and each pair, accounts for.

    On a full grid, in closed form: a functional ANOVA in which each value weighs the same. The variance that seeds
    alone give to an effect's estimate, taken from its spread between seeds, is subtracted from it, and what gets
    below 0 counts as 0: an effect that is not there has a share near 0 and not below. Where all trials have the same
    mean, or an F test at 5 % finds no difference beyond noise, all shares are 0. Runs that diverged are left out; where
    a trial has no finite run at all, the value of a hyperparameter that has most such trials goes, then the next, until
    none is left, and `left_out` says so. A trial with a single finite run adds nothing to what is subtracted.

    Of any other sweep, by optuna's fANOVA: a random forest is fitted to the trials' means. It gives no pairs, and
    seed noise, which it cannot tell from interactions, is not subtracted. Of more than 300 trials, 300 that are spread
    evenly over the sweep are used, and `method` says so.

    Args:
        dataset: Results.
        metric: What is explained.
        at: After how many steps; the last where None.

    Raises:
        StudyError: If nothing is swept, no trial has a finite run, the metric is not there, or optuna is needed and
            missing.

    Source: Hoeffding (1948), "A class of statistics with asymptotically normal distribution", Annals of Mathematical
    Statistics 19(3); Hutter, Hoos and Leyton-Brown (2014), "An efficient approach for assessing hyperparameter
    importance", ICML.

    Example:
        >>> import jaxexp as jx
        >>> @jx.config
        ... class Config:
        ...     a: float = 0.0
        ...     b: float = 0.0
        >>> add = jx.from_train(lambda key, config: {"y": 2 * config.a + config.b})
        >>> sweep = jx.grid(a=(0.0, 1.0), b=(0.0, 1.0))
        >>> found = shares(jx.run(jx.Study(experiment=add, config=Config(), sweep=sweep)), "y")
        >>> found.main, found.rest
        ({'a': 0.8, 'b': 0.2}, 0.0)
    """
    num_seeds, dataset = dataset.sizes["seed"], comparisons.run_everywhere(dataset)
    values, factors = comparisons.scores(dataset, metric, at), _factors(dataset)
    if not factors:
        raise StudyError("no hyperparameter differs between trials: sweep one, e.g. `learning_rate=0.1,0.01`")
    if not np.isfinite(values).any():
        raise StudyError(f"no trial has a finite {metric}: `jaxexp status RUN` says what became of the runs")
    values = values[:, np.isfinite(values).any(0)]
    found = _by_grid(factors, values) if _is_grid(factors, len(values)) else _by_forest(factors, values)
    if (fewer := num_seeds - dataset.sizes["seed"]) > 0:
        found = found._replace(left_out=(f"{fewer} of {num_seeds} seeds were not run in every trial", *found.left_out))
    return found._replace(num_diverged=int((dataset["status"].values == NOT_FINITE).sum()))


def _factors(dataset: Any) -> list[_Factor]:
    """The hyperparameters that differ between trials; columns of a few values that move together are one factor."""
    found: list[_Factor] = []
    for name in tables.varied(dataset):
        values, codes = np.unique(dataset[name].values, return_inverse=True)
        twin = next((other for other in found if _together(other, len(values), codes)), None)
        if twin is not None:
            found[found.index(twin)] = twin._replace(name=f"{twin.name}+{name}")
        elif len(values) > 1:
            found.append(_Factor(name, values.tolist(), codes.ravel()))
    return found


def _together(factor: _Factor, num_values: int, codes: np.ndarray) -> bool:
    if not len(factor.values) == num_values < len(codes):  # a value for each trial says nothing of what moves together
        return False
    return len(np.unique(factor.codes * num_values + codes)) == num_values


def _is_grid(factors: Sequence[_Factor], num_trials: int) -> bool:
    sides = [len(factor.values) for factor in factors]
    if math.prod(sides) != num_trials:
        return False
    return len(np.unique(np.ravel_multi_index([factor.codes for factor in factors], sides))) == num_trials


def _by_grid(factors: Sequence[_Factor], values: np.ndarray) -> Shares:
    """The shares on a full grid, in closed form."""
    order = np.empty([len(factor.values) for factor in factors], int)
    order[tuple(factor.codes for factor in factors)] = np.arange(len(values))
    cells, left_out = _without_holes(values[order], factors)
    found = anova.decomposed(cells)
    apart = found.p_noise < anova.LEVEL
    known = {axes: max(0.0, variance) for axes, variance in found.effects.items()}
    whole = (sum(known.values()) + found.rest) * apart
    share = {axes: variance / whole if whole > 0 else 0.0 for axes, variance in known.items()}
    names = [factor.name for factor in factors]
    *sides, num_seeds = cells.shape
    return Shares(
        main={names[axes[0]]: part for axes, part in share.items() if len(axes) == 1},
        pairs={(names[axes[0]], names[axes[1]]): part for axes, part in share.items() if len(axes) == 2},
        rest=found.rest / whole if whole > 0 else 0.0,
        method=f"closed form on a full grid of {' x '.join(map(str, sides))} trials, "
        + (f"noise of {num_seeds} seeds subtracted" if num_seeds > 1 else "one seed, so no noise was subtracted")
        + ("" if apart else f"; {_ALIKE if found.raw == 0 else _WITHIN_NOISE}"),
        noise=min(1.0, found.noise / found.raw) if found.raw > 0 else 0.0,
        num_trials=math.prod(sides),
        left_out=tuple(left_out),
        num_diverged=0,
    )


def _without_holes(cells: np.ndarray, factors: Sequence[_Factor]) -> tuple[np.ndarray, list[str]]:
    """The grid [*sides, seed] less the values whose trials have no finite run, until every trial has one."""
    kept, told = [list(factor.values) for factor in factors], []
    while (holes := ~np.isfinite(cells).any(-1)).any():
        lost = [
            (float(np.take(holes, place, axis).mean()), axis, place)
            for axis, side in enumerate(holes.shape)
            for place in range(side)
            if side > 1
        ]
        _, axis, place = max(lost, key=lambda candidate: candidate[0])
        gone = np.take(holes, place, axis)
        value = kept[axis].pop(place)
        told.append(f"{factors[axis].name}={value}: {int(gone.sum())} of {gone.size} trials have no finite run")
        cells = np.delete(cells, place, axis)
    return cells, told


def _by_forest(factors: Sequence[_Factor], values: np.ndarray) -> Shares:
    """The shares of a sweep that is no full grid, by optuna's fANOVA."""
    finite = np.isfinite(values)
    there = np.flatnonzero(finite.any(1))
    used = there[forests.chosen(len(there))]
    means = np.where(finite, values, 0)[used].sum(1) / finite[used].sum(1)
    columns = {factor.name: (factor.values, factor.codes[used]) for factor in factors}
    main = forests.main_effects(columns, means)
    alike = anova.is_rounding(np.var(means).item(), means)
    lost = len(values) - len(there)
    part = f"{len(means):,} of " if len(means) < len(there) else ""
    return Shares(
        main=main,
        pairs={},
        rest=max(0.0, 1 - sum(main.values())) if any(main.values()) else 0.0,
        method=f"optuna's fANOVA, a forest of {forests.NUM_TREES} trees, of {part}{len(there):,} trials, "
        "which are no full grid; noise of seeds is not subtracted" + (f"; {_ALIKE}" if alike else ""),
        noise=0.0,
        num_trials=len(means),
        left_out=(f"{lost:,} of {len(values):,} trials have no finite run",) if lost else (),
        num_diverged=0,
    )


def marginal(dataset: Any, name: str, metric: str, at: int | None = None) -> dict[Any, Estimate]:
    """Returns for each value of a hyperparameter the metric's average over the others, with its interval over seeds.

    Trials weigh the same, whatever their number of finite runs: in a seed's average a run that diverged counts as
    its trial's mean, shifted as the seed shifts the others. `excluded` counts such runs; a trial that has no finite
    run is left out. In a sweep that is no full grid, the others may differ between values.

    Args:
        dataset: Results.
        name: A hyperparameter that is swept.
        metric: What is averaged.
        at: After how many steps; the last where None.

    Raises:
        StudyError: If it is not swept, or the metric is not there.

    Example:
        >>> import jaxexp as jx
        >>> @jx.config
        ... class Config:
        ...     a: float = 0.0
        ...     b: float = 0.0
        >>> add = jx.from_train(lambda key, config: {"y": 2 * config.a + config.b})
        >>> sweep = jx.grid(a=(0.0, 1.0), b=(0.0, 1.0))
        >>> dataset = jx.run(jx.Study(experiment=add, config=Config(), sweep=sweep, seeds=2))
        >>> {value: estimate.mean for value, estimate in marginal(dataset, "a", "y").items()}
        {0.0: 0.5, 1.0: 2.5}
    """
    swept = tables.varied(dataset)
    if name not in swept:
        raise StudyError(f"{name!r} is not swept{suggestion(name, swept)}")
    dataset = comparisons.run_everywhere(dataset)
    values, column = comparisons.scores(dataset, metric, at), dataset[name].values
    return {value: _average(values[column == value]) for value in np.unique(column).tolist()}


def _average(values: np.ndarray) -> Estimate:
    """The mean over trials, of values [trial, seed], with its interval over seeds."""
    finite = np.isfinite(values)
    kept = values[finite.any(1)][:, finite.any(0)]
    estimate = mean_interval(anova.filled(kept).mean(0)) if kept.size else mean_interval([np.nan])
    return estimate._replace(excluded=int((~finite).sum()))


def at_edge(
    dataset: Any,
    metric: str,
    larger_is_better: bool,
    at: int | None = None,
    limits: Mapping[str, tuple[float | None, float | None]] = {},
) -> dict[str, str]:
    """Returns the numeric hyperparameters whose best value lies on the border of the swept range, with a sentence each.

    Those with more than two values count. The best trial is chosen as in `sensitivity`.

    Args:
        dataset: Results.
        metric: What is to be best.
        larger_is_better: Whether the largest is.
        at: After how many steps; the last where None.
        limits: By name the least and the greatest value that a hyperparameter may have; None where there is no limit.
            A best value that is a limit lies on no border.

    Raises:
        StudyError: If no trial has a finite run, or the metric is not there.

    Example:
        >>> import jaxexp as jx
        >>> @jx.config
        ... class Config:
        ...     x: float = 0.0
        >>> square = jx.from_train(lambda key, config: {"y": config.x**2})
        >>> dataset = jx.run(jx.Study(experiment=square, config=Config(), sweep=jx.grid(x=(1.0, 2.0, 3.0)), seeds=4))
        >>> print(at_edge(dataset, "y", larger_is_better=True)["x"])
        x=3 is best and the largest of 3 values: the optimum may lie beyond, so widen the range, e.g. `x=2,3,4`
    """
    values = comparisons.scores(comparisons.run_everywhere(dataset), metric, at)
    best_trial, choosing = _best(values, larger_is_better), values[:, ::2]
    ties = (choosing == choosing[best_trial]).all(1)  # as where an accuracy is 1 in several
    ties |= np.arange(len(ties)) == best_trial
    found = {}
    for name in tables.varied(dataset):
        swept, best = np.unique(dataset[name].values), np.unique(dataset[name].values[ties])
        if np.issubdtype(swept.dtype, np.number) and len(swept) > 2 and len(best) == 1 and best in swept[[0, -1]]:
            largest = bool(best[0] == swept[-1])
            limit = limits.get(name, (None, None))[int(largest)]
            if limit is None or limit != best[0]:
                found[name] = _edge_sentence(name, swept if largest else swept[::-1], limit)
    return found


def _edge_sentence(name: str, values: np.ndarray, limit: float | None) -> str:
    """What is said of a best value that is the last of these and could go as far as the limit."""
    inner, best = values[-2].item(), values[-1].item()
    beyond = best * best / inner if values.min() > 0 and values.max() / values.min() >= 10 else 2 * best - inner
    if limit is not None and abs(beyond - best) > abs(limit - best):
        beyond = limit
    beyond = round(beyond) if isinstance(best, int) else float(beyond)
    end = "largest" if best > inner else "smallest"
    told = f"{name}={_short(best)} is best and the {end} of {len(values)} values: the optimum may lie beyond"
    if beyond == best or (beyond <= 0 <= min(best, inner)):  # few hyperparameters change their sign, or can be 0
        return f"{told}, if {name} can be {'larger' if best > inner else 'smaller'}"
    wide = ",".join(_short(value) for value in sorted((inner, best, beyond)))
    return f"{told}, so widen the range, e.g. `{name}={wide}`"


def _short(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def sensitivity(dataset: Any, metric: str, larger_is_better: bool, at: int | None = None) -> list[Neighbour]:
    """Returns what is lost one step away from the best trial, for each hyperparameter and direction.

    The best trial is chosen by every other seed, the first, third, ..., and what is lost is judged by the seeds
    between them (`statistics.choose_and_judge`): trials with fewer runs that diverged go first. A seed counts where
    both runs are finite.

    Args:
        dataset: Results.
        metric: What is to be best.
        larger_is_better: Whether the largest is.
        at: After how many steps; the last where None.

    Returns:
        Neighbours in the order of the hyperparameters: for numbers the next smaller and larger value that was swept
        with all else equal, for others every value.

    Raises:
        StudyError: If no trial has a finite run, or the metric is not there.

    Example:
        >>> import jaxexp as jx
        >>> @jx.config
        ... class Config:
        ...     x: float = 0.0
        >>> square = jx.from_train(lambda key, config: {"y": config.x**2})
        >>> dataset = jx.run(jx.Study(experiment=square, config=Config(), sweep=jx.grid(x=(1.0, 2.0, 3.0)), seeds=4))
        >>> [(found.best, found.value, found.lost.mean) for found in sensitivity(dataset, "y", larger_is_better=True)]
        [(3.0, 2.0, 5.0)]
    """
    values = comparisons.scores(comparisons.run_everywhere(dataset), metric, at)
    best = _best(values, larger_is_better)
    judging = slice(1, None, 2) if values.shape[1] > 1 else slice(None)
    columns = {name: dataset[name].values for name in tables.varied(dataset)}
    sign = 1 if larger_is_better else -1
    return [
        Neighbour(
            name,
            columns[name][best].item(),
            columns[name][trial].item(),
            mean_interval(sign * (values[best, judging] - values[trial, judging])),
        )
        for name in columns
        for trial in _neighbours(columns, name, best)
    ]


def _best(values: np.ndarray, larger_is_better: bool) -> int:
    if not np.isfinite(values[:, ::2]).any():
        raise StudyError("no trial has a finite run among the seeds that would choose the best: run more seeds")
    twice = np.repeat(values, 2, axis=1) if values.shape[1] == 1 else values  # one seed alone chooses and judges
    return choose_and_judge(twice, larger_is_better).trial


def _neighbours(columns: Mapping[str, np.ndarray], name: str, best: int) -> list[int]:
    """The trials that differ from the best in one hyperparameter alone; of a numeric one, the next on each side."""
    same = np.ones(len(columns[name]), bool)
    for other, column in columns.items():
        same &= (column == column[best]) | (other == name)
    same[best] = False
    column, trials = columns[name], np.flatnonzero(same)
    if not np.issubdtype(column.dtype, np.number):
        return trials.tolist()
    smaller, larger = trials[column[trials] < column[best]], trials[column[trials] > column[best]]
    nearest = [smaller[column[smaller].argmax()]] if smaller.size else []
    return [int(trial) for trial in [*nearest, *([larger[column[larger].argmin()]] if larger.size else [])]]

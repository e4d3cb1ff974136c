"""Comparisons over common seeds: of two arms of a run, or of the trials that two runs share.

Seeds are the pairs. A run that is not finite is counted and never scored. Reads datasets, trains nothing.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxexp import statistics, tables
from jaxexp.comparisons import arms, shared
from jaxexp.errors import StudyError, suggestion
from jaxexp.results import NOT_FINITE, NOT_RUN, OK, status_at
from jaxexp.statistics import Estimate

LEVEL = 0.05
"""A difference whose p-value is below is told as one."""

Pairs = Sequence[tuple[int, int]]
"""Positions of trials: of the first arm and, beside it, of the second."""


class Contrast(NamedTuple):
    """What the pairs of two arms say.

    Attributes:
        metric: What was compared.
        at: After so many steps.
        first: The first arm's words, or the trial's.
        second: The second arm's.
        first_mean: The first arm's mean over the pairs, with its 95 % interval.
        second_mean: The second arm's.
        difference: First minus second, paired, with its interval; `n` is the number of pairs, `excluded` how many
            seeds are none, because a run of either arm is not finite.
        p_different: Of the paired two-sided t-test.
        p_adjusted: The same, by Holm, where several trials were compared.
        improvement: The probability that the first arm is the higher one of a seed, with its interval.
        num_trials: Trials of each arm, averaged within a seed.
        num_alone: Trials that the words match but that have no counterpart.
        first_diverged: Runs of the first arm that stopped being finite.
        second_diverged: Of the second.
        margin: Differences below it were taken for none; None where nobody asked.
        equivalent: Whether two one-sided tests at 5 % find the difference inside the margin.
        num_first: Seeds of the first stage, whose spread alone makes the interval; None where all seeds' does.
    """

    metric: str
    at: int
    first: str
    second: str
    first_mean: Estimate
    second_mean: Estimate
    difference: Estimate
    p_different: float
    p_adjusted: float
    improvement: Estimate
    num_trials: int
    num_alone: int
    first_diverged: int
    second_diverged: int
    margin: float | None = None
    equivalent: bool | None = None
    num_first: int | None = None


def scores(dataset: Any, metric: str, at: int | None = None) -> np.ndarray:
    """Returns a metric after so many steps as float64 [trial, seed], NaN where a run is not OK.

    Args:
        dataset: Results.
        metric: Its name.
        at: After how many steps; the last where None.

    Raises:
        StudyError: If there is no such metric, or it was not measured there.

    Example:
        >>> import jaxexp as jx
        >>> @jx.config
        ... class Config:
        ...     x: float = 0.0
        >>> square = jx.from_train(lambda key, config: {"y": config.x**2})
        >>> dataset = jx.run(jx.Study(experiment=square, config=Config(), sweep=jx.grid(x=(1.0, 2.0)), seeds=2))
        >>> scores(dataset, "y").tolist()
        [[1.0, 1.0], [4.0, 4.0]]
    """
    at = step_of(dataset, metric, at)
    values = dataset[metric].sel({dataset[metric].dims[-1]: at}).transpose("trial", "seed").values
    return np.where(dataset["status"].values == OK, values.astype(np.float64), np.nan)


def step_of(dataset: Any, metric: str, at: int | None = None) -> int:
    """Returns the step at which a metric is read: the one asked for, or the last that there is.

    Raises:
        StudyError: If there is no such metric, or it was not measured there.
    """
    known = tables.metrics(dataset)
    if metric not in known:
        raise StudyError(f"there is no metric {metric!r}{suggestion(metric, known)}")
    there = [int(step) for step in dataset[dataset[metric].dims[-1]].values]
    if at is None:
        return there[-1]
    if at not in there:
        raise StudyError(f"{metric} was not measured at step {at}: measured at {', '.join(map(str, there[:20]))}")
    return at


def paired_scores(dataset: Any, pairs: Pairs, metric: str, at: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns each arm's mean over its trials as float64 [seed]: NaN in both where a run of either is not OK.

    Args:
        dataset: Results.
        pairs: What `arms.matched` gave.
        metric: What is compared.
        at: After how many steps; the last where None.

    Raises:
        StudyError: If there is no such metric, or it was not measured there.
    """
    values = scores(dataset, metric, at)
    first, second = (values[list(trials)].mean(0) for trials in zip(*pairs, strict=True))
    both = np.isfinite(first) & np.isfinite(second)
    return np.where(both, first, np.nan), np.where(both, second, np.nan)


def were_run(dataset: Any, pairs: Pairs, at: int | None = None) -> np.ndarray:
    """Returns which seeds [seed] were run for all trials of both arms, for so many steps, or all where None."""
    trials = [trial for pair in pairs for trial in pair]
    return (status_at(dataset, at)[trials] != NOT_RUN).all(0)


def compare(
    dataset: Any, first: str, second: str, metric: str, at: int | None = None, *, margin: float | None = None
) -> Contrast:
    """Returns what the seeds that both arms have say of their difference.

    The trials of an arm are averaged within a seed. A seed of which a run of either arm is not finite is no pair: it
    is counted. A seed that was not run for both is left out.

    Args:
        dataset: Results.
        first: The first arm, e.g. `velocity_init=zeros`.
        second: The second.
        metric: What is compared.
        at: After how many steps; the last where None.
        margin: A difference below it counts as none; in the metric's unit, above 0.

    Raises:
        StudyError: If an arm or the metric is not there, the margin is not positive, or no seed was run for both.

    Source: as `statistics.mean_interval`, `statistics.paired` and `statistics.probability_of_improvement`.

    Example:
        >>> import jaxexp as jx
        >>> @jx.config
        ... class Config:
        ...     x: float = 0.0
        >>> square = jx.from_train(lambda key, config: {"y": config.x**2})
        >>> dataset = jx.run(jx.Study(experiment=square, config=Config(), sweep=jx.grid(x=(1.0, 2.0)), seeds=3))
        >>> compare(dataset, "x=2", "x=1", "y").difference.mean
        3.0
    """
    pairs = arms.matched(dataset, first, second)
    num_matching = sum(arms.num_matching(dataset, words) for words in (first, second))
    ran = were_run(dataset, pairs, at)
    if not ran.any():
        raise StudyError(f"no seed was run for both {first} and {second}: run them, e.g. `jaxexp run EXPERIMENT`")
    values = tuple(arm[ran] for arm in paired_scores(dataset, pairs, metric, at))
    diverged = [_num_diverged(dataset, trials, ran) for trials in zip(*pairs, strict=True)]
    found = _contrast(values, margin, metric, step_of(dataset, metric, at), (first, second), diverged)
    return found._replace(num_trials=len(pairs), num_alone=num_matching - 2 * len(pairs))


def _num_diverged(dataset: Any, trials: Any, seeds: np.ndarray) -> int:
    return int((dataset["status"].values[list(trials)][:, seeds] == NOT_FINITE).sum())


def _contrast(
    values: Sequence[np.ndarray],
    margin: float | None,
    metric: str,
    at: int,
    told: tuple[str, str],
    diverged: Sequence[int],
) -> Contrast:
    if margin is not None and not 0 < margin < float("inf"):
        raise StudyError(f"margin={margin} leaves no difference that counts as none: write e.g. --margin 0.01")
    first, second = values
    finite = np.isfinite(first)
    tested, difference = statistics.paired(first - second, margin or 0.0), statistics.mean_interval(first - second)
    known = difference.high < float("inf")  # seeds that all agree say nothing of others
    return Contrast(
        metric=metric,
        at=at,
        first=told[0],
        second=told[1],
        first_mean=statistics.mean_interval(first),
        second_mean=statistics.mean_interval(second),
        difference=difference,
        p_different=tested.p_different if known else 1.0,
        p_adjusted=tested.p_different if known else 1.0,
        improvement=_improvement(first[finite], second[finite]),
        num_trials=1,
        num_alone=0,
        first_diverged=diverged[0],
        second_diverged=diverged[1],
        margin=margin,
        equivalent=None if margin is None else tested.equivalent and known,
    )


def _improvement(first: np.ndarray, second: np.ndarray) -> Estimate:
    if not first.size:
        return Estimate(float("nan"), 0.0, 1.0, 0, 0)
    return statistics.probability_of_improvement(first, second)


def compare_runs(
    first: Any, second: Any, metric: str, at: int | None = None, *, margin: float | None = None
) -> list[Contrast]:
    """Returns a contrast for each trial that two runs share, paired by seed; p-values are adjusted by Holm.

    Args:
        first: Results of the first run.
        second: Of the second.
        metric: What is compared.
        at: After how many steps; the last that both measured where None.
        margin: A difference below it counts as none; in the metric's unit, above 0.

    Raises:
        StudyError: If they share no trial, no seed or no step, a trial of one is several of the other, or the metric is
            not there.
    """
    pairs = shared.trials(first, second)
    at = _common_step(first, second, metric) if at is None else at
    seeds, *places = np.intersect1d(first["seed"].values, second["seed"].values, return_indices=True)
    if not seeds.size:
        raise StudyError("the two runs share no seed: train the seeds of one in the other, e.g. `seeds=0:64`")
    values = [scores(dataset, metric, at)[:, place] for dataset, place in zip((first, second), places, strict=True)]
    status = [status_at(dataset, at)[:, place] for dataset, place in zip((first, second), places, strict=True)]
    names = tables.varied(first)
    found = []
    for pair in pairs:
        ran = (status[0][pair[0]] != NOT_RUN) & (status[1][pair[1]] != NOT_RUN)
        if not ran.any():
            continue
        both = [values[side][pair[side]][ran] for side in (0, 1)]
        both = [np.where(np.isfinite(sum(both)), arm, np.nan) for arm in both]
        diverged = [int((status[side][pair[side]][ran] == NOT_FINITE).sum()) for side in (0, 1)]
        words = ", ".join(f"{name}={first[name].values[pair[0]]}" for name in names) or "the trial"
        found.append(_contrast(both, margin, metric, at, (words, words), diverged))
    if not found:
        raise StudyError("no run of a shared trial and seed is done in both: `jaxexp status RUN` says what is left")
    adjusted = statistics.holm([contrast.p_different for contrast in found])
    return [contrast._replace(p_adjusted=p) for contrast, p in zip(found, adjusted, strict=True)]


def _common_step(first: Any, second: Any, metric: str) -> int:
    last = [step_of(dataset, metric) for dataset in (first, second)]
    there = [set(map(int, dataset[dataset[metric].dims[-1]].values)) for dataset in (first, second)]
    common = there[0] & there[1] if last == [0, 0] else there[0] & there[1] - {0}
    if not common:
        raise StudyError(
            f"{metric} was measured at no common step but 0 of the two runs, which end at {last[0]} and {last[1]}: "
            "train one for as long as the other, e.g. `num_steps=100`, or name a step with --at"
        )
    return max(common)


def staged(contrast: Contrast, differences: Any, num_first: int) -> Contrast:
    """Returns a contrast whose number of seeds was chosen by the first of them, judged as Stein's procedure does.

    The interval is exact for normal values at each number of seeds that comes of the first stage. Who looks again
    with a narrower wish has a chance of 5 % at each look: over several, more than 5 % that any is wrong.

    Args:
        contrast: Of all pairs.
        differences: First arm minus second, one a seed, [n], those of the first stage first; NaN where is no pair.
        num_first: Seeds of the first stage, whose spread alone is used.

    Raises:
        StudyError: If the first stage has less than 2 seeds.

    Source: Stein (1945), "A two-sample test for a linear hypothesis whose power is independent of the variance",
    Annals of Mathematical Statistics 16(3).
    """
    from scipy.special import stdtr, stdtrit

    estimate = statistics.two_stage_interval(differences, num_first, 1 - LEVEL)
    freedom = int(np.isfinite(differences[:num_first]).sum()) - 1
    error = (estimate.high - estimate.mean) / stdtrit(freedom, 1 - LEVEL / 2) if freedom > 0 else float("inf")
    different = 2 * float(stdtr(freedom, -abs(estimate.mean) / error)) if error else float(estimate.mean == 0)
    inner = statistics.two_stage_interval(differences, num_first, 1 - 2 * LEVEL)  # of two one-sided tests
    margin = contrast.margin
    return contrast._replace(
        difference=estimate,
        p_different=different if freedom > 0 else 1.0,
        p_adjusted=different if freedom > 0 else 1.0,
        equivalent=None if margin is None else -margin < inner.low and inner.high < margin,
        num_first=num_first,
    )


def run_everywhere(dataset: Any) -> Any:
    """Returns the seeds that were run in every trial that was run at all: trials are compared on the same seeds.

    Args:
        dataset: Results; as they are where no seed is common to all.
    """
    ran = status_at(dataset) != NOT_RUN
    common = ran[ran.any(1)].all(0)
    return dataset.isel(seed=common) if common.any() else dataset


def judged_apart(dataset: Any, metric: str, larger_is_better: bool, at: int | None = None) -> statistics.Choice:
    """Returns the best trial by every other seed, and its mean over the seeds between them.

    Args:
        dataset: Results.
        metric: What is to be best.
        larger_is_better: Whether the largest is.
        at: After how many steps; the last where None.

    Raises:
        StudyError: If there are less than two seeds that every trial has run, or the metric is not there.

    Source: as `statistics.choose_and_judge`.

    Example:
        >>> import jaxexp as jx
        >>> @jx.config
        ... class Config:
        ...     x: float = 0.0
        >>> square = jx.from_train(lambda key, config: {"y": config.x**2})
        >>> dataset = jx.run(jx.Study(experiment=square, config=Config(), sweep=jx.grid(x=(1.0, 2.0)), seeds=4))
        >>> judged_apart(dataset, "y", larger_is_better=True)[:2]
        (1, Estimate(mean=4.0, low=-inf, high=inf, n=2, excluded=0))
    """
    return statistics.choose_and_judge(scores(run_everywhere(dataset), metric, at), larger_is_better)


def interval(estimate: Estimate) -> str:
    """Returns an estimate with its interval as text; where that is the whole line there is none.

    Example:
        >>> interval(Estimate(0.25, 0.125, 0.375, 8, 0))
        '0.25 [0.125, 0.375]'
        >>> interval(Estimate(0.25, -float("inf"), float("inf"), 1, 0))
        '0.25 (no interval)'
    """
    if np.isinf([estimate.low, estimate.high]).all():
        return f"{estimate.mean:.4g} (no interval)"
    return f"{estimate.mean:.4g} [{estimate.low:.4g}, {estimate.high:.4g}]"


def sentence(contrast: Contrast) -> str:
    """Returns a contrast as a sentence: which arm is higher, by how much, on how many pairs, and which are left out.

    Example:
        >>> made = Estimate(0.25, 0.125, 0.375, 8, 0)
        >>> found = Contrast("loss", 9, "v=zeros", "v=ones", made, made, made, 0.001, 0.001, made, 1, 0, 0, 0)
        >>> sentence(found)
        'zeros is higher than ones by 0.25 [0.125, 0.375], 8 pairs'
    """
    mean, low, high, n, excluded = contrast.difference
    first, second = _names(contrast.first, contrast.second)
    if n < 2 and excluded:
        return (
            f"{first} and {second} have {n} pairs, too few to say anything, for a run diverged at {excluded} of "
            f"{n + excluded} seeds: name the arms more narrowly, by trials that do not diverge"
        )
    if n < 2:
        return f"{first} and {second} have {n} pairs, too few to say anything: run more seeds"
    if np.isinf([low, high]).all():
        return f"{first} and {second} differ by {mean:.3g} in each of {n} pairs: without spread there is no interval"
    told, pairs = f"[{low:.3g}, {high:.3g}]", f"{n} pairs"
    where = "where no run diverged, " if excluded else ""
    pairs += f"; of {n + excluded} seeds {excluded} are left out, for a run diverged" if excluded else ""
    within = f"; equivalent within {contrast.margin:.3g}" if contrast.equivalent else ""
    if contrast.p_adjusted >= LEVEL:
        return f"{where}{first} and {second} are not told apart: difference {mean:.3g} {told}, {pairs}{within}"
    if mean < 0:
        first, second, told = second, first, f"[{-high:.3g}, {-low:.3g}]"
    return f"{where}{first} is higher than {second} by {abs(mean):.3g} {told}, {pairs}{within}"


def _names(first: str, second: str) -> tuple[str, str]:
    """The arms by their values alone, where both name one and the same hyperparameter and the values are words."""
    one, other = first.partition("="), second.partition("=")
    plain = one[0] == other[0] and "," not in first + second and not re.match(r"[-+.\d]", one[2] + other[2])
    return (one[2], other[2]) if plain and one[2] and other[2] else (first, second)

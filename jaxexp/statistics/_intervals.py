"""What is taken over seeds, each with its interval: mean, median, interquartile mean, share, constant.

`docs/statistics.md` says when to use which, and how often each covers in simulation.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxexp.errors import StudyError
from jaxexp.statistics import _seeds


class Estimate(NamedTuple):
    """A mean (or median, interquartile mean, share) over seeds with its confidence interval.

    Attributes:
        mean: Over the finite values; the median, where that was asked for.
        low: Lower end of the interval.
        high: Upper end.
        n: Finite values.
        excluded: Values that were not finite, hence not scored.
    """

    mean: float
    low: float
    high: float
    n: int
    excluded: int


class Centre(NamedTuple):
    """What Student's t is about: an estimate, its standard error and its degrees of freedom."""

    value: float
    error: float
    freedom: int


def mean_interval(values: Any, confidence: float = 0.95) -> Estimate:
    """Returns the mean over seeds with its two-sided t interval; the whole line where they have no spread.

    Seeds that all agree, as 8 of 8 ones, do not show that others would: without spread there is no standard error to
    judge by, and the interval is that of a single seed. A number that no seed changes is a `constant`.

    Args:
        values: One number a seed, [n]; those that are not finite are counted and left out.
        confidence: The level, in (0, 1).

    Raises:
        StudyError: If the level is not between 0 and 1, there is no value at all, or not one number a seed.

    Source: Student (1908), "The probable error of a mean", Biometrika 6(1).

    Example:
        >>> estimate = mean_interval([1.0, 2.0, 3.0])
        >>> round(estimate.low, 3), round(estimate.high, 3)
        (-0.484, 4.484)
    """
    kept, excluded = _seeds.finite(values, confidence)
    return _by_t(mean_centre(kept), confidence, kept.size, excluded)


def mean_centre(kept: np.ndarray) -> Centre:
    """Returns the mean of finite values [n] with its standard error, infinite below n = 2, 0 without spread."""
    n = kept.size
    if n < 2 or all_equal(kept):
        return Centre(float(kept[0]) if n else float("nan"), 0.0 if n > 1 else float("inf"), n - 1)
    return Centre(float(kept.mean()), float(kept.std(ddof=1)) / n**0.5, n - 1)


def all_equal(kept: np.ndarray) -> bool:
    """Returns whether one or more numbers [n] are all the same: their mean may differ from them by rounding."""
    return bool(kept.size and (kept == kept[0]).all())


def _by_t(centre: Centre, confidence: float, n: int, excluded: int) -> Estimate:
    from scipy.special import stdtrit  # scipy takes long to import, and only verdicts need it

    if not 0 < centre.error < float("inf"):
        return Estimate(centre.value, -float("inf"), float("inf"), n, excluded)
    half = float(stdtrit(centre.freedom, (1 + confidence) / 2)) * centre.error
    return Estimate(centre.value, centre.value - half, centre.value + half, n, excluded)


def iqm_interval(values: Any, confidence: float = 0.95) -> Estimate:
    """Returns the interquartile mean, that of the middle half of the seeds, with its t interval.

    The floor(n / 4) smallest and largest are cut off, as `scipy.stats.trim_mean` and rliable do; with less than four
    seeds it is the mean. Where all that is left is equal, a standard error says nothing: the interval then lies between
    bounds for the quartiles, whatever the distribution. At 95 % that is the whole line below 13 seeds.

    Args:
        values: One number a seed, [n]; those that are not finite are counted and left out.
        confidence: The level, in (0, 1).

    Raises:
        StudyError: If the level is not between 0 and 1, there is no value at all, or not one number a seed.

    Source: Tukey and McLaughlin (1963), "Less vulnerable confidence and significance procedures for location based on
    a single sample: trimming/winsorization 1", Sankhya A 25(3), with the standard error of Yuen (1974), "The two-sample
    trimmed t for unequal population variances", Biometrika 61(1); as an aggregate over runs: Agarwal et al. (2021),
    "Deep reinforcement learning at the edge of the statistical precipice", NeurIPS.

    Example:
        >>> estimate = iqm_interval([0.0, 2.0, 3.0, 4.0, 99.0])
        >>> estimate.mean, round(estimate.low, 2), round(estimate.high, 2)
        (3.0, -0.51, 6.51)
    """
    kept, excluded = _seeds.finite(values, confidence)
    centre = iqm_centre(kept)
    if centre.error == 0:
        ends = between_order_statistics(np.sort(kept), 0.25, confidence)
        return Estimate(centre.value, *ends, kept.size, excluded)
    return _by_t(centre, confidence, kept.size, excluded)


def iqm_centre(kept: np.ndarray) -> Centre:
    """Returns the interquartile mean of finite values [n], with the standard error of their winsorized variance."""
    n, cut = kept.size, kept.size // 4
    if not cut:
        return mean_centre(kept)
    middle = np.sort(kept)[cut : n - cut]
    if all_equal(middle):
        return Centre(float(middle[0]), 0.0, middle.size - 1)
    winsorized = np.clip(kept, middle[0], middle[-1])
    squares, num_middle = float(winsorized.var()) * n, middle.size
    return Centre(float(middle.mean()), (squares / (num_middle * (num_middle - 1))) ** 0.5, num_middle - 1)


def median_interval(values: Any, confidence: float = 0.95) -> Estimate:
    """Returns the median over seeds with the interval between two order statistics, whatever the distribution.

    Args:
        values: One number a seed, [n]; those that are not finite are counted and left out. Below 6 of them, the
            interval at 95 % is the whole line.
        confidence: The least level, in (0, 1).

    Raises:
        StudyError: If the level is not between 0 and 1, there is no value at all, or not one number a seed.

    Source: Thompson (1936), "On confidence ranges for the median and other expectation distributions for populations
    of unknown distribution form", Annals of Mathematical Statistics 7(3).

    Example:
        >>> median_interval([5.0, 1.0, 2.0, 4.0, 3.0, 99.0])
        Estimate(mean=3.5, low=1.0, high=99.0, n=6, excluded=0)
    """
    kept, excluded = _seeds.finite(values, confidence)
    middle = float(np.median(kept)) if kept.size else float("nan")
    return Estimate(middle, *between_order_statistics(np.sort(kept), 0.5, confidence), kept.size, excluded)


def between_order_statistics(ordered: np.ndarray, share: float, confidence: float) -> tuple[float, float]:
    """Returns a lower bound for the quantile `share` and an upper one for `1 - share`, each missed in half of the rest.

    Args:
        ordered: Finite values in ascending order, [n].
        share: At most .5.
        confidence: The least level of both together.
    """
    from scipy.special import bdtr

    n = ordered.size
    below = int(np.searchsorted(bdtr(np.arange(n), n, share), (1 - confidence) / 2, side="right"))
    return (float(ordered[below - 1]), float(ordered[n - below])) if below else (-float("inf"), float("inf"))


def share_interval(values: Any, confidence: float = 0.95) -> Estimate:
    """Returns the share of seeds in which something is so, with its exact interval: 8 of 8 seeds do not mean all.

    Args:
        values: One a seed, [n]: 1 where it is so, else 0; those that are not finite are counted and left out.
        confidence: The least level, in (0, 1).

    Raises:
        StudyError: If the level is not between 0 and 1, there is no value at all, not one a seed, or one is neither 0
            nor 1.

    Source: Clopper and Pearson (1934), "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26(4).

    Example:
        >>> estimate = share_interval([1.0] * 8)
        >>> round(estimate.mean, 2), round(estimate.low, 3), round(estimate.high, 3)
        (1.0, 0.631, 1.0)
    """
    kept, excluded = _seeds.finite(values, confidence)
    if not np.isin(kept, (0.0, 1.0)).all():
        raise StudyError("a share is taken of seeds with 0 or 1, and one has another value: use jx.share(...)")
    n, so = kept.size, float(kept.sum())
    return Estimate(so / n if n else float("nan"), *share_bounds(so, n, confidence), n, excluded)


def share_bounds(so: float, n: int, confidence: float) -> tuple[float, float]:
    """Returns the bounds of a share of which `so` of n were seen; halves are ties."""
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = float(betaincinv(so, n - so + 1, tail)) if so else 0.0
    return low, float(betaincinv(so + 1, n - so, 1 - tail)) if so < n else 1.0


def constant_interval(values: Any, confidence: float = 0.95) -> Estimate:
    """Returns a number that no seed changes, a closed form or a run without chance, as the interval of that point.

    Where two finite seeds differ at all it is no constant, and the interval is the whole line. Nothing is inferred from
    seeds to others: that none changes the number is the claim's premise, which each seed can disprove.

    Args:
        values: One number a seed, [n], also a single one; those that are not finite are counted and left out.
        confidence: Is checked, and changes nothing.

    Raises:
        StudyError: If the level is not between 0 and 1, there is no value at all, or not one number a seed.

    Example:
        >>> constant_interval([0.25, 0.25]), constant_interval([0.25, 0.75]).low
        (Estimate(mean=0.25, low=0.25, high=0.25, n=2, excluded=0), -inf)
    """
    kept, excluded = _seeds.finite(values, confidence)
    value = mean_centre(kept).value
    low, high = (value, value) if all_equal(kept) else (-float("inf"), float("inf"))
    return Estimate(value, low, high, kept.size, excluded)


INTERVALS = {
    "mean": mean_interval,
    "median": median_interval,
    "iqm": iqm_interval,
    "share": share_interval,
    "constant": constant_interval,
}

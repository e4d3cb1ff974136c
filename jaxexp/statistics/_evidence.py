"""P-values of claims, each the inverse of the interval that the claim's statistic has.

An interval at level c lies above a bound exactly where twice the one-sided p-value against it is below 1 - c.
"""

from typing import Any

import numpy as np

from jaxexp.statistics import _intervals, _seeds
from jaxexp.statistics._intervals import INTERVALS, Centre
from jaxexp.study import Interval


def p_value(values: Any, holds: Interval, statistic: str = "mean") -> float:
    """Returns the p-value of a claim's verdict: that to which the estimate points.

    Where the estimate lies inside the claimed interval, the verdict would be that the claim holds, and the p-value is
    twice the larger of the one-sided ones against the interval's ends. Elsewhere it would be refuted, and it is twice
    that against the nearer end. At most 1: what a mean of seeds that all agree has, and a constant that is none.

    Args:
        values: One number a seed, [n]; those that are not finite are left out.
        holds: The claimed interval.
        statistic: Of `INTERVALS`.

    Raises:
        StudyError: If there is not one number a seed, or no value at all.

    Source: Lehmann and Romano (2005), "Testing statistical hypotheses", sections 3.5 and 5.4: tests and intervals are
    each other's inverse.

    Example:
        >>> round(p_value([1.0, 2.0, 3.0], Interval(low=-0.484)), 3), p_value([0.0, 0.0], Interval(high=1.0))
        (0.05, 1.0)
    """
    estimate = INTERVALS[statistic](values)
    kept, _ = _seeds.finite(values)
    if not kept.size:
        return 1.0
    above, (low, high) = _ABOVE[statistic], (holds.low, holds.high)
    mirrored = 1 - kept if statistic == "share" else -kept

    def mirror(bound: float) -> float:
        return 1 - bound if statistic == "share" else -bound

    if low < estimate.mean < high:
        probability = max(above(kept, low, True), above(mirrored, mirror(high), True))
    elif estimate.mean <= low:
        probability = above(mirrored, mirror(low), False)
    else:
        probability = above(kept, high, False)
    return min(1.0, 2 * probability)


# Each function below: the chance of values as high as these where the statistic is at most `bound` (below it, where not
# `strict`): small values are evidence that it is above.


def _mean_above(kept: np.ndarray, bound: float, strict: bool) -> float:
    return _by_t(_intervals.mean_centre(kept), bound, strict)


def _iqm_above(kept: np.ndarray, bound: float, strict: bool) -> float:
    centre = _intervals.iqm_centre(kept)
    if centre.error == 0:
        return _quantile_above(kept, bound, strict, 0.25)
    return _by_t(centre, bound, strict)


def _by_t(centre: Centre, bound: float, strict: bool) -> float:
    from scipy.special import stdtr

    if not 0 < centre.error < float("inf"):
        return 1.0
    return float(stdtr(centre.freedom, (bound - centre.value) / centre.error))


def _quantile_above(kept: np.ndarray, bound: float, strict: bool, share: float = 0.5) -> float:
    from scipy.special import bdtr

    below = np.count_nonzero(kept <= bound if strict else kept < bound)
    return float(bdtr(below, kept.size, share))


def _share_above(kept: np.ndarray, bound: float, strict: bool) -> float:
    from scipy.special import betainc

    so = float(kept.sum())
    if bound < 0 or (bound == 0 and not strict):
        return 0.0
    return float(betainc(so, kept.size - so + 1, bound)) if so and bound < 1 else 1.0


def _constant_above(kept: np.ndarray, bound: float, strict: bool) -> float:
    if not _intervals.all_equal(kept):
        return 1.0
    return float(kept[0] <= bound if strict else kept[0] < bound)


_ABOVE = {
    "mean": _mean_above,
    "median": _quantile_above,
    "iqm": _iqm_above,
    "share": _share_above,
    "constant": _constant_above,
}

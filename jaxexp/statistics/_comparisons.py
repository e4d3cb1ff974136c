"""Two things compared seed by seed: differences, which of the two is better how often, and many p-values at once."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxexp.errors import StudyError
from jaxexp.statistics import _intervals, _seeds
from jaxexp.statistics._intervals import Estimate


class Comparison(NamedTuple):
    """Paired differences over common seeds, against no difference and against a margin.

    Attributes:
        mean: Of the differences.
        low: Lower end of the 90 % interval of the mean, which two one-sided tests at 5 % compare with the margin.
        high: Upper end.
        n: Pairs of which both are finite.
        p_different: Of the two-sided t-test that the mean is 0; 1 where it cannot be computed.
        equivalent: Whether the interval lies inside the margin.
        power: The probability of finding equivalence with this n and spread, if there is no difference at all.
        p_equivalent: Of the two one-sided tests that the mean is no nearer to 0 than the margin: the larger; 1 where
            it cannot be computed.
    """

    mean: float
    low: float
    high: float
    n: int
    p_different: float
    equivalent: bool
    power: float
    p_equivalent: float = 1.0


def paired(differences: Any, margin: float) -> Comparison:
    """Returns what paired differences say, by a t-test and by two one-sided t-tests (TOST).

    Differences that all agree are taken for what every seed would give: different with certainty unless they are 0. So
    they are where the same seeds are trained again and every bit is compared (`reproduce`). From seeds to others that
    is no evidence: `mean_interval` of the same differences is the whole line.

    Args:
        differences: One number a seed, [n]; those that are not finite are left out.
        margin: Differences below it are taken for none; in the differences' unit, at least 0.

    Raises:
        StudyError: If there is not one number a seed, or no value at all.

    Source: Schuirmann (1987), "A comparison of the two one-sided tests procedure and the power approach for assessing
    the equivalence of average bioavailability", Journal of Pharmacokinetics and Biopharmaceutics 15(6). The power is
    that of Owen's approximation at a true difference of 0, as in Phillips (1990), same journal, 18(2).

    Example:
        >>> found = paired([0.01, -0.02, 0.0, 0.02], margin=0.1)
        >>> found.equivalent, found.p_different > 0.5, found.p_equivalent < 0.001
        (True, True, True)
    """
    from scipy.special import stdtr, stdtrit

    kept, _ = _seeds.finite(differences)
    n, (mean, error, freedom) = kept.size, _intervals.mean_centre(kept)
    if n < 2:
        return Comparison(mean, -float("inf"), float("inf"), n, 1.0, False, 0.0)
    critical = float(stdtrit(freedom, 0.95))
    low, high = mean - critical * error, mean + critical * error
    if error == 0:
        near = abs(mean) <= margin
        return Comparison(mean, low, high, n, float(mean == 0), near, float(margin > 0), float(not near))
    different = 2 * float(stdtr(freedom, -abs(mean) / error))
    power = max(0.0, 2 * float(stdtr(freedom, margin / error - critical)) - 1)
    p_equivalent = float(stdtr(freedom, (abs(mean) - margin) / error))
    return Comparison(mean, low, high, n, different, -margin < low and high < margin, power, p_equivalent)


def probability_of_improvement(first: Any, second: Any, confidence: float = 0.95) -> Estimate:
    """Returns the chance that the first is larger than the second at the same seed, with its interval.

    Ties count half. The interval is the binomial's exact one, in which half a win is half a win: a tie has the mean of
    a coin toss and less spread, and the interval covers more than with tosses.

    Args:
        first: One number a seed, [n].
        second: The same seeds' numbers, [n]; pairs of which one is not finite are counted and left out.
        confidence: The least level, in (0, 1).

    Raises:
        StudyError: If the two have not the same seeds, the level is not between 0 and 1, there is no value at all, or
            not one number a seed.

    Source: Agarwal et al. (2021), "Deep reinforcement learning at the edge of the statistical precipice", NeurIPS,
    for the estimate; Clopper and Pearson (1934), Biometrika 26(4), for the interval.

    Example:
        >>> estimate = probability_of_improvement([3.0, 2.0, 5.0, 4.0], [1.0, 2.0, 3.0, 9.0])
        >>> estimate.mean, round(estimate.low, 3), round(estimate.high, 3)
        (0.625, 0.123, 0.972)
    """
    _seeds.check_level(confidence)
    larger, smaller = _seeds.one_per_seed(first), _seeds.one_per_seed(second)
    if larger.size != smaller.size or not _same_seeds(first, second):
        raise StudyError(
            f"{larger.size} seeds are compared with {smaller.size} others: pairs are of one seed, so give the same "
            "seeds in the same order, `xarray.align(first, second)`"
        )
    both = np.isfinite(larger) & np.isfinite(smaller)
    n, wins = int(both.sum()), int((larger > smaller)[both].sum())
    ties = int((larger == smaller)[both].sum())
    better = wins + ties / 2
    bounds = _intervals.share_bounds(better, n, confidence)
    return Estimate(better / n if n else float("nan"), *bounds, n, larger.size - n)


def _same_seeds(first: Any, second: Any) -> bool:
    """Whether two arrays have equal labels on their seeds, where both have labels."""
    one, other = (getattr(values, "coords", {}).get("seed") for values in (first, second))
    return one is None or other is None or bool(np.array_equal(one, other))


def holm(probabilities: Sequence[float]) -> list[float]:
    """Returns p-values adjusted for how many there are, so that any at most .05 is wrong in 5 % of such lists.

    Args:
        probabilities: P-values, in any order.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6(2).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    count, largest, adjusted = len(probabilities), 0.0, [0.0] * len(probabilities)
    for rank, index in enumerate(sorted(range(count), key=lambda index: probabilities[index])):
        largest = max(largest, min(1.0, (count - rank) * probabilities[index]))
        adjusted[index] = largest
    return adjusted

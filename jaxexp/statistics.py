"""Statistics over seeds: mean and median with their intervals, and the verdicts of a study's claims.

Seeds are the only replicates: steps and examples never are. Reads datasets, trains nothing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxexp.errors import StudyError
from jaxexp.study import Claim, Study

HOLDS, REFUTED, NOT_SHOWN = "holds", "refuted", "not shown"


class Estimate(NamedTuple):
    """A mean (or median) over seeds with its confidence interval.

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


class Verdict(NamedTuple):
    """What the data say of a claim: `holds`, `refuted` or `not shown`."""

    statement: str
    verdict: str
    estimate: Estimate
    statistic: str = "mean"


def mean_interval(values: Any, confidence: float = 0.95) -> Estimate:
    """Returns the mean over seeds with its two-sided t interval.

    Args:
        values: One number a seed, [n]; those that are not finite are counted and left out.
        confidence: The level, in (0, 1).

    Raises:
        StudyError: If the level is not between 0 and 1, or there is no value at all.

    Source: Student (1908), "The probable error of a mean", Biometrika 6(1).

    Example:
        >>> estimate = mean_interval([1.0, 2.0, 3.0])
        >>> round(estimate.low, 3), round(estimate.high, 3)
        (-0.484, 4.484)
    """
    from scipy.special import stdtrit  # scipy takes long to import, and only verdicts need it

    finite, excluded = _finite(values, confidence)
    n = finite.size
    mean = float(finite.mean()) if n else float("nan")
    if n < 2:
        return Estimate(mean, -float("inf"), float("inf"), n, excluded)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * float(finite.std(ddof=1)) / n**0.5
    return Estimate(mean, mean - half, mean + half, n, excluded)


def median_interval(values: Any, confidence: float = 0.95) -> Estimate:
    """Returns the median over seeds with the interval between two order statistics, whatever the distribution.

    Args:
        values: One number a seed, [n]; those that are not finite are counted and left out. Below 6 of them, the
            interval at 95 % is the whole line.
        confidence: The least level, in (0, 1).

    Raises:
        StudyError: If the level is not between 0 and 1, or there is no value at all.

    Source: Thompson (1936), "On confidence ranges for the median and other expectation distributions for populations
    of unknown distribution form", Annals of Mathematical Statistics 7(3).

    Example:
        >>> median_interval([5.0, 1.0, 2.0, 4.0, 3.0, 99.0])
        Estimate(mean=3.5, low=1.0, high=99.0, n=6, excluded=0)
    """
    from scipy.special import bdtr

    finite, excluded = _finite(values, confidence)
    n, ordered = finite.size, np.sort(finite)
    below = int(np.searchsorted(bdtr(np.arange(n), n, 0.5), (1 - confidence) / 2, side="right"))
    ends = (float(ordered[below - 1]), float(ordered[n - below])) if below else (-float("inf"), float("inf"))
    return Estimate(float(np.median(ordered)) if n else float("nan"), *ends, n, excluded)


def _finite(values: Any, confidence: float) -> tuple[np.ndarray, int]:
    """The finite values in float64, and how many others there are."""
    if not 0 < confidence < 1:
        raise StudyError(f"confidence={confidence} is no level between 0 and 1: write 0.95")
    flat = np.asarray(values, np.float64).ravel()
    if not flat.size:
        raise StudyError("there is no seed to take a statistic over: run at least one")
    finite = flat[np.isfinite(flat)]
    return finite, flat.size - finite.size


def share_interval(values: Any, confidence: float = 0.95) -> Estimate:
    """Returns the share of seeds in which something is so, with its exact interval: 8 of 8 seeds do not mean all.

    Args:
        values: One a seed, [n]: 1 where it is so, else 0; those that are not finite are counted and left out.
        confidence: The least level, in (0, 1).

    Raises:
        StudyError: If the level is not between 0 and 1, there is no value at all, or one is neither 0 nor 1.

    Source: Clopper and Pearson (1934), "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26(4).

    Example:
        >>> estimate = share_interval([1.0] * 8)
        >>> round(estimate.mean, 2), round(estimate.low, 3), round(estimate.high, 3)
        (1.0, 0.631, 1.0)
    """
    from scipy.special import betaincinv

    finite, excluded = _finite(values, confidence)
    if not np.isin(finite, (0.0, 1.0)).all():
        raise StudyError("a share is taken of seeds with 0 or 1, and one has another value: use jx.share(...)")
    n, so, tail = finite.size, int(finite.sum()), (1 - confidence) / 2
    low = float(betaincinv(so, n - so + 1, tail)) if so else 0.0
    high = float(betaincinv(so + 1, n - so, 1 - tail)) if so < n else 1.0
    return Estimate(so / n if n else float("nan"), low, high, n, excluded)


INTERVALS = {"mean": mean_interval, "median": median_interval, "share": share_interval}


def check(study: Study, dataset: Any) -> list[Verdict]:
    """Returns the verdict of each claim of a study.

    A claim holds where the whole interval lies inside the claimed one and no seed was excluded, is refuted
    where the two have nothing in common, and is not shown otherwise.

    Args:
        study: The study.
        dataset: Its results.

    Raises:
        StudyError: If a claim's estimate gives anything but one number a seed.
    """
    return [_verdict(claim, dataset) for claim in study.claims]


def per_seed(claim: Claim, dataset: Any) -> Any:
    """Returns what a claim estimates for each seed, or for those that it judges by, as a float32 DataArray [seed].

    Raises:
        StudyError: If the claim estimates anything but one number a seed.
    """
    values = claim.estimate(dataset)
    if tuple(values.dims) != ("seed",):
        raise StudyError(
            f"the claim {claim.statement!r} estimates an array over {tuple(values.dims)}: seeds are the replicates, so "
            "give one number a seed (select or average the other dims)"
        )
    return values.astype(np.float32)


def _verdict(claim: Claim, dataset: Any) -> Verdict:
    estimate = INTERVALS[claim.statistic](per_seed(claim, dataset).values, claim.confidence)
    low, high = claim.holds.low, claim.holds.high
    if low < estimate.low and estimate.high < high and estimate.excluded == 0:
        return Verdict(claim.statement, HOLDS, estimate, claim.statistic)
    apart = estimate.high <= low or estimate.low >= high
    return Verdict(claim.statement, REFUTED if apart else NOT_SHOWN, estimate, claim.statistic)


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
    """

    mean: float
    low: float
    high: float
    n: int
    p_different: float
    equivalent: bool
    power: float


def paired(differences: Any, margin: float) -> Comparison:
    """Returns what paired differences say, by a t-test and by two one-sided t-tests (TOST).

    Args:
        differences: One number a seed, [n]; those that are not finite are left out.
        margin: Differences below it are taken for none; in the differences' unit, at least 0.

    Source: Schuirmann (1987), "A comparison of the two one-sided tests procedure and the power approach for assessing
    the equivalence of average bioavailability", Journal of Pharmacokinetics and Biopharmaceutics 15(6). The power is
    that of Owen's approximation at a true difference of 0, as in Phillips (1990), same journal, 18(2).

    Example:
        >>> found = paired([0.01, -0.02, 0.0, 0.02], margin=0.1)
        >>> found.equivalent, found.p_different > 0.5
        (True, True)
    """
    from scipy.special import stdtr, stdtrit

    finite, _ = _finite(differences, 0.9)
    n = finite.size
    mean = float(finite.mean()) if n else float("nan")
    if n < 2:
        return Comparison(mean, -float("inf"), float("inf"), n, 1.0, False, 0.0)
    error = float(finite.std(ddof=1)) / n**0.5
    critical = float(stdtrit(n - 1, 0.95))
    low, high = mean - critical * error, mean + critical * error
    if error == 0:
        return Comparison(mean, low, high, n, float(mean == 0), abs(mean) <= margin, float(margin > 0))
    different = 2 * float(stdtr(n - 1, -abs(mean) / error))
    power = max(0.0, 2 * float(stdtr(n - 1, margin / error - critical)) - 1)
    return Comparison(mean, low, high, n, different, -margin < low and high < margin, power)


def holm(probabilities: Sequence[float]) -> list[float]:
    """Returns p-values adjusted for how many there are, so that any at most .05 is wrong in 5 % of such lists.

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

"""How many seeds are needed, and an interval that stays exact although a first part of them was looked at."""

import math
from typing import Any

import numpy as np

from jaxexp.errors import StudyError
from jaxexp.statistics import _intervals, _seeds
from jaxexp.statistics._intervals import Estimate
from jaxexp.study import MAX_NUM_SEEDS


def seeds_needed(differences: Any, half_width: float, confidence: float = 0.95) -> int:
    """Returns how many seeds in all make the interval of the mean no wider than to `half_width` on either side.

    Args:
        differences: Of the seeds so far (the first stage), one number each, [n].
        half_width: Half the width that is wanted, in their unit, above 0.
        confidence: The level, in (0, 1).

    Returns:
        At least the number of `differences`. Values that are not finite are counted as seeds, and as often among
        those to come.

    Raises:
        StudyError: If the width or the level is none, there is not one number a seed, there are not two finite, these
            have no spread, or more than `study.MAX_NUM_SEEDS` are needed.

    Source: Stein (1945), "A two-sample test for a linear hypothesis whose power is independent of the variance",
    Annals of Mathematical Statistics 16(3).

    Example:
        >>> seeds_needed([0.1, 0.3, 0.2, 0.4], half_width=0.1)
        17
    """
    from scipy.special import stdtrit

    if not 0 < half_width < float("inf"):
        raise StudyError(f"half_width={half_width} is no width above 0: write how narrow, `half_width=0.01`")
    kept, excluded = _seeds.finite(differences, confidence)
    if kept.size < 2:
        raise StudyError(f"{kept.size} finite seeds have no spread to plan with: run at least 2, better 10, `seeds=10`")
    t, root = float(stdtrit(kept.size - 1, (1 + confidence) / 2)), _known_spread(kept) / half_width
    finite, per_finite = max(kept.size, t * root * t * root), (kept.size + excluded) / kept.size
    if not (needed := finite * per_finite) <= MAX_NUM_SEEDS:
        raise StudyError(
            f"half_width={half_width:g} needs {needed:.2g} seeds by the spread of the first {kept.size}, over the "
            f"{MAX_NUM_SEEDS:,} that a study can have: ask for a wider one, `half_width={_affordable(kept, t):.2g}`"
        )
    return math.ceil(math.ceil(finite) * (kept.size + excluded) / kept.size)


def _affordable(kept: np.ndarray, t: float, num_seeds: int = 1000) -> float:
    """Half the width that so many seeds have."""
    return t * _spread(kept) / num_seeds**0.5


def _spread(kept: np.ndarray) -> float:
    """The standard deviation of two or more numbers, 0 where they are equal."""
    return _intervals.mean_centre(kept).error * kept.size**0.5


def _known_spread(kept: np.ndarray) -> float:
    """The same where there is one.

    Raises:
        StudyError: If there is none: that seeds agree so far says nothing of how far others are away.
    """
    spread = _spread(kept)
    if not 0 < spread < float("inf"):
        more = max(10, 2 * kept.size)
        raise StudyError(
            f"the {kept.size} finite seeds gave {kept[0]:g} to {kept[-1]:g}, a spread of {spread:g}, so that nothing "
            f"says how many more are needed: run more of them first, `seeds={more}`; of what is 0 or 1 in a seed take "
            "the share, whose interval needs no spread"
        )
    return spread


def two_stage_interval(values: Any, num_first: int, confidence: float = 0.95) -> Estimate:
    """Returns the mean over all seeds, with an interval whose width the first `num_first` of them alone decide.

    Its level is exact for normal values although one looked at the first stage to decide how many more to run
    (`seeds_needed`), if at nothing else. An interval of all seeds' spread would be too narrow too often. Where the
    first stage has no spread, or less than two finite seeds, it is the whole line.

    Args:
        values: One number a seed, [n], in the order in which they were run; those that are not finite are counted and
            left out.
        num_first: How many of them were the first stage, 2 to n; 10 or more are worth it.
        confidence: The level, in (0, 1).

    Raises:
        StudyError: If there is no such first stage, the level is not between 0 and 1, there is no value at all, or
            not one number a seed.

    Source: Stein (1945), "A two-sample test for a linear hypothesis whose power is independent of the variance",
    Annals of Mathematical Statistics 16(3).

    Example:
        >>> estimate = two_stage_interval([1.0, 2.0, 3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0], num_first=3)
        >>> round(estimate.low, 3), round(estimate.high, 3)
        (0.566, 3.434)
    """
    from scipy.special import stdtrit

    kept, excluded = _seeds.finite(values, confidence)
    if not 2 <= num_first <= kept.size + excluded:
        raise StudyError(
            f"num_first={num_first} of {kept.size + excluded} seeds is no first stage: it has 2 seeds or more, all "
            "among those that are there; write the number at which you looked, `num_first=10`"
        )
    first, _ = _seeds.finite(_seeds.one_per_seed(values)[:num_first])
    mean, n = _intervals.mean_centre(kept).value, kept.size
    if first.size < 2 or _spread(first) == 0:
        return Estimate(mean, -float("inf"), float("inf"), n, excluded)
    half = float(stdtrit(first.size - 1, (1 + confidence) / 2)) * _spread(first) / n**0.5
    return Estimate(mean, mean - half, mean + half, n, excluded)


def power_of_difference(differences: Any, size: float, num_seeds: int | None = None, confidence: float = 0.95) -> float:
    """Returns the chance that a paired t-test finds a true mean difference of `size`, with the spread seen so far.

    Args:
        differences: Of the seeds so far, one number each, [n]; only their spread matters.
        size: The true difference that should not be missed, in their unit.
        num_seeds: With how many seeds, at least 2; with as many as are finite so far where None.
        confidence: 1 minus the level of the two-sided test.

    Raises:
        StudyError: If the level or the number is none, there is not one number a seed, there are not two finite, or
            these have no spread.

    Source: Cohen (1988), "Statistical power analysis for the behavioral sciences", chapter 2; the noncentral t.

    Example:
        >>> spread = [0.1, -0.1, 0.2, -0.2, 0.1, -0.1]
        >>> [round(power_of_difference(spread, 0.1, num_seeds), 2) for num_seeds in (6, 12, 24)]
        [0.25, 0.53, 0.86]
    """
    from scipy.special import nctdtr, stdtrit

    kept, _ = _seeds.finite(differences, confidence)
    n = kept.size if num_seeds is None else num_seeds
    if kept.size < 2 or n < 2:
        raise StudyError(f"{kept.size} finite seeds, or num_seeds={n}, have no power: both are at least 2, `seeds=10`")
    spread = _known_spread(kept)
    critical, shift = float(stdtrit(n - 1, (1 + confidence) / 2)), abs(size) / spread * n**0.5
    return float(1 - nctdtr(n - 1, shift, critical) + nctdtr(n - 1, shift, -critical))

"""The best of several trials, chosen on one half of the seeds and judged on the other."""

from typing import Any, NamedTuple

import numpy as np

from jaxexp.errors import StudyError
from jaxexp.statistics import _seeds
from jaxexp.statistics._intervals import Estimate, mean_interval


class Choice(NamedTuple):
    """A trial that was chosen on one half of the seeds, and what the other half says of it.

    Attributes:
        trial: Its row.
        estimate: Its mean over the judging seeds.
        difference: From the trial it is compared with, seed by seed; None where there is none.
    """

    trial: int
    estimate: Estimate
    difference: Estimate | None = None


def choose_and_judge(
    values: Any, larger_is_better: bool, *, against: int | None = None, confidence: float = 0.95
) -> Choice:
    """Returns the best trial of the seeds in even places (0, 2, ...), judged on those in odd places.

    The best of many means is too good on the seeds that chose it, the more so the more trials there are. Seeds that
    had no part in the choice owe it nothing.

    Args:
        values: One number a trial and seed, [trial, seed]. A trial with fewer values that are not finite among the
            choosing seeds goes before one with more, whatever their means.
        larger_is_better: Whether the largest mean is the best, else the smallest.
        against: The row of a trial to compare with; its choice must not depend on the judging seeds.
        confidence: The level of the intervals, in (0, 1).

    Raises:
        StudyError: If there are less than two seeds, no such trial, other dimensions, or the level is none.

    Source: Cawley and Talbot (2010), "On over-fitting in model selection and subsequent selection bias in performance
    evaluation", Journal of Machine Learning Research 11; splitting: Cox (1975), "A note on data-splitting for the
    evaluation of significance levels", Biometrika 62(2).

    Example:
        >>> choice = choose_and_judge([[1.0, 1.0, 1.0, 1.0], [3.0, 2.0, 3.0, 2.5]], True, against=0)
        >>> choice.trial, choice.estimate.mean, choice.difference.mean
        (1, 2.25, 1.25)
    """
    table = _seeds.one_per_seed(values, ("trial", "seed"))
    num_trials, num_seeds = table.shape
    if num_seeds < 2:
        raise StudyError("one seed cannot both choose and judge: run at least 2, better 20, `seeds=20`")
    if against is not None and not 0 <= against < num_trials:
        raise StudyError(f"against={against} is no trial: there are {num_trials}, so write 0 to {num_trials - 1}")
    choosing, judging = table[:, 0::2], table[:, 1::2]
    trial = _best(choosing, larger_is_better)
    estimate = mean_interval(judging[trial], confidence)
    if against is None:
        return Choice(trial, estimate)
    return Choice(trial, estimate, mean_interval(judging[trial] - judging[against], confidence))


def _best(table: np.ndarray, larger_is_better: bool) -> int:
    scored = np.isfinite(table)
    n = scored.sum(1)
    totals = np.where(scored, table, 0.0).sum(1) * (1 if larger_is_better else -1)
    return int(np.lexsort((-totals / np.maximum(n, 1), -n))[0])

"""The verdicts of a study's claims, and what they are given by: one number a seed."""

from typing import Any, NamedTuple

import numpy as np

from jaxexp.errors import StudyError
from jaxexp.results import NOT_FINITE, NOT_RUN
from jaxexp.statistics._comparisons import holm
from jaxexp.statistics._evidence import p_value
from jaxexp.statistics._intervals import INTERVALS, Estimate
from jaxexp.study import Claim, Interval, Study

HOLDS, REFUTED, NOT_SHOWN = "holds", "refuted", "not shown"


class Verdict(NamedTuple):
    """What the data say of a claim.

    Attributes:
        statement: The claim's sentence.
        verdict: `holds`, `refuted` or `not shown`.
        estimate: Over the seeds, with the interval at the claim's own level.
        statistic: What the estimate is: `mean`, `median`, `iqm`, `share` or `constant`.
        p: Of the verdict to which the estimate points, adjusted for the number of the study's claims; 1 where a seed is
            excluded.
        reason: Why a claim is not shown however many the seeds are, and what to claim instead: seeds are excluded, its
            trial is not there, its estimate fails, a mean of seeds that all agree, a constant of seeds that do not.
            Empty elsewhere.
    """

    statement: str
    verdict: str
    estimate: Estimate
    statistic: str = "mean"
    p: float = 1.0
    reason: str = ""


class ClaimsError(StudyError):
    """An estimate of a claim fails. The claim is not shown, and the others are judged as they are.

    Attributes:
        verdicts: Of all claims of the study; the reason of one that fails says why.
    """

    def __init__(self, told: str, verdicts: list[Verdict]) -> None:
        super().__init__(told)
        self.verdicts = verdicts


def check(study: Study, dataset: Any) -> list[Verdict]:
    """Returns the verdict of each claim of a study, judged together.

    A claim holds where the whole interval lies inside the claimed one, is refuted where the two have nothing in
    common, and is not shown otherwise; nor where a seed is excluded, for the seeds that are left are chosen by their
    outcome. With several claims neither is said unless the p-value of it, adjusted by Holm's procedure over all claims
    of the study, is at most 1 - confidence too. That any is wrong in at most that share of studies holds as far as the
    intervals do. Bounds are compared in the values' own dtype: a float32 0.1 is not above 0.1.

    Args:
        study: The study.
        dataset: Its results.

    Raises:
        ClaimsError: If a claim's estimate gives anything but one number a seed, or fails; it has all verdicts.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6(2); that a
    direction is decided as well: Shaffer (1980), "Control of directional errors with stagewise multiple test
    procedures", Annals of Statistics 8(6).

    Example:
        >>> import jaxexp as jx
        >>> square = jx.from_train(lambda key, config: {"y": config.x**2})
        >>> @jx.config
        ... class Config:
        ...     x: float = 2.0
        >>> squared = jx.measured("y", Config())
        >>> claim = jx.Claim("The square of 2 is above 3.", squared, jx.above(3), statistic="constant")
        >>> made = jx.Study(experiment=square, config=Config(), seeds=2, claims=(claim,))
        >>> [(found.verdict, found.p) for found in check(made, jx.run(made))]
        [('holds', 0.0)]
    """
    alone, failures = [], []
    for claim in study.claims:
        try:
            alone.append(_alone(claim, dataset))
        except StudyError as problem:
            named = repr(claim.statement) in str(problem)
            failures.append(str(problem) if named else f"the claim {claim.statement!r}: {problem}")
            nothing = Estimate(float("nan"), -float("inf"), float("inf"), 0, 0)
            alone.append(Verdict(claim.statement, NOT_SHOWN, nothing, claim.statistic, reason=str(problem)))
    adjusted = holm([verdict.p for verdict in alone])
    judged = zip(study.claims, alone, adjusted, strict=True)
    verdicts = [_with_others(verdict, p, claim.confidence) for claim, verdict, p in judged]
    if failures:
        raise ClaimsError("; ".join(failures), verdicts)
    return verdicts


def _alone(claim: Claim, dataset: Any) -> Verdict:
    """A claim's verdict, and its p-value, as if there were no other."""
    values = per_seed(claim, dataset).values
    estimate = INTERVALS[claim.statistic](values, claim.confidence)
    holds = Interval(*(float(values.dtype.type(bound)) for bound in (claim.holds.low, claim.holds.high)))
    low, high = holds.low, holds.high
    inside = low < estimate.low and estimate.high < high
    apart = estimate.high <= low or estimate.low >= high
    verdict = NOT_SHOWN if estimate.excluded else HOLDS if inside else REFUTED if apart else NOT_SHOWN
    p = 1.0 if estimate.excluded else p_value(values, holds, claim.statistic)
    reason = ""
    if verdict == NOT_SHOWN:
        reason = _lacking(claim, dataset, estimate) if estimate.excluded else _reason(values, estimate, claim.statistic)
    return Verdict(claim.statement, verdict, estimate, claim.statistic, p, reason)


def _lacking(claim: Claim, dataset: Any, estimate: Estimate) -> str:
    """Why seeds have no finite number: not by that, but by the trials that are there and the status of their runs."""
    if not estimate.n:
        try:
            claim.estimate(dataset.assign_attrs(absent="refuse"))  # as `estimates.trial` reads it
        except StudyError as problem:
            return str(problem)
    told = f"{estimate.excluded} of {estimate.excluded + estimate.n} seeds have no finite number"
    status = dataset["status"].values if "status" in dataset else np.asarray(NOT_FINITE)
    if not_run := int((status == NOT_RUN).sum()):
        return f"{told}, and {not_run:,} runs are not done: `jaxexp run` goes on where it stopped"
    if not (status == NOT_FINITE).any():
        return f"{told}, though no run diverged: a trial or step was not trained, or the estimate itself is not finite"
    return (
        f"{told}, and the others are no fair sample: train so that none diverges, or claim a share of seeds (jx.share) "
        "by a number that is finite at every one"
    )


def _reason(values: np.ndarray, estimate: Estimate, statistic: str) -> str:
    """Why a claim is not shown, and what to type, where more seeds of the same kind would not help."""
    kept = values[np.isfinite(values)]
    if kept.size < 2 or np.isfinite(estimate.low):
        return ""
    if statistic in ("mean", "iqm") and (kept == kept[0]).all():
        return (
            f"all {kept.size} seeds gave exactly {kept[0]:.6g}: no spread to judge by; claim a share (jx.share), a "
            'median, or, where no seed changes the value, statistic="constant"'
        )
    if statistic == "constant":
        return (
            f"the {kept.size} seeds gave {kept.min():.9g} to {kept.max():.9g}: no constant; claim their mean or their "
            'median, statistic="mean" or "median"'
        )
    return ""


def _with_others(alone: Verdict, adjusted: float, confidence: float) -> Verdict:
    """The verdict of a claim among others; where they change nothing, its interval decides, also on the brink."""
    lost = adjusted > max(alone.p, 1 - confidence)
    return alone._replace(verdict=NOT_SHOWN if lost else alone.verdict, p=adjusted)


def per_seed(claim: Claim, dataset: Any) -> Any:
    """Returns what a claim estimates for each seed, or for those that it judges by, as a DataArray [seed].

    Its dtype is float32 where the estimate's is, else float64: no number loses a bit. It may be of some of the seeds
    alone, as where the others have chosen what it judges; by their outcome none may be left out: NaN is counted.

    Args:
        claim: The claim.
        dataset: The study's results.

    Raises:
        StudyError: If the claim estimates anything but one number a seed of the results, or its estimate fails.

    Example:
        >>> import xarray
        >>> from jaxexp.study import above
        >>> results = xarray.Dataset({"y": ("seed", [1.0, 2.0])})
        >>> per_seed(Claim("It is positive.", lambda dataset: dataset["y"], above(0)), results).values
        array([1., 2.])
    """
    told = f"the claim {claim.statement!r}"
    try:
        values = claim.estimate(dataset)
    except Exception as problem:  # it is anyone's code
        raise StudyError(f"{told} cannot be estimated: {type(problem).__name__}: {problem}") from problem
    dims = tuple(getattr(values, "dims", ()))
    if dims != ("seed",):
        found = f"an array over {dims}" if dims else f"a {type(values).__name__}"
        raise StudyError(
            f"{told} estimates {found}: seeds are the replicates, so give one number a seed (select or average the "
            "other dims)"
        )
    if "seed" in dataset.coords and "seed" in values.coords:
        seeds, own = dataset["seed"].values.tolist(), values["seed"].values.tolist()
        if len(set(own)) < len(own) or not set(own) <= set(seeds):
            raise StudyError(
                f"{told} estimates {len(own)} numbers for {len(seeds)} seeds, whose labels are not those seeds, each "
                "once: steps, trials and repeated seeds are no replicates, so select or average them within a seed"
            )
    elif values.sizes["seed"] != dataset.sizes["seed"]:
        raise StudyError(f"{told} estimates {values.sizes['seed']} numbers for {dataset.sizes['seed']} seeds")
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)

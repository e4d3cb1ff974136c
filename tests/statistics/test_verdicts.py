"""Claims: their verdicts, p-values that invert intervals, and Holm over a study."""

import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import jaxexp as jx
from jaxexp.errors import StudyError
from jaxexp.statistics import HOLDS, INTERVALS, NOT_SHOWN, REFUTED, ClaimsError, check, holm, p_value
from jaxexp.study import Interval


def study(*claims):
    return jx.Study(experiment=jx.from_train(lambda key, config: {}), config=None, claims=claims)


def dataset(values):
    return xarray.Dataset({"accuracy": ("seed", values)})


def claim(holds, **options):
    return jx.Claim("it learns", lambda results: results["accuracy"], holds, **options)


@pytest.mark.parametrize(
    ("values", "holds", "verdict"),
    [
        ([0.79, 0.80, 0.81], jx.above(0.5), HOLDS),
        ([0.79, 0.80, 0.81], jx.below(0.5), REFUTED),
        ([0.2, 0.8, 0.9], jx.above(0.5), NOT_SHOWN),
        ([0.79, 0.80, 0.81], jx.between(0.7, 0.9), HOLDS),
        ([0.79, 0.80, 0.81, np.nan], jx.above(0.5), NOT_SHOWN),
        ([0.79, 0.80, 0.81, np.nan], jx.above(0.9), NOT_SHOWN),
        ([0.8], jx.above(0.5), NOT_SHOWN),
        ([np.nan, np.nan], jx.above(0.5), NOT_SHOWN),
        ([0.5, 0.5], jx.above(0.5), NOT_SHOWN),
        ([0.5, 0.5], jx.between(0.25, 0.75), NOT_SHOWN),
    ],
)
def test_verdicts(values, holds, verdict):
    assert [found.verdict for found in check(study(claim(holds)), dataset(values))] == [verdict]


def test_a_claim_on_the_median_or_the_interquartile_mean_is_not_ruled_by_one_bad_seed():
    values = dataset([1.0, 1.1, 1.2, 1.3, 1.35, 1.4, 1.5, 1.6, 1e6])
    for statistic in ("median", "iqm"):
        (found,) = check(study(claim(jx.below(2), statistic=statistic)), values)
        assert (found.verdict, found.statistic, found.estimate.mean) == (HOLDS, statistic, pytest.approx(1.35))
        assert found.p < 0.05
    assert check(study(claim(jx.below(2))), values)[0].verdict == NOT_SHOWN


def test_an_estimate_over_anything_but_seeds_is_refused():
    with pytest.raises(StudyError, match=r"one number a seed"):
        check(study(claim(jx.above(0))), xarray.Dataset({"accuracy": (("seed", "step"), np.ones((2, 3)))}))
    with pytest.raises(StudyError, match=r"'it learns' estimates a float: seeds are the replicates"):
        check(study(jx.Claim("it learns", lambda results: 0.5, jx.above(0))), dataset([0.5, 0.5]))


@pytest.mark.parametrize(
    "estimate",
    [
        lambda results: results["curve"].isel(seed=0, drop=True).rename(step="seed"),
        lambda results: xarray.DataArray(results["curve"].values.ravel(), dims="seed"),
        lambda results: results["curve"].rename(seed="of").stack(seed=("of", "step")),
        lambda results: xarray.concat([results["accuracy"]] * 5, "seed"),
    ],
)
def test_steps_and_repeated_seeds_are_no_replicates(estimate):
    curves = np.random.default_rng(0).normal(1, 0.1, (4, 50))
    results = xarray.Dataset(
        {"accuracy": ("seed", curves[:, -1]), "curve": (("seed", "step"), curves)},
        {"seed": [0, 1, 2, 3], "step": np.arange(50)},
    )
    with pytest.raises(StudyError, match=r"'it learns' estimates \d+ numbers for 4 seeds"):
        check(study(jx.Claim("it learns", estimate, jx.above(0))), results)


def test_some_of_the_seeds_may_judge_what_the_others_chose():
    results = xarray.Dataset({"accuracy": ("seed", [1.0, np.nan, 0.9, 1.1])}, {"seed": [3, 4, 5, 6]})
    odd = jx.Claim("it learns", lambda results: results["accuracy"].sel(seed=[3, 5]), jx.above(0))
    every = jx.Claim("it learns", lambda results: results["accuracy"], jx.above(0))
    (half,), (whole,) = check(study(odd), results), check(study(every), results)
    assert (half.estimate.n, half.estimate.excluded) == (2, 0)
    assert (whole.verdict, whole.estimate.n, whole.estimate.excluded) == (NOT_SHOWN, 3, 1)
    assert "1 of 4 seeds have no finite number" in whole.reason


@jx.config
class Config:
    rate: float = 0.1
    hidden: int = 8


def trained(status):
    """Results of three trials and two seeds with the status that is given, and what is NaN where it is not 0."""
    status = np.asarray(status, np.int8)
    return xarray.Dataset(
        {
            "y": (("trial", "seed", "eval_step"), np.where(status == 0, [0.5, 0.6], np.nan)[..., None] * [1, 1]),
            "status": (("trial", "seed"), status),
            "status_step": (("trial", "seed"), np.full(status.shape, -1, np.int32)),
        },
        coords={
            "seed": [0, 1],
            "eval_step": [0, 10],
            "rate": ("trial", [0.1, 0.2, 0.1]),
            "hidden": ("trial", [8, 8, 4]),
        },
    )


OK, DIVERGED, NOT_RUN = [[0, 0]] * 3, [[0, 1], [0, 0], [0, 0]], [[3, 3], [0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("config", "at", "status", "reason"),
    [
        (
            Config(hidden=100),
            None,
            DIVERGED,
            "no trial has hidden=100: it was not trained here; train it too, `jaxexp run",
        ),
        (Config(rate=0.3, hidden=1), None, OK, "no trial has rate=0.3, hidden=1: it was not trained here"),
        (Config(rate=0.2, hidden=4), None, OK, "no trial has rate=0.2, hidden=4 together: it was not trained here"),
        (Config(), 7, OK, "y was not measured at step 7 here: the last of 2 is 10"),
        (Config(), None, NOT_RUN, "the trial with rate=0.1, hidden=8 was not run: `jaxexp run` goes on"),
        (Config(), None, DIVERGED, "1 of 2 seeds have no finite number, and the others are no fair sample"),
        (Config(), None, [[0, 3], [0, 0], [0, 3]], "1 of 2 seeds have no finite number, and 2 runs are not done"),
    ],
)
@pytest.mark.parametrize("kind", ["measured", "share", "own"])
def test_what_was_not_trained_is_no_seed_that_diverged(config, at, status, reason, kind):
    estimate = jx.measured("y", config, at)
    if kind == "share":
        estimate = jx.share(jx.difference(estimate, jx.measured("y", Config(rate=0.2))), jx.above(0))
    if kind == "own" and at is None:
        estimate = lambda results: jx.trial(results.sel(seed=[0, 1]), config).y.max("eval_step")  # noqa: E731
    statistic = "share" if kind == "share" else "mean"
    (found,) = check(study(jx.Claim("it learns", estimate, jx.above(0), statistic=statistic)), trained(status))
    assert (found.verdict, found.p) == (NOT_SHOWN, 1.0)
    assert found.reason.startswith(reason)


def test_an_estimate_that_is_not_finite_itself_is_no_run_that_diverged():
    own = jx.Claim(
        "it learns",
        lambda results: jx.measured("y", Config())(results).where(xarray.DataArray([True, False], dims="seed")),
        jx.above(0),
    )
    (found,) = check(study(own), trained(OK))
    assert found.reason.startswith("1 of 2 seeds have no finite number, though no run diverged: ")


def test_a_claim_that_fails_is_named():
    broken = jx.Claim("it learns", lambda results: results["loss"], jx.above(0))
    with pytest.raises(StudyError, match="the claim 'it learns' cannot be estimated: KeyError"):
        check(study(broken), dataset([1.0, 1.1]))


def test_a_claim_that_fails_is_not_shown_counts_and_hides_no_other():
    broken = jx.Claim("it learns", lambda results: results["loss"], jx.above(0))
    no_share = claim(jx.above(0.5), statistic="share")
    results = dataset([1.0, 1.1, 0.9])
    told = r"'it learns' cannot be estimated: KeyError.*; the claim 'it learns': a share is"
    with pytest.raises(ClaimsError, match=told) as one:
        check(study(broken, claim(jx.above(0)), no_share), results)
    first, second, third = one.value.verdicts
    (alone,) = check(study(claim(jx.above(0))), results)
    assert (first.verdict, first.p, first.estimate.n, np.isnan(first.estimate.mean)) == (NOT_SHOWN, 1.0, 0, True)
    assert "cannot be estimated: KeyError" in first.reason
    assert (second.verdict, second.estimate, second.p) == (HOLDS, alone.estimate, pytest.approx(3 * alone.p))
    assert (third.verdict, third.reason[:10]) == (NOT_SHOWN, "a share is")


def test_an_empty_interval_is_refused():
    with pytest.raises(StudyError, match="smaller number first"):
        jx.between(0.9, 0.1)


# P-values

ONE_SIDED = {
    "mean": lambda values, bound: stats.ttest_1samp(values, bound, alternative="greater")[1],
    "median": lambda values, bound: stats.binomtest(int((values > bound).sum()), len(values), alternative="greater"),
    "share": lambda values, bound: stats.binomtest(int(values.sum()), len(values), bound, alternative="greater"),
}


@pytest.mark.parametrize("statistic", ONE_SIDED)
@pytest.mark.parametrize("n", [3, 8, 50])
def test_p_values_are_twice_scipy_s_one_sided_ones(statistic, n):
    draws = np.random.default_rng(n).normal(2.0, 1.0, n)
    values = (draws > 0).astype(float) if statistic == "share" else draws
    bound = 0.3
    one_sided = ONE_SIDED[statistic](values, bound)
    expected = min(1.0, 2 * float(getattr(one_sided, "pvalue", one_sided)))
    assert INTERVALS[statistic](values).mean > bound
    assert p_value(values, jx.above(bound), statistic) == pytest.approx(expected, rel=1e-12)


def of_statistic(values, statistic):
    return np.asarray([value % 2 for value in values] if statistic == "share" else values, float) / (
        1 if statistic == "share" else 4
    )


@given(
    st.sampled_from(list(INTERVALS)),
    st.lists(st.integers(-8, 8), min_size=1, max_size=30),
    st.integers(-9, 9),
    st.integers(1, 12),
    st.sampled_from([jx.above, jx.below, jx.between]),
    st.sampled_from([0.5, 0.75, 0.9, 0.95, 0.99]),
)
def test_a_verdict_is_given_exactly_where_the_p_value_is_small(statistic, integers, low, width, kind, confidence):
    """Values and bounds on a grid, so that ties, bounds on order statistics and equal seeds come often."""
    values = of_statistic(integers, statistic)
    ends = (low / 4, (low + width) / 4) if kind is jx.between else (low / 4,)
    (found,) = check(study(claim(kind(*ends), statistic=statistic, confidence=confidence)), dataset(values))
    level = 1 - confidence
    if abs(found.p - level) > 1e-9:  # on the brink rounding decides, and the interval does
        assert (found.verdict != NOT_SHOWN) == (found.p < level)


@given(
    st.sampled_from(list(INTERVALS)),
    st.lists(st.integers(-8, 8), min_size=2, max_size=30),
    st.integers(-9, 9),
    st.integers(1, 12),
)
def test_what_is_mirrored_has_the_same_p_value(statistic, integers, low, width):
    values, center = of_statistic(integers, statistic), 1.0 if statistic == "share" else 0.0
    holds = jx.between(low / 4, (low + width) / 4)
    mirrored = Interval(center - holds.high, center - holds.low)
    assert p_value(center - values, mirrored, statistic) == pytest.approx(p_value(values, holds, statistic), abs=1e-12)


def test_a_middle_without_spread_has_the_p_value_of_its_quartiles():
    assert p_value([1.0] * 60 + [0.0] * 4, jx.above(0.5), "iqm") == pytest.approx(
        2 * stats.binom.cdf(4, 64, 0.25), rel=1e-12
    )
    assert p_value([1.0] * 4 + [0.0], jx.above(0.5), "iqm") > 0.5


@pytest.mark.parametrize("holds", [jx.above(0), jx.above(1), jx.below(1), jx.between(0, 2)])
def test_seeds_without_spread_show_nothing(holds):
    assert p_value([1.0] * 5, holds) == 1
    assert p_value([1.0] * 5, holds, "iqm") > 0.4  # what bounds for the quartiles say of five


def test_why_seeds_without_spread_show_nothing_is_said():
    (found,) = check(study(claim(jx.above(0.95))), dataset([1.0] * 8))
    assert found.verdict == NOT_SHOWN
    assert "all 8 seeds gave exactly 1" in found.reason
    assert "jx.share" in found.reason
    (found,) = check(study(claim(jx.above(0.95))), dataset([0.95, 0.99, 1.0, 0.9]))
    assert (found.verdict, found.reason) == (NOT_SHOWN, "")


@pytest.mark.parametrize(
    ("values", "holds", "verdict"),
    [
        ([0.5, 0.5], jx.between(0.25, 0.75), HOLDS),
        ([0.5], jx.above(0.25), HOLDS),
        ([0.5, 0.5], jx.above(0.5), REFUTED),
        ([0.5, 0.5], jx.above(0.75), REFUTED),
        ([0.5, 0.5000001], jx.above(0.25), NOT_SHOWN),
        ([0.5, np.nan], jx.above(0.25), NOT_SHOWN),
    ],
)
def test_a_constant_is_what_every_seed_gives(values, holds, verdict):
    (found,) = check(study(claim(holds, statistic="constant")), dataset(values))
    assert (found.verdict, found.statistic) == (verdict, "constant")
    assert ("no constant" in found.reason) == (len(set(values)) == 2 and not np.isnan(values).any())


def test_bounds_are_compared_in_the_dtype_of_the_values():
    third = np.asarray([0.1, 0.1], np.float32)
    assert check(study(claim(jx.above(0.1), statistic="constant")), dataset(third))[0].verdict == REFUTED
    large = np.asarray([10**8 + 1] * 2)  # float32 has no such number
    assert check(study(claim(jx.above(10**8), statistic="constant")), dataset(large))[0].verdict == HOLDS


# Several claims


def several(*p_values):
    """A study of claims whose p-values, each by itself, are these, with its results: two seeds, t on 1 degree."""
    bounds = [stats.t.ppf(p / 2, 1) for p in p_values]

    def one(bound):
        return jx.Claim(f"above {bound}", lambda results: results["accuracy"], jx.above(bound))

    return study(*map(one, bounds)), dataset([-1.0, 1.0])


def test_two_seeds_have_the_p_values_that_they_were_made_for():
    for p in (0.04, 0.001):
        (found,) = check(*several(p))
        assert found.p == pytest.approx(p, rel=1e-6)  # estimates are float32


@pytest.mark.parametrize(
    ("alone", "adjusted", "held"),
    [
        ((0.04,), (0.04,), [HOLDS]),
        ((0.04, 0.04), (0.08, 0.08), [NOT_SHOWN, NOT_SHOWN]),
        ((0.04, 0.02), (0.04, 0.04), [HOLDS, HOLDS]),
        ((0.02, 0.03, 0.01), (0.04, 0.04, 0.03), [HOLDS, HOLDS, HOLDS]),
        ((0.04, 0.001, 0.03), (0.06, 0.003, 0.06), [NOT_SHOWN, HOLDS, NOT_SHOWN]),
        ((0.04, 0.9), (0.08, 0.9), [NOT_SHOWN, NOT_SHOWN]),
    ],
)
def test_holm_over_the_claims_of_a_study(alone, adjusted, held):
    found = check(*several(*alone))
    np.testing.assert_allclose([verdict.p for verdict in found], adjusted, rtol=1e-6)
    assert [verdict.verdict for verdict in found] == held


def test_an_excluded_seed_stands_in_the_way_of_holds_and_helps_no_other_claim():
    results = xarray.Dataset({"accuracy": ("seed", [1.0, 1.1, 0.9, 1.0]), "other": ("seed", [1.0, 1.1, 0.9, np.nan])})
    clean = claim(jx.above(0))
    lacking = jx.Claim("it learns too", lambda results: results["other"], jx.above(0))
    first, second = check(study(clean, lacking), results)
    (alone,) = check(study(clean), results)
    assert (first.verdict, second.verdict, second.p) == (HOLDS, NOT_SHOWN, 1.0)
    assert first.p == pytest.approx(2 * alone.p)


@pytest.mark.parametrize("num_claims", [1, 10])
def test_any_false_verdict_of_a_study_is_as_rare_as_its_level_says(num_claims):
    """Normal values whose mean is each claim's bound: a verdict is wrong, whichever. 400 repeats: 5 % +- 2.2."""
    draws = np.random.default_rng(num_claims).normal(size=(400, num_claims, 6))

    def one(number):
        return jx.Claim(f"{number}", lambda results: results["x"][number], jx.above(0))

    made = study(*map(one, range(num_claims)))
    wrong = [
        any(found.verdict != NOT_SHOWN for found in check(made, xarray.Dataset({"x": (("claim", "seed"), values)})))
        for values in draws
    ]
    assert 0.02 < np.mean(wrong) < 0.08
    if num_claims > 1:
        alone = np.asarray(stats.ttest_1samp(draws, 0, axis=2)[1]) < 0.05
        assert alone.any(1).mean() > 0.3


def test_p_values_of_no_claims_are_none():
    assert check(study(), dataset([1.0])) == []
    assert holm([]) == []

"""The mean's interval against scipy, its coverage, and the three verdicts."""

import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import jaxexp as jx
from jaxexp.errors import StudyError
from jaxexp.statistics import HOLDS, NOT_SHOWN, REFUTED, check, mean_interval, median_interval, share_interval


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=40), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_is_scipys(values, confidence):
    ours = mean_interval(values, confidence)
    error = stats.sem(values)
    if error > 1e-9:
        low, high = stats.t.interval(confidence, len(values) - 1, np.mean(values), error)
        np.testing.assert_allclose((ours.low, ours.high), (low, high), rtol=1e-9, atol=1e-9)


def test_coverage_on_normal_data_is_the_level():
    draws = np.random.default_rng(0).normal(3.0, 2.0, (2000, 5))
    intervals = [mean_interval(draw) for draw in draws]
    covered = np.mean([estimate.low < 3.0 < estimate.high for estimate in intervals])
    assert 0.93 < covered < 0.97


def test_values_that_are_not_finite_are_counted_and_left_out():
    estimate = mean_interval([1.0, np.nan, 3.0, np.inf])
    assert (estimate.mean, estimate.n, estimate.excluded) == (2.0, 2, 2)


@pytest.mark.parametrize("n", [6, 7, 20, 51])
def test_the_medians_interval_covers_at_least_at_its_level_whatever_the_distribution(n):
    draws = np.random.default_rng(n).exponential(1.0, (2000, n))
    intervals = [median_interval(draw) for draw in draws]
    covered = np.mean([estimate.low < np.log(2) < estimate.high for estimate in intervals])
    assert 0.935 < covered < 0.995


@pytest.mark.parametrize("n", range(6, 40))
def test_the_medians_interval_is_the_shortest_of_order_statistics_at_its_level(n):
    """Each tail holds a binomial count of values below the median: P(count <= below - 1) is its chance to miss."""
    found = median_interval(np.arange(1.0, n + 1))
    below = int(found.low)
    assert found.high == n + 1 - below
    assert stats.binom.cdf(below - 1, n, 0.5) <= 0.025 < stats.binom.cdf(below, n, 0.5)


def test_five_seeds_say_nothing_of_a_median_at_95_percent():
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0])[:3] == (3.0, -np.inf, np.inf)


@pytest.mark.parametrize(("so", "n"), [(0, 8), (1, 8), (8, 8), (6, 256), (256, 256)])
def test_the_share_s_interval_is_clopper_and_pearson_s(so, n):
    expected = stats.binomtest(so, n).proportion_ci(0.95, method="exact")
    found = share_interval([1.0] * so + [0.0] * (n - so))
    np.testing.assert_allclose(
        (found.low, found.high), expected, rtol=1e-9, atol=1e-15
    )  # scipy's are the roots of a search
    assert found.mean == so / n


def test_a_share_of_anything_but_zeros_and_ones_is_refused():
    with pytest.raises(StudyError, match="one has another value"):
        share_interval([1.0, 0.5])


def study(*claims):
    return jx.Study(experiment=jx.from_train(lambda key, config: {}), config=None, claims=claims)


def dataset(values):
    return xarray.Dataset({"accuracy": ("seed", values)})


@pytest.mark.parametrize(
    ("values", "holds", "verdict"),
    [
        ([0.79, 0.80, 0.81], jx.above(0.5), HOLDS),
        ([0.79, 0.80, 0.81], jx.below(0.5), REFUTED),
        ([0.2, 0.8, 0.9], jx.above(0.5), NOT_SHOWN),
        ([0.79, 0.80, 0.81], jx.between(0.7, 0.9), HOLDS),
        ([0.79, 0.80, 0.81, np.nan], jx.above(0.5), NOT_SHOWN),
        ([0.8], jx.above(0.5), NOT_SHOWN),
    ],
)
def test_verdicts(values, holds, verdict):
    claim = jx.Claim("it learns", lambda results: results["accuracy"], holds)
    assert [found.verdict for found in check(study(claim), dataset(values))] == [verdict]


def test_a_claim_on_the_median_is_not_ruled_by_one_bad_seed():
    values = [1.0, 1.1, 1.2, 1.3, 1.35, 1.4, 1.5, 1.6, 1e6]
    claim = jx.Claim("it is small", lambda results: results["accuracy"], jx.below(2), statistic="median")
    (found,) = check(study(claim), dataset(values))
    assert (found.verdict, found.statistic, found.estimate.mean) == (HOLDS, "median", pytest.approx(1.35))
    assert check(study(jx.Claim("as a mean", claim.estimate, jx.below(2))), dataset(values))[0].verdict == NOT_SHOWN


def test_an_estimate_over_anything_but_seeds_is_refused():
    claim = jx.Claim("steps are replicates", lambda results: results["accuracy"], jx.above(0))
    with pytest.raises(StudyError, match=r"one number a seed"):
        check(study(claim), xarray.Dataset({"accuracy": (("seed", "step"), np.ones((2, 3)))}))


def test_an_empty_interval_is_refused():
    with pytest.raises(StudyError, match="smaller number first"):
        jx.between(0.9, 0.1)

"""Intervals over seeds: scipy's values, their levels, hard values, and that nothing but seeds is taken."""

import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jaxexp.errors import StudyError
from jaxexp.statistics import (
    INTERVALS,
    choose_and_judge,
    iqm_interval,
    mean_interval,
    median_interval,
    p_value,
    paired,
    power_of_difference,
    probability_of_improvement,
    seeds_needed,
    share_interval,
    two_stage_interval,
)
from jaxexp.study import above


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=40), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_mean_s_interval_is_scipy_s(values, confidence):
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


@pytest.mark.parametrize("statistic", INTERVALS)
def test_equal_seeds_have_their_own_value_without_rounding(statistic):
    value = 1.0 if statistic == "share" else 0.1
    estimate = INTERVALS[statistic](np.full(9, value))
    assert estimate.mean == value
    if statistic in ("median", "constant"):
        assert estimate.low == estimate.high == value
    if statistic in ("mean", "iqm"):
        assert (estimate.low, estimate.high) == (-np.inf, np.inf)


# The interquartile mean


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=40))
def test_the_interquartile_mean_is_scipy_s_trimmed_mean(values):
    np.testing.assert_allclose(iqm_interval(values).mean, stats.trim_mean(values, 0.25), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [4, 5, 20, 63])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interquartile_mean_s_interval_has_the_standard_error_of_scipy_s_trimmed_t_test(n, confidence):
    """Yuen's test of values against their mirror image divides twice the mean by sqrt(2) standard errors."""
    values = np.random.default_rng(n).lognormal(size=n)
    tested = stats.ttest_ind(values, -values, trim=0.25, equal_var=False)  # pyright: ignore[reportArgumentType]
    found = iqm_interval(values, confidence)
    half = stats.t.ppf((1 + confidence) / 2, n - 2 * (n // 4) - 1) * 2**0.5 * found.mean / float(np.asarray(tested)[0])
    np.testing.assert_allclose((found.low, found.high), (found.mean - half, found.mean + half), rtol=1e-12)


@pytest.mark.parametrize("n", [2, 3])
def test_with_less_than_four_seeds_the_interquartile_mean_is_the_mean(n):
    values = np.arange(n) ** 2.0
    assert iqm_interval(values) == mean_interval(values)


def test_a_quarter_of_bad_seeds_moves_the_interquartile_mean_no_further():
    good = list(np.random.default_rng(0).normal(size=9))
    assert iqm_interval([*good, 50.0, 60.0]) == iqm_interval([*good, 1e30, 1e300])


def test_a_middle_without_spread_is_no_proof_unless_the_quartiles_are_sure():
    """Of 0 and 1 with P(1) = .7 the interquartile mean is .9; half of the samples of 5 have nothing but 1 inside."""
    assert iqm_interval([1.0, 1.0, 0.0, 1.0, 1.0])[:3] == (1.0, -np.inf, np.inf)
    assert iqm_interval([1.0] * 60 + [0.0] * 4)[:3] == (1.0, 1.0, 1.0)
    draws = (np.random.default_rng(1).random((2000, 40)) < 0.7).astype(float)
    covered = np.mean([estimate.low <= 0.9 <= estimate.high for estimate in map(iqm_interval, draws)])
    assert covered > 0.93


# The median and the share


@pytest.mark.parametrize("n", [6, 7, 20, 51])
def test_the_median_s_interval_covers_at_least_at_its_level_whatever_the_distribution(n):
    draws = np.random.default_rng(n).exponential(1.0, (2000, n))
    intervals = [median_interval(draw) for draw in draws]
    covered = np.mean([estimate.low < np.log(2) < estimate.high for estimate in intervals])
    assert 0.935 < covered < 0.995


@pytest.mark.parametrize("n", range(6, 40))
def test_the_median_s_interval_is_the_shortest_of_order_statistics_at_its_level(n):
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


# Nothing but seeds

OVER_SEEDS = {
    **INTERVALS,
    "p_value": lambda values: p_value(values, above(0)),
    "paired": lambda values: paired(values, margin=0.1),
    "improvement": lambda values: probability_of_improvement(values, values),
    "improvement, second": lambda values: probability_of_improvement([1.0, 1.0, 0.0], values),
    "seeds_needed": lambda values: seeds_needed(values, 0.1),
    "two_stage_interval": lambda values: two_stage_interval(values, 2),
    "power_of_difference": lambda values: power_of_difference(values, 0.1),
}
each_function = pytest.mark.parametrize("function", OVER_SEEDS.values(), ids=OVER_SEEDS)
SEEDS, STEPS = [1.0, 1.0, 0.0], np.ones((2, 3))


@each_function
def test_seeds_are_taken(function):
    assert function(xarray.DataArray(SEEDS, dims="seed")) == function(SEEDS)


@each_function
@pytest.mark.parametrize(
    "values",
    [STEPS, STEPS[:1], 1.0, xarray.DataArray(SEEDS, dims="step"), xarray.DataArray(STEPS, dims=("seed", "step"))],
    ids=["two dims", "a row", "a number", "steps", "seeds and steps"],
)
def test_steps_and_examples_in_place_of_seeds_are_refused(function, values):
    with pytest.raises(StudyError, match="seeds are the only replicates"):
        function(values)


@each_function
def test_no_seed_at_all_is_refused(function):
    with pytest.raises(StudyError, match=r"no seed|compared with 0"):
        function([])


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_level_outside_of_0_and_1_is_refused(confidence):
    taken = [
        *(lambda interval=interval: interval(SEEDS, confidence) for interval in INTERVALS.values()),
        lambda: probability_of_improvement(SEEDS, SEEDS, confidence),
        lambda: seeds_needed(SEEDS, 0.1, confidence),
        lambda: two_stage_interval(SEEDS, 2, confidence),
        lambda: power_of_difference(SEEDS, 0.1, confidence=confidence),
        lambda: choose_and_judge([SEEDS], True, confidence=confidence),
    ]
    for function in taken:
        with pytest.raises(StudyError, match=r"write 0\.95"):
            function()

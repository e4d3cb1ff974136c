"""Paired comparisons, how many seeds they need, intervals after a look, and the best of many trials."""

import numpy as np
import pytest
import xarray
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from jaxexp.errors import StudyError
from jaxexp.statistics import (
    choose_and_judge,
    mean_interval,
    paired,
    power_of_difference,
    probability_of_improvement,
    seeds_needed,
    two_stage_interval,
)

some_numbers = st.lists(st.integers(-50, 50).map(float), min_size=2, max_size=30)


@given(some_numbers, st.integers(1, 40))
def test_paired_tests_are_scipy_s(differences, margin):
    found = paired(differences, margin)
    if np.ptp(differences) > 0:
        tests = ((0, "two-sided"), (-margin, "greater"), (margin, "less"))
        both = [stats.ttest_1samp(differences, bound, alternative=side) for bound, side in tests]
        different, above, below = np.asarray(both)[:, 1]
        np.testing.assert_allclose(found.p_different, different, rtol=1e-9)
        np.testing.assert_allclose(found.p_equivalent, max(above, below), rtol=1e-9)
        if abs(found.p_equivalent - 0.05) > 1e-9:
            assert found.equivalent == (found.p_equivalent < 0.05)
    else:
        assert found.p_equivalent == float(not found.equivalent)


def test_one_pair_says_nothing():
    found = paired([0.0], margin=1.0)
    assert (found.equivalent, found.p_equivalent, found.p_different) == (False, 1.0, 1.0)


# Which is better how often


def test_ties_count_half_and_pairs_that_lack_a_number_are_counted():
    found = probability_of_improvement([1.0, 2.0, 3.0, np.nan, 5.0], [0.0, 2.0, 4.0, 0.0, np.inf])
    assert (found.mean, found.n, found.excluded) == (0.5, 3, 2)


@given(st.integers(0, 20), st.integers(1, 20))
def test_without_ties_the_interval_is_the_binomial_s(wins, losses):
    found = probability_of_improvement([1.0] * wins + [-1.0] * losses, [0.0] * (wins + losses))
    expected = stats.binomtest(wins, wins + losses).proportion_ci(0.95, method="exact")
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("n", [3, 8, 15])
def test_with_ties_it_covers_at_least_at_its_level_whatever_their_share(n):
    """All outcomes of n pairs, by their exact chances."""
    counts = [(wins, ties) for wins in range(n + 1) for ties in range(n + 1 - wins)]
    intervals = [
        probability_of_improvement([1.0] * wins + [0.0] * ties + [-1.0] * (n - wins - ties), [0.0] * n)
        for wins, ties in counts
    ]
    rows = np.asarray([(wins, ties, n - wins - ties) for wins, ties in counts])
    for win in np.linspace(0.05, 0.9, 10):
        for tie in np.linspace(0.0, 1.0 - win, 8):
            chances = np.asarray([win, tie, max(0.0, 1 - win - tie)])
            weights = stats.multinomial.pmf(rows, n, chances / chances.sum())
            covers = [found.low <= win + tie / 2 <= found.high for found in intervals]
            assert weights.sum() == pytest.approx(1)
            assert weights @ covers >= 0.95


def test_pairs_are_of_one_seed():
    first = xarray.DataArray([1.0, 2.0], dims="seed", coords={"seed": [0, 1]})
    other = xarray.DataArray([1.0, 2.0], dims="seed", coords={"seed": [1, 2]})
    assert probability_of_improvement(first, first + 1).mean == 0
    with pytest.raises(StudyError, match="pairs are of one seed"):
        probability_of_improvement(first, other)
    with pytest.raises(StudyError, match="2 seeds are compared with 3"):
        probability_of_improvement(first, [1.0, 2.0, 3.0])


# How many seeds


@given(some_numbers, st.floats(0.5, 20))
def test_so_many_seeds_of_this_spread_and_no_less_are_narrow_enough(differences, half_width):
    assume(np.ptp(differences) > 1e-6)
    n, spread = seeds_needed(differences, half_width), np.std(differences, ddof=1)
    t = stats.t.ppf(0.975, len(differences) - 1)
    assert t * spread / n**0.5 <= half_width * (1 + 1e-9)
    assert n == len(differences) or t * spread / (n - 1) ** 0.5 > half_width * (1 - 1e-9)


def test_seeds_that_fail_are_made_up_for():
    assert seeds_needed([0.1, 0.3, 0.2, 0.4], 0.1) == 17
    assert seeds_needed([0.1, 0.3, 0.2, 0.4, np.nan, np.nan, np.nan, np.nan], 0.1) == 34


@pytest.mark.parametrize("differences", [[0.1, 0.1, np.nan], [1.0] * 10])
def test_without_spread_nobody_knows_how_many_seeds_it_takes(differences):
    with pytest.raises(StudyError, match="a spread of 0, so that nothing says how many"):
        seeds_needed(differences, 0.1)
    assert two_stage_interval(differences, 2).low == -np.inf


def test_more_seeds_than_a_study_can_have_are_refused():
    with pytest.raises(StudyError, match=r"over the 100,000,000 that a study can have"):
        seeds_needed([0.1, 0.2, 0.3], 1e-200)


@pytest.mark.parametrize("half_width", [0.0, -1.0, np.nan, np.inf])
def test_no_width_is_refused(half_width):
    with pytest.raises(StudyError, match="no width above 0"):
        seeds_needed([0.1, 0.2], half_width)


def test_power_is_how_often_the_test_finds_the_difference():
    spread = np.asarray([1.0, -1.0, 0.5, -0.5, 0.2, -0.2])
    spread /= spread.std(ddof=1)
    draws = np.random.default_rng(0).normal(0.8, 1.0, (4000, 12))
    found = np.mean(np.asarray(stats.ttest_1samp(draws, 0, axis=1)[1]) < 0.05)
    assert power_of_difference(spread, 0.8, 12) == pytest.approx(found, abs=0.025)
    assert power_of_difference(spread, 0.0, 12) == pytest.approx(0.05, abs=1e-9)
    assert power_of_difference(spread, -0.8, 12) == power_of_difference(spread, 0.8, 12)


# After a look


def test_the_first_stage_alone_decides_the_width():
    random = np.random.default_rng(0)
    first, rest = random.normal(size=10), random.normal(size=30)
    found = two_stage_interval([*first, *rest], 10)
    spread_later = two_stage_interval([*first, *(100 * (rest - rest.mean()))], 10)
    assert found.high - found.low == pytest.approx(spread_later.high - spread_later.low, rel=1e-12)
    half = stats.t.ppf(0.975, 9) * first.std(ddof=1) / 40**0.5
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), rel=1e-12)


def test_with_one_stage_it_is_the_t_interval():
    values = np.random.default_rng(1).normal(size=12)
    np.testing.assert_allclose(two_stage_interval(values, 12), mean_interval(values), rtol=1e-12)


@pytest.mark.parametrize("num_first", [0, 1, 4])
def test_no_first_stage_is_refused(num_first):
    with pytest.raises(StudyError, match="is no first stage"):
        two_stage_interval([1.0, 2.0, 3.0], num_first)


# The best of many


def test_the_choice_is_of_even_places_and_the_judgement_of_odd_ones():
    values = np.asarray([[5.0, 1.0, 6.0, 2.0], [4.0, 9.0, 4.0, 9.0], [0.0, 0.0, 0.0, 0.0]])
    choice = choose_and_judge(values, True, against=1)
    assert (choice.trial, choice.estimate, choice.difference) == (
        0,
        mean_interval([1.0, 2.0]),
        mean_interval([-8.0, -7.0]),
    )
    assert choose_and_judge(values, False).trial == 2
    assert choose_and_judge(values, False).difference is None


@given(st.lists(st.lists(st.integers(-9, 9).map(float), min_size=6, max_size=6), min_size=1, max_size=6))
def test_the_judging_seeds_have_no_part_in_the_choice(rows):
    values = np.asarray(rows)
    changed = values.copy()
    changed[:, 1::2] = -7 * values[::-1, 1::2]
    assert choose_and_judge(values, True).trial == choose_and_judge(changed, True).trial
    assert choose_and_judge(values, True).trial == choose_and_judge(-values, False).trial


def test_a_trial_that_diverges_goes_behind_those_that_do_not():
    values = [[9.0, 9.0, np.nan, 9.0], [1.0, 1.0, 1.0, np.nan]]
    choice = choose_and_judge(values, True)
    assert (choice.trial, choice.estimate.excluded) == (1, 1)
    assert choose_and_judge([[np.nan, 1.0, np.nan, 2.0]], True).trial == 0


def test_labelled_values_may_have_their_dims_in_any_order_and_no_others():
    values = xarray.DataArray(np.arange(8.0).reshape(2, 4), dims=("trial", "seed"))
    assert choose_and_judge(values.T, True) == choose_and_judge(values, True)
    for wrong in (values.rename(seed="step"), values[0], np.ones(4), np.ones((2, 2, 2))):
        with pytest.raises(StudyError, match="one number a trial and seed"):
            choose_and_judge(wrong, True)


def test_one_seed_or_an_unknown_trial_is_refused():
    with pytest.raises(StudyError, match="cannot both choose and judge"):
        choose_and_judge([[1.0], [2.0]], True)
    with pytest.raises(StudyError, match=r"against=2 is no trial: there are 2, so write 0 to 1"):
        choose_and_judge([[1.0, 2.0], [2.0, 3.0]], True, against=2)

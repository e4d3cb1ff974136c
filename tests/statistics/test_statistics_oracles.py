"""The same numbers as statsmodels and rliable give, where these are installed."""

import numpy as np
import pytest

from jaxexp.statistics import holm, iqm_interval, paired, power_of_difference, probability_of_improvement


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_equivalence_is_statsmodels(n):
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    first, second = np.random.default_rng(n).normal(size=(2, n))
    expected, _, _ = weightstats.ttost_paired(first, second, -0.7, 0.7)
    close(paired(first - second, 0.7).p_equivalent, expected)


@pytest.mark.parametrize("count", [1, 2, 30])
def test_holm_is_statsmodels(count):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    probabilities = np.random.default_rng(count).random(count) ** 3
    expected = multitest.multipletests(probabilities, method="holm")[1]
    close(holm(probabilities.tolist()), expected)


def test_holm_is_statsmodels_with_ties_and_extremes():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    probabilities = [0.02, 0.0, 1.0, 0.02, 0.5, 0.02]
    expected = multitest.multipletests(probabilities, method="holm")[1]
    close(holm(probabilities), expected)


@pytest.mark.parametrize("num_seeds", [3, 10, 100])
def test_power_is_statsmodels(num_seeds):
    power = pytest.importorskip("statsmodels.stats.power")
    differences = np.random.default_rng(num_seeds).normal(size=20)
    expected = power.TTestPower().power(0.5 / differences.std(ddof=1), num_seeds, 0.05)
    close(power_of_difference(differences, 0.5, num_seeds), expected)


@pytest.mark.parametrize("n", [1, 3, 4, 7, 100])
def test_the_interquartile_mean_is_rliable_s(n):
    metrics = pytest.importorskip("rliable.metrics")
    values = np.random.default_rng(n).lognormal(size=n)
    close(iqm_interval(values).mean, metrics.aggregate_iqm(values[:, None]))


@pytest.mark.parametrize("n", [1, 3, 50])
def test_the_probability_of_improvement_is_rliable_s_with_a_seed_for_a_task(n):
    """There all runs of a task are compared with all others, and tasks averaged: one run each makes pairs."""
    metrics = pytest.importorskip("rliable.metrics")
    first, second = np.random.default_rng(n).integers(0, 4, (2, n)).astype(float)
    expected = metrics.probability_of_improvement(first[None], second[None])
    close(probability_of_improvement(first, second).mean, expected)

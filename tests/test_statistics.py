"""The mean's interval against scipy, its coverage, and the three verdicts."""

import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import jaxexp as jx
from jaxexp.errors import StudyError
from jaxexp.statistics import HOLDS, NOT_SHOWN, REFUTED, check, mean_interval


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


def test_an_estimate_over_anything_but_seeds_is_refused():
    claim = jx.Claim("steps are replicates", lambda results: results["accuracy"], jx.above(0))
    with pytest.raises(StudyError, match=r"one number a seed"):
        check(study(claim), xarray.Dataset({"accuracy": (("seed", "step"), np.ones((2, 3)))}))


def test_an_empty_interval_is_refused():
    with pytest.raises(StudyError, match="smaller number first"):
        jx.between(0.9, 0.1)

"""MSE, likelihood and the fair comparison: the page's numbers, the choice of a rate, and the study in short."""

import doctest
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray

import jaxexp as jx
from jaxexp import catalog, plans

ROOT = Path(__file__).parents[2]
LOADED = catalog.load(str(ROOT / "experiments" / "mse_and_likelihood.py"))
MODULE = sys.modules["experiments.mse_and_likelihood"]
STUDY, FULL = LOADED.study, LOADED.full
RATES = (0.1, 1.0, 10.0)


def _table(even, odd, bad=()):
    """A dataset of cross-entropy at three rates: an accuracy for even and for odd seeds; `bad` runs diverged."""
    accuracy = np.stack([even, odd, even, odd], axis=1)[..., None]
    status = np.zeros((3, 4), np.int8)
    for run in bad:
        status[run] = 1
    return xarray.Dataset(
        {"accuracy": (("trial", "seed", "eval_step"), accuracy), "status": (("trial", "seed"), status)},
        coords={"seed": np.arange(4), "learning_rate": ("trial", np.asarray(RATES)), "loss": "cross_entropy"},
    )


def test_the_numbers_of_the_answers_page_are_those_of_the_library():
    page = ROOT / "docs" / "answers" / "mse_and_likelihood.md"
    found = doctest.testfile(str(page), module_relative=False)
    assert found.attempted >= 6
    assert found.failed == 0


def test_the_gradient_of_a_gaussian_likelihood_is_that_of_the_mse_times_a_constant():
    outputs, labels = np.random.RandomState(0).normal(size=(32, 10)).astype(np.float32), np.arange(32) % 10
    config, one_hot = MODULE.Config(loss="mse_of_outputs"), np.eye(10, dtype=np.float32)[labels]
    of_likelihood = jax.jit(jax.grad(lambda o: jx.losses.gaussian_nll(o, one_hot, variance=0.25)))(outputs)
    of_mse = jax.jit(jax.grad(lambda o: MODULE.mse(o, labels, config)))(outputs)
    np.testing.assert_allclose(of_likelihood, 320 / (2 * 0.25) * of_mse, rtol=1e-5)


def test_the_rate_is_chosen_on_even_seeds_and_judged_on_odd_ones():
    judged = MODULE.at_best_rate("cross_entropy", "accuracy")(_table([0.1, 0.9, 0.5], [0.6, 0.2, 0.8]))
    assert float(judged.learning_rate) == 1.0
    assert judged.seed.values.tolist() == [1, 3]
    assert judged.values.tolist() == [0.2, 0.2]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_rate_at_which_a_run_diverges_is_never_the_best(seed):
    dataset = _table([0.1, 0.9, 0.5], [0.6, 0.2, 0.8], bad=[(1, seed)])
    assert float(MODULE.at_best_rate("cross_entropy", "accuracy")(dataset).learning_rate) == 10.0
    assert np.isnan(MODULE.at_best_rate("mse_of_outputs", "accuracy")(dataset)).all()


@pytest.fixture(scope="module")
def short():
    """Two losses, three rates, four seeds, one epoch."""
    sweep = jx.grid(loss=MODULE.LOSSES[:2], learning_rate=RATES)
    return jx.run(STUDY.replace(sweep=sweep, seeds=4, num_steps=MODULE.EPOCH, evaluate_every=MODULE.EPOCH))


def test_the_study_in_short_gives_a_number_a_seed_and_can_be_drawn(short):
    assert (short.status == 0).all()
    scored = []
    for claim in STUDY.claims:
        estimate = claim.estimate(short)
        assert estimate.dims == ("seed",)
        assert estimate.seed.values.tolist() == [1, 3]
        scored.append(bool(np.isfinite(estimate).all()))
    assert scored == [True, True, False, True, True, False]  # two claims are of the loss that was left out
    accuracy, likelihood = STUDY.figures[0](short).axes
    assert len(accuracy.lines) > len(likelihood.lines) >= 7


def test_at_one_rate_for_all_cross_entropy_is_far_ahead(short):
    ahead = STUDY.claims[0].estimate(short)
    assert (ahead > 0.3).all()
    best = MODULE.at_best_rate("mse_of_probabilities", "accuracy")(short)
    assert float(best.learning_rate) > 0.1
    assert (best > MODULE.at_shared_rate("mse_of_probabilities", "accuracy")(short) + 0.3).all()


def test_both_sizes_plan_one_program_a_loss():
    for study in (STUDY, FULL):
        plan = plans.plan(study)
        assert len(plan.groups) == 3
        assert len(plan.seeds) >= 32
        assert any(np.isclose(rate, MODULE.SHARED_RATE) for rate in plan.trials.columns["learning_rate"])

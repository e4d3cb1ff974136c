"""MSE, likelihood and the fair comparison: the page's numbers, the choice of a rate, the claims, the study in short."""

import doctest
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray

import jaxexp as jx
from jaxexp import catalog, plans, results
from jaxexp import study as studies

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
        {
            "accuracy": (("trial", "seed", "eval_step"), accuracy),
            "status": (("trial", "seed"), status),
            "status_step": (("trial", "seed"), -np.ones((3, 4), np.int32)),
        },
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
    dataset = _table([0.1, 0.9, 0.5], [0.6, 0.2, 0.8])
    assert MODULE.best_rate(dataset, "cross_entropy", "accuracy") == 1.0
    judged = MODULE.judged("cross_entropy", "accuracy", "accuracy", dataset)
    assert judged.seed.values.tolist() == [1, 3]
    assert judged.values.tolist() == [0.2, 0.2]
    assert MODULE.judged("cross_entropy", "accuracy", None, dataset).values.tolist() == [0.6, 0.6]


def test_the_best_rate_has_the_highest_accuracy_but_the_lowest_mse_and_likelihood():
    dataset = _table([0.1, 0.9, 0.5], [0.6, 0.2, 0.8])
    dataset = dataset.assign(mse=dataset.accuracy, nll=dataset.accuracy)
    found = [MODULE.best_rate(dataset, "cross_entropy", by) for by in ("accuracy", "mse", "nll")]
    assert found == [1.0, 0.1, 0.1]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_rate_at_which_a_run_diverges_is_never_the_best(seed):
    dataset = _table([0.1, 0.9, 0.5], [0.6, 0.2, 0.8], bad=[(1, seed)])
    assert MODULE.best_rate(dataset, "cross_entropy", "accuracy") == 10.0
    assert np.isnan(MODULE.judged("mse_of_outputs", "accuracy", "accuracy", dataset)).all()


def test_where_a_run_diverges_at_every_rate_nothing_is_judged():
    dataset = _table([0.1, 0.9, 0.5], [0.6, 0.2, 0.8], bad=[(0, 0), (1, 0), (2, 0)])
    assert np.isnan(MODULE.judged("cross_entropy", "accuracy", "accuracy", dataset)).all()


PUBLISHED = {  # of each loss: its best rate's place, and each metric at the shared rate and at the best one
    "cross_entropy": (3, {"accuracy": (0.972, 0.980), "mse": (0.010, 0.0030), "nll": (0.11, 0.062)}),
    "mse_of_probabilities": (8, {"accuracy": (0.394, 0.981), "mse": (0.08, 0.0029), "nll": (2.0, 0.064)}),
    "mse_of_outputs": (4, {"accuracy": (0.908, 0.967), "mse": (0.03, 0.012), "nll": (1.8, 1.59)}),
}


def _published(changed_loss=None, metric=None, at=None):
    """What the study would give by the published figures, one changed, with a small spread over 8 seeds."""
    table = studies.table(STUDY)
    by_trial = {name: np.full(len(table), 0.1 if name == "accuracy" else 5.0) for name in ("accuracy", "mse", "nll")}
    for place, (loss, (best, figures)) in enumerate(PUBLISHED.items()):
        for name, (shared, there) in figures.items():
            changed = at if (loss, name) == (changed_loss, metric) else (shared, there)
            by_trial[name][[11 * place, 11 * place + best]] = changed
    trial, seed = (part.ravel() for part in np.indices((len(table), 8)))
    spread = 1e-5 * np.random.default_rng(0).permuted(np.tile(np.linspace(-1, 1, 8), (len(table), 1)), axis=1)
    values = {name: (column[:, None] + spread).reshape(-1, 1) for name, column in by_trial.items()}
    ok, never, steps = np.zeros(len(trial), np.int8), np.full(len(trial), -1, np.int32), np.asarray([880], np.int32)
    made = results.Result(trial, seed, ok, never, steps[:0], steps, {}, values)
    return results.dataset(table, np.arange(8, dtype=np.uint32), [made], {})


def test_the_claims_hold_where_the_published_figures_hold():
    assert [verdict.verdict for verdict in jx.check(STUDY, _published())] == ["holds"] * 6


@pytest.mark.parametrize(
    ("loss", "metric", "at", "claim"),
    [
        ("mse_of_probabilities", "accuracy", (0.9, 0.981), 0),
        ("mse_of_probabilities", "accuracy", (0.394, 0.96), 1),
        ("mse_of_outputs", "accuracy", (0.908, 0.99), 2),
        ("mse_of_outputs", "accuracy", (0.908, 0.95), 2),
        ("mse_of_probabilities", "nll", (2.0, 0.1), 3),
        ("mse_of_probabilities", "mse", (0.08, 0.006), 4),
        ("mse_of_outputs", "nll", (1.8, 1.3), 5),
    ],
)
def test_each_claim_is_refuted_where_its_figure_is_another(loss, metric, at, claim):
    assert jx.check(STUDY, _published(loss, metric, at))[claim].verdict == "refuted"


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
    assert MODULE.best_rate(short, "mse_of_probabilities", "accuracy") > 0.1
    best, shared = (MODULE.judged("mse_of_probabilities", "accuracy", by, short) for by in ("accuracy", None))
    assert (best > shared + 0.3).all()


def test_both_sizes_plan_one_program_a_loss():
    for study in (STUDY, FULL):
        plan = plans.plan(study)
        assert len(plan.groups) == 3
        assert len(plan.seeds) >= 32
        assert any(np.isclose(rate, MODULE.SHARED_RATE) for rate in plan.trials.columns["learning_rate"])

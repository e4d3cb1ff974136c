"""Whether the LSTM is trained: exact zeros where it is frozen, metrics by hand, and claims that can fail."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxexp as jx
from jaxexp import catalog, plans, results
from jaxexp import study as studies

LOADED = catalog.load(str(Path(__file__).parents[2] / "experiments" / "lstm_recurrence.py"))
MODULE = sys.modules["experiments.lstm_recurrence"]
STUDY, FULL = LOADED.study, LOADED.full
METRICS = ("sin_error_of_constant", "step_error", "step_rate", "sin_error", "sin_rate", "lstm_moved", "head_moved")


@pytest.fixture(scope="module")
def cut_short():
    """Twenty steps of two seeds with the LSTM frozen: the file's one compiled study."""
    frozen = STUDY.replace(config=MODULE.Config(frozen="lstm"), sweep=jx.grid(learning_rate=(1e-3,)))
    return jx.run(frozen.replace(seeds=2, num_steps=20, evaluate_every=10), tile=plans.Tile(1, 2))


def test_a_frozen_lstm_moves_by_exactly_0_while_the_head_learns(cut_short):
    assert cut_short.lstm_moved.shape == (1, 2, 3)
    assert (cut_short.lstm_moved == 0).all()
    assert (cut_short.head_moved.sel(eval_step=0) == 0).all()
    assert (cut_short.head_moved.sel(eval_step=20) > cut_short.head_moved.sel(eval_step=10)).all()


def test_a_short_run_is_finite_and_claims_and_figure_survive_it(cut_short):
    assert (cut_short.status == 0).all()
    assert all(np.isfinite(cut_short[name]).all() for name in (*METRICS, "loss"))
    assert {verdict.verdict for verdict in jx.check(FULL, cut_short)} == {"not shown"}
    assert all(draw(cut_short).axes for draw in FULL.figures)


@pytest.mark.parametrize(("frozen", "moving"), [("nothing", {"lstm", "head"}), ("lstm", {"head"})])
def test_one_update_moves_every_array_that_is_not_frozen(frozen, moving):
    config = MODULE.Config(frozen=frozen)
    params = jax.tree.map(jnp.asarray, {"lstm": {"hi": {"kernel": np.eye(2)}}, "head": {"bias": np.ones(1)}})
    optimizer = MODULE.optimizer(config)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert {
        part for part, update in updates.items() if any((leaf != 0).any() for leaf in jax.tree.leaves(update))
    } == moving


def test_the_learning_rate_falls_to_0_by_a_cosine():
    optimizer = MODULE.optimizer(MODULE.Config(learning_rate=0.5, cosine_steps=4))
    params = {"bias": jnp.zeros(())}
    opt_state, rates = optimizer.init(params), []
    for _ in range(6):
        updates, opt_state = optimizer.update({"bias": jnp.ones(())}, opt_state, params)
        rates.append(-float(updates["bias"]))
    expected = [0.25 * (1 + np.cos(np.pi * min(step, 4) / 4)) for step in range(6)]
    np.testing.assert_allclose(rates, expected, atol=1e-5)  # Adam's update of a constant gradient is its rate


@pytest.mark.parametrize(("peaks", "largest", "constant"), [("rule", 11.0, 0.093), ("wide", 100.0, 0.7071)])
def test_the_test_sequences_follow_the_rule_and_a_constant_scores_as_published(peaks, largest, constant):
    inputs, targets = MODULE.data(MODULE.Config(peaks=peaks))
    last = inputs[:, -1].astype(np.float64)
    np.testing.assert_allclose(targets, np.where(last < 10, last + 1, np.sin(last)), atol=1e-5)
    assert 0.9 * largest < inputs.max() < largest
    sines = targets[last >= 10]
    assert len(targets) - len(sines) == 500
    assert 0.07 < len(sines) / 4000 < 0.09
    assert np.median(np.abs(sines - sines.mean())) == pytest.approx(constant, abs=0.01)


def test_metrics_are_those_of_numpy():
    config = MODULE.Config()
    data = MODULE.data(config)
    params, initial, opt_state = jax.jit(STUDY.experiment.init)(jax.random.key(0), data, config)
    params = {**params, "head": jax.tree.map(lambda leaf: 3 * leaf, params["head"])}
    assert STUDY.experiment.evaluate is not None
    found = jax.jit(STUDY.experiment.evaluate)((params, initial, opt_state), data, config)
    assert set(found) == set(METRICS)
    error = np.abs(np.asarray(jax.jit(MODULE.model.apply)(params, data.inputs[..., None]))[:, 0] - data.targets)
    for branch, chosen in (("step", data.inputs[:, -1] < 10), ("sin", data.inputs[:, -1] >= 10)):
        assert float(found[f"{branch}_error"]) == pytest.approx(np.median(error[chosen]), rel=1e-5)
        assert float(found[f"{branch}_rate"]) == pytest.approx((error[chosen] < 1).mean())
    assert float(found["lstm_moved"]) == 0
    assert float(found["head_moved"]) == pytest.approx(2, rel=1e-5)


def test_the_studies_plan_a_program_for_each_net():
    default, full = jx.plan(STUDY), jx.plan(FULL)
    assert (len(default.groups), default.num_runs) == (3, 3 * 16)
    assert (len(full.groups), full.num_runs) == (5, 5 * 512)
    assert {2000, 20_000, 100_000} <= set(range(0, FULL.num_steps + 1, FULL.evaluate_every))
    assert {group.config.cosine_steps for group in full.groups} == {0, FULL.num_steps}


def _published(config, steps):
    """The figures that the question's answer gives, as metrics."""
    plus_one, sine = {2000: 0.146, 20_000: 0.076}, {2000: 0.309, 20_000: 0.087, 100_000: 0.06}
    values = dict.fromkeys(METRICS, 1.0) | {"sin_error_of_constant": 0.093, "lstm_moved": 1.85, "head_moved": 0.14}
    values |= {"step_error": plus_one.get(steps, 1.0), "sin_error": sine.get(steps, 1.0)}
    if config.cosine_steps and steps == 100_000:
        values |= {"step_error": 0.0073, "sin_error": 0.045}
    if config.frozen == "lstm":
        values |= {"lstm_moved": 0.0, "sin_error": 7.0, "sin_rate": 0.0}
    if config.peaks == "wide":
        values |= {"sin_error_of_constant": 0.7, "sin_error": 0.69}
    return values


def _dataset(change=lambda config, steps: {}):
    """What the full study would give with these figures, plus a change, and a spread of 1 % over 12 seeds."""
    table = studies.table(FULL)
    spread = 1 + np.random.default_rng(0).permuted(np.tile(np.linspace(-0.01, 0.01, 12), (len(table), 1)), axis=1)
    steps = np.arange(0, 100_001, 2000, dtype=np.int32)
    trial, seed = (part.ravel() for part in np.indices((len(table), 12)))
    values = {name: np.empty((len(trial), len(steps))) for name in METRICS}
    for run in range(len(trial)):
        config = studies.trial_config(FULL, table, int(trial[run]))
        constants = (MODULE.CONSTANT, *["lstm_moved"] * (config.frozen == "lstm"))
        for slot, at in enumerate(steps):
            for name, value in (_published(config, at) | change(config, at)).items():
                values[name][run, slot] = value * (1 if name in constants else spread[trial[run], seed[run]])
    ok, never = np.zeros(len(trial), np.int8), np.full(len(trial), -1, np.int32)
    made = results.Result(trial, seed, ok, never, steps[:0], steps, {}, values)
    return results.dataset(table, np.arange(12, dtype=np.uint32), [made], {})


def test_all_claims_hold_where_the_published_figures_hold():
    dataset = _dataset()
    assert [verdict.verdict for verdict in jx.check(FULL, dataset)] == ["holds"] * 16
    assert all(claim.estimate(dataset).dims == ("seed",) for claim in FULL.claims)
    assert FULL.claims[:12] == STUDY.claims


@pytest.mark.parametrize(
    ("claim", "trial", "at", "changed"),
    [
        (0, {}, 20_000, {"lstm_moved": 1.6}),
        (0, {}, 20_000, {"lstm_moved": 2.1}),
        (1, {}, 20_000, {"head_moved": 0.09}),
        (1, {}, 20_000, {"head_moved": 1.85}),
        (2, {"frozen": "lstm"}, 20_000, {"lstm_moved": 1e-9}),
        (3, {"frozen": "lstm"}, 20_000, {"sin_rate": 0.1}),
        (4, {}, 2000, {"step_error": 0.076}),
        (4, {}, 2000, {"step_error": 0.22}),
        (5, {}, 2000, {"sin_error": 0.15}),
        (5, {}, 2000, {"sin_error": 0.45}),
        (6, {}, 20_000, {"step_error": 0.0073}),
        (6, {}, 20_000, {"step_error": 0.146}),
        (7, {}, 20_000, {"sin_error": 0.045}),
        (7, {}, 20_000, {"sin_error": 0.309}),
        (8, {}, 20_000, {"sin_error_of_constant": 0.08}),
        (9, {}, 2000, {"sin_error": 0.08}),
        (10, {}, 20_000, {"sin_error": 0.1}),
        (11, {"peaks": "wide"}, 20_000, {"sin_error": 0.3}),
        (12, {"cosine_steps": 100_000}, 100_000, {"step_error": 0.02}),
        (13, {"cosine_steps": 100_000}, 100_000, {"sin_error": 0.09}),
        (14, {"cosine_steps": 100_000}, 100_000, {"sin_error": 0.1}),
        (15, {"cosine_steps": 100_000, "peaks": "wide"}, 100_000, {"sin_error": 0.3}),
    ],
)
def test_each_claim_is_refuted_where_its_figure_is_another(claim, trial, at, changed):
    wanted = MODULE.Config(**trial)
    dataset = _dataset(lambda config, steps: changed if (config, steps) == (wanted, at) else {})
    verdicts = [verdict.verdict for verdict in jx.check(FULL, dataset)]
    assert verdicts[claim] == "refuted"
    assert verdicts.count("refuted") <= 2  # an error is claimed as it is, and against the constant's


def test_a_single_bad_seed_rules_no_claim_on_errors_but_half_of_the_seeds_do():
    one, half = _dataset(), _dataset()
    one["sin_error"][:, 0] = 500.0
    half["sin_error"][:, ::2] = 500.0
    on_errors = [5, 7, 10, 13, 14]
    assert {jx.check(FULL, one)[claim].verdict for claim in on_errors} == {"holds"}
    assert {jx.check(FULL, half)[claim].verdict for claim in on_errors} == {"not shown"}


def test_a_run_that_is_not_finite_is_never_scored():
    dataset = _dataset()
    dataset["status"][:, 0] = 1
    for verdict in jx.check(FULL, dataset):
        assert (verdict.verdict, verdict.estimate.n, verdict.estimate.excluded) == ("not shown", 11, 1)


def test_the_figure_draws_the_median_of_every_net():
    figure = MODULE.learning(_dataset())
    moved, steps, sines = figure.axes
    assert len(moved.get_lines()) == 4
    assert len(steps.get_lines()) == 5
    last = {line.get_label(): line.get_ydata()[-1] for line in sines.get_lines()}
    assert last["cosine decay"] == pytest.approx(0.045)
    assert last["a constant"] == pytest.approx(0.093)
    assert "median and 95 % interval over n = 12 seeds" in figure.get_suptitle()


@pytest.mark.slow
def test_no_claim_of_the_default_study_is_refuted_and_those_on_errors_want_more_seeds():
    found = [verdict.verdict for verdict in jx.check(STUDY, jx.run(STUDY))]
    assert "refuted" not in found
    # Errors after long training differ from processor to processor by more than so few seeds can settle; and 16 seeds
    # are not enough for "the head by .14" among twelve claims.
    assert [found[number] for number in (0, 2, 3, 8, 9, 11)] == ["holds"] * 6
    assert found[4:8].count("not shown") >= 2

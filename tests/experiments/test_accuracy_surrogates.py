"""Training for accuracy by surrogates: the printed table, closed forms, shares of starts, claims, runs that diverge."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxexp as jx
from jaxexp import catalog, plans, results
from jaxexp import study as studies

ROOT = Path(__file__).parents[2]
LOADED = catalog.load(str(ROOT / "experiments" / "accuracy_surrogates.py"))
MODULE = sys.modules["experiments.accuracy_surrogates"]
STUDY, FULL = LOADED.study, LOADED.full
NUM_SEEDS = studies.seeds(STUDY).size
GOLDEN = json.loads((ROOT / "tests" / "golden" / "perceptron_table.json").read_text())
TILE = plans.Tile(1, 64)  # the same in all tests, so that each surrogate is compiled once
INPUTS, LABELS = jx.datasets.five_points()


def _run(seeds=1, num_steps=10_000, evaluate_every=None, **trial):
    """Runs one trial of the study."""
    changed = STUDY.replace(seeds=seeds, num_steps=num_steps, evaluate_every=evaluate_every)
    return jx.run(changed.replace(sweep=jx.cases(trial)), tile=TILE).isel(trial=0)


def _printed():
    """Runs the question's own start for 9999 steps, in the precision that JAX is set to."""
    _, _, weight, bias = GOLDEN["rows"][0]
    start = {"weight_start": weight, "bias_start": bias, "start_spread": 0.0}
    return _run(num_steps=9999, evaluate_every=1, surrogate="sigmoid_squared_error", **start).isel(seed=0)


def _largest_relative_error(run):
    epochs, *columns = zip(*GOLDEN["rows"], strict=True)
    at = run.sel(eval_step=list(epochs))
    measured = np.stack([at.surrogate_loss, at.weight, at.bias])
    return np.abs(measured / np.asarray(columns) - 1).max()


def test_the_engine_prints_the_golden_rows_and_the_start_is_as_good_as_the_end():
    run = _printed()
    assert len(GOLDEN["rows"]) == 16
    assert run.weight.dtype == np.float32
    assert _largest_relative_error(run) <= 5e-7
    assert run.accuracy.isel(eval_step=[0, -1]).values == pytest.approx(0.8)


def test_in_double_precision_the_golden_rows_differ_by_their_own_rounding():
    with jax.enable_x64(True):
        run = _printed()
    assert run.weight.dtype == np.float64
    assert _largest_relative_error(run) <= 2e-6


def test_the_linear_model_reaches_its_closed_form():
    with jax.enable_x64(True):
        run = _run(surrogate="linear_squared_error").isel(seed=0, eval_step=-1)
    found = [float(run[name]) for name in ("weight", "bias", "surrogate_loss")]
    np.testing.assert_allclose(found, [-1 / 46, 21 / 46, 27 / 115], rtol=1e-12)
    assert run.accuracy == np.float32(3 / 5)
    columns = np.stack([INPUTS[:, 0], np.ones(5)], axis=1).astype(np.float64)
    np.testing.assert_allclose(np.linalg.lstsq(columns, LABELS)[0], found[:2], rtol=1e-12)
    assert float(run.right_at_best_threshold) == 0


def test_the_threshold_chosen_afterwards_is_the_best_of_all_and_never_gets_five():
    params = np.random.RandomState(0).normal(size=(2, 200)).astype(np.float32)
    points = jx.datasets.five_points()

    def evaluated(weight, bias):
        return MODULE.evaluate(({"weight": weight, "bias": bias}, 0), points, MODULE.Config())

    found = jax.jit(jax.vmap(evaluated))(*params)
    most = []
    for weight, bias in params.T:
        outputs = INPUTS[:, 0] * weight + bias
        cuts = np.concatenate([[-np.inf], outputs])
        most.append(max(int(((outputs > cut) == LABELS).sum()) for cut in cuts))
    assert set(most) == {3, 4}  # a falling score and a rising one; no threshold gets five
    np.testing.assert_array_equal(found["right_at_best_threshold"], np.asarray(most) == 4)


def test_a_sigmoid_and_squared_error_get_a_third_of_4096_starts_right():
    right = _run(seeds=4096, surrogate="sigmoid_squared_error").right
    assert 0.16 < right.isel(eval_step=0).mean() < 0.19
    assert 0.32 <= right.isel(eval_step=-1).mean() <= 0.37


@pytest.mark.parametrize("surrogate", ["cross_entropy", "hinge"])
def test_a_loss_that_grows_with_the_outlier_gets_no_start_right(surrogate):
    run = _run(seeds=64, num_steps=5000, surrogate=surrogate)
    assert (run.status == 0).all()
    assert run.right.isel(eval_step=0).sum() > 0
    assert run.right.isel(eval_step=-1).sum() == 0


def test_an_evolution_strategy_gets_nearly_all_starts_right_and_then_stops():
    run = _run(seeds=256, num_steps=600, evaluate_every=500, **MODULE.EVOLUTION)
    assert run.right.sel(eval_step=500).mean() >= 0.96
    np.testing.assert_array_equal(run.weight.sel(eval_step=500), run.weight.sel(eval_step=600))


def test_annealing_lowers_the_temperature():
    labels = jnp.asarray(LABELS)
    sharp, annealed = (
        MODULE.Config(surrogate="smoothed_zero_one", temperature=t, annealing_rate=r) for t, r in ((0.5, 0), (2, 0.1))
    )
    outputs = jnp.asarray([-1.0, 0.5, 2.0, -0.3, 4.0])
    later = MODULE.loss(outputs, labels, annealed, np.log(4) / 0.1)
    assert later == pytest.approx(float(MODULE.loss(outputs, labels, sharp, 0)), rel=1e-6)
    assert MODULE.loss(outputs, labels, annealed, 0) != pytest.approx(float(later), rel=1e-2)


def test_a_run_that_is_not_finite_is_never_scored():
    sweep = jx.grid(surrogate=("linear_squared_error",), learning_rate=(0.1, 0.01))  # above .055 it diverges
    dataset = jx.run(STUDY.replace(sweep=sweep, seeds=2, num_steps=5000), tile=TILE)
    assert dataset.status.values.tolist() == [[1, 1], [0, 0]]
    configs = [MODULE.Config("linear_squared_error", learning_rate=rate) for rate in (0.1, 0.01)]
    diverged, finite = (jx.measured("right", config)(dataset) for config in configs)
    assert np.isnan(diverged).all()
    assert finite.values.tolist() == [0, 0]


ENDS = {"sigmoid_squared_error": 0.344, "ramp": 0.37, "generalized_cross_entropy": 0.36, "smoothed_zero_one": 0.4}
LINE = {"accuracy": 0.6, "weight": -1 / 46, "bias": 21 / 46, "surrogate_loss": 27 / 115, "right_at_best_threshold": 0}


def _dataset(begun=0.176, slope=0.0, line=None, **ends):
    """What the study would give for its own starts by these shares that begin and end with 4 of 5."""
    shares, table = {**ENDS, "evolution": 0.97, **ends}, studies.table(STUDY)
    surrogates = table.columns["surrogate"].tolist()
    names = ("accuracy", "weight", "bias", "surrogate_loss", "right_at_best_threshold", "right", "outlier_slope")
    values = {name: np.zeros((len(table), NUM_SEEDS, 2)) for name in names}
    place = np.arange(NUM_SEEDS) / NUM_SEEDS
    spread = np.random.default_rng(0).permuted(np.tile(np.linspace(-1, 1, NUM_SEEDS), (len(table), 1)), axis=1)[
        ..., None
    ]
    for trial, surrogate in enumerate(surrogates):
        values["right"][trial] = np.stack([place < begun, place < shares.get(surrogate, 0)], axis=1)
        values["outlier_slope"][trial] = slope + 1e-6 * spread[trial]
    for name, value in {**LINE, **(line or {})}.items():
        index = surrogates.index("linear_squared_error")
        values[name][index] = value + 1e-7 * spread[index] * (name in ("weight", "bias"))
    trial, seed = (part.ravel() for part in np.indices((len(table), NUM_SEEDS)))
    flat = {name: array.reshape(-1, 2) for name, array in values.items()}
    ok, never, steps = np.zeros(len(trial), np.int8), np.full(len(trial), -1, np.int32), np.array([0, 10_000], np.int32)
    made = results.Result(trial, seed, ok, never, steps[:0], steps, {}, flat)
    return results.dataset(table, np.arange(NUM_SEEDS, dtype=np.uint32), [made], {})


def test_the_claims_hold_where_the_published_figures_hold():
    assert [verdict.verdict for verdict in jx.check(STUDY, _dataset())] == ["holds"] * 14


@pytest.mark.parametrize(
    ("changed", "claim"),
    [
        ({"begun": 0.25}, 0),
        ({"sigmoid_squared_error": 0.4}, 1),
        ({"slope": 0.01}, 2),
        ({"cross_entropy": 0.01}, 3),
        ({"hinge": 0.01}, 4),
        ({"linear_squared_error": 0.01}, 5),
        ({"line": {"right_at_best_threshold": 1}}, 6),
        ({"line": {"accuracy": 0.8}}, 7),
        ({"line": {"weight": -1 / 45}}, 8),
        ({"line": {"bias": 20 / 46}}, 9),
        ({"line": {"surrogate_loss": 28 / 115}}, 10),
        ({"begun": 0.45}, 11),
        ({"ramp": 0.55}, 12),
        ({"evolution": 0.9}, 13),
    ],
)
def test_each_claim_is_refuted_where_its_figure_is_another(changed, claim):
    assert jx.check(STUDY, _dataset(**changed))[claim].verdict == "refuted"


def test_a_start_that_diverges_under_every_surrogate_leaves_each_claim_open():
    dataset = _dataset()
    dataset["status"][:, 0] = 1
    for verdict in jx.check(STUDY, dataset):
        assert (verdict.verdict, verdict.estimate.n, verdict.estimate.excluded) == ("not shown", NUM_SEEDS - 1, 1)


def test_the_basins_have_a_panel_a_surrogate_with_the_starts_and_their_ends():
    shares, basins = STUDY.figures
    dataset = jx.run(STUDY.replace(seeds=5, num_steps=20), tile=TILE)
    panels = basins(dataset).axes[:9]
    titles = ["evolution, learning rate 0.5, sigma 3", "smoothed zero one", "linear squared error"]
    assert [panels[place].get_title().splitlines()[0] for place in (8, 7, 0)] == titles
    for axes, trial in ((panels[0], 0), (panels[8], 11)):
        (dots,) = axes.collections
        start, end = dataset.isel(trial=trial, eval_step=0), dataset.isel(trial=trial, eval_step=-1)
        np.testing.assert_allclose(dots.get_offsets(), np.stack([start.weight, start.bias], axis=1))
        np.testing.assert_array_equal(dots.get_array(), end.accuracy)
    rows = [label.get_text() for label in shares(dataset).axes[0].get_yticklabels()]
    assert len(rows) == len(set(rows)) == 13
    assert "smoothed zero one, temperature 3, annealing rate 0.0003" in rows


def test_starts_that_are_trials_share_a_row_and_a_panel():
    sweep = jx.grid(surrogate=("ramp", "hinge"), weight_start=(-1.0, 0.0, 1.0), bias_start=(0.0, 1.0))
    changed = STUDY.replace(sweep=sweep, config=MODULE.Config(start_spread=0.0), seeds=1, num_steps=20)
    shares, basins = (draw(jx.run(changed, tile=TILE)) for draw in STUDY.figures)
    assert "n = 6 starts" in shares.get_suptitle()
    assert [axes.get_title() for axes in basins.axes[:2]] == ["ramp\nn = 6 starts", "hinge\nn = 6 starts"]
    assert [label.get_text() for label in shares.axes[0].get_yticklabels()] == ["ramp", "hinge"]


def test_the_whole_study_in_short_is_finite_gives_a_number_a_seed_and_can_be_drawn():
    dataset = jx.run(STUDY.replace(seeds=3, num_steps=20), tile=TILE)
    assert (dataset.status == 0).all()
    for claim in STUDY.claims:
        estimate = claim.estimate(dataset)
        assert estimate.dims == ("seed",)
        assert np.isfinite(estimate).all()
    for draw in STUDY.figures:
        figure = draw(dataset)
        assert "n = 3 starts" in figure._suptitle.get_text() + figure.axes[0].get_title()


@pytest.mark.parametrize("study", [STUDY, FULL], ids=["default", "full"])
def test_both_sizes_plan_one_program_a_surrogate_and_need_no_yes(study):
    plan = plans.plan(study, yes=True)
    assert len(plan.groups) == 9
    assert len(plan.seeds) >= 4096
    assert plan.num_runs <= plans.MANY_RUNS

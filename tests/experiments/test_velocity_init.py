"""How momentum's velocity should start: the published figures, the dead gradient, and the update by hand."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxexp as jx
from jaxexp import catalog, plans, results
from jaxexp import study as studies

LOADED = catalog.load(str(Path(__file__).parents[2] / "experiments" / "velocity_init.py"))
MODULE = sys.modules["experiments.velocity_init"]
STUDY, EPOCH = LOADED.study, 143
NUM_SEEDS = studies.seeds(STUDY).size


def _run_ones(**changes):
    """Runs starts at `velocity_scale` times ones, always in the same tile: the whole file compiles one program."""
    return jx.run(STUDY.replace(config=MODULE.Config(velocity_init="ones"), **changes), tile=plans.Tile(1, 8))


@pytest.fixture(scope="module")
def trained():
    """Zeros and ones, the study's seeds, ten epochs."""
    return _run_ones(sweep=jx.grid(velocity_scale=(0.0, 1.0))).test_accuracy


def test_after_one_epoch_zeros_have_the_published_accuracy(trained):
    accuracy = trained.sel(trial=0, eval_step=EPOCH)
    assert accuracy.sizes["seed"] == NUM_SEEDS
    assert 0.76 < accuracy.mean() < 0.82
    assert trained.sel(trial=0, eval_step=10 * EPOCH).mean() >= 0.965


def test_ones_never_learn_not_at_any_seed_and_not_in_200_epochs(trained):
    assert trained.sel(trial=1, eval_step=slice(EPOCH, None)).max() < 0.12
    long = _run_ones(sweep=jx.grid(velocity_scale=(1.0,)), seeds=8, num_steps=200 * EPOCH)
    accuracy = long.test_accuracy.sel(eval_step=slice(EPOCH, None))
    assert accuracy.sizes == {"trial": 1, "seed": 8, "eval_step": 200}
    assert accuracy.max() < 0.12


def test_a_seed_means_the_same_weights_for_every_start(trained):
    np.testing.assert_array_equal(trained.sel(trial=0, eval_step=0), trained.sel(trial=1, eval_step=0))


def _largest_gradient(params, dtype):
    """The largest gradient of the whole training set's loss, over all weights of all seeds."""
    inputs, labels = jx.datasets.digits()[:2]
    inputs, onehot = inputs.astype(dtype), np.eye(10, dtype=dtype)[labels]

    @jax.jit
    def gradient(params):
        hidden = lambda weights: jax.nn.sigmoid(inputs @ weights[0])  # noqa: E731
        outputs = lambda weights: jax.nn.sigmoid(hidden(weights) @ weights[1])  # noqa: E731
        return jax.grad(lambda weights: ((outputs(weights) - onehot) ** 2).sum() / (2 * len(inputs)))(params)

    return [max(np.abs(leaf).max() for leaf in gradient([w.astype(dtype) for w in each])) for each in params]


def test_at_the_shifted_weights_the_full_batch_gradient_is_exactly_zero_in_float32_only():
    config, data = MODULE.Config(), jx.datasets.digits()
    starts = [STUDY.experiment.init(jax.random.key(seed), data, config)[0] for seed in range(8)]
    weights = [[np.asarray(layer["weight"]).T for layer in params] for params in starts]
    shifted = [[w + np.float32(1) for w in params] for params in weights]
    by_config, _, _ = STUDY.experiment.init(jax.random.key(0), data, MODULE.Config(weight_shift=1.0))
    np.testing.assert_array_equal(by_config[0]["weight"].T, shifted[0][0])
    assert _largest_gradient(shifted, np.float32) == [0.0] * 8
    assert min(_largest_gradient(weights, np.float32)) > 1e-3
    with jax.enable_x64(True):
        in_double = _largest_gradient(shifted, np.float64)
    assert 0 < min(in_double) < max(in_double) < 1e-7


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(("start", "scale"), [("ones", 0.05), ("first_gradient", 1.0)])
def test_three_steps_are_those_of_the_asker_in_plain_numpy(start, scale):
    config = MODULE.Config(velocity_init=start, velocity_scale=scale, momentum=0.6, learning_rate=0.5)
    data = jx.datasets.digits()
    state = STUDY.experiment.init(jax.random.key(1), data, config)
    weights = [np.asarray(layer["weight"], np.float64).T for layer in state[0]]
    assert all(np.abs(w).max() <= 1 and np.abs(w.mean()) < 0.1 for w in weights)
    velocity = [np.full(w.shape, scale if start == "ones" else 0.0) for w in weights]
    step = jax.jit(STUDY.experiment.step)
    for number in range(3):
        state, _ = step(jax.random.key(7), state, data, config)
        chosen = np.asarray(state[2].order)[10 * number : 10 * number + 10]
        inputs, onehot = data.train_inputs[chosen], np.eye(10)[data.train_labels[chosen]]
        hidden = _sigmoid(inputs @ weights[0])
        outputs = _sigmoid(hidden @ weights[1])
        error = (outputs - onehot) * outputs * (1 - outputs) / 10
        gradients = [inputs.T @ ((error @ weights[1].T) * hidden * (1 - hidden)), hidden.T @ error]
        if start == "first_gradient" and number == 0:
            velocity = [-0.5 * g for g in gradients]
        velocity = [0.6 * v - 0.5 * g for v, g in zip(velocity, gradients, strict=True)]
        weights = [w + v for w, v in zip(weights, velocity, strict=True)]
    for layer, expected in zip(state[0], weights, strict=True):
        np.testing.assert_allclose(layer["weight"].T, expected, atol=2e-6)


@pytest.mark.parametrize(
    ("start", "low", "high", "mean", "deviation"),
    [
        ("normal", -np.inf, np.inf, 0.0, 2.0),
        ("uniform_symmetric", -2.0, 2.0, 0.0, 2 / 3**0.5),
        ("uniform_positive", 0.0, 2.0, 1.0, 1 / 3**0.5),
        ("ones", 2.0, 2.0, 2.0, 0.0),
    ],
)
def test_drawn_starts_have_their_distribution_times_the_scale(start, low, high, mean, deviation):
    config = MODULE.Config(velocity_init=start, velocity_scale=2.0)
    _, opt_state, _ = STUDY.experiment.init(jax.random.key(3), jx.datasets.digits(), config)
    velocity = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(opt_state)])
    assert velocity.size == 64 * 30 + 30 * 10
    assert velocity.min() >= low
    assert velocity.max() <= high
    assert velocity.mean() == pytest.approx(mean, abs=0.15)
    assert velocity.std() == pytest.approx(deviation, abs=0.1)


def test_the_study_plans_six_programs_and_compares_at_equal_effective_learning_rates():
    plan = jx.plan(STUDY)
    assert len(plan.groups) == 6
    assert plan.num_runs == NUM_SEEDS * len(plan.trials)
    assert studies.seeds(LOADED.full).size == 256
    columns = plan.trials.columns
    np.testing.assert_allclose(columns["learning_rate"] / (1 - columns["momentum"]), 2.0)
    assert {0.5, 0.75, 0.9} == set(columns["momentum"])
    assert (columns["velocity_scale"].min(), columns["velocity_scale"].max()) == (-0.3, 1.0)


FIRST_EPOCH = {
    "zeros": 0.788,
    "first_gradient": 0.777,
    "uniform_symmetric": 0.69,
    "normal": 0.5,
    "uniform_positive": 0.1,
    "ones": 0.09,
}


def _dataset(first_epoch=FIRST_EPOCH, last=0.97, shifted=0.09):
    """What the study would give if every accuracy were as said, with a small spread over the study's seeds."""
    table = studies.table(STUDY)
    by_trial = np.full((len(table), 11), 0.42)
    for trial in range(len(table)):
        config = studies.trial_config(STUDY, table, trial)
        if (config.momentum, config.velocity_scale) == (0.5, 1.0):
            start = first_epoch[config.velocity_init] if config.weight_shift == 0 else shifted
            by_trial[trial] = [0.1, start, *[last if start > 0.2 else start] * 9]
    spread = np.random.default_rng(0).permuted(np.tile(np.linspace(-1e-3, 1e-3, NUM_SEEDS), (len(table), 1)), axis=1)
    values = (by_trial[:, None] + spread[:, :, None]).reshape(-1, 11)
    trial, seed = (part.ravel() for part in np.indices((len(table), NUM_SEEDS)))
    eval_step = EPOCH * np.arange(11, dtype=np.int32)
    ok, never = np.zeros(len(trial), np.int8), np.full(len(trial), -1, np.int32)
    made = results.Result(trial, seed, ok, never, eval_step[:0], eval_step, {}, {"test_accuracy": values})
    return results.dataset(table, np.arange(NUM_SEEDS, dtype=np.uint32), [made], {})


def test_the_claims_hold_where_the_published_figures_hold():
    verdicts = jx.check(STUDY, _dataset())
    assert [verdict.verdict for verdict in verdicts] == ["holds"] * 9
    assert all(claim.estimate(_dataset()).dims == ("seed",) for claim in STUDY.claims)


@pytest.mark.parametrize(
    ("changed", "claim"),
    [
        ({"first_epoch": FIRST_EPOCH | {"zeros": 0.70}}, 0),
        ({"last": 0.9}, 1),
        ({"first_epoch": FIRST_EPOCH | {"ones": 0.13}}, 2),
        ({"shifted": 0.8}, 3),
        ({"first_epoch": FIRST_EPOCH | {"first_gradient": 0.6}}, 4),
        ({"first_epoch": FIRST_EPOCH | {"uniform_symmetric": 0.8}}, 5),
        ({"first_epoch": FIRST_EPOCH | {"normal": 0.75}}, 6),
        ({"first_epoch": FIRST_EPOCH | {"uniform_positive": 0.4}}, 7),
        ({"first_epoch": FIRST_EPOCH | {"ones": 0.02}}, 8),
    ],
)
def test_each_claim_is_refuted_where_its_figure_is_another(changed, claim):
    assert jx.check(STUDY, _dataset(**changed))[claim].verdict == "refuted"


@pytest.mark.parametrize(("epoch", "share"), [(0, 1.0), (1, 1 - 1 / NUM_SEEDS), (6, 1 - 1 / NUM_SEEDS)])
def test_one_seed_that_learns_in_one_epoch_is_enough_to_doubt_that_ones_never_do(epoch, share):
    dataset = _dataset()
    dataset["test_accuracy"][dataset.velocity_init.values.tolist().index("ones"), 2, epoch] = 0.5
    _, _, verdict, shifted, *_ = jx.check(STUDY, dataset)
    assert verdict.estimate.mean == pytest.approx(share)
    assert verdict.verdict == ("holds" if share == 1 else "not shown")
    assert shifted.verdict == "holds"


def test_a_run_that_is_not_finite_is_never_scored():
    dataset = _dataset()
    dataset["status"][:, 0] = 1
    for verdict in jx.check(STUDY, dataset):
        assert (verdict.verdict, verdict.estimate.n, verdict.estimate.excluded) == ("not shown", NUM_SEEDS - 1, 1)


def test_the_figure_has_a_panel_of_starts_and_one_a_momentum():
    (draw,) = STUDY.figures
    figure = draw(_dataset())
    assert [axes.get_title() for axes in figure.axes] == [
        "all starts, mu = 0.5",
        *(f"v0 = s, mu = {m}" for m in (0.5, 0.75, 0.9)),
    ]
    assert f"n = {NUM_SEEDS} seeds; 0 runs not finite" in figure.get_suptitle()
    starts = {line.get_label(): line.get_ydata()[1] for line in figure.axes[0].get_lines()}
    assert starts == pytest.approx(FIRST_EPOCH)


def test_claims_and_figure_survive_a_study_cut_short():
    dataset = _run_ones(sweep=jx.grid(velocity_scale=(0.5,)), seeds=1, num_steps=3)
    assert np.isfinite(dataset.loss).all()
    assert {verdict.verdict for verdict in jx.check(STUDY, dataset)} == {"not shown"}
    assert STUDY.figures[0](dataset).axes

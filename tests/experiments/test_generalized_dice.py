"""Background only, and its repairs: each loss by hand in float64, metrics by hand, and claims that can fail."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import stats

import jaxexp as jx
from jaxexp import catalog, plans, results
from jaxexp import study as studies

LOADED = catalog.load(str(Path(__file__).parents[2] / "experiments" / "generalized_dice.py"))
MODULE = sys.modules["experiments.generalized_dice"]
STUDY, FULL = LOADED.study, LOADED.full
NUM_SEEDS, FULL_SEEDS = (studies.seeds(study).size for study in (STUDY, FULL))
VOLUMES = {"task": "volumes", "learning_rate": 5e-3}
LOSSES = ("cross_entropy", "question", "question_per_image", "answer", "soft_dice", "soft_dice_per_image")


@pytest.fixture(scope="module")
def digits():
    """The first images of the digits: enough for an update, and every class is among those to judge by."""
    data = jx.datasets.digit_segmentation()
    return jx.datasets.Split(
        data.train_inputs[:64], data.train_labels[:64], data.test_inputs[:200], data.test_labels[:200]
    )


@pytest.fixture(scope="module")
def params(digits):
    return jax.jit(MODULE.NETS["digits"].init)(jax.random.key(0), digits.train_inputs[:1])


def _by_hand(name, probabilities, truth):
    """The losses in float64: probabilities and one-hot labels [images, pixels, classes]."""
    if name == "cross_entropy":
        return -np.log((probabilities * truth).sum(-1)).mean()
    if name in ("question", "soft_dice"):
        probabilities, truth = (array.reshape(1, -1, 11) for array in (probabilities, truth))
    counts, overlap, total = truth.sum(1), (probabilities * truth).sum(1), (probabilities + truth).sum(1)
    if name.startswith("soft_dice"):
        return (1 - (2 * overlap + 1e-5) / (total + 1e-5)).mean()
    if name == "answer":
        weights = np.where(counts > 0, 1 / np.maximum(counts, 1) ** 2, 1e-6)
    else:
        seen = np.zeros_like(counts) if name == "question" else counts  # `tensor == 1` is False in a graph
        weights = 1 / (seen**2 + 1e-5)
    return (1 - 2 * (weights * overlap).sum(-1) / (weights * total).sum(-1)).mean()


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_is_the_one_written_by_hand(name, digits, params):
    inputs, labels = digits.train_inputs[:4], digits.train_labels[:4]
    logits = np.asarray(MODULE.NETS["digits"].apply(params, inputs), np.float64).reshape(4, 784, 11)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = _by_hand(name, probabilities, np.eye(11)[labels.reshape(4, 784)])
    assert float(MODULE.loss(params, inputs, labels, MODULE.Config(loss=name))) == pytest.approx(expected, rel=2e-5)


def test_the_question_as_its_graph_ran_is_1_minus_the_mean_probability_of_the_true_class(digits, params):
    inputs, labels = digits.train_inputs[:4], digits.train_labels[:4]
    probabilities = jax.nn.softmax(MODULE.NETS["digits"].apply(params, inputs))
    true = np.take_along_axis(np.asarray(probabilities), labels[..., None], axis=-1)
    assert float(MODULE.loss(params, inputs, labels, MODULE.Config(loss="question"))) == pytest.approx(
        1 - true.mean(), abs=1e-6
    )


def test_the_first_gradient_of_the_question_per_image_is_far_below_the_eps_of_adam(digits):
    gradient, init = jax.jit(jax.grad(MODULE.loss)), jax.jit(MODULE.NETS["digits"].init)
    for seed in range(4):
        params = init(jax.random.key(seed), digits.train_inputs[:1])
        found = gradient(
            params, digits.train_inputs[:16], digits.train_labels[:16], MODULE.Config(loss="question_per_image")
        )
        norm = float(np.sqrt(sum((np.asarray(leaf, np.float64) ** 2).sum() for leaf in jax.tree.leaves(found))))
        assert 1e-12 < norm < 1e-8 / 10


def test_metrics_are_those_of_numpy(digits, params):
    logits = np.asarray(MODULE.NETS["digits"].apply(params, digits.test_inputs))
    predicted, labels = logits.argmax(-1), digits.test_labels
    assert STUDY.experiment.evaluate is not None
    found = jax.jit(STUDY.experiment.evaluate)((params,), digits, MODULE.Config())
    right = ((predicted == labels) & (labels > 0)).sum()
    assert float(found["foreground_dice"]) == pytest.approx(2 * right / ((predicted > 0).sum() + (labels > 0).sum()))
    by_class = [
        2 * ((predicted == c) & (labels == c)).sum() / ((predicted == c).sum() + (labels == c).sum())
        for c in range(1, 11)
    ]
    assert float(found["class_dice"]) == pytest.approx(np.mean(by_class), rel=1e-5)
    assert float(found["predicted_share"]) == pytest.approx((predicted > 0).sum() / (labels > 0).sum(), rel=1e-5)


def test_a_digit_has_as_many_pixels_as_the_figure_says():
    labels = jx.datasets.digit_segmentation().train_labels
    assert (labels > 0).sum(axis=(1, 2)).mean() == pytest.approx(MODULE.DIGIT_PIXELS, abs=0.5)


def test_a_short_run_is_finite_and_claims_and_figure_survive_it(digits):
    short = STUDY.replace(sweep=jx.grid(eps=(1e-6,)), seeds=2, num_steps=3, data=lambda config: digits)
    dataset = jx.run(short, tile=plans.Tile(1, 2))
    assert (dataset.status == 0).all()
    assert np.isfinite(dataset.gradient_norm).all()
    assert set(dataset.eval_step.values) == {0, 3}
    assert {verdict.verdict for verdict in jx.check(FULL, dataset)} == {"not shown"}
    assert all(draw(dataset).axes for draw in FULL.figures)


def test_the_studies_plan_a_program_for_each_loss_and_task():
    default, full = jx.plan(STUDY), jx.plan(FULL)
    assert (len(default.groups), default.num_runs) == (4, 7 * NUM_SEEDS)
    assert (len(full.groups), full.num_runs) == (6 + 5, (6 + 7 + 5) * FULL_SEEDS)
    volumes = full.trials.columns["task"] == "volumes"
    np.testing.assert_array_equal(full.trials.columns["learning_rate"], np.where(volumes, 5e-3, 3e-3))


def _published(config):
    """Foreground Dice of the question's answer on the digits and the volumes, and half its 95 % interval of 8 seeds."""
    if config.task == "volumes":
        table = {"cross_entropy": (0.739, 0.186), "soft_dice": (0.770, 0.260), "answer": (0.850, 0.126)}
        return table.get(config.loss, (0.0, 0.0))
    if config.loss == "answer":
        return {1e-4: (0.08, 0.05), 1e-6: (0.733, 0.090)}.get(config.eps, (0.0, 0.0))
    return {"cross_entropy": (0.866, 0.023), "soft_dice": (0.87, 0.01)}.get(config.loss, (0.0, 0.0))


def _dataset(change=lambda config: {}, scale=1.0, study=FULL):
    """What a study would give at its seeds with these figures, spreads scaled, plus a change of some trials."""
    table, num_seeds = studies.table(study), studies.seeds(study).size
    draws = np.random.RandomState(0).standard_normal((len(table), num_seeds))
    draws = (draws - draws.mean(1, keepdims=True)) / draws.std(1, ddof=1, keepdims=True)
    names = ("foreground_dice", "class_dice", "predicted_share")
    values = {name: np.zeros((len(table), num_seeds, 3)) for name in names}
    gradient_norm = np.full((len(table), num_seeds, 2), 0.1)
    for trial in range(len(table)):
        config = studies.trial_config(study, table, trial)
        mean, half = _published(config)
        dice = mean + scale * half / 2.365 * 8**0.5 * draws[trial]  # 2.365: the .975 quantile of t with 7 degrees
        values["foreground_dice"][trial] = dice[:, None]
        values["predicted_share"][trial] = float(mean > 0.1)
        gradient_norm[trial] = 1e-11 if config.loss == "question_per_image" else 0.1
        for name, value in change(config).items():
            (gradient_norm if name == "gradient_norm" else values[name])[trial] = value
    gradient_norm = gradient_norm * (1 + 1e-3 * draws[:, :, None])
    varies = (table.columns["loss"] != "question")[:, None, None]  # that one gives .000 at every seed
    values["foreground_dice"] += 1e-6 * varies * draws[:, ::-1, None] * np.arange(3)
    flat = {name: array.reshape(-1, 3) for name, array in values.items()}
    trial, seed = (part.ravel() for part in np.indices((len(table), num_seeds)))
    ok, never = np.zeros(len(trial), np.int8), np.full(len(trial), -1, np.int32)
    step, eval_step = np.array([0, 400], np.int32), np.array([0, 400, 800], np.int32)
    logged = {"gradient_norm": gradient_norm.reshape(-1, 2)}
    made = results.Result(trial, seed, ok, never, step, eval_step, logged, flat)
    return results.dataset(table, np.arange(num_seeds, dtype=np.uint32), [made], {})


def _alone(claim, dataset):
    """A claim's verdict as if the full study had no other."""
    return jx.check(FULL.replace(claims=(claim,)), dataset)[0].verdict


def test_the_claims_of_the_default_study_hold_at_its_seeds_where_the_published_figures_do():
    assert [verdict.verdict for verdict in jx.check(STUDY, _dataset(study=STUDY))] == ["holds"] * 12


def test_claims_hold_where_the_published_figures_do_and_the_volumes_cannot_be_ranked():
    dataset = _dataset()
    verdicts = jx.check(FULL, dataset)
    assert [verdict.verdict for verdict in verdicts[:15]] == ["holds"] * 15
    assert [verdict.estimate.mean for verdict in verdicts[15:18]] == pytest.approx([0.850, 0.770, 0.739])
    assert [_alone(claim, dataset) for claim in FULL.claims[18:]] == ["not shown"] * 3
    assert [verdict.verdict for verdict in verdicts[18:]] == ["not shown"] * 3
    assert [verdict.statement for verdict in verdicts[18:]] == [
        "Volumes: the answer is ahead of cross-entropy.",
        "Volumes: the answer is ahead of soft Dice.",
        "Volumes: soft Dice is ahead of cross-entropy.",
    ]
    assert all(claim.estimate(dataset).dims == ("seed",) for claim in FULL.claims)
    assert FULL.claims[:12] == STUDY.claims


@pytest.mark.parametrize(
    ("claim", "trial", "changed"),
    [
        (0, {"loss": "cross_entropy"}, {"foreground_dice": 0.8}),
        (0, {"loss": "cross_entropy"}, {"foreground_dice": 0.95}),
        (1, {}, {"foreground_dice": 0.5}),
        (1, {}, {"foreground_dice": 0.87}),
        (2, {}, {"predicted_share": 0.04}),
        (3, {"loss": "question"}, {"foreground_dice": 0.01}),
        (4, {"loss": "question"}, {"predicted_share": 0.06}),
        (5, {"loss": "question_per_image"}, {"gradient_norm": 2e-8}),
        (6, {"loss": "question_per_image"}, {"foreground_dice": [0.2, 0.1, 0.1]}),
        (7, {"loss": "question_per_image", "adam_eps": 1e-15}, {"predicted_share": 5.0}),
        (8, {}, {"foreground_dice": 0.2}),
        (9, {}, {"foreground_dice": 0.9}),
        (10, {"eps": 1e-4}, {"foreground_dice": 0.7}),
        (11, {"eps": 1e-2}, {"predicted_share": 0.5}),
        (12, {"loss": "soft_dice_per_image"}, {"predicted_share": 0.5}),
        (13, {"loss": "soft_dice"}, {"foreground_dice": 0.5}),
        (14, {"loss": "question"} | VOLUMES, {"predicted_share": 0.5}),
        (15, VOLUMES, {"foreground_dice": 0.7}),
        (16, {"loss": "soft_dice"} | VOLUMES, {"foreground_dice": 0.5}),
        (17, {"loss": "cross_entropy"} | VOLUMES, {"foreground_dice": 0.95}),
        (18, VOLUMES, {"foreground_dice": 0.1}),
        (19, VOLUMES, {"foreground_dice": 0.1}),
        (20, {"loss": "soft_dice"} | VOLUMES, {"foreground_dice": 0.1}),
    ],
)
def test_each_claim_is_refuted_where_its_figure_is_another(claim, trial, changed):
    wanted = MODULE.Config(**trial)
    dataset = _dataset(lambda config: changed if config == wanted else {})
    assert jx.check(FULL, dataset)[claim].verdict == "refuted"


@pytest.mark.parametrize(("relative", "verdict"), [(0.9, "holds"), (1.1, "not shown")])
def test_each_mean_on_the_volumes_is_shown_alone_by_an_interval_narrower_than_the_published_one(relative, verdict):
    published = 2.365 / 8**0.5  # half an interval of 8 seeds, in standard deviations
    dataset = _dataset(scale=relative * published / (stats.t.ppf(0.975, FULL_SEEDS - 1) / FULL_SEEDS**0.5))
    assert [_alone(claim, dataset) for claim in FULL.claims[15:]] == [*[verdict] * 3, *["not shown"] * 3]


@pytest.mark.parametrize(
    ("scale", "means", "ranks"),
    [(0.1, "holds", "holds"), (0.85, "holds", "not shown"), (1.0, "not shown", "not shown")],
)
def test_among_all_claims_those_on_the_volumes_want_less_spread_than_the_published_one(scale, means, ranks):
    found = jx.check(FULL, _dataset(scale=scale))
    assert [each.verdict for each in found[15:]] == [*[means] * 3, *[ranks] * 3]


@pytest.mark.parametrize(
    ("study", "collapse"), [(STUDY, (2, 4, 7, 11)), (FULL, (2, 4, 7, 11, 12, 14))], ids=["default", "full"]
)
def test_one_seed_that_differs_neither_shows_that_most_collapse_nor_that_few_do(study, collapse):
    dataset = _dataset(study=study)
    share, num_seeds = dataset["predicted_share"].values, dataset.sizes["seed"]
    share[:, 0] = np.where(share[:, 0] > 0.5, 0.04, 0.06)
    verdicts = jx.check(study, dataset)
    assert [verdicts[claim].verdict for claim in collapse] == ["not shown"] * len(collapse)
    assert verdicts[2].estimate.mean == pytest.approx(1 / num_seeds)
    assert verdicts[4].estimate.mean == pytest.approx(1 - 1 / num_seeds)


def test_a_run_that_is_not_finite_is_never_scored():
    dataset = _dataset()
    dataset["status"][:, 0] = 1
    for verdict in jx.check(FULL, dataset):
        assert (verdict.verdict, verdict.estimate.n, verdict.estimate.excluded) == ("not shown", FULL_SEEDS - 1, 1)


def test_the_figure_has_panels_of_digits_of_eps_and_of_volumes_where_there_are_any():
    dataset = _dataset()
    left, middle, right = MODULE.foreground_dice(dataset).axes
    assert len(left.get_yticks()) == 7
    assert len(right.get_yticks()) == 5
    line = middle.get_lines()[0]
    np.testing.assert_allclose(line.get_xdata(), np.array([1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]) * 112**2)
    assert line.get_ydata()[1] == pytest.approx(0.733)
    assert len(MODULE.foreground_dice(dataset.where(dataset.task == "digits", drop=True)).axes) == 2


@pytest.mark.slow
def test_no_claim_of_the_default_study_is_refuted_by_half_of_its_seeds():
    study = STUDY.replace(seeds=4)
    dataset = jx.run(study)
    assert (dataset.status == 0).all()
    assert "refuted" not in {verdict.verdict for verdict in jx.check(study, dataset)}

"""The Dice losses against MONAI's values and gradients, and where a quotient could become 0/0."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxexp import losses
from jaxexp.errors import StudyError
from jaxexp.losses import ClassWeights

with np.load(Path(__file__).parents[1] / "oracles" / "segmentation.npz", allow_pickle=False) as _file:
    ORACLE = dict(_file)

CASES = ("line", "image", "volume", "masks")
NAMES = [name for name in ORACLE if name.count(".") >= 3 and not name.endswith(".gradient")]
EPS = {"added_eps": 1e-5, "absent_eps": 1e-6}


def _loss(name: str) -> Any:
    """The loss that the oracle calls <case>.<kind>.<span>.<smoothing>."""
    case, kind, span, smoothing = name.split(".", maxsplit=3)
    options: dict[str, Any] = {
        "batch_wide": span == "batch",
        "smoothing": float(smoothing),
        "independent": case == "masks",
    }
    if kind == "soft":
        return functools.partial(losses.soft_dice, **options)
    return functools.partial(
        losses.generalized_dice, class_weights=ClassWeights(kind), eps=EPS.get(kind, 1e-6), **options
    )


@functools.cache
def _computed(case: str, x64: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Values and gradients of all losses of a case, in one program."""
    names = [name for name in NAMES if name.startswith(case)]
    with jax.enable_x64(x64):
        logits, labels = jnp.asarray(ORACLE[f"{case}.logits"]), jnp.asarray(ORACLE[f"{case}.labels"])
        compute = jax.jit(lambda x, y: {name: jax.value_and_grad(_loss(name))(x, y) for name in names})
        return jax.tree.map(np.asarray, compute(logits, labels))


def test_the_oracle_covers_every_weighting_in_every_dimension() -> None:
    kinds = {name.split(".")[1] for name in NAMES}
    assert kinds == {str(weights) for weights in ClassWeights} | {"soft"}
    assert {ORACLE[f"{case}.logits"].ndim for case in CASES} == {3, 4, 5}
    assert {version.split()[0] for version in ORACLE["versions"]} >= {"monai", "torch"}


@pytest.mark.parametrize("x64", [False, True], ids=["f32", "f64"])
@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_are_those_of_monai(name: str, x64: bool) -> None:
    value, gradient = _computed(name.split(".")[0], x64)[name]
    assert value.dtype == (np.float64 if x64 else np.float32)
    assert float(value) == pytest.approx(float(ORACLE[name]), abs=1e-6)
    np.testing.assert_allclose(gradient, ORACLE[f"{name}.gradient"], atol=1e-6)


@pytest.mark.parametrize("case", CASES[:3])
def test_foreground_dice_is_the_micro_f1_score(case: str) -> None:
    score = losses.foreground_dice(ORACLE[f"{case}.logits"], ORACLE[f"{case}.labels"])
    assert float(score) == pytest.approx(float(ORACLE[f"{case}.foreground_dice"]), abs=1e-6)


@pytest.mark.parametrize("case", CASES[:3])
@pytest.mark.parametrize("batch_wide", [False, True])
def test_with_equal_weights_it_is_one_minus_the_mean_probability_of_the_true_class(case: str, batch_wide: bool) -> None:
    logits, labels = jnp.asarray(ORACLE[f"{case}.logits"]), jnp.asarray(ORACLE[f"{case}.labels"], int)
    true = jnp.take_along_axis(jax.nn.softmax(logits), labels[..., None], axis=-1)
    loss = losses.generalized_dice(logits, labels, class_weights="uniform", batch_wide=batch_wide)
    assert float(loss) == pytest.approx(1 - float(true.mean()), abs=1e-6)


def test_batch_wide_is_per_sample_of_one_large_image() -> None:
    logits, labels = ORACLE["image.logits"], ORACLE["image.labels"]
    large = logits.reshape(1, -1, logits.shape[-1]), labels.reshape(1, -1)
    for weights in (*ClassWeights, None):
        loss = (
            losses.soft_dice if weights is None else functools.partial(losses.generalized_dice, class_weights=weights)
        )
        assert float(loss(logits, labels, batch_wide=True)) == pytest.approx(float(loss(*large)), abs=1e-6)


def test_one_hot_and_integer_labels_and_narrow_logits_give_the_same() -> None:
    logits, labels = jnp.asarray(ORACLE["image.logits"], jnp.bfloat16), ORACLE["image.labels"]
    for loss in (losses.generalized_dice, losses.soft_dice):
        wide = loss(logits.astype(jnp.float32), labels)
        assert float(loss(logits, labels)) == float(wide)
        assert loss(logits, labels).dtype == jnp.float32
        assert float(loss(logits, np.eye(5)[labels])) == pytest.approx(float(wide), abs=1e-6)


LABELS = {
    "one class": np.zeros((2, 6), int),
    "two classes": np.array([[0, 0, 0, 1, 1, 1], [2, 2, 2, 2, 2, 2]]),
    "no class": np.zeros((2, 6, 3)),
    "a faint class": np.full((2, 6, 3), 1e-25),
}
LOGITS = {
    "even": np.zeros((2, 6, 3)),
    "certain and right": 500.0 * np.eye(3)[np.zeros((2, 6), int)],
    "certain and wrong": 500.0 * np.eye(3)[np.ones((2, 6), int)],
    "nothing": np.full((2, 6, 3), -500.0),
    "nearly nothing": np.full((2, 6, 3), -60.0),
    "excluded": np.where(np.eye(3)[np.zeros((2, 6), int)] > 0, 0.0, -np.inf),
}


@functools.cache
def _degenerate() -> dict[tuple[Any, ...], tuple[float, np.ndarray]]:
    """Value and gradient of every loss for every pair of labels and logits."""

    def compute(x: jax.Array, y: jax.Array) -> dict[str, Any]:
        results = {}
        for batch_wide in (False, True):
            for independent in (False, True):
                options = {"batch_wide": batch_wide, "independent": independent}
                for weights in ClassWeights:
                    loss = functools.partial(losses.generalized_dice, class_weights=weights, **options)
                    results[f"{weights} {options}"] = jax.value_and_grad(loss)(x, y)
                loss = functools.partial(losses.soft_dice, smoothing=0.0, **options)
                results[f"soft {options}"] = jax.value_and_grad(loss)(x, y)
        return results

    compiled = jax.jit(compute)
    one_hot = {name: np.eye(3)[y] if y.ndim == 2 else y for name, y in LABELS.items()}
    return {
        (loss, target, output): (float(value), np.asarray(gradient))
        for target, y in one_hot.items()
        for output, x in LOGITS.items()
        for loss, (value, gradient) in compiled(jnp.asarray(x), jnp.asarray(y)).items()
    }


def test_loss_and_gradient_are_finite_whatever_is_absent_and_however_sure_the_model() -> None:
    for where, (value, gradient) in _degenerate().items():
        assert 0 <= value <= 1, where
        assert np.isfinite(gradient).all(), where


def test_where_nothing_is_to_be_found_and_nothing_is_predicted_the_loss_and_its_gradient_are_zero() -> None:
    for (loss, target, output), (value, gradient) in _degenerate().items():
        if target == "no class" and output == "nothing" and "'independent': True" in loss:
            assert value == 0.0, loss
            assert not gradient.any(), loss


def test_a_single_channel_of_softmax_has_no_gradient_and_of_sigmoid_one() -> None:
    logits, labels = jnp.zeros((1, 4, 1)), jnp.array([[[1.0], [0.0], [0.0], [1.0]]])
    for loss in (losses.generalized_dice, losses.soft_dice):
        assert not jax.grad(loss)(logits, labels).any()
        slope = jax.grad(loss)(logits, labels, independent=True)
        assert float(slope[0, 0, 0]) < 0 < float(slope[0, 1, 0])


@pytest.mark.parametrize("eps", [1e-3, 1e-20, 1e-30])
def test_an_absent_class_may_weigh_up_to_the_limit_of_float32(eps: float) -> None:
    def gradient(x64: bool) -> np.ndarray:
        with jax.enable_x64(x64):
            logits, labels = jnp.asarray(ORACLE["line.logits"]), jnp.asarray(ORACLE["line.labels"])
            return np.asarray(jax.grad(losses.generalized_dice)(logits, labels, class_weights="added_eps", eps=eps))

    exact = gradient(True)
    np.testing.assert_allclose(gradient(False), exact, atol=1e-5 * np.abs(exact).max())


def test_eps_can_be_swept_under_vmap() -> None:
    logits, labels = ORACLE["line.logits"], ORACLE["line.labels"]
    eps = jnp.array([1e-8, 1e-2])
    lanes = jax.vmap(lambda lane: losses.generalized_dice(logits, labels, eps=lane))(eps)
    alone = [float(losses.generalized_dice(logits, labels, eps=float(lane))) for lane in eps]
    np.testing.assert_allclose(lanes, alone, atol=1e-6)
    assert abs(alone[0] - alone[1]) > 1e-3


def test_foreground_dice_counts_what_is_not_finite_as_wrong_and_nothing_as_right() -> None:
    logits, labels = jax.nn.one_hot(jnp.array([[0, 1, 2, 1]]), 3), jnp.array([[0, 1, 2, 2]])
    assert float(losses.foreground_dice(logits, labels)) == pytest.approx(2 * 2 / (3 + 3))
    lost = logits.at[0, 0, 1].set(jnp.nan).at[0, 1, 0].set(jnp.inf)
    assert float(losses.foreground_dice(lost, labels)) == pytest.approx(2 * 1 / (4 + 3))
    background = jnp.zeros((1, 4), int)
    assert float(losses.foreground_dice(jax.nn.one_hot(background, 3), background)) == 1.0


X, Y = jnp.zeros((2, 5, 3)), jnp.zeros((2, 5), int)


@pytest.mark.parametrize(
    ("logits", "labels", "options", "message"),
    [
        (X, jnp.zeros((2, 4), int), {}, r"\(2, 5, 3\) and labels \(2, 4\)"),
        (X, jnp.zeros((2, 5)), {}, r"dtype float32.*labels.astype\(int\)"),
        (X, jnp.zeros((2, 5, 4)), {}, r"\(2, 5, 3\) and labels \(2, 5, 4\)"),
        (X[0, 0], jnp.zeros((3,)), {}, r"Write logits\[None\]"),
        (X[:, :0], Y[:, :0], {}, "without an example"),
        (X, Y, {"smoothing": -1.0}, "smoothing=-1.0 is out of range"),
    ],
)
def test_what_does_not_fit_is_refused(logits: Any, labels: Any, options: Any, message: str) -> None:
    for loss in (losses.generalized_dice, losses.soft_dice):
        with pytest.raises(StudyError, match=rf"losses\.{loss.__name__}: .*{message}"):
            loss(logits, labels, **options)


def test_an_unknown_weighting_and_a_zero_eps_are_refused() -> None:
    with pytest.raises(StudyError, match=r"'absent_zeros' is no ClassWeights; did you mean 'absent_zero'\?"):
        losses.generalized_dice(X, Y, class_weights="absent_zeros")
    with pytest.raises(StudyError, match=r"eps=0.0 is out of range. Write a finite eps > 0"):
        losses.generalized_dice(X, Y, eps=0.0)

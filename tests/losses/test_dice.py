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

CASES = ("line", "image", "volume", "masks", "masks_line", "masks_volume", "blank_line", "blank_image", "blank_volume")
NAMES = [name for name in ORACLE if name.count(".") >= 3 and not name.endswith(".gradient")]
EPS = {"added_eps": 1e-5, "absent_eps": 1e-6}


def _loss(name: str) -> Any:
    """The loss that the oracle calls <case>.<kind>.<span>.<smoothing>."""
    case, kind, span, smoothing = name.split(".", maxsplit=3)
    options: dict[str, Any] = {
        "batch_wide": span == "batch",
        "smoothing": float(smoothing),
        "independent": case.startswith("masks"),
    }
    if kind == "soft":
        return functools.partial(losses.soft_dice, **options)
    return functools.partial(
        losses.generalized_dice, class_weights=ClassWeights(kind), eps=EPS.get(kind, 1e-6), **options
    )


@functools.cache
def _computed(case: str, x64: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Values and gradients of all losses of a case, in one program."""
    names = [name for name in NAMES if name.startswith(f"{case}.")]
    with jax.enable_x64(x64):
        logits, labels = jnp.asarray(ORACLE[f"{case}.logits"]), jnp.asarray(ORACLE[f"{case}.labels"])
        compute = jax.jit(lambda x, y: {name: jax.value_and_grad(_loss(name))(x, y) for name in names})
        return jax.tree.map(np.asarray, compute(logits, labels))


def test_the_oracle_covers_every_weighting_in_every_dimension() -> None:
    for case in CASES:  # also of empty masks and of images without any foreground
        kinds = {name.split(".")[1] for name in NAMES if name.startswith(f"{case}.")}
        assert kinds == {str(weights) for weights in ClassWeights} | {"soft"}
    for some in ("masks", "blank"):
        dims = {ORACLE[f"{case}.logits"].ndim for case in CASES if case.startswith(some)}
        assert dims == {3, 4, 5}
    assert {ORACLE[f"{case}.logits"].ndim for case in CASES[:3]} == {3, 4, 5}
    assert {version.split()[0] for version in ORACLE["versions"]} >= {"monai", "torch"}


@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_are_those_of_monai(name: str) -> None:
    _compare(name, *_computed(name.split(".")[0], x64=True)[name], np.float64)


@pytest.mark.parametrize("name", NAMES)
def test_float32_suffices_for_the_same_agreement(name: str) -> None:
    _compare(name, *_computed(name.split(".")[0], x64=False)[name], np.float32)


def _compare(name: str, value: np.ndarray, gradient: np.ndarray, dtype: type) -> None:
    assert value.dtype == dtype
    assert float(value) == pytest.approx(float(ORACLE[name]), abs=1e-6)
    np.testing.assert_allclose(gradient, ORACLE[f"{name}.gradient"], atol=1e-6)


@pytest.mark.parametrize("case", CASES[:3])
def test_foreground_dice_is_the_micro_f1_score(case: str) -> None:
    score = losses.foreground_dice(ORACLE[f"{case}.logits"], ORACLE[f"{case}.labels"])
    assert float(score) == pytest.approx(float(ORACLE[f"{case}.foreground_dice"]), abs=1e-6)


@pytest.mark.parametrize("case", CASES[:3])
def test_with_equal_weights_it_is_one_minus_the_mean_probability_of_the_true_class(case: str) -> None:
    logits, labels = jnp.asarray(ORACLE[f"{case}.logits"]), ORACLE[f"{case}.labels"].astype(int)
    scores = np.exp(ORACLE[f"{case}.logits"])
    true = np.take_along_axis(scores / scores.sum(-1, keepdims=True), labels[..., None], axis=-1)
    for batch_wide in (False, True):
        loss = jax.jit(functools.partial(losses.generalized_dice, class_weights="uniform", batch_wide=batch_wide))
        assert float(loss(logits, labels)) == pytest.approx(1 - float(true.mean()), abs=1e-6)


def _every_loss(**options: Any) -> dict[str, Any]:
    kinds = {str(w): functools.partial(losses.generalized_dice, class_weights=w, **options) for w in ClassWeights}
    return {**kinds, "soft": functools.partial(losses.soft_dice, **options)}


def test_batch_wide_is_per_sample_of_one_large_image() -> None:
    logits, labels = jnp.asarray(ORACLE["image.logits"]), jnp.asarray(ORACLE["image.labels"])

    @jax.jit
    def both(x: jax.Array, y: jax.Array) -> Any:
        large = x.reshape(1, -1, x.shape[-1]), y.reshape(1, -1)
        wide = [loss(x, y) for loss in _every_loss(batch_wide=True).values()]
        return wide, [loss(*large) for loss in _every_loss().values()]

    np.testing.assert_allclose(*both(logits, labels), atol=1e-6)


def test_one_hot_and_integer_labels_and_narrow_logits_give_the_same() -> None:
    logits, labels = jnp.asarray(ORACLE["image.logits"], jnp.bfloat16), ORACLE["image.labels"]
    for plain in (losses.generalized_dice, losses.soft_dice):
        loss = jax.jit(plain)
        wide = float(loss(logits.astype(jnp.float32), labels))
        assert float(loss(logits, labels)) == pytest.approx(wide, abs=1e-6)
        assert loss(logits, labels).dtype == jnp.float32
        assert float(loss(logits, np.eye(5)[labels])) == pytest.approx(wide, abs=1e-6)


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


NOTHING = ["sigmoid", "no class", "nothing"]


@functools.cache
def _degenerate(spatial: tuple[int, ...] = (6,)) -> dict[tuple[Any, ...], tuple[float, np.ndarray]]:
    """Value and gradient of every loss for every pair of labels and logits."""

    def compute(x: jax.Array, y: jax.Array) -> dict[tuple[str, str], Any]:
        return {
            (name, activation): jax.value_and_grad(loss)(x, y)
            for activation, independent in {"softmax": False, "sigmoid": True}.items()
            for name, loss in _every_loss(smoothing=0.0, independent=independent).items()
        }

    compiled = jax.jit(compute)
    one_hot = {name: np.eye(3)[y] if y.ndim == 2 else y for name, y in LABELS.items()}

    def shaped(array: np.ndarray) -> jax.Array:
        return jnp.asarray(array.reshape(2, *spatial, 3))

    return {
        (*loss, target, output): (float(value), np.asarray(gradient))
        for target, y in one_hot.items()
        for output, x in LOGITS.items()
        for loss, (value, gradient) in compiled(shaped(x), shaped(y)).items()
    }


@pytest.mark.parametrize("spatial", [(6,), (3, 2), (1, 2, 3)])
def test_loss_and_gradient_are_finite_whatever_is_absent_and_however_sure_the_model(spatial: tuple[int, ...]) -> None:
    for where, (value, gradient) in _degenerate(spatial).items():
        assert 0 <= value <= 1, where
        assert np.isfinite(gradient).all(), where


def test_where_nothing_is_to_be_found_and_nothing_is_predicted_the_loss_and_its_gradient_are_zero() -> None:
    found = {kind: result for (kind, *where), result in _degenerate().items() if where == NOTHING}
    assert found.keys() == _every_loss().keys()
    for kind, (value, gradient) in found.items():
        assert value == 0.0, kind
        assert not gradient.any(), kind


def test_a_single_channel_of_softmax_has_no_gradient_and_of_sigmoid_one() -> None:
    logits, labels = jnp.zeros((1, 4, 1)), jnp.array([[[1.0], [0.0], [0.0], [1.0]]])
    slopes = {
        independent: jax.jit(
            lambda x, i=independent: [jax.grad(f)(x, labels) for f in _every_loss(independent=i).values()]
        )
        for independent in (False, True)
    }
    assert not any(slope.any() for slope in slopes[False](logits))
    assert all(float(slope[0, 0, 0]) < 0 < float(slope[0, 1, 0]) for slope in slopes[True](logits))


def test_soft_labels_have_a_finite_gradient_too_where_a_class_is_absent() -> None:
    labels = jnp.array([[[0.7, 0.3, 0.0], [1.0, 0.0, 0.0]]])
    compute = jax.jit(lambda y: [jax.grad(loss, argnums=1)(jnp.zeros((1, 2, 3)), y) for loss in _every_loss().values()])
    for slope in compute(labels):
        assert np.isfinite(slope).all()
        assert slope.any()


def test_an_absent_class_may_weigh_up_to_the_limit_of_float32() -> None:
    gradients = []
    for x64 in (False, True):
        with jax.enable_x64(x64):
            compute = jax.jit(jax.grad(functools.partial(losses.generalized_dice, class_weights="added_eps")))
            logits, labels = jnp.asarray(ORACLE["line.logits"]), jnp.asarray(ORACLE["line.labels"])
            gradients.append([np.asarray(compute(logits, labels, eps=eps)) for eps in (1e-3, 1e-20, 1e-30)])
    for narrow, exact in zip(*gradients, strict=True):
        np.testing.assert_allclose(narrow, exact, atol=1e-5 * np.abs(exact).max())


def test_eps_can_be_swept_under_vmap() -> None:
    logits, labels = jnp.asarray(ORACLE["line.logits"]), jnp.asarray(ORACLE["line.labels"])
    swept = jax.jit(jax.vmap(lambda eps: losses.generalized_dice(logits, labels, eps=eps)))
    lanes = swept(jnp.array([1e-8, 1e-6, 1e-2]))
    assert float(lanes[1]) == pytest.approx(float(ORACLE["line.absent_eps.sample.0"]), abs=1e-6)
    assert float(lanes[2] - lanes[0]) > 1e-3


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

"""The surrogates of accuracy against MONAI, PyTorch, scikit-learn and their own definitions in plain Python."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxexp import losses
from jaxexp.errors import StudyError

with np.load(Path(__file__).parents[1] / "oracles" / "classification.npz", allow_pickle=False) as _file:
    ORACLE = dict(_file)

LOGITS, LABELS = ORACLE["binary.logits"], ORACLE["binary.labels"]
MARGINS = (2.0 * LABELS - 1) * LOGITS


def _probability(margin: float) -> float:
    return 1 / (1 + math.exp(-margin))


RECORDED: dict[str, Callable[..., jax.Array]] = {
    "focal": losses.focal,
    "focal_balanced": functools.partial(losses.focal, gamma=0.5, alpha=0.3),
    "absolute": functools.partial(losses.generalized_cross_entropy, q=1.0),
    "cross_entropy": functools.partial(losses.focal, gamma=0.0),
    "hinge": losses.hinge,
    "ramp": losses.ramp,
}
DEFINED: dict[str, tuple[Callable[..., jax.Array], Callable[[float], float]]] = {
    "hinge": (losses.hinge, lambda m: max(0.0, 1 - m)),
    "focal": (losses.focal, lambda m: -((1 - _probability(m)) ** 2) * math.log(_probability(m))),
    "ramp": (losses.ramp, lambda m: min(2.0, max(0.0, 1 - m))),
    "short ramp": (functools.partial(losses.ramp, cutoff=0.5), lambda m: min(0.5, max(0.0, 1 - m))),
    "smoothed": (losses.smoothed_zero_one, lambda m: 1 - _probability(m)),
    "sharp": (functools.partial(losses.smoothed_zero_one, temperature=0.2), lambda m: 1 - _probability(5 * m)),
    "generalized": (losses.generalized_cross_entropy, lambda m: (1 - _probability(m) ** 0.7) / 0.7),
    "sigmoid": (losses.sigmoid_cross_entropy, lambda m: -math.log(_probability(m))),
}


@pytest.mark.parametrize("name", RECORDED)
def test_values_and_gradients_are_those_recorded(name: str) -> None:
    with jax.enable_x64(True):
        value, slope = jax.jit(jax.value_and_grad(RECORDED[name]))(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    assert float(value) == pytest.approx(float(ORACLE[f"binary.{name}"]), abs=1e-6)
    if f"binary.{name}.gradient" in ORACLE:
        np.testing.assert_allclose(slope, ORACLE[f"binary.{name}.gradient"], atol=1e-6)


@pytest.mark.parametrize("name", DEFINED)
def test_values_and_gradients_are_those_of_the_definition(name: str) -> None:
    loss, definition = DEFINED[name]
    with jax.enable_x64(True):
        value, slope = jax.jit(jax.value_and_grad(loss))(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    assert float(value) == pytest.approx(sum(map(definition, MARGINS)) / len(MARGINS), rel=1e-12)
    step = 1e-6
    expected = [(definition(m + step) - definition(m - step)) / (2 * step) / len(MARGINS) for m in MARGINS]
    np.testing.assert_allclose(np.asarray(slope) * (2 * LABELS - 1), expected, atol=1e-9)


@pytest.mark.parametrize("name", DEFINED)
def test_everything_stays_finite_far_out_in_float32(name: str) -> None:
    loss, _ = DEFINED[name]
    logits, compute = np.array([-1e4, -200, -30, 0, 30, 200, 1e4], np.float32), jax.jit(jax.value_and_grad(loss))
    for label in (0, 1):
        value, slope = compute(logits, np.full(7, label))
        assert math.isfinite(value)
        assert np.isfinite(slope).all()


def test_an_outlier_pulls_only_where_the_loss_is_unbounded() -> None:
    outlier, label = jnp.array([-60.0]), jnp.array([1])
    pulls = jax.jit(lambda x: {name: jax.grad(loss)(x, label)[0] for name, (loss, _) in DEFINED.items()})(outlier)
    pull = {name: abs(float(size)) for name, size in pulls.items()}
    assert {name for name, size in pull.items() if size > 0.5} == {"hinge", "focal", "sigmoid"}
    assert all(size < 1e-12 for size in pull.values() if size <= 0.5)


def test_the_smoothed_loss_tends_to_the_share_of_wrong_answers_as_it_cools() -> None:
    temperatures = jnp.array([1.0, 1e-1, 1e-2, 1e-4])
    cooled = jax.jit(jax.vmap(lambda t: losses.smoothed_zero_one(LOGITS, LABELS, temperature=t)))(temperatures)
    gaps = np.abs(np.asarray(cooled) - float(ORACLE["binary.zero_one"]))
    assert gaps[-1] < 1e-6
    assert gaps[0] > gaps[-1]
    assert float(losses.threshold_accuracy(LOGITS, LABELS)) == pytest.approx(1 - float(ORACLE["binary.zero_one"]))


def test_generalized_cross_entropy_tends_to_the_cross_entropy() -> None:
    with jax.enable_x64(True):
        limit = losses.generalized_cross_entropy(jnp.asarray(LOGITS), LABELS, q=1e-9)
    assert float(limit) == pytest.approx(float(ORACLE["binary.cross_entropy"]), abs=1e-6)


def test_threshold_accuracy_moves_with_the_threshold_and_never_counts_what_is_not_finite() -> None:
    accuracy = losses.threshold_accuracy(LOGITS, LABELS, threshold=0.7)
    assert float(accuracy) == pytest.approx(float(ORACLE["binary.accuracy"]))
    bad = np.array([math.nan, math.inf, -math.inf])
    for label in (0, 1):
        assert float(losses.threshold_accuracy(bad, np.full(3, label))) == 0.0
    assert float(losses.threshold_accuracy(jnp.array([0.5]), jnp.array([0]), threshold=0.5)) == 1.0


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (losses.focal, {"gamma": -1.0}, "gamma=-1.0 is out of range"),
        (losses.focal, {"alpha": 1.0}, r"alpha=1.0 is out of range.*another number in \(0, 1\)"),
        (losses.ramp, {"cutoff": 1.0}, "Write a finite cutoff < 1"),
        (losses.ramp, {"cutoff": -math.inf}, "Write a finite cutoff < 1"),
        (losses.smoothed_zero_one, {"temperature": 0.0}, "Write a finite temperature > 0"),
        (losses.generalized_cross_entropy, {"q": 0.0}, r"losses.sigmoid_cross_entropy\(logits, labels\)"),
        (losses.generalized_cross_entropy, {"q": 1.5}, r"q=1.5 is out of range"),
    ],
)
def test_an_impossible_option_is_refused(loss: Any, options: dict[str, float], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        loss(LOGITS, LABELS, **options)


@pytest.mark.parametrize(
    "loss",
    [
        losses.hinge,
        losses.focal,
        losses.ramp,
        losses.smoothed_zero_one,
        losses.generalized_cross_entropy,
        losses.threshold_accuracy,
    ],
)
def test_shapes_that_would_broadcast_are_refused(loss: Any) -> None:
    with pytest.raises(StudyError, match=rf"losses\.{loss.__name__}: .*Write outputs\[..., 0\]"):
        loss(LOGITS[:, None], LABELS)
    with pytest.raises(StudyError, match="without an example"):
        loss(jnp.zeros(0), jnp.zeros(0))

"""What experiments train and judge with: squared error, cross-entropy, accuracy and the L2 penalty."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxexp import losses
from jaxexp.errors import StudyError

RANDOM = np.random.default_rng(7)
OUTPUTS = RANDOM.normal(size=(6, 4))
ONE_HOT = np.eye(4)[[0, 3, 1, 1, 2, 0]]
CLASSES = ONE_HOT.argmax(-1)


def test_half_squared_error_sums_over_outputs_and_averages_over_the_minibatch() -> None:
    expected = 0.0
    for outputs, labels in zip(OUTPUTS, ONE_HOT, strict=True):
        expected += sum(0.5 * (o - y) ** 2 for o, y in zip(outputs, labels, strict=True)) / len(OUTPUTS)
    with jax.enable_x64(True):
        assert float(losses.half_squared_error(OUTPUTS, ONE_HOT)) == pytest.approx(expected, rel=1e-14)
        slope = jax.jit(jax.grad(losses.half_squared_error))(jnp.asarray(OUTPUTS), ONE_HOT)
        np.testing.assert_allclose(slope, (OUTPUTS - ONE_HOT) / 6, rtol=1e-14)


def test_half_squared_error_takes_integer_targets_and_outputs_of_any_rank() -> None:
    assert float(losses.half_squared_error(jnp.array([1.0, 4.0]), jnp.array([1, 0]))) == 4.0
    assert float(losses.half_squared_error(jnp.ones((2, 3, 5)), jnp.zeros((2, 3, 5)))) == 7.5


def test_softmax_cross_entropy_is_the_mean_of_minus_log_softmax() -> None:
    expected = 0.0
    for row, label in zip(OUTPUTS, CLASSES, strict=True):
        expected -= math.log(math.exp(row[label]) / sum(map(math.exp, row))) / len(CLASSES)
    with jax.enable_x64(True):
        assert float(losses.softmax_cross_entropy(OUTPUTS, CLASSES)) == pytest.approx(expected, rel=1e-14)
        as_image = losses.softmax_cross_entropy(OUTPUTS.reshape(3, 2, 4), CLASSES.reshape(3, 2))
        assert float(as_image) == pytest.approx(expected, rel=1e-14)


def test_softmax_cross_entropy_survives_large_logits_and_shows_labels_out_of_range() -> None:
    logits = jnp.array([[1e4, 0.0], [0.0, -1e4]])
    loss, slope = jax.jit(jax.value_and_grad(losses.softmax_cross_entropy))(logits, jnp.array([1, 0]))
    assert float(loss) == 5000.0
    np.testing.assert_array_equal(slope, [[0.5, -0.5], [0.0, 0.0]])
    assert math.isnan(losses.softmax_cross_entropy(logits, jnp.array([0, 2])))


def test_accuracy_counts_the_largest_output() -> None:
    outputs = jnp.array([[0.0, 1.0, 0.5], [2.0, 2.0, 1.0], [0.0, 1.0, 3.0], [0.0, 0.0, -1.0]])
    assert float(losses.accuracy(outputs, jnp.array([1, 0, 0, 0]))) == 0.75
    assert float(losses.accuracy(outputs, jnp.array([1, 1, 0, 2]))) == 0.25


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_example_with_an_output_that_is_not_finite_is_never_right(bad: float) -> None:
    for position in range(3):
        outputs = jnp.array([[0.0, 1.0, 0.5]] * 2).at[0, position].set(bad)
        scores = [float(losses.accuracy(outputs, jnp.array([label, 1]))) for label in range(3)]
        assert scores == [0.5, 0.5, 0.5]


def test_a_label_that_is_no_class_is_wrong() -> None:
    assert float(losses.accuracy(jnp.eye(3), jnp.array([0, -1, 3]))) == pytest.approx(1 / 3)


def test_l2_penalty_and_its_gradient() -> None:
    params = {"a": OUTPUTS, "b": [ONE_HOT]}
    with jax.enable_x64(True):
        expected = 0.5 * 0.3 * ((OUTPUTS**2).sum() + 6)
        assert float(losses.l2_penalty(params, 0.3)) == pytest.approx(expected, rel=1e-14)
        slope = jax.jit(jax.grad(losses.l2_penalty))(jax.tree.map(jnp.asarray, params), 0.3)
        np.testing.assert_allclose(slope["a"], 0.3 * OUTPUTS, rtol=1e-14)
    assert float(losses.l2_penalty({}, 0.3)) == 0.0


def test_l2_penalty_of_zeros_has_a_zero_gradient() -> None:
    assert float(jax.grad(losses.l2_penalty)(jnp.zeros(()), 1.0)) == 0.0


def test_strengths_are_traced_under_vmap() -> None:
    lanes = jax.vmap(losses.l2_penalty, in_axes=(None, 0))(jnp.array([2.0]), jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(lanes, [0.0, 2.0])


FLOATS, INTEGERS = jnp.zeros((6, 4)), jnp.zeros(6, int)


@pytest.mark.parametrize(
    ("function", "outputs", "labels", "message"),
    [
        (losses.half_squared_error, FLOATS, INTEGERS, r"Write jax.nn.one_hot\(labels, 4\)"),
        (losses.half_squared_error, jnp.zeros((6, 1)), jnp.zeros(6), r"Write outputs\[..., 0\]"),
        (losses.half_squared_error, jnp.zeros(6), jnp.zeros((6, 1)), r"Write labels\[..., 0\]"),
        (losses.half_squared_error, FLOATS, jnp.zeros((4, 6)), r"\(6, 4\) and labels \(4, 6\)"),
        (losses.half_squared_error, INTEGERS, INTEGERS, r"outputs have dtype int32.*outputs.astype\(float\)"),
        (losses.half_squared_error, jnp.zeros(()), jnp.zeros(()), r"outputs\[None\]"),
        (losses.half_squared_error, jnp.zeros((0, 4)), jnp.zeros((0, 4)), "without an example"),
        (losses.softmax_cross_entropy, FLOATS, FLOATS, r"labels.argmax\(-1\)"),
        (losses.softmax_cross_entropy, FLOATS, FLOATS.astype(int), r"labels.argmax\(-1\)"),
        (losses.softmax_cross_entropy, FLOATS, jnp.zeros(5, int), r"\(6, 4\) and labels \(5,\)"),
        (losses.accuracy, FLOATS, jnp.zeros(6), "labels have dtype float32"),
        (losses.accuracy, jnp.zeros((0, 4)), jnp.zeros(0, int), "without an example"),
        (losses.softmax_cross_entropy, jnp.zeros((0, 4)), jnp.zeros(0, int), "without an example"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(
    function: Any, outputs: jax.Array, labels: jax.Array, message: str
) -> None:
    with pytest.raises(StudyError, match=rf"(?s)losses\.{function.__name__}: .*{message}"):
        function(outputs, labels)
    with pytest.raises(ValueError, match=message):
        jax.jit(function)(outputs, labels)


@pytest.mark.parametrize("strength", [-0.1, math.nan, math.inf])
def test_an_impossible_strength_is_refused(strength: float) -> None:
    with pytest.raises(StudyError, match="Write a finite strength >= 0"):
        losses.l2_penalty(FLOATS, strength)

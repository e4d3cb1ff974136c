"""The squared error of TensorFlow 1: its figures, and every reduction against plain loops."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxexp import losses
from jaxexp.errors import StudyError
from jaxexp.losses import Reduction

with np.load(Path(__file__).parents[1] / "oracles" / "regression.npz", allow_pickle=False) as _file:
    ORACLE = dict(_file)

LABELS = [[1, 0, 0], [0, 0, 1]]
PREDICTIONS = [[0.9, 0.2, 0.2], [0.2, 0.8, 0.3]]
R = Reduction


@pytest.mark.parametrize(
    ("weights", "reduction", "figure"),
    [
        (1.0, R.SUM_BY_NONZERO_WEIGHTS, 0.21),
        (1.0, R.MEAN, 0.21),
        (1.0, R.SUM, 1.26),
        (1.0, R.SUM_OVER_BATCH_SIZE, 0.21),
        (2.0, R.SUM, 2.52),
        (2.0, R.MEAN, 0.21),
        (2.0, R.SUM_BY_NONZERO_WEIGHTS, 0.42),
        ([[1], [0]], R.SUM, 0.09),
        ([[1], [0]], R.MEAN, 0.03),
        ([[1], [0]], R.SUM_BY_NONZERO_WEIGHTS, 0.03),
        ([[1], [0]], R.SUM_OVER_NONZERO_WEIGHTS, 0.03),
        ([[1], [0]], R.SUM_OVER_BATCH_SIZE, 0.015),
        ([[1, 0, 2]], R.SUM_BY_NONZERO_WEIGHTS, (0.01 + 0.08 + 0.04 + 0.98) / 4),
        ([[1, 0, 2]], R.MEAN, (0.01 + 0.08 + 0.04 + 0.98) / 6),
        (0.0, R.SUM_BY_NONZERO_WEIGHTS, 0.0),
    ],
)
def test_the_figures(weights: Any, reduction: Reduction, figure: float) -> None:
    with jax.enable_x64(True):
        value = losses.mean_squared_error(
            jnp.asarray(LABELS), jnp.asarray(PREDICTIONS), jnp.asarray(weights), reduction
        )
        assert float(value) == pytest.approx(figure, abs=1e-12)
        by_string = losses.mean_squared_error(
            jnp.asarray(LABELS), jnp.asarray(PREDICTIONS), jnp.asarray(weights), reduction.value
        )
        assert float(by_string) == float(value)


def test_lists_and_the_default_reduction_give_the_printed_figure() -> None:
    with jax.enable_x64(True):
        value = losses.mean_squared_error(LABELS, PREDICTIONS)  # pyright: ignore[reportArgumentType]
        assert float(value) == pytest.approx(0.21, abs=1e-12)


def test_values_are_those_of_torch_and_sklearn() -> None:
    outputs, labels, weights = ORACLE["outputs"], ORACLE["labels"], ORACLE["weights"]
    with jax.enable_x64(True):
        unreduced = losses.mean_squared_error(labels, outputs, reduction=R.NONE)
        values = {
            "mean": losses.mean_squared_error(labels, outputs),
            "sum": losses.mean_squared_error(labels, outputs, reduction=R.SUM),
            "weighted_mean": losses.mean_squared_error(labels, outputs, weights, R.MEAN),
        }
        np.testing.assert_allclose(unreduced, ORACLE["mse.none"], rtol=1e-12)
        for name, value in values.items():
            assert float(value) == pytest.approx(float(ORACLE[f"mse.{name}"]), rel=1e-12)


def _plain(labels: Any, predictions: Any, weights: np.ndarray, reduction: Reduction) -> Any:
    """TensorFlow's semantics, an element at a time."""
    spread = np.broadcast_to(weights, (2, 3))
    weighted = [[float(spread[i, j]) * (predictions[i][j] - labels[i][j]) ** 2 for j in range(3)] for i in range(2)]
    if reduction is R.NONE:
        return weighted
    total = sum(map(sum, weighted))
    divisor = {
        R.SUM: 1.0,
        R.MEAN: float(spread.sum()),
        R.SUM_OVER_BATCH_SIZE: 6.0,
        R.SUM_BY_NONZERO_WEIGHTS: float(np.count_nonzero(spread)),
    }[reduction]
    return total / divisor if divisor != 0 else 0.0


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([(), (1, 1), (2, 1), (1, 3), (2, 3)]), st.data())
def test_every_reduction_agrees_with_plain_loops(shape: tuple[int, ...], data: st.DataObject) -> None:
    size = math.prod(shape)
    drawn = data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=size, max_size=size))
    weights = np.array(drawn).reshape(shape)
    with jax.enable_x64(True):
        for reduction in Reduction:
            value = losses.mean_squared_error(jnp.asarray(LABELS), jnp.asarray(PREDICTIONS), weights, reduction)
            np.testing.assert_allclose(value, _plain(LABELS, PREDICTIONS, weights, reduction), rtol=1e-12)


@pytest.mark.parametrize("reduction", list(Reduction))
def test_weights_that_are_all_zero_give_zero_with_a_finite_gradient(reduction: Reduction) -> None:
    def loss(predictions: jax.Array, weights: jax.Array) -> jax.Array:
        return losses.mean_squared_error(jnp.asarray(LABELS), predictions, weights, reduction).sum()

    value, slopes = jax.value_and_grad(loss, argnums=(0, 1))(jnp.asarray(PREDICTIONS), jnp.zeros((2, 1)))
    assert float(value) == 0.0
    assert not slopes[0].any()
    assert bool(jnp.isfinite(slopes[1]).all())


def test_no_reduction_keeps_the_shape_of_the_labels() -> None:
    value = losses.mean_squared_error(jnp.zeros((2, 3)), jnp.ones((2, 3)), jnp.array([[1.0, 0.0, 2.0]]), "none")
    np.testing.assert_array_equal(value, [[1.0, 0.0, 2.0]] * 2)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2,), r"weights have shape \(2,\).*same rank.*Write weights.reshape\(\(2, 1\)\)"),
        ((3,), r"Write weights.reshape\(\(1, 3\)\)"),
        ((1,), "same rank"),
        ((2, 3, 1), "same rank"),
        ((2, 2), r"each dimension is 1 or equal.*weights of shape \(2, 1\)"),
        ((3, 2), "each dimension is 1 or equal"),
        ((0, 3), "each dimension is 1 or equal"),
    ],
)
def test_other_weights_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        losses.mean_squared_error(jnp.zeros((2, 3)), jnp.zeros((2, 3)), jnp.ones(shape))


def test_other_shapes_and_reductions_are_refused() -> None:
    with pytest.raises(StudyError, match=r"labels have shape \(3,\) and predictions \(3, 1\)"):
        losses.mean_squared_error(jnp.zeros(3), jnp.zeros((3, 1)))
    with pytest.raises(StudyError, match=r"'weighted_sums' is no Reduction; did you mean 'weighted_sum'\?"):
        losses.mean_squared_error(jnp.zeros(3), jnp.zeros(3), reduction="weighted_sums")

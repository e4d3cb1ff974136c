"""Negative log-likelihoods against printed figures, SciPy, and values of PyTorch and scikit-learn."""

import functools
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxexp import losses
from jaxexp.errors import StudyError
from jaxexp.losses import Rows

FOLDER = Path(__file__).parents[1] / "oracles"
with np.load(FOLDER / "classification.npz", allow_pickle=False) as _file:
    ORACLE = dict(_file)
with np.load(FOLDER / "regression.npz", allow_pickle=False) as _file:
    NORMAL = dict(_file)

LABELS = np.array([[1, 0, 0], [0, 0, 1]])
PREDICTIONS = np.array([[0.9, 0.2, 0.2], [0.2, 0.8, 0.3]])


@pytest.mark.parametrize(
    ("rows", "figure"),
    [(Rows.RAW, 1.3093333200), (Rows.NORMALIZED, 1.8340618489), (Rows.LOGITS, 1.9576761899)],
)
def test_the_printed_predictions_have_the_three_figures(rows: Rows, figure: float) -> None:
    with jax.enable_x64(True):
        for labels in (LABELS, LABELS.argmax(axis=1)):
            value = losses.categorical_nll(PREDICTIONS, labels, rows=rows)
            assert float(value) == pytest.approx(figure, abs=1e-9)  # printed with ten digits
            assert float(value) == pytest.approx(_closed_form(rows), rel=1e-12)


def _closed_form(rows: Rows) -> float:
    """Minus the logarithm of the true classes' probabilities: .9 and .3 as they are, over 1.3, or as logits."""
    if rows is Rows.LOGITS:
        return sum(
            math.log(sum(map(math.exp, row))) - row[true]
            for row, true in zip(PREDICTIONS.tolist(), (0, 2), strict=True)
        )
    return -math.log(0.9) - math.log(0.3) + (2 * math.log(1.3) if rows is Rows.NORMALIZED else 0)


def test_raw_rows_are_no_likelihood_since_their_scale_counts() -> None:
    with jax.enable_x64(True):
        raw, normalized = (
            [float(losses.categorical_nll(c * PREDICTIONS, LABELS, rows=rows)) for c in (1.0, 1 / 1.3)]
            for rows in (Rows.RAW, Rows.NORMALIZED)
        )
    assert raw[1] - raw[0] == pytest.approx(2 * math.log(1.3), abs=1e-12)
    assert normalized == pytest.approx([raw[1], raw[1]], abs=1e-12)


def test_categorical_values_are_those_of_torch_and_sklearn() -> None:
    labels = ORACLE["classes.labels"].astype(int)
    with jax.enable_x64(True):
        logits, scores = jnp.asarray(ORACLE["classes.logits"]), jnp.asarray(ORACLE["classes.scores"])
        mean, slope = jax.jit(jax.value_and_grad(losses.softmax_cross_entropy))(logits, labels)
        nll = jax.jit(losses.categorical_nll, static_argnames="rows")
        values = {
            "cross_entropy": mean,
            "normalized_nll": nll(scores, labels, rows="normalized"),
            "raw_nll": nll(scores, labels, rows="raw"),
            "accuracy": jax.jit(losses.accuracy)(logits, labels),
        }
        for name, value in values.items():
            assert float(value) == pytest.approx(float(ORACLE[f"classes.{name}"]), abs=1e-6), name
        np.testing.assert_allclose(slope, ORACLE["classes.cross_entropy.gradient"], atol=1e-7)
        assert float(nll(logits, labels)) == pytest.approx(25 * float(mean), rel=1e-12)


def test_bernoulli_values_are_those_of_torch_and_scipy() -> None:
    with jax.enable_x64(True):
        logits, labels = jnp.asarray(ORACLE["binary.logits"]), ORACLE["binary.labels"]
        probabilities = jax.nn.sigmoid(logits)
        expected = -scipy.stats.bernoulli.logpmf(labels, np.asarray(probabilities)).sum()
        from_probabilities = losses.bernoulli_nll(probabilities, labels, from_logits=False)
        assert float(losses.bernoulli_nll(logits, labels)) == pytest.approx(expected, rel=1e-12)
        assert float(from_probabilities) == pytest.approx(expected, rel=1e-12)
        assert float(from_probabilities) == pytest.approx(float(ORACLE["binary.probability_nll"]), abs=1e-6)
        assert float(losses.bernoulli_nll(logits, labels)) == pytest.approx(float(ORACLE["binary.nll"]), abs=1e-6)
        mean, slope = jax.jit(jax.value_and_grad(losses.sigmoid_cross_entropy))(logits, labels)
        assert float(mean) == pytest.approx(float(ORACLE["binary.cross_entropy"]), abs=1e-6)
        np.testing.assert_allclose(slope, ORACLE["binary.cross_entropy.gradient"], atol=1e-7)


@pytest.mark.parametrize(
    ("loss", "certain"),
    [
        (functools.partial(losses.categorical_nll, rows=Rows.RAW), [[1.0, 0.0]]),
        (functools.partial(losses.categorical_nll, rows=Rows.NORMALIZED), [[1.0, 0.0]]),
        (functools.partial(losses.bernoulli_nll, from_logits=False), [0.0, 1.0]),
    ],
    ids=["raw", "normalized", "bernoulli"],
)
def test_what_cannot_happen_costs_nothing_unless_it_happens(loss: Any, certain: Any) -> None:
    compute = jax.jit(jax.value_and_grad(loss))
    outputs = jnp.array(certain)
    value, slope = compute(outputs, outputs)
    assert float(value) == 0.0
    assert np.isfinite(slope).all()
    assert float(compute(outputs, 1 - outputs)[0]) == math.inf


def test_a_class_excluded_by_a_logit_of_minus_infinity_costs_nothing() -> None:
    compute = jax.jit(jax.value_and_grad(losses.categorical_nll))
    for labels in (np.array([0]), np.array([[1.0, 0.0]])):
        value, slope = compute(np.array([[0.0, -np.inf]]), labels)
        assert float(value) == 0.0
        assert not slope.any()


def test_gaussian_values_are_those_of_torch_and_scipy() -> None:
    outputs, labels, variance = NORMAL["outputs"], NORMAL["labels"], NORMAL["variance"]
    with jax.enable_x64(True):
        value = float(losses.gaussian_nll(outputs, labels, variance=variance))
        alike = float(losses.gaussian_nll(outputs, labels, variance=2.5))
    assert value == pytest.approx(float(NORMAL["gaussian_nll"]), abs=1e-6)
    assert value == pytest.approx(-scipy.stats.norm.logpdf(labels, outputs, np.sqrt(variance)).sum(), rel=1e-12)
    assert alike == pytest.approx(-scipy.stats.norm.logpdf(labels, outputs, math.sqrt(2.5)).sum(), rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-10, 10), min_size=6, max_size=6),
    st.floats(1e-3, 1e3),
)
def test_the_squared_error_is_a_gaussian_likelihood_up_to_constants(values: list[float], variance: float) -> None:
    labels, outputs = np.array(values[:3]), np.array(values[3:])
    with jax.enable_x64(True):
        mse = losses.mean_squared_error(labels, outputs)
        direct = float(losses.gaussian_nll(outputs, labels, variance=variance))
        linked = float(losses.gaussian_nll_from_mse(mse, num_values=3, variance=variance))
    assert linked == pytest.approx(direct, rel=1e-12, abs=1e-12)


def test_the_most_likely_variance_is_the_squared_error() -> None:
    with jax.enable_x64(True):
        best = float(losses.gaussian_nll_from_mse(0.21, num_values=6))
        at = {v: float(losses.gaussian_nll_from_mse(0.21, num_values=6, variance=v)) for v in (0.2, 0.21, 0.22)}
        labels, outputs = LABELS.astype(float), PREDICTIONS
        assert float(losses.gaussian_nll(outputs, labels, variance=0.21)) == pytest.approx(best, rel=1e-12)
    assert at[0.21] == pytest.approx(best, rel=1e-12)
    assert min(at[0.2], at[0.22]) > best


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int8, jnp.int16, jnp.int32])
def test_labels_of_a_narrow_dtype_are_those_of_int32(dtype: Any) -> None:
    logits, labels = jnp.arange(600.0).reshape(2, 300) % 7, jnp.array([0, 100])
    for loss in (losses.softmax_cross_entropy, losses.categorical_nll):
        assert float(loss(logits, labels.astype(dtype))) == float(loss(logits, labels))


@pytest.mark.parametrize("label", [-1, 10])
@pytest.mark.parametrize("rows", Rows)
def test_a_label_that_is_no_class_costs_nan_and_not_nothing(label: int, rows: Rows) -> None:
    outputs, labels = jnp.full((2, 10), 0.1), jnp.array([3, label])
    assert math.isnan(losses.categorical_nll(outputs, labels, rows=rows))
    assert math.isnan(losses.softmax_cross_entropy(outputs, labels))
    assert math.isfinite(losses.categorical_nll(outputs, jnp.array([3, 9]), rows=rows))


def test_what_does_not_fit_is_refused() -> None:
    outputs = jnp.zeros((2, 3))
    with pytest.raises(StudyError, match=r"rows='softmax' is no Rows; known: logits, normalized, raw"):
        losses.categorical_nll(outputs, jnp.zeros(2, int), rows="softmax")
    with pytest.raises(StudyError, match=r"categorical_nll: outputs have shape \(2, 3\) and labels \(3,\)"):
        losses.categorical_nll(outputs, jnp.zeros(3, int))
    with pytest.raises(StudyError, match=r"variance has shape \(3,\).*jnp.broadcast_to\(variance, \(2, 3\)\)"):
        losses.gaussian_nll(outputs, outputs, variance=jnp.ones(3))
    for variance in (0.0, -1.0, math.nan):
        with pytest.raises(StudyError, match="Write a finite variance > 0"):
            losses.gaussian_nll(outputs, outputs, variance=variance)
        with pytest.raises(StudyError, match="Write a finite variance > 0"):
            losses.gaussian_nll_from_mse(1.0, num_values=3, variance=variance)
    with pytest.raises(StudyError, match="num_values=0 is out of range"):
        losses.gaussian_nll_from_mse(1.0, num_values=0)
    for loss in (losses.bernoulli_nll, losses.sigmoid_cross_entropy, losses.gaussian_nll):
        with pytest.raises(StudyError, match=rf"{loss.__name__}: outputs have shape \(2, 3\) and labels \(2,\)"):
            loss(outputs, jnp.zeros(2))

"""The closed-form gradients against jax.grad, and both against finite differences of a plain NumPy loss."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxexp import gradients
from jaxexp.errors import StudyError

NUM_EXAMPLES, NUM_FEATURES, NUM_HIDDEN, NUM_CLASSES = 30, 2, 17, 3


class Model(NamedTuple):
    loss: Callable[..., jax.Array]
    gradient: Callable[..., Any]
    logits: Callable[[Any, np.ndarray], np.ndarray]
    shapes: Any


def _layer(num_inputs: int, num_outputs: int) -> dict[str, tuple[int, ...]]:
    return {"kernel": (num_inputs, num_outputs), "bias": (num_outputs,)}


def _affine(layer: Any, inputs: np.ndarray) -> np.ndarray:
    return inputs @ layer["kernel"] + layer["bias"]


MODELS = {
    "softmax_regression": Model(
        gradients.softmax_regression_loss,
        gradients.softmax_regression,
        _affine,
        _layer(NUM_FEATURES, NUM_CLASSES),
    ),
    "two_layer_relu": Model(
        gradients.two_layer_relu_loss,
        gradients.two_layer_relu,
        lambda params, inputs: _affine(params["output"], np.maximum(_affine(params["hidden"], inputs), 0)),
        {"hidden": _layer(NUM_FEATURES, NUM_HIDDEN), "output": _layer(NUM_HIDDEN, NUM_CLASSES)},
    ),
}
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


def _case(model: Model, seed: int, scale: float = 1.0) -> tuple[Any, np.ndarray, np.ndarray, float]:
    random = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda shape: scale * random.normal(size=shape), model.shapes, is_leaf=lambda x: isinstance(x, tuple)
    )
    inputs = random.normal(size=(NUM_EXAMPLES, NUM_FEATURES))
    return params, inputs, random.integers(0, NUM_CLASSES, NUM_EXAMPLES), 0.03


def _plain_loss(model: Model, params: Any, inputs: np.ndarray, labels: np.ndarray, l2: float) -> float:
    """The loss once more, an example at a time, without JAX."""
    total = 0.0
    for row, label in zip(model.logits(params, inputs), labels, strict=True):
        total += math.log(sum(math.exp(score - row[label]) for score in row))
    kernels = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if "kernel" in str(path)]
    return total / len(labels) + 0.5 * l2 * sum(float((kernel**2).sum()) for kernel in kernels)


def _largest_difference(left: Any, right: Any) -> float:
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


@each_model
@pytest.mark.parametrize(("x64", "tolerance"), [(False, 5e-7), (True, 1e-14)], ids=["f32", "f64"])
@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_closed_form_is_the_gradient_of_the_loss(model: Model, x64: bool, tolerance: float, scale: float) -> None:
    with jax.enable_x64(x64):
        by_hand, by_jax = jax.jit(model.gradient), jax.jit(jax.grad(model.loss))
        for seed in range(20):
            case = jax.tree.map(jnp.asarray, _case(model, seed, scale))
            expected = by_jax(*case)
            actual = by_hand(*case)
            assert jax.tree.structure(actual) == jax.tree.structure(expected)
            assert {leaf.dtype for leaf in jax.tree.leaves(actual)} == {case[1].dtype}
            assert _largest_difference(actual, expected) <= tolerance


@each_model
def test_closed_form_is_the_slope_of_a_plain_loss(model: Model) -> None:
    params, inputs, labels, l2 = _case(model, 0)
    step = 1e-6
    leaves, structure = jax.tree.flatten(params)
    slopes = [np.empty_like(leaf) for leaf in leaves]
    for which, leaf in enumerate(leaves):
        for index in np.ndindex(leaf.shape):
            sides = []
            for signed in (step, -step):
                moved = [other.copy() for other in leaves]
                moved[which][index] += signed
                sides.append(_plain_loss(model, jax.tree.unflatten(structure, moved), inputs, labels, l2))
            slopes[which][index] = (sides[0] - sides[1]) / (2 * step)
    with jax.enable_x64(True):
        actual = jax.jit(model.gradient)(params, inputs, labels, l2)
        assert float(jax.jit(model.loss)(params, inputs, labels, l2)) == pytest.approx(
            _plain_loss(model, params, inputs, labels, l2), rel=1e-13
        )
    assert _largest_difference(actual, jax.tree.unflatten(structure, slopes)) <= 1e-8


@each_model
def test_vmaps_over_the_penalty_and_the_parameters(model: Model) -> None:
    cases = [_case(model, seed) for seed in range(3)]
    penalties = np.array([0.0, 0.1, 1.0], np.float32)
    _, inputs, labels, _ = cases[0]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(case[0] for case in cases))
    gradient = jax.jit(model.gradient)
    lanes = jax.jit(jax.vmap(model.gradient, in_axes=(0, None, None, 0)))(stacked, inputs, labels, penalties)
    for lane, penalty in enumerate(penalties):
        alone = gradient(cases[lane][0], inputs, labels, penalty)
        assert _largest_difference(jax.tree.map(lambda leaf, i=lane: leaf[i], lanes), alone) <= 1e-6


def test_a_relu_passes_no_gradient_at_exactly_zero() -> None:
    model = MODELS["two_layer_relu"]
    params, inputs, labels, l2 = _case(model, 3)
    params["hidden"] = jax.tree.map(np.zeros_like, params["hidden"])
    actual = jax.jit(model.gradient)(params, inputs, labels, l2)
    assert float(jnp.abs(actual["hidden"]["kernel"]).max()) == 0.0
    expected = jax.jit(jax.grad(model.loss))(jax.tree.map(jnp.asarray, params), inputs, labels, l2)
    assert _largest_difference(actual, expected) <= 5e-7


@each_model
def test_large_scores_stay_finite(model: Model) -> None:
    case = jax.tree.map(jnp.asarray, _case(model, 3, scale=1e3))
    actual, expected = jax.jit(model.gradient)(*case), jax.jit(jax.grad(model.loss))(*case)
    assert all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(expected))
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    assert _largest_difference(actual, expected) <= 5e-7 * scale


PARAMS = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}


@pytest.mark.parametrize(
    ("params", "inputs", "labels", "message"),
    [
        ({"weights": PARAMS["kernel"]}, (4, 2), jnp.zeros(4, int), r"\['weights'\] but no 'kernel'"),
        (PARAMS, (4, 5), jnp.zeros(4, int), r"Write a kernel of shape \(5, out\)"),
        ({**PARAMS, "bias": jnp.zeros((1, 3))}, (4, 2), jnp.zeros(4, int), r"bias of shape \(1, 3\)"),
        (PARAMS, (4, 2, 1), jnp.zeros(4, int), r"inputs have shape \(4, 2, 1\)"),
        (PARAMS, (4, 2), jnp.zeros(5, int), r"labels \(5,\)"),
        (PARAMS, (4, 2), jnp.zeros(4), r"dtype float32.*Write labels.astype\(int\)"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(
    params: Any, inputs: tuple[int, ...], labels: jax.Array, message: str
) -> None:
    for function in (gradients.softmax_regression, gradients.softmax_regression_loss):
        with pytest.raises(StudyError, match=message):
            function(params, jnp.ones(inputs), labels, 1e-3)


def test_a_net_without_an_output_layer_is_refused() -> None:
    for function in (gradients.two_layer_relu, gradients.two_layer_relu_loss):
        with pytest.raises(StudyError, match=r"params has \['hidden'\] but no 'output'"):
            function({"hidden": PARAMS}, jnp.ones((4, 2)), jnp.zeros(4, int), 1e-3)

"""Closed-form gradients of two small classifiers, each beside the loss that it is the gradient of.

They show where a softmax classifier's gradients come from, and check `jax.grad` and are checked by it. For
training use `jax.grad`: nothing here is faster, and no other model is covered.

Parameters are spelled as flax spells them: ``{"kernel": [in, out], "bias": [out]}`` for a layer. The penalty
holds the kernels only. Products are computed at full precision, since an accelerator's default (bfloat16 or
TF32 products) would differ from the closed form by more than rounding.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxexp.errors import StudyError

Layer = Mapping[str, jax.Array]
"""One affine layer: ``kernel [in, out]`` and ``bias [out]``."""


def softmax_regression_loss(params: Layer, inputs: ArrayLike, labels: ArrayLike, l2: ArrayLike) -> jax.Array:
    """Returns the mean cross-entropy of a linear classifier plus half of `l2` times its squared weights.

    Args:
        params: ``kernel [num_features, num_classes]`` and ``bias [num_classes]``, floating.
        inputs: ``[batch, num_features]``, floating.
        labels: ``[batch]``, integers in ``[0, num_classes)``.
        l2: Scalar, at least 0; may be traced. The bias is not penalised.

    Returns:
        A scalar.

    Raises:
        StudyError: If `params` lacks a kernel or a bias, or a shape does not match.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 4.108, averaged, with the L2
    term of the CS231n course notes, "Putting it together: Minimal Neural Network Case Study".

    Example:
        >>> params = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}
        >>> loss = softmax_regression_loss(params, jnp.ones((4, 2)), jnp.array([0, 1, 2, 0]), 1e-3)
        >>> print(f"{loss:.6f}")  # log 3
        1.098612
    """
    inputs, labels = _examples("softmax_regression_loss", inputs, labels)
    logits = _affine("softmax_regression_loss", "params", params, inputs)
    return _cross_entropy(logits, labels) + _penalty(l2, params)


def softmax_regression(params: Layer, inputs: ArrayLike, labels: ArrayLike, l2: ArrayLike) -> dict[str, jax.Array]:
    """Returns the gradient of `softmax_regression_loss` with respect to `params`, in closed form.

    With P the softmax probabilities ``[batch, num_classes]`` and Y the one-hot labels, the gradient with
    respect to the logits is ``G = (P - Y) / batch``: each row is what was predicted minus what should have
    been. The logits are ``inputs @ kernel + bias``, so the chain rule gives ``inputs.T @ G + l2 * kernel``
    for the kernel and the sum of the rows of G for the bias.

    Args:
        params: ``kernel [num_features, num_classes]`` and ``bias [num_classes]``, floating.
        inputs: ``[batch, num_features]``, floating.
        labels: ``[batch]``, integers in ``[0, num_classes)``.
        l2: Scalar, at least 0; may be traced. The bias is not penalised.

    Returns:
        ``{"kernel", "bias"}`` of the parameters' shapes.

    Raises:
        StudyError: If `params` lacks a kernel or a bias, or a shape does not match.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 4.109, averaged, plus the L2
    term.

    Example:
        >>> params = {"kernel": jnp.zeros((1, 2)), "bias": jnp.zeros(2)}
        >>> gradient = softmax_regression(params, jnp.array([[2.0], [4.0]]), jnp.array([0, 1]), 0.0)
        >>> print(gradient["kernel"], gradient["bias"])
        [[ 0.5 -0.5]] [0. 0.]
    """
    inputs, labels = _examples("softmax_regression", inputs, labels)
    logits = _affine("softmax_regression", "params", params, inputs)
    return _affine_gradient(params, inputs, _logit_gradient(logits, labels), l2)


def two_layer_relu_loss(params: Mapping[str, Layer], inputs: ArrayLike, labels: ArrayLike, l2: ArrayLike) -> jax.Array:
    """Returns the mean cross-entropy of a two-layer ReLU net plus half of `l2` times its squared weights.

    Args:
        params: ``hidden`` and ``output``, each with ``kernel [in, out]`` and ``bias [out]``, floating.
        inputs: ``[batch, num_features]``, floating.
        labels: ``[batch]``, integers in ``[0, num_classes)``.
        l2: Scalar, at least 0; may be traced. The biases are not penalised.

    Returns:
        A scalar.

    Raises:
        StudyError: If `params` lacks a layer, a kernel or a bias, or a shape does not match.

    Source: the CS231n course notes, "Putting it together: Minimal Neural Network Case Study".

    Example:
        >>> hidden = {"kernel": jnp.zeros((2, 5)), "bias": jnp.zeros(5)}
        >>> params = {"hidden": hidden, "output": {"kernel": jnp.zeros((5, 3)), "bias": jnp.zeros(3)}}
        >>> print(f"{two_layer_relu_loss(params, jnp.ones((1, 2)), jnp.array([2]), 1e-3):.6f}")  # log 3
        1.098612
    """
    inputs, labels = _examples("two_layer_relu_loss", inputs, labels)
    hidden, output = _layers("two_layer_relu_loss", params)
    _, logits = _two_layer("two_layer_relu_loss", hidden, output, inputs)
    return _cross_entropy(logits, labels) + _penalty(l2, hidden, output)


def two_layer_relu(
    params: Mapping[str, Layer], inputs: ArrayLike, labels: ArrayLike, l2: ArrayLike
) -> dict[str, dict[str, jax.Array]]:
    """Returns the gradient of `two_layer_relu_loss` with respect to `params`, in closed form.

    The output layer is a softmax classifier of the hidden units (see `softmax_regression`). The gradient with
    respect to these is ``G @ kernel.T``; a ReLU passes it where its input is above 0 and stops it elsewhere
    (at 0 too, as `jax.nn.relu` does), and the hidden layer is affine in the inputs again.

    Args:
        params: ``hidden`` and ``output``, each with ``kernel [in, out]`` and ``bias [out]``, floating.
        inputs: ``[batch, num_features]``, floating.
        labels: ``[batch]``, integers in ``[0, num_classes)``.
        l2: Scalar, at least 0; may be traced. The biases are not penalised.

    Returns:
        ``{"hidden", "output"}`` of ``{"kernel", "bias"}`` of the parameters' shapes.

    Raises:
        StudyError: If `params` lacks a layer, a kernel or a bias, or a shape does not match.

    Source: Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors" (1986), for
    the layers of the CS231n course notes, "Putting it together: Minimal Neural Network Case Study".

    Example:
        >>> hidden = {"kernel": jnp.array([[1.0, -1.0]]), "bias": jnp.zeros(2)}
        >>> output = {"kernel": jnp.array([[1.0, 0.0], [0.0, 1.0]]), "bias": jnp.array([0.0, 3.0])}
        >>> params = {"hidden": hidden, "output": output}
        >>> gradient = two_layer_relu(params, jnp.array([[3.0]]), jnp.array([1]), 0.0)
        >>> print(gradient["hidden"]["kernel"], gradient["output"]["bias"])  # the second unit is off
        [[1.5 0. ]] [ 0.5 -0.5]
    """
    inputs, labels = _examples("two_layer_relu", inputs, labels)
    hidden, output = _layers("two_layer_relu", params)
    units, logits = _two_layer("two_layer_relu", hidden, output, inputs)
    by_logits = _logit_gradient(logits, labels)
    by_units = jnp.where(units > 0, _product(by_logits, output["kernel"].T), 0)
    return {
        "hidden": _affine_gradient(hidden, inputs, by_units, l2),
        "output": _affine_gradient(output, units, by_logits, l2),
    }


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    """Returns the matrix product at the full precision of its factors."""
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns minus the mean log-probability of the true classes."""
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _penalty(l2: ArrayLike, *layers: Layer) -> jax.Array:
    """Returns half of `l2` times the sum of the squared kernels."""
    return 0.5 * jnp.asarray(l2) * optax.tree.norm([layer["kernel"] for layer in layers], squared=True)


def _logit_gradient(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns (probabilities - one-hot labels) / batch, the gradient of the mean cross-entropy."""
    truth = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return (jax.nn.softmax(logits) - truth) / labels.shape[0]


def _affine_gradient(layer: Layer, inputs: jax.Array, by_outputs: jax.Array, l2: ArrayLike) -> dict[str, jax.Array]:
    """Returns the gradients of an affine layer, given those of its outputs."""
    return {
        "kernel": _product(inputs.T, by_outputs) + jnp.asarray(l2) * layer["kernel"],
        "bias": by_outputs.sum(axis=0),
    }


def _two_layer(where: str, hidden: Layer, output: Layer, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the hidden units after the ReLU, and the logits."""
    units = jax.nn.relu(_affine(where, "params['hidden']", hidden, inputs))
    return units, _affine(where, "params['output']", output, units)


def _affine(where: str, name: str, layer: Layer, inputs: jax.Array) -> jax.Array:
    """Returns inputs @ kernel + bias of a layer whose names and shapes have been checked."""
    _require(where, name, layer, ("kernel", "bias"))
    kernel, bias = jnp.asarray(layer["kernel"]), jnp.asarray(layer["bias"])
    if kernel.ndim != 2 or bias.shape != kernel.shape[1:] or inputs.shape[1] != kernel.shape[0]:
        raise StudyError(
            f"gradients.{where}: {name} has a kernel of shape {kernel.shape} and a bias of shape "
            f"{bias.shape}, which cannot take inputs of shape {inputs.shape}; a layer has a kernel (in, "
            f"out) and a bias (out,). Write a kernel of shape ({inputs.shape[1]}, out)"
        )
    return _product(inputs, kernel) + bias[None, :]


def _layers(where: str, params: Mapping[str, Layer]) -> tuple[Layer, Layer]:
    """Returns the two layers of a net, by name."""
    _require(where, "params", params, ("hidden", "output"))
    return params["hidden"], params["output"]


def _require(where: str, name: str, mapping: Mapping[str, object], keys: tuple[str, ...]) -> None:
    """Refuses a mapping that lacks one of the keys."""
    if missing := [key for key in keys if key not in mapping]:
        raise StudyError(
            f"gradients.{where}: {name} has {sorted(mapping)} but no {missing[0]!r}; this closed form "
            f"covers one model only. Write {{{', '.join(f'{key!r}: ...' for key in keys)}}}"
        )


def _examples(where: str, inputs: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Returns inputs [batch, num_features] and integer labels [batch] as arrays."""
    inputs, labels = jnp.asarray(inputs), jnp.asarray(labels)
    if inputs.ndim != 2 or labels.shape != inputs.shape[:1]:
        raise StudyError(
            f"gradients.{where}: inputs have shape {inputs.shape} and labels {labels.shape}, but a "
            "minibatch has inputs (batch, features) and one label each. Write inputs.reshape(len(labels), -1)"
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise StudyError(
            f"gradients.{where}: labels have dtype {labels.dtype}, but class indices are integers. "
            "Write labels.astype(int)"
        )
    return inputs, labels

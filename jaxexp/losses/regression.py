"""Losses of real-valued outputs against real-valued targets: squared errors and how they are averaged.

A probability of the targets is not computed here (see `jaxexp.losses.likelihoods`).
"""

import enum

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxexp.errors import StudyError
from jaxexp.losses import _inputs


class Reduction(enum.StrEnum):
    """What weighted values are summed to and divided by; a quotient with a divisor of 0 is 0, never NaN.

    Source: `tf.compat.v1.losses.Reduction`, whose names and strings these are.

    Example:
        >>> Reduction.SUM_OVER_NONZERO_WEIGHTS is Reduction.SUM_BY_NONZERO_WEIGHTS
        True
        >>> Reduction("weighted_mean")
        <Reduction.MEAN: 'weighted_mean'>
    """

    NONE = "none"
    """The weighted values themselves."""
    SUM = "weighted_sum"
    """Their sum."""
    SUM_OVER_BATCH_SIZE = "weighted_sum_over_batch_size"
    """Their sum by the number of values: of all elements, not of examples, whatever the name says."""
    MEAN = "weighted_mean"
    """Their sum by the sum of the weights."""
    SUM_BY_NONZERO_WEIGHTS = "weighted_sum_by_nonzero_weights"
    """Their sum by the number of values whose weight is not 0."""
    SUM_OVER_NONZERO_WEIGHTS = SUM_BY_NONZERO_WEIGHTS
    """The older name of the same."""


def half_squared_error(outputs: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Returns half the squared error, summed over outputs and averaged over the minibatch.

    Args:
        outputs: ``[batch, ...]``, floating. The axes after the first are the outputs of one example.
        labels: ``[batch, ...]``, the same shape; one-hot for classes.

    Returns:
        A scalar of the outputs' dtype, ``sum((outputs - labels)**2) / (2 * batch)``; its gradient with
        respect to one example's outputs is ``(outputs - labels) / batch``.

    Raises:
        StudyError: If the shapes differ, there is no example, or the outputs are not floating.

    Source: Nielsen, Neural Networks and Deep Learning (2015), equation 6: the quadratic cost.

    Example:
        >>> outputs, labels = jnp.array([[1.0, 0.0], [0.5, 0.5]]), jnp.array([[0.0, 0.0], [0.0, 1.0]])
        >>> float(half_squared_error(outputs, labels))
        0.375
    """
    outputs, labels = _inputs.pair("half_squared_error", outputs, labels)
    _inputs.examples("half_squared_error", outputs)
    return optax.losses.l2_loss(outputs, labels).sum() / outputs.shape[0]


def mean_squared_error(
    labels: ArrayLike,
    predictions: ArrayLike,
    weights: ArrayLike = 1.0,
    reduction: Reduction | str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> jax.Array:
    """Returns the weighted squared error with the semantics of TensorFlow 1's loss of that name.

    The labels come first here, and here alone, as they do there.

    Args:
        labels: Any shape, any real dtype.
        predictions: The same shape. Integers become floats.
        weights: A scalar, or an array of the labels' rank, each dimension 1 or equal to that of the labels;
            a weight of 0 leaves an element out. Weights that are all 0 give 0.
        reduction: See `Reduction`; static. The default divides by the number of nonzero weights.

    Returns:
        A scalar of the predictions' dtype; for `Reduction.NONE` an array of the labels' shape.

    Raises:
        StudyError: If labels and predictions differ in shape, the weights fit neither form, or the reduction
            is unknown.

    Source: `tf.compat.v1.losses.mean_squared_error`.

    Example:
        >>> labels = jnp.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        >>> predictions = jnp.array([[0.9, 0.2, 0.2], [0.2, 0.8, 0.3]])
        >>> print(f"{mean_squared_error(labels, predictions):.6f}")
        0.210000
        >>> print(f"{mean_squared_error(labels, predictions, jnp.array([[1.0], [0.0]])):.6f}")
        0.030000
    """
    labels, predictions = jnp.asarray(labels), jnp.asarray(predictions)
    if labels.shape != predictions.shape:
        raise StudyError(
            f"losses.mean_squared_error: labels have shape {labels.shape} and predictions "
            f"{predictions.shape}; they must be equal, since broadcasting would pair every label with every "
            f"prediction. Write predictions.reshape({labels.shape}) if they hold the same values"
        )
    if not jnp.issubdtype(predictions.dtype, jnp.floating):
        predictions = predictions.astype(float)
    reduction = _inputs.choice("mean_squared_error", "reduction", Reduction, reduction)
    weights = _matching(weights, labels.shape).astype(predictions.dtype)
    errors = optax.losses.squared_error(predictions, labels.astype(predictions.dtype))
    return _reduced(errors * weights, weights, reduction)


def _reduced(weighted: jax.Array, weights: jax.Array, reduction: Reduction) -> jax.Array:
    """Returns values that have been multiplied by weights, reduced."""
    if reduction is Reduction.NONE:
        return weighted
    total = weighted.sum()
    if reduction is Reduction.SUM:
        return total
    if reduction is Reduction.SUM_OVER_BATCH_SIZE:
        return _quotient(total, jnp.asarray(weighted.size, weighted.dtype))
    counted = weights if reduction is Reduction.MEAN else (weights != 0).astype(weighted.dtype)
    return _quotient(total, jnp.broadcast_to(counted, weighted.shape).sum())


def _quotient(total: jax.Array, divisor: jax.Array) -> jax.Array:
    """Returns total / divisor, or 0 where the divisor is 0."""
    nonzero = divisor != 0  # the inner `where` keeps NaN out of the gradient
    return jnp.where(nonzero, total / jnp.where(nonzero, divisor, 1), 0)


def _matching(weights: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    """Returns weights that broadcast to `shape` without a new axis."""
    weights = jnp.asarray(weights)
    if weights.ndim == 0:
        return weights
    if weights.ndim != len(shape):
        raise StudyError(
            f"losses.mean_squared_error: weights have shape {weights.shape} for labels of shape {shape}; "
            "they are a scalar or of the same rank, so that it is plain which axis they belong to. "
            f"{_remedy(weights.shape, shape)}"
        )
    if any(size not in (1, full) for size, full in zip(weights.shape, shape, strict=True)):
        raise StudyError(
            f"losses.mean_squared_error: weights have shape {weights.shape} for labels of shape {shape}; "
            "each dimension is 1 or equal, since nothing else can be broadcast. "
            f"{_remedy(weights.shape, shape)}"
        )
    return weights


def _remedy(weights: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Returns what to type: for weights that fit one axis by their size, that axis."""
    for axis, size in enumerate(shape):
        if weights == (size,):
            fitted = tuple(size if other == axis else 1 for other in range(len(shape)))
            return f"Write weights.reshape({fitted})"
    return f"Write weights of shape {(shape[:1] + (1,) * (len(shape) - 1))} for one weight an example"

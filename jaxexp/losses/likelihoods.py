"""Negative log-likelihoods: how improbable a model's distribution finds the labels.

The cross-entropies are means over the minibatch, to train with. The ``_nll`` functions are sums, since the
likelihood of independent examples is a product: they are for judging and comparing. Where predictions are no
distribution, the docstrings say so; nothing is mended silently.
"""

import enum
import math

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxexp.errors import StudyError
from jaxexp.losses import _inputs


class Rows(enum.StrEnum):
    """What the rows of a categorical model's outputs are.

    Example:
        >>> Rows("logits")
        <Rows.LOGITS: 'logits'>
    """

    LOGITS = "logits"
    """Unnormalised log-probabilities: their softmax is the distribution."""
    NORMALIZED = "normalized"
    """Positive scores: divided by their sum they are the distribution."""
    RAW = "raw"
    """Taken as probabilities as they are. Rows that do not sum to 1 are no distribution, and what comes out is
    then no likelihood: scaling a row up by c lowers it by log c for nothing."""


def softmax_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Returns the mean over the minibatch of minus the log of the softmax probability of the true class.

    Args:
        logits: ``[..., num_classes]``, floating, any finite values.
        labels: ``[...]``, integers in ``[0, num_classes)``; one outside gives NaN.

    Returns:
        A scalar of the logits' dtype, at least 0.

    Raises:
        StudyError: If the labels are not integers, the shapes do not match or there is no example.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 4.108, divided by the number of
    examples. It is `optax.losses.softmax_cross_entropy_with_integer_labels`, which gathers the true class's logit:
    over many lanes a gather, and the scatter that is its gradient, take longer on a CPU than the comparison here.

    Example:
        >>> print(f"{softmax_cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])):.6f}")  # log 4
        1.386294
    """
    logits, labels = _inputs.class_labels("softmax_cross_entropy", logits, labels)
    by_class = jnp.moveaxis(logits, -1, 0)
    classes = jnp.arange(len(by_class), dtype=labels.dtype).reshape(-1, *[1] * labels.ndim)
    is_true = classes == labels[None]
    true = jnp.where(is_true, by_class, 0).sum(axis=0)
    surprise = jnp.where(is_true.any(axis=0), jax.nn.logsumexp(by_class, axis=0) - true, jnp.nan)
    return surprise.mean()


def sigmoid_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Returns the mean over all elements of minus the log of the sigmoid probability of the true side.

    Args:
        logits: Any shape with an element, floating: one logit for each binary label.
        labels: The same shape, 0 or 1, or probabilities between.

    Returns:
        A scalar of the logits' dtype, at least 0.

    Raises:
        StudyError: If the shapes differ, there is no example or the logits are not floating.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 4.90, divided by the number of
    elements. It is `optax.losses.sigmoid_binary_cross_entropy` with one logarithm in place of two.

    Example:
        >>> print(f"{sigmoid_cross_entropy(jnp.zeros(3), jnp.array([0, 1, 1])):.6f}")  # log 2
        0.693147
    """
    logits, labels = _inputs.pair("sigmoid_cross_entropy", logits, labels)
    _inputs.examples("sigmoid_cross_entropy", logits)
    return (jnp.maximum(logits, 0) - logits * labels + jnp.log1p(jnp.exp(-jnp.abs(logits)))).mean()


def categorical_nll(outputs: ArrayLike, labels: ArrayLike, *, rows: Rows | str = Rows.LOGITS) -> jax.Array:
    """Returns minus the log-likelihood of the true classes, summed over examples.

    Args:
        outputs: ``[..., num_classes]``, floating. Above 0 for the true class unless they are logits: a true
            class of probability 0 gives infinity.
        labels: Integers ``[...]`` in ``[0, num_classes)``, of which one outside gives NaN; or distributions of the
            outputs' shape (one-hot).
        rows: What a row of outputs is (see `Rows`); static. With `Rows.RAW` the result is a likelihood only
            if the rows sum to 1, which is not checked.

    Returns:
        A scalar of the outputs' dtype.

    Raises:
        StudyError: If the shapes do not match, there is no example, or `rows` is unknown.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 4.108.

    Example:
        >>> labels, outputs = jnp.array([0, 2]), jnp.array([[0.9, 0.2, 0.2], [0.2, 0.8, 0.3]])
        >>> print(f"{categorical_nll(outputs, labels, rows=Rows.RAW):.4f}")  # the rows sum to 1.3
        1.3093
        >>> print(f"{categorical_nll(outputs, labels, rows=Rows.NORMALIZED):.4f}")  # 2 log 1.3 more
        1.8341
        >>> print(f"{categorical_nll(outputs, labels):.4f}")
        1.9577
    """
    are_classes = jnp.ndim(labels) < jnp.ndim(outputs)
    outputs, labels = _inputs.class_distributions("categorical_nll", outputs, labels)
    if are_classes:
        labels = jnp.where(labels.any(axis=-1, keepdims=True), labels, jnp.nan)
    rows = _inputs.choice("categorical_nll", "rows", Rows, rows)
    if rows is Rows.LOGITS:
        return optax.losses.safe_softmax_cross_entropy(outputs, labels).sum()
    if rows is Rows.NORMALIZED:
        outputs = outputs / outputs.sum(axis=-1, keepdims=True)
    return -_weighted_log(labels, outputs).sum()


def bernoulli_nll(outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = True) -> jax.Array:
    """Returns minus the log-likelihood of binary labels, each with its own probability, summed over elements.

    Args:
        outputs: Any shape, floating: logits, or probabilities in ``[0, 1]`` of the label 1.
        labels: The same shape, 0 or 1, or probabilities between.
        from_logits: Whether the outputs are logits; static.

    Returns:
        A scalar of the outputs' dtype; infinity where something impossible happened.

    Raises:
        StudyError: If the shapes differ or the outputs are not floating.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 4.90.

    Example:
        >>> probabilities, labels = jnp.array([0.9, 0.2]), jnp.array([1, 0])
        >>> print(f"{bernoulli_nll(probabilities, labels, from_logits=False):.6f}")  # -log(.9 * .8)
        0.328504
    """
    outputs, labels = _inputs.pair("bernoulli_nll", outputs, labels)
    if from_logits:
        return optax.losses.sigmoid_binary_cross_entropy(outputs, labels).sum()
    return -(_weighted_log(labels, outputs) + _weighted_log(1 - labels, 1 - outputs)).sum()


def gaussian_nll(outputs: ArrayLike, labels: ArrayLike, *, variance: ArrayLike = 1.0) -> jax.Array:
    """Returns minus the log-likelihood of labels under normal distributions about the outputs, summed.

    It is the squared error up to constants: see `gaussian_nll_from_mse`.

    Args:
        outputs: Any shape, floating: the means.
        labels: The same shape.
        variance: Above 0: a scalar, or an array of the outputs' shape.

    Returns:
        A scalar of the outputs' dtype.

    Raises:
        StudyError: If the shapes differ, the outputs are not floating, or `variance` is a Python number that
            is not positive and finite.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 1.54.

    Example:
        >>> means, labels = jnp.array([0.0, 1.0]), jnp.array([1.0, 1.0])
        >>> print(f"{gaussian_nll(means, labels):.6f}")  # 0.5 + log(2 pi)
        2.337877
    """
    outputs, labels = _inputs.pair("gaussian_nll", outputs, labels)
    _inputs.at_least("gaussian_nll", "variance", variance, 0.0, strict=True)
    variance = jnp.asarray(variance, outputs.dtype)
    if variance.shape not in ((), outputs.shape):
        raise StudyError(
            f"losses.gaussian_nll: variance has shape {variance.shape} and the outputs {outputs.shape}; it "
            f"is a scalar or one for each output. Write jnp.broadcast_to(variance, {outputs.shape})"
        )
    return 0.5 * ((labels - outputs) ** 2 / variance + jnp.log(2 * math.pi * variance)).sum()


def gaussian_nll_from_mse(mse: ArrayLike, *, num_values: int, variance: ArrayLike | None = None) -> jax.Array:
    """Returns what `gaussian_nll` is for `num_values` values whose mean squared error is `mse`.

    With n values and variance v it is ``n/2 * (mse/v + log(2 pi v))``: a rising straight line in the mean
    squared error, so both have the same minimiser. At the most likely variance, v = mse, it is
    ``n/2 * (1 + log(2 pi mse))``, rising too.

    Args:
        mse: Scalar, at least 0: squared errors averaged over all `num_values` values.
        num_values: How many values there are, at least 1.
        variance: Scalar above 0; None for the most likely one.

    Returns:
        A scalar.

    Raises:
        StudyError: If `num_values`, `mse` or `variance` is a Python number out of range.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equations 1.62 and 1.63.

    Example:
        >>> outputs, labels = jnp.array([0.0, 1.0]), jnp.array([1.0, 1.0])
        >>> print(f"{gaussian_nll_from_mse(0.5, num_values=2):.6f}")
        2.144730
        >>> print(f"{gaussian_nll(outputs, labels, variance=0.5):.6f}")
        2.144730
    """
    _inputs.at_least("gaussian_nll_from_mse", "num_values", num_values, 1)
    _inputs.at_least("gaussian_nll_from_mse", "mse", mse, 0.0)
    mse = jnp.asarray(mse)
    if variance is None:
        return 0.5 * num_values * (1 + jnp.log(2 * math.pi * mse))
    _inputs.at_least("gaussian_nll_from_mse", "variance", variance, 0.0, strict=True)
    variance = jnp.asarray(variance)
    return 0.5 * num_values * (mse / variance + jnp.log(2 * math.pi * variance))


def _weighted_log(weights: jax.Array, values: jax.Array) -> jax.Array:
    """Returns weights * log(values), 0 with a gradient of 0 wherever the weight is 0."""
    counted = weights != 0
    return weights * jnp.log(jnp.where(counted, values, 1))

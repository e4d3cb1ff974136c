"""The share of examples that a model gets right, for judging it: no gradient flows through either function.

An example with an output that is not finite is never right, whatever a comparison with NaN would say.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxexp.losses import _inputs


def accuracy(outputs: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Returns the share of examples whose largest output is that of the true class.

    Of equal largest outputs the first counts. An example with a NaN or an infinity among its outputs is
    wrong.

    Args:
        outputs: ``[..., num_classes]``, floating: logits, probabilities or any scores.
        labels: ``[...]``, integers in ``[0, num_classes)``; one outside is wrong.

    Returns:
        A float32 scalar in ``[0, 1]``.

    Raises:
        StudyError: If the labels are not integers the shapes do not match or there is no example.

    Source: the 0-1 loss, subtracted from one; Hastie, Tibshirani and Friedman, The Elements of Statistical
    Learning (2009), section 2.4.

    Example:
        >>> outputs = jnp.array([[0.1, 0.9], [0.8, 0.2], [jnp.nan, 0.0], [0.3, 0.7]])
        >>> float(accuracy(outputs, jnp.array([1, 0, 0, 0])))
        0.5
    """
    outputs, labels = _inputs.class_labels("accuracy", outputs, labels)
    finite = jnp.isfinite(outputs).all(axis=-1)
    return jnp.mean((outputs.argmax(axis=-1) == labels) & finite, dtype=jnp.float32)


def threshold_accuracy(outputs: ArrayLike, labels: ArrayLike, *, threshold: ArrayLike = 0.0) -> jax.Array:
    """Returns the share of binary labels for which an output above `threshold` means 1, and else 0.

    An output that is not finite is wrong.

    Args:
        outputs: Any shape with an element, floating: one score for each label.
        labels: The same shape, 0 or 1.
        threshold: Scalar; 0 for logits, 0.5 for probabilities or for outputs trained towards 0 and 1. May be
            traced, so that it can be chosen after training.

    Returns:
        A float32 scalar in ``[0, 1]``.

    Raises:
        StudyError: If the shapes differ, there is no example or the outputs are not floating.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), section 1.5.1: the decision step.

    Example:
        >>> outputs, labels = jnp.array([0.2, 0.6, jnp.nan, 0.4]), jnp.array([0, 1, 0, 1])
        >>> float(threshold_accuracy(outputs, labels, threshold=0.5))
        0.5
        >>> float(threshold_accuracy(outputs, labels, threshold=0.3))
        0.75
    """
    outputs, labels = _inputs.pair("threshold_accuracy", outputs, labels)
    _inputs.examples("threshold_accuracy", outputs)
    decided = (outputs > threshold).astype(labels.dtype)
    return jnp.mean((decided == labels) & jnp.isfinite(outputs), dtype=jnp.float32)

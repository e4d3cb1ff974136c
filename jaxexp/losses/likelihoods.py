"""Negative log-likelihoods: how improbable a model's distribution finds the labels.

Where predictions are no distribution, the functions here say so rather than mend them silently.
"""

import jax
import optax
from jax.typing import ArrayLike

from jaxexp.losses import _inputs


def softmax_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Returns the mean over the minibatch of minus the log of the softmax probability of the true class.

    Args:
        logits: ``[..., num_classes]``, floating, any finite values.
        labels: ``[...]``, integers in ``[0, num_classes)``; one outside gives NaN.

    Returns:
        A scalar of the logits' dtype, at least 0.

    Raises:
        StudyError: If the labels are not integers the shapes do not match or there is no example.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 4.108, divided by the number of
    examples; computed by `optax.losses.softmax_cross_entropy_with_integer_labels`.

    Example:
        >>> import jax.numpy as jnp
        >>> print(f"{softmax_cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])):.6f}")  # log 4
        1.386294
    """
    logits, labels = _inputs.class_labels("softmax_cross_entropy", logits, labels)
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

"""The share of examples that a model gets right, for judging it: no gradient flows through any of these.

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
        >>> import jax.numpy as jnp
        >>> outputs = jnp.array([[0.1, 0.9], [0.8, 0.2], [jnp.nan, 0.0], [0.3, 0.7]])
        >>> float(accuracy(outputs, jnp.array([1, 0, 0, 0])))
        0.5
    """
    outputs, labels = _inputs.class_labels("accuracy", outputs, labels)
    finite = jnp.isfinite(outputs).all(axis=-1)
    return jnp.mean((outputs.argmax(axis=-1) == labels) & finite, dtype=jnp.float32)

"""Losses of real-valued outputs against real-valued targets: squared errors and how they are reduced.

A probability of the targets is not computed here (see `jaxexp.losses.likelihoods`).
"""

import jax
import optax
from jax.typing import ArrayLike

from jaxexp.losses import _inputs


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
        >>> import jax.numpy as jnp
        >>> outputs, labels = jnp.array([[1.0, 0.0], [0.5, 0.5]]), jnp.array([[0.0, 0.0], [0.0, 1.0]])
        >>> float(half_squared_error(outputs, labels))
        0.375
    """
    outputs, labels = _inputs.pair("half_squared_error", outputs, labels)
    _inputs.examples("half_squared_error", outputs)
    return optax.losses.l2_loss(outputs, labels).sum() / outputs.shape[0]

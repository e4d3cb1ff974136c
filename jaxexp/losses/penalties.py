"""Terms of a loss that depend on the parameters alone. Which parameters they touch is the caller's choice."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxexp.losses import _inputs


def l2_penalty(params: Any, strength: ArrayLike) -> jax.Array:
    """Returns half of `strength` times the sum of the squares over all leaves.

    Its gradient is ``strength * params``. Every leaf counts. To leave the biases free, as is usual, pass the
    weights only: ``l2_penalty([layer["kernel"] for layer in layers], 1e-3)``.

    Args:
        params: A pytree of floating arrays of any shape.
        strength: Scalar, at least 0; may be traced.

    Returns:
        A scalar; 0 for a tree without leaves.

    Raises:
        StudyError: If `strength` is a negative or not finite Python number.

    Source: Goodfellow, Bengio and Courville, Deep Learning (2016), equation 7.1 with the norm of section
    7.1.1.

    Example:
        >>> weights = [jnp.array([[1.0, 2.0]]), jnp.array([3.0])]
        >>> float(l2_penalty(weights, 0.5))
        3.5
        >>> print(jax.grad(l2_penalty)(weights, 0.5)[1])
        [1.5]
    """
    _inputs.at_least("l2_penalty", "strength", strength, 0.0)
    return 0.5 * jnp.asarray(strength) * optax.tree.norm(params, squared=True)

"""Minibatches by reshuffling: every epoch visits each example once, in an order that the seed owns.

Where the key does not depend on the config, all trials of a seed see the same minibatches, and the engine
shuffles once for all of them. An incomplete last minibatch of an epoch is left out.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxexp.errors import StudyError


class Cursor(NamedTuple):
    """Where an epoch stands: the order of the examples (int32 [num_examples]) and the next minibatch's number."""

    order: jax.Array
    position: jax.Array


def start(num_examples: int) -> Cursor:
    """Returns the cursor before the first minibatch of the first epoch.

    Args:
        num_examples: How many examples there are.

    Example:
        >>> start(3).order.tolist()
        [0, 1, 2]
    """
    return Cursor(jnp.arange(num_examples, dtype=jnp.int32), jnp.int32(0))


def draw(key: jax.Array, cursor: Cursor, batch_size: int) -> tuple[jax.Array, Cursor]:
    """Returns the indices of the next minibatch (int32 [batch_size]) and the cursor after it.

    Args:
        key: A random key; used when an epoch begins.
        cursor: What `start` or the last `draw` returned.
        batch_size: Examples in a minibatch; at most the number of examples.

    Raises:
        StudyError: If an epoch would not hold one minibatch.

    Example:
        >>> indices, cursor = draw(jax.random.key(0), start(10), 4)
        >>> indices.shape, int(cursor.position)
        ((4,), 1)
    """
    num_batches = cursor.order.shape[0] // batch_size
    if num_batches == 0:
        raise StudyError(f"batch_size={batch_size} is more than the {cursor.order.shape[0]} examples: take fewer")

    def reshuffled() -> jax.Array:
        return jax.random.permutation(key, cursor.order.shape[0]).astype(jnp.int32)

    order = jax.lax.cond(cursor.position == 0, reshuffled, lambda: cursor.order)
    indices = jax.lax.dynamic_slice(order, (cursor.position * batch_size,), (batch_size,))
    return indices, Cursor(order, (cursor.position + 1) % jnp.int32(num_batches))

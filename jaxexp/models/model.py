"""The pair of pure functions that jaxexp calls a model.

It holds no parameters, no key and no mode (train or evaluate): whatever changes during training is an argument.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Model(NamedTuple):
    """A model: how its parameters start, and what it computes from them.

    Both functions are pure, so they work under `jax.jit`, `jax.grad` and `jax.vmap`, over keys and over
    parameters alike.

    Attributes:
        init: ``init(key, inputs) -> params``. `key` is one JAX random key, `inputs` an example minibatch
            ``[n, ...]`` of which only shape and dtype matter; `params` is a pytree of arrays.
        apply: ``apply(params, inputs) -> outputs``. `inputs` is a minibatch ``[n, ...]``, `outputs` an array
            (or a pytree of arrays) whose leading axis is `n`.

    Example:
        >>> import jax.numpy as jnp
        >>> scale = Model(init=lambda key, inputs: jnp.ones(()), apply=lambda params, inputs: params * inputs)
        >>> params = scale.init(jax.random.key(0), jnp.ones((4, 3)))
        >>> scale.apply(params, jnp.ones((4, 3))).shape
        (4, 3)
    """

    init: Callable[[jax.Array, Any], Any]
    apply: Callable[[Any, Any], Any]

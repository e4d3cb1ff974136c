"""How parameters start: initialisers that `jax.nn.initializers` lacks, with its signature, and their dtype.

What is there already (zeros, constant, normal, uniform on ``[0, a)``, glorot, ...) is not repeated here.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jax.typing import ArrayLike


def uniform_symmetric(scale: ArrayLike) -> Initializer:
    """Returns an initialiser that draws from the uniform distribution on ``[-scale, scale)``.

    `jax.nn.initializers.uniform(scale)` draws from ``[0, scale)``; the symmetric interval is the start of many
    textbook networks.

    Args:
        scale: Half the width of the interval, ``[]``, above 0. It may be a traced number.

    Returns:
        A function ``(key, shape, dtype=float) -> array`` like those of `jax.nn.initializers`.

    Example:
        >>> draws = uniform_symmetric(2.0)(jax.random.key(0), (1000,))
        >>> bool((draws >= -2).all() and (draws < 2).all() and draws.min() < -1.9 and draws.max() > 1.9)
        True
    """

    def init(key, shape, dtype=None, out_sharding=None):
        dtype = float if dtype is None else dtype
        draws = jax.random.uniform(key, shape, dtype, -1.0, 1.0, out_sharding=out_sharding)
        return draws * jnp.asarray(scale, draws.dtype)

    return init


def parameter_dtype(inputs: jax.Array) -> Any:
    """Returns the dtype that parameters start in: that of the inputs if floating, else JAX's default one.

    Args:
        inputs: A minibatch, of which only the dtype matters.

    Example:
        >>> parameter_dtype(jnp.ones(2, jnp.bfloat16)), parameter_dtype(jnp.ones(2, jnp.uint8))
        (dtype(bfloat16), dtype('float32'))
    """
    return inputs.dtype if jnp.issubdtype(inputs.dtype, jnp.floating) else jnp.result_type(float)

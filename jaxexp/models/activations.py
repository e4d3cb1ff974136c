"""Activation functions that cost less than XLA's own on a CPU. Only those for which a measurement showed it."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

_LARGEST = 7.9
"""Beyond it the quotient below stays as it is, less than 5e-7 below 1."""

_NUMERATOR = (1.15318696e-05, 2.96047633e-03, 1.29344204e-01, 9.99999869e-01)
_DENOMINATOR = (2.49255726e-07, 2.40012467e-04, 2.38540956e-02, 4.62676472e-01, 1.0)


@jax.custom_jvp
def _rational_tanh(x: jax.Array) -> jax.Array:
    x = jnp.clip(x, -_LARGEST, _LARGEST)
    square = x * x

    def polynomial(coefficients: tuple[float, ...]) -> jax.Array:
        total = jnp.full_like(square, coefficients[0])
        for coefficient in coefficients[1:]:
            total = total * square + coefficient
        return total

    return x * polynomial(_NUMERATOR) / polynomial(_DENOMINATOR)


@_rational_tanh.defjvp
def _slope(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    value = _rational_tanh(primals[0])
    return value, (1 - value * value) * tangents[0]


def tanh(x: ArrayLike) -> jax.Array:
    """Returns the hyperbolic tangent, in float32 by a rational function that takes half the time of `jnp.tanh`.

    Args:
        x: Any shape, floating. What is not float32 goes to `jnp.tanh`.

    Returns:
        The same shape and dtype; in float32 off by less than 5e-7 of itself.

    Source: `scripts/fit_tanh.py` finds the coefficients. XLA's CPU backend used to take Eigen's `ptanh_float`, a
    quotient of degrees 6 and 3 in x^2 that is as accurate.

    Example:
        >>> bool(jnp.abs(tanh(jnp.linspace(-9, 9, 1001)) - jnp.tanh(jnp.linspace(-9, 9, 1001))).max() < 5e-7)
        True
    """
    x = jnp.asarray(x)
    return _rational_tanh(x) if x.dtype == jnp.float32 else jnp.tanh(x)

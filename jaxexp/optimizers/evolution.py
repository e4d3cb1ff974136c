"""Evolution strategies: a gradient from losses alone, for losses that have none.

It estimates; an optax optimizer makes the step. There is no covariance adaptation and no step-size control.
"""

import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxexp.errors import StudyError
from jaxexp.optimizers.streams import leaf_key


def standard_scores(losses: jax.Array) -> jax.Array:
    """Returns how many standard deviations each loss lies above the mean; all 0 where the losses are equal.

    Args:
        losses: ``[population]``, floating.

    Returns:
        ``[population]``, mean 0 and (population) standard deviation 1.

    Example:
        >>> standard_scores(jnp.array([0.0, 0.0, 1.0, 1.0]))
        Array([-1., -1.,  1.,  1.], dtype=float32)
        >>> standard_scores(jnp.ones(3))
        Array([0., 0., 0.], dtype=float32)
    """
    deviations = losses - losses.mean()
    spread = jnp.sqrt((deviations**2).mean())
    # Equal losses may leave deviations of one rounding error, which must not be blown up to 1; times 0 leaves
    # those of infinite losses what they are, not a number.
    equal = losses.max() == losses.min()
    return jnp.where(equal, 0.0 * deviations, deviations / jnp.where(equal, 1.0, spread))


def centered_ranks(losses: jax.Array) -> jax.Array:
    """Returns the rank of each loss, scaled to -0.5 (lowest) .. 0.5 (highest); ties share their mean rank.

    Ranks make the step independent of the losses' scale and of outliers. Ties must share a rank: an accuracy has
    few values, and an order among equals would be noise.

    Args:
        losses: ``[population]``, floating, population >= 2.

    Returns:
        ``[population]``, mean 0.

    Source: Salimans et al., "Evolution strategies as a scalable alternative to reinforcement learning" (2017),
    section 2.1 (fitness shaping), there without ties.

    Example:
        >>> centered_ranks(jnp.array([3.0, 100.0, 1.0]))
        Array([ 0. ,  0.5, -0.5], dtype=float32)
        >>> centered_ranks(jnp.array([1.0, 0.0, 1.0, 1.0, 1.0]))
        Array([ 0.125, -0.5  ,  0.125,  0.125,  0.125], dtype=float32)
    """
    ranks = jax.scipy.stats.rankdata(losses, method="average").astype(losses.dtype)
    return (ranks - 1) / (losses.size - 1) - 0.5


def evolution_strategy_gradient(
    key: jax.Array,
    loss: Callable[[Any], jax.Array],
    params: Any,
    *,
    sigma: ArrayLike,
    population: int = 64,
    shaping: Callable[[jax.Array], jax.Array] | None = standard_scores,
) -> Any:
    """Returns an estimate of the gradient of the smoothed loss, to be passed to any optax optimizer.

    The smoothed loss is ``E[loss(params + sigma e)]`` over standard normal ``e``; it has a gradient also where the
    loss is a step, such as 1 - accuracy. Perturbations come in pairs ``e, -e`` (antithetic), which cancels the
    even part of the loss from the noise. The estimate is ``sum_i s_i e_i / (population sigma)`` with the shaped
    losses ``s``: with ``shaping=None`` it is unbiased; with a shaping it is a direction, whose length no longer
    depends on the scale of the loss.

    Args:
        key: One JAX random key, another one for each step. Each array of `params` draws from a stream of its own.
        loss: Maps params to the loss ``[]``, which is *minimised*: pass 1 - accuracy. It is vmapped over the
            population, so memory grows by population times the parameters.
        params: A pytree of floating arrays.
        sigma: The standard deviation of the perturbations, ``[]``, above 0. It may be a traced number.
        population: The number of losses evaluated: even, >= 2, fixed when the program is compiled.
        shaping: `standard_scores`, `centered_ranks`, another map of losses ``[population]`` to scores
            ``[population]``, or None for the losses themselves. A loss that is not finite spoils standard scores,
            as it should: the run is then marked.

    Returns:
        A pytree with the structure, shapes and dtypes of `params`: a direction in which the loss grows.

    Raises:
        StudyError: `population` is no even number >= 2; or `loss` does not return a scalar.

    Source: Salimans et al. (2017), section 2 and algorithm 1, with the sign of a loss; antithetic sampling after
    Geweke (1988).

    Example:
        >>> import optax
        >>> def loss(params):
        ...     return jnp.where(params["w"] > 1.0, 0.0, 1.0)  # a step: jax.grad gives 0 everywhere
        >>> params, optimizer = {"w": jnp.zeros(())}, optax.sgd(0.5)
        >>> state = optimizer.init(params)
        >>> for key in jax.random.split(jax.random.key(0), 10):
        ...     gradient = evolution_strategy_gradient(key, loss, params, sigma=1.0)
        ...     updates, state = optimizer.update(gradient, state)
        ...     params = optax.apply_updates(params, updates)
        >>> float(loss(params))
        0.0
    """
    if not isinstance(population, numbers.Integral) or population < 2 or population % 2:
        raise StudyError(
            f"optimizers.evolution_strategy_gradient: population={population!r} must be an even number >= 2, since "
            "perturbations come in pairs and their number is fixed when the program is compiled; type population=64"
        )

    def perturbations(path, leaf):
        half = jax.random.normal(leaf_key(key, path), (population // 2, *jnp.shape(leaf)), leaf.dtype)
        return jnp.concatenate([half, -half])

    noise = jax.tree_util.tree_map_with_path(perturbations, params)
    losses = jax.vmap(lambda e: loss(jax.tree.map(lambda p, d: p + jnp.asarray(sigma, p.dtype) * d, params, e)))(noise)
    if jnp.shape(losses) != (population,):
        raise StudyError(
            f"optimizers.evolution_strategy_gradient: loss returned shape {list(jnp.shape(losses)[1:])}, but one "
            "number a member is needed; type losses.mean() in its last line"
        )
    scores = losses if shaping is None else shaping(losses)

    def correlation(e):
        total = jnp.tensordot(scores.astype(e.dtype), e, axes=1)
        return total / (population * jnp.asarray(sigma, e.dtype))

    return jax.tree.map(correlation, noise)

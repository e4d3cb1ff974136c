"""Momentum whose velocity starts where you say: an optax transform, and a wrapper for any optax optimizer.

It computes no update of its own: optax's transforms do, and only the momentum buffer of their fresh state is
replaced. The values may be traced numbers throughout.

Two conventions. Momentum and learning rate may stand in either order, and the same `initial_velocity` v0 then
means two different things, because the buffer holds parameter steps in one and gradients in the other:

- ``optax.chain(optax.scale(-lr), trace(mu, ...))``: v <- mu v - lr g, w <- w + v. The buffer is a step of the
  parameters, and starts at v0.
- ``optax.chain(trace(mu, ...), optax.scale(-lr))``, which is `optax.sgd(lr, momentum=mu)`: v <- mu v + g,
  w <- w - lr v. The buffer is a sum of gradients; to take the same path it starts at -v0/lr.

Where gradients are zero, a start at v0 (first convention) displaces the parameters by v0 mu/(1 - mu) in total.
"""

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.nn.initializers import Initializer
from jax.typing import ArrayLike

from jaxexp.errors import StudyError
from jaxexp.optimizers.streams import leaf_key, path_name

FIRST_GRADIENT: Final = "first_gradient"
"""Start the velocity at the first gradient (strictly: the first update) that reaches the transform."""

InitialVelocity = Initializer | Literal["first_gradient"]

# The names under which optax keeps a momentum buffer: `optax.trace`, and the first moment of Adam and its kin.
_VELOCITY_FIELDS = ("trace", "mu")


class FirstGradientState(NamedTuple):
    """The state of an optimizer whose velocity starts at the first gradient.

    Attributes:
        is_first: Whether no update has been made yet, ``[]`` bool.
        inner_state: The state of the wrapped optimizer.
    """

    is_first: jax.Array
    inner_state: Any


def trace(
    decay: ArrayLike,
    *,
    initial_velocity: InitialVelocity = jax.nn.initializers.zeros,
    key: jax.Array | None = None,
    nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Returns `optax.trace` with a chosen start: the momentum transform v <- decay v + update.

    With the default start it is `optax.trace`, bit for bit. The module's docstring says what `initial_velocity`
    means before and after the learning rate in an `optax.chain`.

    Args:
        decay: The momentum coefficient mu, ``[]``, in [0, 1). It may be a traced number.
        initial_velocity: The start, as for `with_initial_velocity`.
        key: A JAX random key for a start that is drawn, as for `with_initial_velocity`.
        nesterov: Whether to return decay v + update in place of v (Nesterov momentum).

    Returns:
        An optax transform, for use in `optax.chain`.

    Raises:
        StudyError: From its ``init``: `initial_velocity` cannot draw the start.

    Source: velocity as in Sutskever et al., "On the importance of initialization and momentum in deep learning"
    (ICML 2013), equations 1 and 2, whose v_0 is 0.

    Example:
        >>> ones = jax.nn.initializers.ones
        >>> optimizer = optax.chain(optax.scale(-0.1), trace(0.5, initial_velocity=ones))
        >>> params = jnp.zeros(2)
        >>> state = optimizer.init(params)
        >>> updates, state = optimizer.update(jnp.array([0.0, 1.0]), state, params)
        >>> [round(float(update), 6) for update in updates]
        [0.5, 0.4]
    """
    return with_initial_velocity(optax.trace(decay, nesterov=nesterov), initial_velocity, key=key)


def with_initial_velocity(
    optimizer: optax.GradientTransformation,
    initial_velocity: InitialVelocity,
    *,
    key: jax.Array | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns `optimizer` with its velocity, the momentum buffer, starting elsewhere than at zero.

    The velocity is every field named ``trace`` (`optax.trace`, `optax.sgd` with momentum, ...) or ``mu`` (the first
    moment of `optax.adam`, `optax.lion`, ...) in the optimizer's state that mirrors the parameters; all of them
    start alike. Masked and partitioned optimizers work, wrapped inside or outside.

    Adam divides its first moment by 1 - b1^t, on the understanding that it started at zero. A start mu0 therefore
    enters the t-th debiased moment as mu0 b1^t / (1 - b1^t): nine times mu0 at the first step for b1 = 0.9.

    Args:
        optimizer: Any optax optimizer or transform with a velocity.
        initial_velocity: An initialiser ``(key, shape, dtype) -> array``, called for each array of the velocity:
            those of `jax.nn.initializers` (zeros, ones, ``constant(c)``, ``normal(s)``, ``uniform(b)`` on [0, b)),
            `jaxexp.models.uniform_symmetric` on [-b, b), or your own. Their numbers may be traced. Or
            `FIRST_GRADIENT`: the buffer starts at the first update passed to the returned transform, so that
            `trace` makes the first velocity (1 + decay) g_1. (Starting with v_1 = g_1 is the start at zero.) What
            the transform is passed has that unit: in ``chain(scale(-lr), trace(...))`` wrap the `trace` alone.
        key: One JAX random key, used by ``init`` only; None will do where nothing is drawn. The stream of each
            array is made from the key and the array's path in the parameters, so freezing or adding other
            parameters changes nothing.

    Returns:
        An optax optimizer. Its state is that of `optimizer` (a `FirstGradientState` around it for
        `FIRST_GRADIENT`).

    Raises:
        StudyError: `initial_velocity` is neither callable nor `FIRST_GRADIENT`; or, from ``init``: `optimizer` has
            no velocity, or `initial_velocity` draws random numbers and `key` is None, or returns another shape.

    Example:
        >>> start = jax.nn.initializers.constant(0.25)
        >>> optimizer = with_initial_velocity(optax.adam(1e-3), start)
        >>> state = optimizer.init({"w": jnp.zeros(2)})
        >>> optax.tree.get(state, "mu")
        {'w': Array([0.25, 0.25], dtype=float32)}
    """
    inner = optax.with_extra_args_support(optimizer)
    if isinstance(initial_velocity, str) and initial_velocity == FIRST_GRADIENT:
        return _from_first_gradient(inner)
    if not callable(initial_velocity):
        raise StudyError(
            f"optimizers: initial_velocity={initial_velocity!r} is neither an initialiser (key, shape, dtype) -> "
            "array nor optimizers.FIRST_GRADIENT; type jax.nn.initializers.constant(0.1) for a number"
        )

    def init(params):
        def drawn(buffer):
            return jax.tree_util.tree_map_with_path(lambda path, leaf: _draw(initial_velocity, key, path, leaf), buffer)

        return _replace_velocity(inner.init(params), params, drawn)

    return optax.GradientTransformationExtraArgs(init, inner.update)


def _from_first_gradient(inner: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    def init(params):
        state = inner.init(params)
        _replace_velocity(state, params, lambda buffer: buffer)  # refuses an optimizer without velocity at once
        return FirstGradientState(jnp.asarray(True), state)

    def update(updates, state, params=None, **extra_args):
        def started(buffer):
            return jax.tree.map(
                lambda old, new: old if _is_masked(old) else jnp.where(state.is_first, new.astype(old.dtype), old),
                buffer,
                updates,
                is_leaf=_is_masked,
            )

        inner_state = _replace_velocity(state.inner_state, updates, started)
        updates, inner_state = inner.update(updates, inner_state, params, **extra_args)
        return updates, FirstGradientState(jnp.zeros_like(state.is_first), inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _replace_velocity(state: Any, params: Any, replace: Callable[[Any], Any]) -> Any:
    """Returns `state` with `replace` applied to each momentum buffer in it.

    Raises:
        StudyError: There is none.
    """
    # The search stops at the first hit on the way down, so a field `mu` of the parameters is never taken for one.
    nodes, structure = jax.tree.flatten(state, is_leaf=lambda node: bool(_velocity_fields(node, params)))
    fields = [_velocity_fields(node, params) for node in nodes]
    if any(fields):
        return structure.unflatten(
            node._replace(**{name: replace(getattr(node, name)) for name in names}) if names else node
            for node, names in zip(nodes, fields, strict=True)
        )
    raise StudyError(
        "optimizers.with_initial_velocity: the optimizer has no velocity: no field 'trace' or 'mu' that mirrors the "
        f"parameters in its state {jax.tree.structure(state)}; plain gradient descent has none, so type "
        "optax.sgd(learning_rate, momentum=0.9) or optax.adam(learning_rate)"
    )


def _velocity_fields(node: Any, params: Any) -> list[str]:
    # Centred RMSProp keeps the mean gradient as `mu`, to subtract its square from a second moment: no momentum.
    if type(node).__name__.startswith("ScaleByRStdDev"):
        return []
    names = getattr(node, "_fields", ())
    return [name for name in _VELOCITY_FIELDS if name in names and _mirrors(getattr(node, name), params)]


def _mirrors(buffer: Any, params: Any) -> bool:
    """Returns whether `buffer` has the structure and shapes of `params`, but for what a mask left out."""

    def fits(leaf, param):
        if _is_masked(leaf):
            return True
        return jax.tree_util.all_leaves([param]) and jnp.shape(leaf) == jnp.shape(param)

    try:
        return jax.tree.all(jax.tree.map(fits, buffer, params, is_leaf=_is_masked))
    except ValueError:  # jax.tree.map found another structure
        return False


def _draw(initial_velocity: Initializer, key: jax.Array | None, path: Any, leaf: jax.Array) -> jax.Array:
    name = path_name(path)
    stream = None if key is None else leaf_key(key, path)
    try:
        start = initial_velocity(stream, leaf.shape, leaf.dtype)  # pyright: ignore[reportArgumentType]
    except TypeError as error:
        if key is not None:
            raise
        raise StudyError(
            f"optimizers: initial_velocity failed for parameter {name!r} without a key ({error}); a start that is "
            "drawn needs one: type key=jax.random.fold_in(key, 1) beside initial_velocity="
        ) from error
    if jnp.shape(start) != leaf.shape:
        raise StudyError(
            f"optimizers: initial_velocity gave shape {list(jnp.shape(start))} for parameter {name!r} of shape "
            f"{list(leaf.shape)}; return an array of the shape it is called with"
        )
    return jnp.asarray(start, leaf.dtype)


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)

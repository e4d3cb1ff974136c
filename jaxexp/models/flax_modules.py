"""A flax module, linen or nnx, as a pair of pure functions.

Only parameters pass: a module that keeps other state (batch statistics, caches) or draws random numbers while it
is applied (dropout) is refused, since a `Model` has no place for either and would lose it silently.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import flax.errors
import flax.linen as nn
from flax import nnx

from jaxexp.errors import StudyError
from jaxexp.models.model import Model


def functional(module: nn.Module | Callable[[nnx.Rngs], nnx.Module]) -> Model:
    """Returns the model (init, apply) of a flax module.

    Flax has two kinds of module and they are passed differently. A *linen* module is a description, so an
    instance is passed: ``functional(nn.Dense(10))``. An *nnx* module owns its parameters from birth, so what is
    passed is a function that makes one from random numbers: ``functional(lambda rngs: Net(rngs=rngs))``. An nnx
    instance is refused, since every seed would start from its parameters.

    Args:
        module: A `flax.linen.Module`, called as ``module(inputs)``; or a function ``rngs -> flax.nnx.Module``
            whose result is called as ``net(inputs)``. The function is called once here, without computing
            anything, to learn the structure of the module.

    Returns:
        A `Model` whose parameters are nested dicts of arrays: linen's ``"params"`` collection, or the
        `nnx.Param` variables of an nnx module. ``init(key, inputs)`` of a linen module infers shapes from the
        inputs; that of an nnx module, which knows its shapes, ignores them.

    Raises:
        StudyError: `module` is neither of the two; or it keeps state other than parameters (for linen, which
            shows it only when called, this comes from ``init``); or it draws random numbers when applied (for
            linen, from ``apply``).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> inputs = jnp.ones((4, 3))
        >>> linen = functional(nn.Dense(2))
        >>> linen.apply(linen.init(jax.random.key(0), inputs), inputs).shape
        (4, 2)
        >>> of_nnx = functional(lambda rngs: nnx.Linear(3, 2, rngs=rngs))
        >>> params = of_nnx.init(jax.random.key(0), inputs)
        >>> jax.tree.map(jnp.shape, params)
        {'bias': (2,), 'kernel': (3, 2)}
    """
    if isinstance(module, nn.Module):
        return _of_linen(module)
    if isinstance(module, nnx.Module):
        name = type(module).__name__
        raise StudyError(
            f"models.functional: got an instance of the nnx module {name}, which owns its parameters: every seed "
            f"would start from them; type models.functional(lambda rngs: {name}(..., rngs=rngs))"
        )
    if inspect.isclass(module) and issubclass(module, nn.Module):
        raise StudyError(
            f"models.functional: got the linen class {module.__name__}, not an instance; type "
            f"models.functional({module.__name__}(...))"
        )
    if not callable(module):
        raise StudyError(
            f"models.functional: {module!r} is neither a flax.linen.Module nor a function rngs -> "
            "flax.nnx.Module; type models.functional(nn.Dense(10)), or make a models.Model(init, apply) yourself"
        )
    return _of_nnx(module)


def _of_linen(module: nn.Module) -> Model:
    def init(key, inputs):
        variables = module.init(key, inputs)
        _refuse_state(type(module).__name__, set(variables) - {"params"})
        return variables.get("params", {})

    def apply(params, inputs):
        try:
            return module.apply({"params": params}, inputs)
        except flax.errors.InvalidRngError as error:
            raise StudyError(
                f"models.functional: {type(module).__name__} draws random numbers when applied ({error}), and "
                "apply(params, inputs) has no key; set deterministic=True in its Dropout layers, or write the "
                "experiment's step yourself and call module.apply(..., rngs={'dropout': key})"
            ) from error

    return Model(init, apply)


def _of_nnx(construct: Callable[[nnx.Rngs], nnx.Module]) -> Model:
    structure, _ = _split(nnx.eval_shape(lambda: _made(construct, 0)))

    def init(key, inputs):
        del inputs
        _, params = _split(_made(construct, key))
        return nnx.to_pure_dict(params)

    def apply(params, inputs):
        return nnx.merge(structure, nnx.State(params))(inputs)

    return Model(init, apply)


def _made(construct: Callable[[nnx.Rngs], nnx.Module], key: Any) -> nnx.Module:
    module = construct(nnx.Rngs(key))
    if isinstance(module, nnx.Module):
        return module
    raise StudyError(
        f"models.functional: the function made {module!r} from rngs, not a flax.nnx.Module; type "
        "models.functional(lambda rngs: Net(..., rngs=rngs))"
    )


def _split(module: nnx.Module) -> tuple[Any, nnx.State]:
    """Returns structure and parameters of an nnx module, after a check that there is nothing else."""
    structure, params, rest = nnx.split(module, nnx.Param, ...)
    kinds = {type(variable).__name__ for _, variable in nnx.to_flat_state(rest)}
    _refuse_state(type(module).__name__, kinds)
    return structure, params


def _refuse_state(name: str, collections: Iterable[str]) -> None:
    found = sorted(collections)
    if not found:
        return
    raise StudyError(
        f"models.functional: {name} keeps state besides its parameters: {', '.join(found)}. "
        "apply(params, inputs) returns outputs only, so that state would never change. "
        f"{_fix(found)}, or write the experiment's init and step yourself and carry it in their state"
    )


def _fix(collections: list[str]) -> str:
    if {"batch_stats", "BatchStat"} & set(collections):
        return "Use LayerNorm or GroupNorm in place of BatchNorm"
    if {"RngKey", "RngCount"} & set(collections):
        return "Leave `rngs` out of layers that draw while applied, as in nnx.Dropout(rate, deterministic=True)"
    return "Make the variables nn.Param (nnx.Param), or drop the layer that makes them"

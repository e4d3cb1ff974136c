"""A multilayer perceptron in plain JAX, whose parameters are a tuple of dicts.

It has dense layers only: no convolution, normalisation or dropout. Take a flax module by `functional` for those.
Outside, examples are rows, as everywhere; inside they are columns, which XLA's CPU backend multiplies faster when
weights differ from lane to lane, and weights are kept as [out, in], so that no step turns them (`docs/performance.md`).
"""

import functools
import itertools
import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer

from jaxexp.errors import StudyError
from jaxexp.models.activations import tanh
from jaxexp.models.initializers import parameter_dtype
from jaxexp.models.model import Model

_Activation = Callable[[jax.Array], jax.Array]
_LECUN_NORMAL = jax.nn.initializers.lecun_normal()
_TANH = (jnp.tanh, jax.nn.tanh, jax.lax.tanh)
_FEW_INPUTS = 8
"""Up to so many inputs the first bias is a column of the weights, fed by an input of ones; beyond, it is added."""


def mlp(
    sizes: Sequence[int],
    *,
    activation: _Activation = jax.nn.relu,
    output_activation: _Activation | None = None,
    use_bias: bool = True,
    kernel_init: Initializer = _LECUN_NORMAL,
    bias_init: Initializer = jax.nn.initializers.zeros,
) -> Model:
    """Returns the model ``output_activation(W_L ... activation(W_0 x + b_0) ... + b_L)``.

    Its parameters are a tuple with one ``{"weight": [out, in], "bias": [out]}`` a layer (no ``"bias"`` without
    biases), in the dtype of the inputs where that is a floating one, else in JAX's default. Each array has a
    stream of its own, made from the key and the layer's number: a layer added at the end changes no other
    layer's start. The defaults are those of flax's `Dense`, whose kernel is the weight's transpose.

    Args:
        sizes: The number of inputs, of units in each hidden layer and of outputs: two or more integers >= 1.
        activation: Applied after each hidden layer, elementwise; `jnp.tanh` is computed by `models.tanh`.
        output_activation: Applied to the outputs; None leaves them as they are (logits).
        use_bias: Whether the layers have biases.
        kernel_init: Draws the transpose of each weight, as ``(key, [in, out], dtype) -> array``:
            `jax.nn.initializers` has many, all for that layout. The default is its ``lecun_normal()``.
        bias_init: Draws each bias, as ``(key, [out], dtype) -> array``.

    Returns:
        A `Model`. ``init`` and ``apply`` take inputs ``[..., sizes[0]]``; outputs are ``[..., sizes[-1]]``.

    Raises:
        StudyError: `sizes` has fewer than two entries or one that is no integer >= 1; or (from ``init`` and
            ``apply``) the last axis of the inputs is not ``sizes[0]`` long.

    Example:
        >>> digits = mlp([64, 30, 10], activation=jax.nn.sigmoid)
        >>> params = digits.init(jax.random.key(0), jnp.ones((1, 64)))
        >>> jax.tree.map(jnp.shape, params)
        ({'bias': (30,), 'weight': (30, 64)}, {'bias': (10,), 'weight': (10, 30)})
        >>> digits.apply(params, jnp.ones((5, 64))).shape
        (5, 10)
    """
    checked = _checked_sizes(sizes)

    def init(key, inputs):
        _check_inputs(checked, inputs)
        dtype = parameter_dtype(inputs)
        params = []
        for number, shape in enumerate(itertools.pairwise(checked)):
            kernel_key, bias_key = jax.random.split(jax.random.fold_in(key, number))
            layer = {"weight": kernel_init(kernel_key, shape, dtype).T}
            params.append(layer | ({"bias": bias_init(bias_key, shape[1:], dtype)} if use_bias else {}))
        return tuple(params)

    activation = tanh if activation in _TANH else activation

    def apply(params, inputs):
        _check_inputs(checked, inputs)
        first, *rest = params
        units = _first(first, _columns(inputs, first))
        for layer in rest:
            units = _dense(layer, activation(units))
        outputs = units if output_activation is None else output_activation(units)
        return outputs.T.reshape(*inputs.shape[:-1], checked[-1])

    return Model(init, apply)


def _columns(inputs: jax.Array, first: dict[str, jax.Array]) -> jax.Array:
    """The examples as columns [in, n], with a row of ones where the first bias is folded in."""
    columns = inputs.reshape(-1, inputs.shape[-1]).T.astype(jnp.result_type(inputs, first["weight"]))
    if "bias" not in first or len(columns) > _FEW_INPUTS:
        return columns
    return jnp.concatenate([columns, jnp.ones((1, columns.shape[1]), columns.dtype)])


def _first(layer: dict[str, jax.Array], columns: jax.Array) -> jax.Array:
    if len(columns) == layer["weight"].shape[1]:
        return _dense(layer, columns)
    return _outer_products(jnp.concatenate([layer["weight"], layer["bias"][:, None]], axis=1), columns)


@jax.custom_jvp
def _outer_products(weight: jax.Array, columns: jax.Array) -> jax.Array:
    """The matrix product, as a sum of outer ones that XLA fuses with the activation; its slopes are matrix products."""
    terms = [jnp.outer(weight[:, number], row) for number, row in enumerate(columns)]
    return functools.reduce(operator.add, terms)


@_outer_products.defjvp
def _slopes(primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    (weight, columns), (by_weight, by_columns) = primals, tangents
    return _outer_products(weight, columns), by_weight @ columns + weight @ by_columns


def _dense(layer: dict[str, jax.Array], columns: jax.Array) -> jax.Array:
    outputs = layer["weight"] @ columns
    if "bias" not in layer:
        return outputs
    # An explicit broadcast: adding [out, 1] to [out, n] fails where rank promotion raises.
    return outputs + jnp.broadcast_to(layer["bias"][:, None], outputs.shape)


def _checked_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    try:
        checked = tuple(operator.index(size) for size in sizes)
    except TypeError as error:
        raise StudyError(
            f"models.mlp: sizes={sizes!r} must be a sequence of integers, since shapes are fixed when the program "
            "is compiled; type models.mlp([64, 30, 10]), and make a width in a config static with an `int` field"
        ) from error
    if len(checked) < 2 or min(checked) < 1:
        raise StudyError(
            f"models.mlp: sizes={sizes!r} must name two or more layers of at least one unit: inputs, any hidden "
            "layers, outputs; type models.mlp([64, 30, 10])"
        )
    return checked


def _check_inputs(sizes: tuple[int, ...], inputs: jax.Array) -> None:
    if inputs.ndim and inputs.shape[-1] == sizes[0]:
        return
    raise StudyError(
        f"models.mlp: inputs of shape {list(inputs.shape)} do not end in the {sizes[0]} features of "
        f"sizes={list(sizes)}; flatten images with inputs.reshape(len(inputs), -1), or change sizes[0]"
    )

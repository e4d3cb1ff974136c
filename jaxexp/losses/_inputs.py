"""What the losses accept, checked while a program is traced, when shapes and dtypes are known.

Values are not looked at, for inside a compiled program there are none to look at. Nothing here computes a
loss.
"""

import enum
import math
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxexp.errors import StudyError, suggestion

_Choice = TypeVar("_Choice", bound=enum.StrEnum)


def pair(where: str, outputs: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Returns outputs and labels of one shape as arrays of the outputs' floating dtype.

    Args:
        where: The public function that asks; errors name it.
        outputs: Model outputs, any shape, floating.
        labels: Targets, the same shape, any real dtype.

    Raises:
        StudyError: If the shapes differ or the outputs are not floating.
    """
    outputs = floating(where, "outputs", outputs)
    labels = jnp.asarray(labels)
    if outputs.shape != labels.shape:
        raise StudyError(
            f"losses.{where}: outputs have shape {outputs.shape} and labels {labels.shape}; they must be "
            f"equal, since broadcasting would pair every output with every label. {_remedy(outputs, labels)}"
        )
    return outputs, labels.astype(outputs.dtype)


def class_labels(where: str, outputs: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Returns outputs ``[..., num_classes]`` and integer labels ``[...]`` as arrays, in a dtype that has every class.

    Args:
        where: The public function that asks; errors name it.
        outputs: One score a class on the last axis, floating.
        labels: Class indices, one axis fewer.

    Raises:
        StudyError: If the outputs are not floating, the labels are not integers, the shapes do not match
            or there is no example.
    """
    outputs, labels = floating(where, "outputs", outputs), jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise StudyError(
            f"losses.{where}: labels have dtype {labels.dtype} and shape {labels.shape}, but class indices "
            "are integers. Write labels.astype(int), or labels.argmax(-1) if they are one-hot"
        )
    if outputs.ndim == 0 or outputs.shape[:-1] != labels.shape:
        raise StudyError(
            f"losses.{where}: outputs have shape {outputs.shape} and labels {labels.shape}; outputs need "
            "the shape of the labels and one more axis for the classes, as (8, 10) has for (8,). "
            f"{_remedy(outputs, labels)}"
        )
    examples(where, outputs)
    if outputs.shape[-1] - 1 > jnp.iinfo(labels.dtype).max:  # class 256 would wrap to 0 in uint8
        labels = labels.astype(jnp.int32)
    return outputs, labels


def class_distributions(where: str, outputs: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Returns outputs and labels as arrays ``[..., num_classes]`` of the outputs' dtype.

    Args:
        where: The public function that asks; errors name it.
        outputs: ``[..., num_classes]``, floating.
        labels: Integers ``[...]``, which become one-hot (all zeros where out of range), or an array of the
            outputs' shape, taken as it is.

    Raises:
        StudyError: If the outputs are not floating, there is no example, or the labels have neither form.
    """
    if jnp.ndim(outputs) == jnp.ndim(labels):
        outputs, labels = pair(where, outputs, labels)
        examples(where, outputs)
        return outputs, labels
    outputs, labels = class_labels(where, outputs, labels)
    return outputs, jax.nn.one_hot(labels, outputs.shape[-1], dtype=outputs.dtype)


def choice(where: str, name: str, kind: type[_Choice], value: _Choice | str) -> _Choice:
    """Returns the member of an enumeration that a value is or spells.

    Args:
        where: The public function that asks; errors name it.
        name: The argument.
        kind: The enumeration.
        value: A member, or its value as a string.

    Raises:
        StudyError: If nothing is spelled so.
    """
    try:
        return kind(value)
    except ValueError:
        near = suggestion(str(value), [str(member) for member in kind])
        raise StudyError(
            f"losses.{where}: {name}={str(value)!r} is no {kind.__name__}{near}. "
            f"Write losses.{kind.__name__}.{next(iter(kind)).name} or another member"
        ) from None


def floating(where: str, name: str, values: ArrayLike) -> jax.Array:
    """Returns `values` as an array of a floating dtype.

    Args:
        where: The public function that asks; errors name it.
        name: What the values are, for the error.
        values: Any shape.

    Raises:
        StudyError: If the dtype is not floating.
    """
    values = jnp.asarray(values)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise StudyError(
            f"losses.{where}: {name} have dtype {values.dtype}, through which no gradient flows. "
            f"Write {name}.astype(float)"
        )
    return values


def examples(where: str, outputs: jax.Array) -> None:
    """Refuses outputs without a batch axis or without an example: their mean would be undefined.

    Args:
        where: The public function that asks; errors name it.
        outputs: ``[batch, ...]``.

    Raises:
        StudyError: If the outputs are a scalar or an axis is empty.
    """
    if outputs.ndim == 0 or outputs.size == 0:
        raise StudyError(
            f"losses.{where}: outputs have shape {outputs.shape}, without an example to average over. "
            "Pass (batch, ...) arrays with batch >= 1, outputs[None] for a single example"
        )


def at_least(where: str, name: str, value: ArrayLike, bound: float, *, strict: bool = False) -> None:
    """Refuses a Python number that is not finite or below `bound` (or at it, if `strict`).

    Args:
        where: The public function that asks; errors name it.
        name: The argument.
        value: A number. Arrays are let through: a range of a hyperparameter is checked when a study is
            planned.
        bound: The least value.
        strict: Whether the bound itself is refused too.

    Raises:
        StudyError: If the number is out of range.
    """
    if not isinstance(value, int | float):
        return
    if not math.isfinite(value) or value < bound or (strict and value == bound):
        sign = ">" if strict else ">="
        fix = f"Write a finite {name} {sign} {bound:g}"
        raise StudyError(f"losses.{where}: {name}={value!r} is out of range. {fix}")


def _remedy(outputs: jax.Array, labels: jax.Array) -> str:
    """Returns what to type for the commonest confusions of outputs and labels."""
    if outputs.ndim and outputs.shape[:-1] == labels.shape:
        if outputs.shape[-1] == 1:
            return "Write outputs[..., 0]"
        return f"Write jax.nn.one_hot(labels, {outputs.shape[-1]}) for integer labels"
    if outputs.shape == labels.shape:
        return "Write labels.argmax(-1) if the labels are one-hot"
    if labels.ndim and labels.shape[:-1] == outputs.shape and labels.shape[-1] == 1:
        return "Write labels[..., 0]"
    return "Reshape one of them"

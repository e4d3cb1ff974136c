"""Configs: frozen dataclasses of hyperparameters whose fields are dynamic (traced) or static (compiled in).

Values are checked here, on the host, before anything is traced; never while tracing.
"""

import dataclasses
import enum
import json
import math
import types
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

import jax
import numpy as np

from jaxexp.errors import ConfigError, suggestion

_LARGEST = float(np.finfo(np.float32).max)

_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of letters that move the cursor, turn the direction of writing or end a line."""

T = TypeVar("T")
_KEY = "jaxexp"
_TRACEABLE = (float, int, bool)


@dataclasses.dataclass(frozen=True)
class Field:
    """What is known of one hyperparameter: name, type, whether it is traced, and the values it may take."""

    name: str
    type: Any
    dynamic: bool
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] | None = None


@dataclasses.dataclass(frozen=True)
class _Wish:
    """What `static` or `dynamic` asked for, kept in the dataclass field's metadata until `config` reads it."""

    dynamic: bool
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] | None = None


def static(default: Any, *, choices: Sequence[Any] | None = None) -> Any:
    """Returns a config field that is compiled into the program: one program for each of its values.

    Args:
        default: The value where nothing else is said. Must be hashable.
        choices: The only values that are accepted, where there is such a list.

    Example:
        >>> @config
        ... class Config:
        ...     temperature: float = static(1.0)
        >>> fields(Config)["temperature"].dynamic
        False
    """
    wish = _Wish(False, choices=None if choices is None else tuple(choices))
    return dataclasses.field(default=default, metadata={_KEY: wish})


def dynamic(default: Any, *, minimum: float | None = None, maximum: float | None = None) -> Any:
    """Returns a config field that is traced: thousands of its values share one program.

    Args:
        default: The value where nothing else is said: float, int or bool.
        minimum: The least value that planning accepts (inclusive).
        maximum: The greatest value that planning accepts (inclusive).

    Example:
        >>> @config
        ... class Config:
        ...     momentum: float = dynamic(0.9, minimum=0, maximum=1)
        >>> fields(Config)["momentum"].maximum
        1
    """
    return dataclasses.field(default=default, metadata={_KEY: _Wish(True, minimum, maximum)})


@dataclass_transform(frozen_default=True)
def config(cls: type[T]) -> type[T]:
    """Makes a class a config: a frozen dataclass, and a pytree whose leaves are its dynamic fields by name.

    `float` fields are dynamic, all others static; `static(...)` and `dynamic(...)` say otherwise.

    Raises:
        ConfigError: If a field that is to be traced is not a float, int or bool.

    Example:
        >>> @config
        ... class Config:
        ...     learning_rate: float = 0.1
        ...     hidden: int = 32
        >>> jax.tree.leaves(Config())
        [0.1]
    """
    made = dataclasses.dataclass(frozen=True)(cls)
    known = fields(made)
    for field in known.values():
        if field.dynamic and field.type not in _TRACEABLE:
            raise ConfigError(
                f"field {field.name!r} of {cls.__name__} is dynamic but its type is {_type_name(field.type)}: "
                f"only float, int and bool can be traced; write `{field.name}: ... = jx.static(...)`"
            )
    jax.tree_util.register_dataclass(
        made,
        # By name: a program takes its hyperparameters by position, and which is which must not depend on their order.
        data_fields=sorted(field.name for field in known.values() if field.dynamic),
        meta_fields=[field.name for field in known.values() if not field.dynamic],
    )
    return made


def fields(config_or_type: Any) -> dict[str, Field]:
    """Returns the fields of a config (or config class) by name, in order of declaration.

    Raises:
        ConfigError: If it is no dataclass, hence no config.
    """
    if not dataclasses.is_dataclass(config_or_type):
        raise ConfigError(f"{config_or_type!r} is no config: write `@jx.config` above its class")
    cls = config_or_type if isinstance(config_or_type, type) else type(config_or_type)
    hints = get_type_hints(cls)
    return {field.name: _field(field, hints[field.name]) for field in dataclasses.fields(cls)}


def _field(field: dataclasses.Field, hint: Any) -> Field:
    wish = field.metadata.get(_KEY, _Wish(dynamic=hint is float))
    choices = wish.choices if _literal(hint) is None else _literal(hint)
    return Field(field.name, hint, wish.dynamic, wish.minimum, wish.maximum, choices)


def _literal(hint: Any) -> tuple[Any, ...] | None:
    """The values of a `Literal`, with None where that is allowed beside it; None where a hint allows more."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if hint is type(None):
        return (None,)
    if get_origin(hint) not in (Union, types.UnionType):
        return None
    parts = [_literal(kind) for kind in get_args(hint)]
    return None if None in parts else tuple(value for part in parts for value in part or ())


def check_name(known: Mapping[str, Field], name: str, where: str) -> Field:
    """Returns the field of that name.

    Raises:
        ConfigError: If there is none; the message suggests the nearest.
    """
    if name not in known:
        raise ConfigError(f"unknown hyperparameter {name!r} in {where}{suggestion(name, known)}")
    return known[name]


def check_value(field: Field, value: Any) -> Any:
    """Returns the value as the field keeps it: a plain Python value of the declared type.

    Raises:
        ConfigError: If the type is wrong, the value out of range or not among the choices.

    Example:
        >>> check_value(Field("learning_rate", float, True, minimum=0), 1)
        1.0
    """
    plain = value.item() if isinstance(value, np.generic) else value
    plain = float(plain) if field.type is float and type(plain) is int else plain
    if not _is_a(plain, field.type):
        raise ConfigError(f"{field.name}={value!r} is a {type(plain).__name__}: {field.name} takes {_takes(field)}")
    if field.choices is not None and plain not in field.choices:
        near = suggestion(str(plain), map(str, field.choices))
        raise ConfigError(f"{field.name}={value!r} is not one of its choices{near}; {field.name} takes {_takes(field)}")
    if isinstance(plain, float) and not math.isfinite(plain):
        raise ConfigError(f"{field.name}={value!r} is not finite: {field.name} takes {_takes(field)}")
    wide = jax.config.values["jax_enable_x64"]
    if isinstance(plain, float) and abs(plain) > _LARGEST and field.dynamic and not wide:
        raise ConfigError(f"{field.name}={value!r} is infinite as a float32: {field.name} takes {_takes(field)}")
    bits = 64 if wide else 32
    if isinstance(plain, int) and field.dynamic and not -(2 ** (bits - 1)) <= plain < 2 ** (bits - 1):
        raise ConfigError(f"{field.name}={value!r} is no int{bits}: give a smaller number, or make it static")
    if isinstance(value, str) and any(unicodedata.category(letter) in _UNSEEN for letter in value):
        raise ConfigError(f"{field.name}={value!r} has a character that no table can show: leave it out")
    low, high = field.minimum, field.maximum
    if (low is not None and plain < low) or (high is not None and plain > high):
        raise ConfigError(f"{field.name}={value!r} is out of range: {field.name} takes {_takes(field)}")
    return plain


def checked(config: Any) -> Any:
    """Returns a config with every value as its field keeps it: 0 becomes 0.0 where a float is declared.

    Raises:
        ConfigError: If a value has the wrong type, is out of range or is not among the choices.
    """
    made = {name: check_value(field, getattr(config, name)) for name, field in fields(config).items()}
    return dataclasses.replace(config, **made)


def plain(value: Any) -> Any:
    """Returns a value as JSON can hold it: a number, a text, or a list of such; a function by its name.

    Raises:
        ConfigError: If nothing but its address in memory tells the value from others.

    Example:
        >>> plain((8, "relu", math.sqrt))
        [8, 'relu', 'math.sqrt']
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    text = str(value)
    if " at 0x" in text:
        raise ConfigError(
            f"the static value {text} has no name that another process would know: use a string, a number, a tuple, "
            "an Enum or a named function"
        )
    return text


def text_of(value: Any) -> str:
    """Returns the text that stands for a value in a table, a digest or a group's name.

    Example:
        >>> text_of("relu"), text_of((8, 8))
        ('relu', '[8, 8]')
    """
    made = plain(value)
    return made if isinstance(made, str) else json.dumps(made)


def parse_value(field: Field, text: str) -> Any:
    """Returns the value that a text stands for, by the field's type.

    Raises:
        ConfigError: If the text is no such value.

    Example:
        >>> parse_value(Field("hidden", int, False), "32")
        32
    """
    for kind in alternatives(field.type):
        try:
            return check_value(field, _parse(kind, text))
        except (ValueError, KeyError) as problem:
            if isinstance(problem, ConfigError):
                raise
    near = f"{suggestion(text, map(str, field.choices))};" if field.choices else ":"
    raise ConfigError(f"{field.name}={text} cannot be read{near} {field.name} takes {_takes(field)}")


def _parse(kind: Any, text: str) -> Any:
    if get_origin(kind) is Literal:
        return {str(choice): choice for choice in get_args(kind)}[text]
    if kind in (type(None), None):
        return {"none": None, "null": None}[text.lower()]
    if kind is bool:
        return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {name: member for member in kind for name in (text_of(member), member.name)}[text]
    if kind is float or kind is int:
        return kind(text)
    if kind is str:
        return text
    raise ValueError(text)


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Returns the types of a union, `str` last; of another hint, itself."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(sorted(get_args(hint), key=lambda kind: kind is str))
    return (hint,)


def _is_a(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    if get_origin(hint) in (Union, types.UnionType):
        return any(_is_a(value, kind) and value in (_literal(kind) or (value,)) for kind in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, tuple({type(choice) for choice in get_args(hint)}))
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    kind = get_origin(hint) or hint
    return isinstance(value, kind) if isinstance(kind, type) else True


def _takes(field: Field) -> str:
    """The values a field takes, in words."""
    if field.choices is not None:
        return "one of " + ", ".join(map(str, field.choices))
    name = _type_name(field.type)
    name = f"an {name}" if name[0] in "aeiou" else f"a {name}"
    if field.minimum is not None and field.maximum is not None:
        return f"{name} from {field.minimum} to {field.maximum}"
    if field.minimum is not None:
        return f"{name} of at least {field.minimum}"
    return name + (f" of at most {field.maximum}" if field.maximum is not None else "")


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")

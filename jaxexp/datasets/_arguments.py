"""Checks, on the host, of the whole numbers that the datasets take.

It knows no dataset, and it neither rounds nor clips: a number that does not fit is refused.
"""

import operator
from typing import Any

from jaxexp.errors import ConfigError

_LARGEST_SEED = 2**32 - 1


def whole_number(where: str, name: str, value: Any, *, low: int = 1, high: int | None = None) -> int:
    """Returns `value` as an int of at least `low` and at most `high`.

    Args:
        where: The public function that was called, for the message.
        name: The argument's name, for the message.
        value: What was given; Python and NumPy integers are taken, a bool is not.
        low: The smallest number taken.
        high: The largest number taken, or None for no limit.

    Raises:
        ConfigError: `value` is not a whole number or lies outside `low` .. `high`.

    Example:
        >>> whole_number("datasets.volumes", "num_train", 1000)
        1000
    """
    allowed = f"at least {low}" if high is None else f"from {low} to {high}"
    fix = f"pass an int {allowed}, for example {name}={low}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ConfigError(f"{where}: {name}={value!r} is not a whole number; {fix}")
    number = operator.index(value)
    if number < low or (high is not None and number > high):
        raise ConfigError(f"{where}: {name}={number} is out of range; {fix}")
    return number


def stream_seed(where: str, value: Any) -> int:
    """Returns `value` as a seed that NumPy's legacy generator takes.

    Args:
        where: The public function that was called, for the message.
        value: What was given as the seed.

    Raises:
        ConfigError: `value` is not a whole number from 0 to 2**32 - 1. None is refused too, since it
            would draw other data at each call.

    Example:
        >>> stream_seed("datasets.spiral", 7)
        7
    """
    return whole_number(where, "seed", value, low=0, high=_LARGEST_SEED)

"""The command line's `key=value` words: a tiny grammar, parsed and then applied to a study.

`learning_rate=0.1` sets, `learning_rate=0.1,0.01` and `learning_rate=geomspace(1e-4,1,5)` make an axis,
`learning_rate=loguniform(1e-4,1)` draws, `seeds=64`, `seeds=0:64` and `num_steps=500` change the study.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxexp import configs, sizes
from jaxexp import sweep as sweeps
from jaxexp.catalog import Loaded
from jaxexp.configs import Field
from jaxexp.errors import ConfigError, StudyError, SweepError, suggestion
from jaxexp.study import COUNTS, MAX_NUM_SEEDS, Study

_SPACINGS: Mapping[str, Callable[..., Any]] = {
    "geomspace": sweeps.geomspace,
    "linspace": sweeps.linspace,
    "logspace": sweeps.logspace,
}
_DISTRIBUTIONS: Mapping[str, Callable[..., sweeps.Distribution]] = {
    "uniform": sweeps.uniform,
    "loguniform": sweeps.loguniform,
}
_FUNCTIONS = (*_SPACINGS, "range", "choice", *_DISTRIBUTIONS)


class Word(NamedTuple):
    """One `key=value` of the command line."""

    name: str
    text: str


def parse(words: Sequence[str]) -> list[Word]:
    """Returns the words taken apart.

    Raises:
        SweepError: If a word has no `=`, no value, or repeats a name.

    Example:
        >>> parse(["learning_rate=0.1,0.2"])
        [Word(name='learning_rate', text='0.1,0.2')]
    """
    made: list[Word] = []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise SweepError(f"{word!r} is neither an option nor key=value: write e.g. `learning_rate=0.1`")
        if not text.strip():
            raise SweepError(f"{name}= has no value: write e.g. `{name}=0.1` or `{name}=0.1,0.01`")
        if name in [known.name for known in made]:
            raise SweepError(f"{name} is given twice: write one `{name}=...` with all its values, separated by commas")
        made.append(Word(name.strip(), text.strip()))
    return made


def apply(study: Study, words: Sequence[str], num_samples: int | None = None) -> Study:
    """Returns the study with what the words say: values set, axes put in front of the sweep, counts changed.

    Args:
        study: The study.
        words: `key=value` each.
        num_samples: Trials to draw where a word gives a distribution.

    Raises:
        ConfigError: If a name is unknown or a value does not fit its field.
        SweepError: If a word cannot be read.
    """
    known = configs.fields(study.config)
    drawn: dict[str, sweeps.Distribution] = {}
    axes: dict[str, tuple[Any, ...]] = {}
    for word in parse(words):
        if word.name == "seeds":
            study = study.replace(seeds=_seeds(word.text))
        elif word.name in COUNTS:
            study = study.replace(**{word.name: _count(word)})
        else:
            field = _field(known, word.name)
            meant = _meaning(field, word.text)
            study = study.replace(sweep=sweeps.without(study.sweep, word.name))
            if isinstance(meant, sweeps.Distribution):
                drawn[word.name] = meant
            elif len(meant) == 1:
                study = study.replace(config=dataclasses.replace(study.config, **{word.name: meant[0]}))
            else:
                axes[word.name] = meant
    if drawn and num_samples is None:
        raise SweepError(f"{next(iter(drawn))} is drawn at random: say how many trials, e.g. --samples 64")
    if num_samples is not None and not drawn:
        raise SweepError(
            "--samples draws trials, but no key has a distribution: write e.g. learning_rate=loguniform(1e-4,1)"
        )
    sampled = sweeps.sampled(num_samples, sampling_seed=0, **drawn) if num_samples is not None else sweeps.ONE
    return study.replace(sweep=sampled * sweeps.grid(**axes) * study.sweep)


def chosen(loaded: Loaded, full: bool, words: Sequence[str], num_samples: int | None = None) -> Study:
    """Returns the study of an experiment file, in the size and with the words that were asked for.

    Args:
        loaded: The file's.
        full: Whether its full size is meant.
        words: `key=value` each.
        num_samples: Trials to draw where a word gives a distribution.

    Raises:
        StudyError: If the file has no full size.
        ConfigError, SweepError: As `apply`.
    """
    if full and loaded.full is None:
        raise StudyError(f"{loaded.name} has no full size: its file has no `full = study.replace(...)`")
    return apply(loaded.full if full else loaded.study, words, num_samples)


def _field(known: Mapping[str, Field], name: str) -> Field:
    if name not in known:
        names = [*known, "seeds", *COUNTS]
        raise ConfigError(f"unknown hyperparameter {name!r}{suggestion(name, names)}")
    return known[name]


def _meaning(field: Field, text: str) -> tuple[Any, ...] | sweeps.Distribution:
    """The values, or the distribution, that the text right of the `=` stands for."""
    call = re.fullmatch(r"(\w+)\((.*)\)", text)
    if call is None:
        return tuple(configs.parse_value(field, part.strip()) for part in _parts(field.name, text))
    function, arguments = call.group(1), _parts(field.name, call.group(2))
    if function not in _FUNCTIONS:
        raise SweepError(f"{field.name}={text}: there is no function {function!r}{suggestion(function, _FUNCTIONS)}")
    if function == "choice":
        return sweeps.choice(*(configs.parse_value(field, part) for part in arguments))
    numbers = [_number(field, text, part) for part in arguments]
    if function == "range":
        return tuple(configs.check_value(field, value) for value in _range(text, numbers))
    if function in _DISTRIBUTIONS:
        _check_arity(field, text, numbers, 2, f"{function}(low, high)")
        return _DISTRIBUTIONS[function](*numbers)
    _check_arity(field, text, numbers, 3, f"{function}(start, stop, num)")
    if numbers[2] != int(numbers[2]):
        raise SweepError(f"{field.name}={text}: the third number is how many values, a whole number")
    spaced = _SPACINGS[function](numbers[0], numbers[1], int(numbers[2]))
    return tuple(configs.check_value(field, value) for value in spaced)


def _range(text: str, numbers: Sequence[float]) -> list[int]:
    if not 1 <= len(numbers) <= 3 or any(number != int(number) for number in numbers):
        raise SweepError(f"{text}: range takes one to three whole numbers, e.g. range(10) or range(0,10,2)")
    if len(numbers) == 3 and numbers[2] == 0:
        raise SweepError(f"{text}: a step of 0 never arrives, e.g. range(0,10,2)")
    asked = range(*map(int, numbers))
    if sizes.length(asked) > MAX_NUM_SEEDS:
        raise SweepError(f"{text} has {sizes.length(asked):,} values, more than {MAX_NUM_SEEDS:,}")
    values = list(asked)
    if not values:
        raise SweepError(f"{text} is empty: its stop is not past its start")
    return values


def _parts(name: str, text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise SweepError(f"{name}={text} has an empty value between its commas")
    return parts


def _number(field: Field, text: str, part: str) -> float:
    try:
        number = float(part)
    except ValueError:
        raise SweepError(f"{field.name}={text}: {part!r} is no number") from None
    if not math.isfinite(number):
        raise SweepError(f"{field.name}={text}: {part!r} is not finite: an axis goes from one number to another")
    return number


def _check_arity(field: Field, text: str, numbers: Sequence[float], count: int, shape: str) -> None:
    if len(numbers) != count:
        raise SweepError(f"{field.name}={text}: {shape} takes {count} numbers, not {len(numbers)}")


def _seeds(text: str) -> int | tuple[int, ...]:
    try:
        if ":" in text:
            low, high = (int(part) for part in text.split(":"))
            if low >= high:
                raise SweepError(f"seeds={text} is empty: write the first and one past the last, e.g. seeds=0:64")
            if high - low > MAX_NUM_SEEDS:
                raise SweepError(f"seeds={text} are {high - low:,}, more than {MAX_NUM_SEEDS:,}")
            return tuple(range(low, high))
        return int(text) if "," not in text else tuple(int(part) for part in text.split(","))
    except ValueError as problem:
        if isinstance(problem, SweepError):
            raise
        raise SweepError(f"seeds={text} cannot be read: write seeds=64 (how many), seeds=0:64 or seeds=1,5,9") from None


def _count(word: Word) -> int:
    try:
        count = int(float(word.text)) if float(word.text) == int(float(word.text)) else 0
    except (ValueError, OverflowError):
        count = 0
    if count < 1:
        raise SweepError(f"{word.name}={word.text} is no positive whole number: write e.g. {word.name}=500")
    return count

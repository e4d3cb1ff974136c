"""Arms: words that choose trials of a run, `velocity_init=zeros` or `learning_rate=0.1,momentum=0.9`.

The trials of two arms are paired where they differ in nothing but what the words name. Reads datasets' coordinates.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxexp import tables
from jaxexp.errors import StudyError, suggestion


def matched(dataset: Any, first: str, second: str) -> list[tuple[int, int]]:
    """Returns the trials of two arms in pairs: those that differ in nothing but what the words name.

    Where each arm is one trial, these are the pair, whatever else they differ in.

    Args:
        dataset: Results.
        first: The first arm, e.g. `velocity_init=zeros`, or `learning_rate=0.1,momentum=0.9`.
        second: The second.

    Raises:
        StudyError: If a word cannot be read, names no hyperparameter or no value that was trained; if both arms are
            the same trials, none has a counterpart, or one has several.
    """
    words = _parse(first), _parse(second)
    chosen = tuple(np.flatnonzero(_matching(dataset, arm)) for arm in words)
    if np.array_equal(chosen[0], chosen[1]):
        raise StudyError(f"{first} and {second} are the same trials: name a hyperparameter in which they differ")
    if all(len(trials) == 1 for trials in chosen):
        return [(int(chosen[0][0]), int(chosen[1][0]))]
    others = [name for name in tables.varied(dataset) if not any(name in arm for arm in words)]
    columns = [dataset[name].values.tolist() for name in others]
    rest: list[dict[tuple[Any, ...], int]] = [{}, {}]
    for text, trials, by_rest in zip((first, second), chosen, rest, strict=True):
        for trial in map(int, trials):
            key = tuple(column[trial] for column in columns)
            if key in by_rest:
                raise StudyError(_several(dataset, text, by_rest[key], trial))
            by_rest[key] = trial
    both = [(trial, rest[1][key]) for key, trial in rest[0].items() if key in rest[1]]
    if not both:
        differing = [name for name, column in zip(others, columns, strict=True) if not _shared(column, chosen)]
        raise StudyError(
            f"no trial of {first} has a counterpart with {second} and the same {', '.join(differing or others)}: name "
            f"what else differs, e.g. `{first},{(differing or others)[0]}=...`"
        )
    return both


def num_matching(dataset: Any, words: str) -> int:
    """Returns how many trials an arm's words match.

    Raises:
        StudyError: If a word cannot be read, names no hyperparameter or no value that was trained.
    """
    return int(_matching(dataset, _parse(words)).sum())


def _shared(column: list[Any], chosen: Sequence[np.ndarray]) -> bool:
    """Whether trials of both arms have a value of a column in common."""
    first, second = ({column[trial] for trial in trials} for trials in chosen)
    return bool(first & second)


def _several(dataset: Any, words: str, one: int, other: int) -> str:
    differing = [name for name in tables.varied(dataset) if dataset[name].values[one] != dataset[name].values[other]]
    name = differing[0]
    return (
        f"{words} is more than one trial for each of the other arm: trials {one} and {other} differ in "
        f"{', '.join(differing)}, which the other arm names; write e.g. `{words},{name}={dataset[name].values[one]}`"
    )


def _parse(words: str) -> dict[str, str]:
    """The `name=value` of an arm; a comma inside a value, as in (8, 8), does not part it."""
    parts = [part.partition("=") for part in re.split(r",(?=\s*\w+\s*=)", words)]
    for name, equals, text in parts:
        if not equals or not name.strip() or not text.strip():
            raise StudyError(f"{words!r} is no arm: write e.g. `learning_rate=0.1` or `learning_rate=0.1,momentum=0.9`")
    return {name.strip(): text.strip() for name, _, text in parts}


def _matching(dataset: Any, arm: Mapping[str, str]) -> np.ndarray:
    """Which trials [trial] an arm's words match."""
    known = [name for name, value in dataset.coords.items() if value.dims in ((), ("trial",)) and name != "trial"]
    found = np.ones(dataset.sizes["trial"], bool)
    for name, text in arm.items():
        if name not in known:
            raise StudyError(f"unknown hyperparameter {name!r}{suggestion(name, known)}")
        values = np.atleast_1d(dataset[name].values)
        match = _equal(values, text)
        if not match.any():
            texts = list(dict.fromkeys(str(value) for value in values.tolist()))
            raise StudyError(f"no trial has {name}={text}{suggestion(text, texts[:50])}")
        found &= match
    if not found.any():
        told = ",".join(f"{name}={text}" for name, text in arm.items())
        raise StudyError(f"no trial has {told} together: `jaxexp table RUN` lists those that there are")
    return found


def _equal(values: np.ndarray, text: str) -> np.ndarray:
    """Where values are what a text stands for; numbers may differ by 1e-9 of themselves."""
    if values.dtype == bool:
        return values == {"true": True, "1": True, "false": False, "0": False}.get(text.lower())
    if not np.issubdtype(values.dtype, np.number):
        return values.astype(str) == text
    try:
        return np.isclose(values.astype(np.float64), float(text), rtol=1e-9, atol=0)
    except ValueError:
        return np.zeros(len(values), bool)

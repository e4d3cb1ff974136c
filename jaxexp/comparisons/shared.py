"""Which trials two runs share, and what is said where they share none."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxexp import tables
from jaxexp.errors import StudyError


def trials(first: Any, second: Any) -> list[tuple[int, int]]:
    """Returns the trials that two datasets share: the same value of every hyperparameter that both have.

    Args:
        first: Results.
        second: Others.

    Raises:
        StudyError: If they share none, or a trial of one is several of the other, which differ in a hyperparameter
            that it has alone; the message names the hyperparameters.
    """
    names = [name for name in _hyperparameters(first) if name in _hyperparameters(second)]
    rows = [_rows(dataset, names) for dataset in (first, second)]
    places = [{row: position for position, row in enumerate(own)} for own in rows]
    pairs = [(position, places[1][row]) for row, position in places[0].items() if row in places[1]]
    for dataset, own, known, others in zip((first, second), rows, places, reversed(places), strict=True):
        again = [trial for trial, row in enumerate(own) if row in others and known[row] != trial]
        if again:
            raise StudyError(_ambiguous(dataset, names, again[0], known[own[again[0]]]))
    if pairs:
        return pairs
    apart = [
        f"{name} is {_told(first, name)} and {_told(second, name)}"
        for place, name in enumerate(names)
        if not {row[place] for row in rows[0]} & {row[place] for row in rows[1]}
    ]
    told = "; ".join(apart) or "no combination of hyperparameters is in both"
    raise StudyError(f"the two runs share no trial: {told}. To compare trials of one run: `jaxexp compare RUN A B`")


def _ambiguous(dataset: Any, names: Sequence[str], one: int, other: int) -> str:
    """What is said where a trial of one run is two of another."""
    columns = {name: dataset[name].values for name in tables.varied(dataset) if name not in names}
    apart = {name: column[one] for name, column in columns.items() if column[one] != column[other]}
    words = " ".join(f"{name}={value}" for name, value in apart.items())
    return (
        f"a trial of one run is more than one of the other: trials {one} and {other} differ in {', '.join(apart)}, "
        f"which one run alone has; train one value of it by itself, `jaxexp run EXPERIMENT {words} --name alone`, and "
        "compare with that run"
    )


def _hyperparameters(dataset: Any) -> list[str]:
    return [name for name, value in dataset.coords.items() if value.dims in ((), ("trial",)) and name != "trial"]


def _rows(dataset: Any, names: Sequence[str]) -> list[tuple[Any, ...]]:
    count = dataset.sizes["trial"]
    columns = [np.broadcast_to(dataset[name].values, (count,)).tolist() for name in names]
    return list(zip(*columns, strict=True)) if columns else [()] * count


def _told(dataset: Any, name: str) -> str:
    values = list(dict.fromkeys(np.atleast_1d(dataset[name].values).tolist()))
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")

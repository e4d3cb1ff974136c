"""Tables of trials beside each other: which of their rows are equal. What is no number is compared as text."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxexp import configs
from jaxexp.study import Table


def aligned(trials: Table, others: Table) -> np.ndarray:
    """Returns for each trial the row of the equal trial in another table, or -1; int64 [num_trials]."""
    if trials is others:
        return np.arange(len(trials))
    names = tuple(dict.fromkeys((*trials.columns, *others.columns)))
    fixed = (trials.base.keys() & others.base.keys()) - set(names)
    if any(_comparable(trials.base[name]) != _comparable(others.base[name]) for name in fixed):
        return np.full(len(trials), -1)
    rows = {row: index for index, row in enumerate(_rows(others, names))}
    return np.fromiter((rows.get(row, -1) for row in _rows(trials, names)), np.int64, len(trials))


def union(tables: Sequence[Table]) -> Table:
    """Returns the distinct trials of several tables, in order of first mention."""
    if len(tables) == 1:
        return tables[0]
    bases = [table.base for table in tables]
    differing = [name for name in bases[0] if any(base.get(name) != bases[0][name] for base in bases)]
    names = tuple(dict.fromkeys([name for table in tables for name in table.columns] + differing))
    distinct = list(dict.fromkeys(row for table in tables for row in _rows(table, names)))
    columns = {name: _column([row[i] for row in distinct]) for i, name in enumerate(names)}
    return Table(columns, bases[0], len(distinct))


def _rows(table: Table, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of a table with these columns, all values comparable and hashable."""
    lists = []
    for name in names:
        column = table.columns.get(name)
        if column is None:
            lists.append([_comparable(table.base.get(name))] * len(table))
        else:
            lists.append([_comparable(value) for value in column] if column.dtype == object else column.tolist())
    return zip(*lists, strict=True) if names else iter([()] * len(table))


def _comparable(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float)) else configs.text_of(value)


def _column(values: list[Any]) -> np.ndarray:
    kinds = {type(value) for value in values}
    if kinds <= {bool} or kinds <= {int} or kinds <= {float}:
        return np.asarray(values)
    column = np.empty(len(values), object)
    column[:] = values
    return column

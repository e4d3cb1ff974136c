"""Tables of results: one row a trial, its metrics as mean and 95 % interval over seeds. Prints nothing."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxexp.errors import StudyError, suggestion
from jaxexp.results import NOT_FINITE, NOT_RUN, OK


def varied(dataset: Any) -> list[str]:
    """Returns the names of the hyperparameters that differ between trials."""
    return [name for name, value in dataset.coords.items() if value.dims == ("trial",) and name != "trial"]


def metrics(dataset: Any) -> list[str]:
    """Returns the names of the metrics: those of evaluation first, then the step's."""
    named = {name: value.dims for name, value in dataset.data_vars.items()}
    evaluated = [name for name, dims in named.items() if dims[-1] == "eval_step"]
    return evaluated + [name for name, dims in named.items() if dims[-1] == "step"]


def headline(dataset: Any) -> list[str]:
    """Returns the metrics that a table shows unasked: those of evaluation, or the step's where there are none."""
    names = metrics(dataset)
    evaluated = [name for name in names if dataset[name].dims[-1] == "eval_step"]
    return evaluated or names


def steps_shown(dataset: Any, at: int | None = None) -> list[int]:
    """Returns the evaluations that a table shows: the first after training began and the last, or the one asked for.

    Raises:
        StudyError: If nothing was evaluated at the step asked for.
    """
    there = [int(step) for step in dataset["eval_step"].values]
    if at is not None:
        if at not in there:
            known = ", ".join(map(str, there[:20]))
            raise StudyError(f"nothing was evaluated at step {at}: evaluated at {known}")
        return [at]
    later = [step for step in there if step > 0] or there
    return sorted({later[0], later[-1]}) if later else []


def rows(dataset: Any, *, shown: Sequence[str] | None = None, at: int | None = None) -> list[dict[str, Any]]:
    """Returns one dict a trial: its hyperparameters, n, diverged, and each metric's mean and interval's half-width.

    Only runs with status 0 are scored; those that diverged are counted.

    Args:
        dataset: Results.
        shown: The metrics to show; all where None.
        at: The evaluation to show; the first and the last where None.

    Raises:
        StudyError: If there is no such metric or evaluation.
    """
    names = metrics(dataset)
    for name in shown or ():
        if name not in names:
            raise StudyError(f"there is no metric {name!r}{suggestion(name, names)}")
    status = dataset["status"].values
    columns: dict[str, np.ndarray | list[Any]] = {name: dataset[name].values for name in varied(dataset)}
    columns["n"] = (status == OK).sum(1)
    columns["diverged"] = (status == NOT_FINITE).sum(1)
    columns["not run"] = (status == NOT_RUN).sum(1)
    for name in names if shown is None else shown:
        for title, values in _at(dataset, name, at):
            columns[title], columns[f"{title} ±"] = _mean_and_half_width(values, status == OK)
    lists = {name: np.asarray(column).tolist() for name, column in columns.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _at(dataset: Any, name: str, at: int | None) -> list[tuple[str, np.ndarray]]:
    """The [trial, seed] values of a metric that a table shows, each with its title."""
    array = dataset[name]
    if array.dims[-1] == "step":
        last = int(dataset["step"].values[-1])
        return [] if at is not None else [(f"{name} @{last}", array.values[..., -1])]
    return [(f"{name} @{step}", array.sel(eval_step=step).values) for step in steps_shown(dataset, at)]


def _mean_and_half_width(values: np.ndarray, scored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the scored seeds of each trial, and the half-width of its 95 % t interval (NaN below n = 2)."""
    from scipy.special import stdtrit  # scipy takes long to import, and only tables need it

    scored = scored & np.isfinite(values)
    n = scored.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(scored, values, 0).sum(1, dtype=np.float64) / n
        variance = np.where(scored, (values - mean[:, None]) ** 2, 0).sum(1) / (n - 1)
        half = stdtrit(np.maximum(n - 1, 1), 0.975) * np.sqrt(variance / n)
    return mean, np.where(n > 1, half, np.nan)


def sorted_rows(table: list[dict[str, Any]], by: str | None) -> list[dict[str, Any]]:
    """Returns the rows in the order of a column, ascending (`by`) or descending (`-by`).

    Raises:
        StudyError: If there is no such column.
    """
    if by is None or not table:
        return table
    name = by.removeprefix("-")
    matching = [column for column in table[0] if column == name or column.startswith(f"{name} @")]
    if not matching:
        raise StudyError(f"there is no column {name!r}{suggestion(name, table[0])}")
    column = matching[-1] if matching[-1] == name or not matching[-1].endswith("±") else matching[-2]
    missing = [row for row in table if row[column] != row[column]]
    there = [row for row in table if row[column] == row[column]]
    return sorted(there, key=lambda row: row[column], reverse=by.startswith("-")) + missing


def cells(table: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns a table as text: a mean and its half-width share a cell, and empty columns are left out."""
    if not table:
        return [], []
    skip = {"not run"} if not any(row["not run"] for row in table) else set()
    titles = [name for name in table[0] if not name.endswith(" ±") and name not in skip]
    return titles, [[_cell(row, name) for name in titles] for row in table]


def _cell(row: dict[str, Any], name: str) -> str:
    value, half = row[name], row.get(f"{name} ±")
    if not isinstance(value, float):
        return str(value)
    if half is None or half != half:
        return f"{value:.4g}"
    return f"{value:.4f} ± {half:.4f}" if abs(value) < 1000 else f"{value:.4g} ± {half:.2g}"


def to_csv(table: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as CSV text with a header."""
    if not table:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, table[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return buffer.getvalue()

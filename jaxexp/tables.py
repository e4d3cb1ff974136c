"""Tables of results: a row a trial, or a group of trials, its metrics with their 95 % intervals over seeds.

What is computed are columns; rows are made of those that are shown, so that a million runs take a second. Prints
nothing.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxexp.errors import StudyError, suggestion
from jaxexp.results import NOT_FINITE, NOT_RUN, OK, STOPPED_EARLY, status_at

COUNTS = ("trials", "n", "diverged", "stopped early", "not run")
"""The columns that count; a hyperparameter of that name is titled `config.NAME`."""

_HALF, _LOW, _HIGH = " ±", " low", " high"
"""What the titles of an interval's columns end with, after the title of what it belongs to."""


def varied(dataset: Any) -> list[str]:
    """Returns the names of the hyperparameters that differ between trials."""
    return [name for name, value in dataset.coords.items() if value.dims == ("trial",) and name != "trial"]


def metrics(dataset: Any) -> list[str]:
    """Returns the names of the metrics: those of evaluation first, then the step's."""
    evaluated = [name for name in dataset.data_vars if _evaluated(dataset, name)]
    return evaluated + [name for name, value in dataset.data_vars.items() if value.dims[-1] == "step"]


def _evaluated(dataset: Any, name: str) -> bool:
    return dataset[name].dims[-1] == "eval_step"


def headline(dataset: Any) -> list[str]:
    """Returns the metrics that a table shows unasked: those of evaluation, or the step's where there are none."""
    names = metrics(dataset)
    return [name for name in names if _evaluated(dataset, name)] or names


def first_metric(dataset: Any) -> str:
    """Returns the first of the metrics that a table shows unasked.

    Raises:
        StudyError: If there is none.
    """
    names = headline(dataset)
    if not names:
        if (dataset["status"].values != NOT_RUN).any():
            raise StudyError("there is nothing to show: the experiment returns no metrics")
        raise StudyError("there is no result yet: wait for the first batch, or `jaxexp run` the study")
    return names[0]


def steps_shown(dataset: Any, at: int | None = None) -> list[int]:
    """Returns the evaluations that a table shows: the first after training began and the last, or the one asked for.

    Raises:
        StudyError: If nothing was evaluated at the step asked for.
    """
    there = [int(step) for step in dataset["eval_step"].values]
    if at is not None:
        if at not in there:
            known = ", ".join(map(str, there[:20])) or "no step"
            raise StudyError(f"nothing was evaluated at step {at}: evaluated at {known}")
        return [at]
    later = [step for step in there if step > 0] or there
    return sorted({later[0], later[-1]}) if later else []


def rows(
    dataset: Any,
    *,
    shown: Sequence[str] | None = None,
    at: int | None = None,
    group_by: Sequence[str] = (),
    statistic: str = "mean",
) -> list[dict[str, Any]]:
    """Returns one dict a trial or group: its hyperparameters, n, diverged, and each metric with its interval.

    Args:
        dataset: Results.
        shown: As in `columns`, like all others.
        at: The evaluation to show.
        group_by: Hyperparameters.
        statistic: `mean` or `median`.

    Raises:
        StudyError: If there is no such metric, evaluation, hyperparameter or statistic.

    Example:
        >>> import jaxexp as jx
        >>> @jx.config
        ... class Config:
        ...     x: float = 0.0
        >>> square = jx.from_train(lambda key, config: {"y": config.x**2})
        >>> dataset = jx.run(jx.Study(experiment=square, config=Config(), sweep=jx.grid(x=(1.0, 2.0)), seeds=2))
        >>> rows(dataset)[1]["x"], rows(dataset)[1]["y @0"]
        (2.0, 4.0)
    """
    return as_rows(columns(dataset, shown=shown, at=at, group_by=group_by, statistic=statistic))


def columns(
    dataset: Any,
    *,
    shown: Sequence[str] | None = None,
    at: int | None = None,
    group_by: Sequence[str] = (),
    statistic: str = "mean",
) -> dict[str, np.ndarray]:
    """Returns a table's columns by title: hyperparameters, counts, and each metric with its 95 % interval.

    Only runs with status 0 are scored. In a group, a seed's number is the mean over the group's trials, as `seed_means`
    has it; the statistic and the interval are taken over seeds, of which `n` have such a number. Runs that are not
    scored are counted: `diverged`, `stopped early` (where there is one) and `not run`.

    Args:
        dataset: Results.
        shown: The metrics to show; all where None.
        at: The evaluation to show; the first and the last where None.
        group_by: Hyperparameters whose values make the groups; the column `trials` says how many trials each has. A
            group a trial where there is none.
        statistic: `mean`, with the half-width of its t interval as `... ±`; or `median`, titled so, with the ends of
            its interval between order statistics as `... low` and `... high`.

    Raises:
        StudyError: If there is no such metric, evaluation, hyperparameter or statistic.

    Example:
        >>> import jaxexp as jx
        >>> @jx.config
        ... class Config:
        ...     x: float = 0.0
        ...     z: float = 0.0
        >>> added = jx.from_train(lambda key, config: {"y": config.x + config.z})
        >>> sweep = jx.grid(x=(1.0, 2.0), z=(0.0, 4.0))
        >>> dataset = jx.run(jx.Study(experiment=added, config=Config(), sweep=sweep, seeds=2))
        >>> columns(dataset, group_by=["x"])["y @0"].tolist()
        [3.0, 4.0]
    """
    names = metrics(dataset)
    for name in shown or ():
        if name not in names:
            raise StudyError(f"there is no metric {name!r}{suggestion(name, names)}")
    if statistic not in _STATISTICS:
        raise StudyError(f"there is no statistic {statistic!r}{suggestion(statistic, _STATISTICS)}")
    shown = names if shown is None else shown
    if at is not None and steps_shown(dataset, at) and not set(shown) & {n for n in names if _evaluated(dataset, n)}:
        raise StudyError(f"--at is of evaluations, and nothing evaluated is shown ({', '.join(shown)}): leave it out")
    groups = _groups(dataset, group_by)
    status = status_at(dataset, at)
    made = {_title(name): dataset[name].values[groups.first] for name in group_by or varied(dataset)}
    made |= {"trials": groups.sizes} if group_by else {}
    made |= _counts(status, groups)
    for name in shown:
        for title, values in _at(dataset, name, at):
            made |= _STATISTICS[statistic](title, seed_means(np.where(status == OK, values, np.nan), groups.sums))
    return made


def _title(name: str) -> str:
    return f"config.{name}" if name in COUNTS else name


class _Groups(NamedTuple):
    """Which trials belong together: rows in the order of their groups, and where each group begins among them."""

    order: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    first: np.ndarray

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over each group's trials, of values [trial, seed]; float64 [group, seed]."""
        if len(self.starts) == len(self.order):
            return values.astype(np.float64)
        return np.add.reduceat(values[self.order], self.starts, axis=0, dtype=np.float64)


def _groups(dataset: Any, names: Sequence[str]) -> _Groups:
    """The groups of trials with equal values of some hyperparameters, in the order of their first trials."""
    known, every = varied(dataset), np.arange(dataset.sizes["trial"])
    if not names:
        return _Groups(every, every, np.ones_like(every), every)
    code = np.zeros_like(every)
    for name in names:
        if name not in known:
            raise StudyError(
                f"no hyperparameter {name!r} differs between the trials, so that there is nothing to group by"
                + suggestion(name, known)
            )
        values, own = np.unique(dataset[name].values, return_inverse=True)
        _, code = np.unique(code * len(values) + own, return_inverse=True)
    _, first, code = np.unique(code, return_index=True, return_inverse=True)
    place = np.empty_like(first)
    place[np.argsort(first)] = np.arange(len(first))
    sizes = np.bincount(place[code])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return _Groups(np.argsort(place[code], kind="stable"), starts, sizes, np.sort(first))


def _counts(status: np.ndarray, groups: _Groups) -> dict[str, np.ndarray]:
    """How many seeds are scored, and how many runs are not, for each group."""
    made = {"n": np.isfinite(seed_means(np.where(status == OK, 0.0, np.nan), groups.sums)).sum(1)}
    for title, code in (("diverged", NOT_FINITE), ("stopped early", STOPPED_EARLY), ("not run", NOT_RUN)):
        if code != STOPPED_EARLY or (status == code).any():
            made[title] = groups.sums(status == code).sum(1).astype(np.int64)
    return made


def _at(dataset: Any, name: str, at: int | None) -> list[tuple[str, np.ndarray]]:
    """The [trial, seed] values of a metric that a table shows, each with its title."""
    array = dataset[name]
    if array.dims[-1] == "step":
        last = int(dataset["step"].values[-1])
        return [] if at is not None else [(f"{name} @{last}", array.values[..., -1])]
    return [(f"{name} @{step}", array.sel(eval_step=step).values) for step in steps_shown(dataset, at)]


def seed_means(values: np.ndarray, sums: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Returns for each group and seed the mean over the group's trials, float64 [group, seed].

    Every seed's mean is over the same trials: those that are finite at any seed. Where one of them is not, the seed has
    NaN: means over other trials are no replicates.

    Args:
        values: [trial, seed]; not finite where a run is not scored.
        sums: Sums [trial, seed], or [trial, 1], over the trials of each group.

    Example:
        >>> values = np.asarray([[1.0, 2.0, 3.0], [5.0, 6.0, np.nan], [np.nan] * 3])
        >>> seed_means(values, lambda found: found.sum(0, keepdims=True)).tolist()
        [[3.0, 4.0, nan]]
    """
    finite = np.isfinite(values)
    wanted, there = sums(np.any(finite, 1, keepdims=True)), sums(finite)
    total = sums(np.where(finite, values, 0))
    return np.divide(total, wanted, out=np.full(total.shape, np.nan), where=(there == wanted) & (there > 0))


def _mean(title: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """The mean over the seeds of each row, and the half-width of its t interval (NaN where n < 2 or all agree).

    Source: Student (1908), "The probable error of a mean", Biometrika 6(1).
    """
    from scipy.special import stdtrit  # scipy takes long to import, and only tables need it

    there = np.isfinite(values)
    n = there.sum(1)
    quantile = np.concatenate([[np.nan] * 2, stdtrit(np.arange(1, values.shape[1]), 0.975)])  # by n
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, values, 0).sum(1) / n
        variance = np.where(there, (values - mean[:, None]) ** 2, 0).sum(1) / (n - 1)
        half = quantile[n] * np.sqrt(variance / n)
    # Seeds that all agree say nothing of how far the mean may be: see `statistics.mean_interval`.
    agree = np.where(there, values, -np.inf).max(1) == np.where(there, values, np.inf).min(1)
    half[agree] = np.nan
    return {title: mean, f"{title}{_HALF}": half}


def _median(title: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """The median over the seeds of each row, and the order statistics between which it lies at 95 %, or infinities.

    Source: Thompson (1936), "On confidence ranges for the median and other expectation distributions for populations
    of unknown distribution form", Annals of Mathematical Statistics 7(3).
    """
    from scipy.special import bdtr

    n = np.isfinite(values).sum(1)
    ordered = np.sort(values, 1)  # NaN comes last

    def at(place: np.ndarray) -> np.ndarray:
        return np.take_along_axis(ordered, np.clip(place, 0, values.shape[1] - 1)[:, None], 1)[:, 0]

    below = np.zeros_like(n)
    for count in np.unique(n):
        below[n == count] = np.searchsorted(bdtr(np.arange(count), count, 0.5), 0.025, side="right")
    low, high = np.where(below, at(below - 1), -np.inf), np.where(below, at(n - below), np.inf)
    named = f"{title} median"
    return {named: (at((n - 1) // 2) + at(n // 2)) / 2, f"{named}{_LOW}": low, f"{named}{_HIGH}": high}


_STATISTICS: dict[str, Callable[[str, np.ndarray], dict[str, np.ndarray]]] = {"mean": _mean, "median": _median}


def ordered(made: Mapping[str, np.ndarray], by: str | None = None, limit: int | None = None) -> dict[str, np.ndarray]:
    """Returns the columns in the order of one of them, and of their rows so many alone.

    By a metric, trials with fewer diverged runs come first, as in `statistics.choose_and_judge`; groups, with none.

    Args:
        made: What `columns` gave.
        by: A column's title, or a metric's name for its last evaluation; `-` before it for descending. What is NaN
            comes last. As it is where None.
        limit: The rows to keep; all where None.

    Raises:
        StudyError: If there is no such column.

    Example:
        >>> ordered({"x": np.asarray([1, 3, 2])}, "-x", 2)["x"].tolist()
        [3, 2]
    """
    places = slice(limit) if by is None else _order(made, by)[:limit]
    return {title: values[places] for title, values in made.items()}


def is_metric(made: Mapping[str, Any], by: str) -> bool:
    """Returns whether the column that `ordered` orders by is a metric's; arguments and errors as there."""
    title = _column(made, by)
    return " @" in title and not _belongs(title, made)


def _column(titles: Mapping[str, Any], by: str) -> str:
    """The title of the column that is meant."""
    name = by.removeprefix("-")
    if name in titles:
        return name
    matching = [title for title in titles if title.startswith(f"{name} @") and not _belongs(title, titles)]
    if not matching:
        raise StudyError(f"there is no column {name!r}{suggestion(name, titles)}")
    return matching[-1]


def _belongs(title: str, titles: Mapping[str, Any]) -> bool:
    """Whether a column is a part of another's interval."""
    return any(title.endswith(end) and title.removesuffix(end) in titles for end in (_HALF, _LOW, _HIGH))


def _order(made: Mapping[str, np.ndarray], by: str) -> np.ndarray:
    """The rows in the order of a column, those that are NaN last; of equal ones the first comes first."""
    values = made[_column(made, by)]
    ranks = np.unique(values, return_inverse=True)[1]
    keys = [-ranks if by.startswith("-") else ranks]
    if is_metric(made, by):  # what diverged counts more: a mean of survivors is no reason to come first
        keys.append(made["diverged"].clip(max=1) if "trials" in made else made["diverged"])
    return np.lexsort([*keys, values != values])


def as_rows(made: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Returns columns as one dict a row, of plain Python values."""
    lists = [np.asarray(values).tolist() for values in made.values()]
    return [dict(zip(made, row, strict=True)) for row in zip(*lists, strict=True)]


def cells(table: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns a table as text: a number and its interval share a cell, and empty columns are left out."""
    if not table:
        return [], []
    skip = {"not run"} if not any(row["not run"] for row in table) else set()
    titles = [title for title in table[0] if title not in skip and not _belongs(title, table[0])]
    return titles, [[_cell(row, title) for title in titles] for row in table]


def _cell(row: dict[str, Any], title: str) -> str:
    value = row[title]
    if not isinstance(value, float):
        return str(value)
    half = row.get(f"{title}{_HALF}")
    if half is not None and half == half:
        told = value == 0 or 1e-3 <= abs(value) < 1000  # by four decimals
        return f"{_fixed(value)} ± {_fixed(half)}" if told else f"{value:.4g} ± {half:.2g}"
    low, high = row.get(f"{title}{_LOW}"), row.get(f"{title}{_HIGH}")
    if low is not None and high is not None and np.isfinite([low, high]).all():
        return f"{_fixed(value)} [{_fixed(low)}, {_fixed(high)}]"
    return f"{value:.4g}"


def _fixed(value: float) -> str:
    return f"{value:.4f}" if value == 0 or 5e-5 < abs(value) < 1000 else f"{value:.4g}"


def to_csv(table: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as CSV text with a header."""
    if not table:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, table[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return buffer.getvalue()


def to_markdown(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Returns cells of text as a Markdown table.

    Example:
        >>> to_markdown(["rate", "loss"], [["0.1", "2 ± 1"]]).splitlines()
        ['| rate | loss |', '|---|---|', '| 0.1 | 2 ± 1 |']
    """

    def line(texts: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(text.replace("|", r"\|").split()) for text in texts) + " |\n"

    return line(titles) + "|---" * len(titles) + "|\n" + "".join(map(line, lines))

"""What figures draw: a metric by trial and seed, and the levels of the hyperparameters. Draws nothing.

Few values are levels as they are; many numbers are put into classes of equally many values.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxexp import tables
from jaxexp.errors import StudyError, suggestion
from jaxexp.results import NOT_FINITE, OK

_MAX_LINES, _MAX_CELLS, _MAX_CLASSES = 8, 12, 8
_MAX_POINTS, _MAX_LABEL = 100, 90
_SMALLER_IS_BETTER = re.compile(
    "loss|error|cross_entropy|nll|neg(?:ative)?_?log|mse|mae|brier|perplexity|divergence|distance|regret|difference|cost|seconds"
)


class Levels(NamedTuple):
    """The levels of one hyperparameter.

    Attributes:
        codes: The level of each trial, int64 [num_trials]; -1 for text beyond the most frequent values.
        places: Where each level lies on an axis, [num_levels]: its value, its class's middle, or its number.
        labels: What each level is called.
        is_log: Whether the values are spaced geometrically.
        is_classed: Whether levels are classes of several values.
    """

    codes: np.ndarray
    places: np.ndarray
    labels: list[str]
    is_log: bool = False
    is_classed: bool = False


def is_numeric(values: np.ndarray) -> bool:
    """Returns whether values are numbers; truth values are not.

    Example:
        >>> is_numeric(np.asarray([1, 2])), is_numeric(np.asarray([True, False])), is_numeric(np.asarray(["a"]))
        (True, False, False)
    """
    return values.dtype.kind in "iuf"


def is_geometric(values: np.ndarray) -> bool:
    """Returns whether distinct numbers are spread more evenly on a logarithmic axis than on a linear one.

    Args:
        values: Distinct numbers in ascending order, [n].

    Example:
        >>> is_geometric(np.asarray([0.01, 0.1, 1.0])), is_geometric(np.asarray([0.1, 0.2, 0.3]))
        (True, False)
    """
    if len(values) < 2 or values[0] <= 0 or values[-1] < 5 * values[0]:
        return False
    if len(values) == 2:
        return bool(values[-1] >= 100 * values[0])
    logarithms = np.log(values)
    return _skew(logarithms) < _skew(values)


def _skew(values: np.ndarray) -> float:
    """How far the median lies from the middle of the range, as a share of it."""
    return float(abs(np.median(values) - (values[0] + values[-1]) / 2) / (values[-1] - values[0]))


def short(value: Any) -> str:
    """Returns a value as a label: numbers to three digits.

    Example:
        >>> short(0.00123456), short("adam"), short(np.float64(2.0))
        ('0.00123', 'adam', '2')
    """
    return f"{value:.3g}" if isinstance(value, (float, np.floating)) else str(value)


def levels(values: np.ndarray, most: int) -> Levels:
    """Returns the levels of a hyperparameter, at most so many.

    Args:
        values: Its value in each trial, [num_trials].
        most: How many levels at most; of more text values the most frequent are kept.

    Example:
        >>> levels(np.asarray([0.1, 0.2, 0.1]), most=8).labels
        ['0.1', '0.2']
        >>> levels(np.arange(1.0, 7.0), most=2).labels
        ['1 to 3', '4 to 6']
    """
    if not is_numeric(values):
        return _of_texts(values.astype(str), most)
    distinct, codes = np.unique(values, return_inverse=True)
    is_log = is_geometric(distinct)
    if len(distinct) <= most:
        return Levels(codes, distinct, [short(value) for value in distinct.tolist()], is_log)
    classes = np.arange(len(distinct)) * most // len(distinct)
    parts = [distinct[classes == number] for number in range(most)]
    places = [np.exp(np.log(part).mean()) if is_log else part.mean() for part in parts]
    labels = [f"{short(part[0].item())} to {short(part[-1].item())}" for part in parts]
    return Levels(classes[codes], np.asarray(places), labels, is_log, True)


def _of_texts(values: np.ndarray, most: int) -> Levels:
    _, first, counts = np.unique(values, return_index=True, return_counts=True)
    kept = np.sort(first[np.argsort(-counts, kind="stable")[:most]])
    labels = values[kept].tolist()
    numbers = {label: code for code, label in enumerate(labels)}
    codes = np.asarray([numbers.get(value, -1) for value in values.tolist()], np.int64)
    return Levels(codes, np.arange(len(labels), dtype=float), labels)


def combined(columns: Sequence[np.ndarray], num_trials: int) -> np.ndarray:
    """Returns the number of each trial's combination of values, int64 [num_trials]: equal where all columns are.

    Args:
        columns: The values of hyperparameters in each trial; may be none.
        num_trials: How many trials there are.

    Example:
        >>> combined([np.asarray([1, 1, 2]), np.asarray(["a", "a", "a"])], 3).tolist()
        [0, 0, 1]
    """
    codes = np.zeros(num_trials, np.int64)
    for column in columns:
        own = np.unique(column.astype(str) if column.dtype == object else column, return_inverse=True)[1]
        codes = np.unique(codes * (int(own.max(initial=0)) + 1) + own, return_inverse=True)[1]
    return codes


def means(values: np.ndarray, codes: np.ndarray, num_levels: int) -> np.ndarray:
    """Returns the mean over the trials of each level, as `tables.seed_means`: float64 [num_levels, num_seeds].

    Args:
        values: [num_trials, num_seeds].
        codes: The level of each trial, [num_trials].
        num_levels: How many levels there are; one without trials gets NaN.

    Example:
        >>> means(np.asarray([[1.0], [3.0], [5.0]]), np.asarray([0, 0, 1]), 2).tolist()
        [[2.0], [5.0]]
    """

    def sums(found: np.ndarray) -> np.ndarray:
        total = np.zeros((num_levels, found.shape[1]))
        np.add.at(total, codes, found)
        return total

    return tables.seed_means(values, sums)


def mean(values: np.ndarray) -> np.ndarray:
    """Returns the mean of the finite values along the last dim; NaN where there is none.

    Example:
        >>> mean(np.asarray([[1.0, 3.0, np.nan]])).tolist()
        [2.0]
    """
    finite = np.isfinite(values)
    total, count = np.where(finite, values, 0).sum(-1, dtype=np.float64), finite.sum(-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def varying(dataset: Any) -> list[str]:
    """Returns the hyperparameters that have two values or more in a dataset."""
    return [name for name in tables.varied(dataset) if len(set(dataset[name].values.tolist())) > 1]


def labels(dataset: Any, trials: Sequence[int], without: str = "") -> list[str]:
    """Returns for each trial what tells it from the others, as the command line would say it.

    Args:
        dataset: Results.
        trials: The trials' numbers.
        without: A hyperparameter to leave out.
    """
    columns = {name: dataset[name].values[list(trials)].tolist() for name in tables.varied(dataset) if name != without}
    told: dict[str, list[Any]] = {}
    for name, values in columns.items():
        if len(set(values)) > 1 and not any(_follows(dataset, name, known) for known in told):
            told[name] = values
    made = [", ".join(f"{name}={short(values[at])}" for name, values in told.items()) for at in range(len(trials))]
    cut = [label if len(label) < _MAX_LABEL else f"{label[: _MAX_LABEL - 4]} ..." for label in made]
    unclear = len(set(cut)) < len(cut)
    return [f"trial {trial}: {label}" if unclear else label for trial, label in zip(trials, cut, strict=True)]


def _follows(dataset: Any, name: str, known: str) -> bool:
    """Whether the sweep moves a hyperparameter along with another: told one value, the other is known."""
    values = list(zip(dataset[known].values.tolist(), dataset[name].values.tolist(), strict=True))
    num_known = len({first for first, _ in values})
    return num_known == len(set(values)) < len(values)


def held_fixed(dataset: Any, name: str, own: Levels) -> tuple[np.ndarray, dict[int, str], str]:
    """Returns the lines to draw against a hyperparameter: of each trial, their labels, and what all have in common.

    All other hyperparameters are the same along a line, where that makes up to eight lines; else the lines are those
    of a hyperparameter that is text, or there is one line of all trials.

    Args:
        dataset: Results.
        name: The hyperparameter.
        own: Its levels.
    """
    others = [other for other in varying(dataset) if other != name]
    codes = combined([dataset[other].values for other in others], dataset.sizes["trial"])
    crossed = _several(codes, own.codes)
    if 0 < len(crossed) <= _MAX_LINES and not own.is_classed:
        first = [int(np.argmax(codes == code)) for code in crossed]
        alike = [other for other in others if len(set(dataset[other].values[first].tolist())) == 1]
        common = ", ".join(f"{other}={short(dataset[other].values[first[0]])}" for other in alike)
        told = labels(dataset, first, name) if len(first) > 1 else [""]
        return codes, dict(zip(crossed, told, strict=True)), common
    for other in others:
        found = levels(dataset[other].values, _MAX_LINES)
        if not is_numeric(dataset[other].values) and (found.codes >= 0).all():
            shown = _several(found.codes, own.codes) or range(len(found.labels))
            return found.codes, {code: f"{other}={found.labels[code]}" for code in shown}, ""
    return np.zeros_like(codes), {0: ""}, ""


def _several(lines: np.ndarray, places: np.ndarray) -> list[int]:
    """The lines that have two places or more."""
    line = np.unique(np.stack([lines, places]), axis=1)[0]
    return [int(code) for code, count in zip(*np.unique(line, return_counts=True), strict=True) if count > 1]


def crossed(dataset: Any) -> tuple[tuple[str, Levels], tuple[str, Levels]]:
    """Returns the two hyperparameters with the most cells that hold trials, the one with more levels first.

    Raises:
        StudyError: If no two are crossed: four cells at least, and three in four with trials.
    """
    found: dict[str, Levels] = {}
    num_classes = int(np.clip((dataset.sizes["trial"] / 4) ** 0.5, 2, _MAX_CLASSES))
    for name in varying(dataset):
        exact = levels(dataset[name].values, _MAX_CELLS)
        found[name] = levels(dataset[name].values, num_classes) if exact.is_classed else exact
    best, most = None, 3
    names = list(found)
    for first, second in ((a, b) for place, a in enumerate(names) for b in names[place + 1 :]):
        one, two = found[first], found[second]
        shown = (one.codes >= 0) & (two.codes >= 0)
        filled = len(np.unique((one.codes * len(two.labels) + two.codes)[shown]))
        if filled > most and 4 * filled >= 3 * len(one.labels) * len(two.labels):
            best, most = (first, second), filled
    if best is None:
        raise StudyError("no two hyperparameters are crossed here: `--kind sensitivity` shows each by itself")
    across, up = sorted(best, key=lambda name: -len(found[name].labels))
    return (across, found[across]), (up, found[up])


def smaller_is_better(metric: str) -> bool:
    """Returns whether a metric's name says that small values are good: a loss, an error, a cost.

    All of jaxexp that ranks by a metric, and is not told the direction, asks this.

    Example:
        >>> smaller_is_better("test_error"), smaller_is_better("accuracy")
        (True, False)
    """
    return bool(_SMALLER_IS_BETTER.search(metric.lower()))


def known_metric(dataset: Any, metric: str | None) -> str:
    """Returns the metric if a dataset has it; the first of evaluation where None.

    Raises:
        StudyError: If there is no such metric, or no result.
    """
    first, names = tables.first_metric(dataset), tables.metrics(dataset)
    if metric is not None and metric not in names:
        raise StudyError(f"there is no metric {metric!r}{suggestion(metric, names)}")
    return metric or first


def last_values(dataset: Any, metric: str) -> np.ndarray:
    """Returns a metric's last values, [trial, seed]: NaN where a run is not finite or has not run."""
    return np.where(dataset["status"].values == OK, dataset[metric].values[..., -1], np.nan)


def curves(dataset: Any, metric: str, trials: Sequence[int] | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """Returns steps, at most a hundred of them, and a metric's values there, [trial, seed, step].

    Args:
        dataset: Results.
        metric: Its name.
        trials: Which trials.
    """
    array = dataset[metric]
    kept = np.unique(np.linspace(0, array.shape[-1] - 1, _MAX_POINTS).astype(int))
    scored = dataset["status"].values[trials] == OK
    return array[array.dims[-1]].values[kept], np.where(scored[..., None], array.values[trials][..., kept], np.nan)


def diverged(dataset: Any) -> np.ndarray:
    """Returns how many runs of each trial are not finite, [trial]."""
    return (dataset["status"].values == NOT_FINITE).sum(1)


def ranked(dataset: Any, metric: str) -> list[int]:
    """Returns the trials with a finite run, the best first: those of which fewer runs diverged before all others.

    Args:
        dataset: Results.
        metric: Whose last value ranks them where as many diverged, as in `tables.ordered`.
    """
    value = mean(last_values(dataset, metric)) * (1 if smaller_is_better(metric) else -1)
    order = np.lexsort((value, diverged(dataset)))
    return [int(trial) for trial in order if np.isfinite(value[trial])]


def spread(dataset: Any, metric: str, among: Sequence[int] | None = None) -> list[int]:
    """Returns the trials to draw: all in order, or of more than eight those spread evenly from the best to the worst.

    Args:
        dataset: Results.
        metric: By which they are `ranked`.
        among: The trials to choose from; all where None.
    """
    there = list(range(dataset.sizes["trial"]) if among is None else among)
    if len(there) <= _MAX_LINES:
        return there
    wanted = set(there)
    known = [trial for trial in ranked(dataset, metric) if trial in wanted]
    return [known[at] for at in np.unique(np.linspace(0, len(known) - 1, _MAX_LINES).astype(int))] if known else []


def balanced(dataset: Any, cell: np.ndarray, shown: np.ndarray, without: Sequence[str]) -> tuple[np.ndarray, str]:
    """Returns which trials to average in cells, bool [num_trials], and what they have in common, as words.

    Where some values of another hyperparameter are in every cell and others are not, only the former are taken: a
    cell would otherwise differ from the next by more than its place.

    Args:
        dataset: Results.
        cell: The cell of each trial, [num_trials].
        shown: The trials that have a cell, bool [num_trials].
        without: The hyperparameters that make the cells.
    """
    kept, told = shown.copy(), []
    for name in varying(dataset):
        own = levels(dataset[name].values, _MAX_CELLS)
        if name in without or own.is_classed:
            continue
        num_cells = len(np.unique(cell[kept]))
        there = [code for code in np.unique(own.codes[kept]) if code >= 0]
        everywhere = [code for code in there if len(np.unique(cell[kept & (own.codes == code)])) == num_cells]
        if 0 < len(everywhere) < len(there):
            kept &= np.isin(own.codes, everywhere)
            told.append(f"{name}={','.join(own.labels[code] for code in everywhere)}")
    return kept, ", ".join(told)

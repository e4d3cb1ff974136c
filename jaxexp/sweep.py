"""Sweeps: ordered tables of trials, as an algebra of columns that stays lazy up to 10^7 rows.

`grid`, `paired`, `sampled` and `cases` make them; `a * b` crosses two, `a + b` puts one after the other.
Knows nothing of configs: whether a name or a value fits is the study's to check.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxexp.errors import SweepError


class _Missing:
    """Stands in a row for a name that the row's part of the sweep does not mention."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()

MAX_NUM_TRIALS = 10**7
"""More than this no axis and no sample has: a mistyped number is refused before it fills the memory."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """An ordered table of trials: `left * right` crosses, `left + right` concatenates.

    Either columns of equal length, or two sweeps (`left`, `right`) that are crossed or concatenated.
    """

    columns: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    parts: "tuple[Sweep, Sweep] | None" = None
    crossed: bool = False

    def __mul__(self, other: "Sweep") -> "Sweep":
        """Returns every row of this sweep with every row of the other, the other's varying fastest."""
        return _crossed(self, other)

    def __add__(self, other: "Sweep") -> "Sweep":
        """Returns the rows of this sweep, then those of the other."""
        return Sweep(parts=(self, other))

    def __len__(self) -> int:
        """Returns the number of rows."""
        return size(self)


ONE = Sweep(())
"""The sweep of one trial that changes nothing: `ONE * sweep` has the rows of `sweep`."""


def grid(**axes: Iterable[Any]) -> Sweep:
    """Returns the sweep of all combinations of the axes' values, the last axis varying fastest.

    Raises:
        SweepError: If an axis is empty, has a value twice or is a distribution.

    Example:
        >>> rows(grid(learning_rate=(0.1, 0.2), hidden=(8,)))
        [{'learning_rate': 0.1, 'hidden': 8}, {'learning_rate': 0.2, 'hidden': 8}]
    """
    sweep: Sweep = ONE
    for name, values in axes.items():
        axis = _values(name, values)
        seen: set[Any] = set()
        twice = [value for value in axis if value in seen or seen.add(value)]
        if twice:
            raise SweepError(f"{name} has {twice[0]!r} twice: an axis lists each value once")
        sweep = _crossed(sweep, Sweep(((name, axis),)))
    return sweep


def paired(**columns: Iterable[Any]) -> Sweep:
    """Returns the sweep whose i-th row takes the i-th value of every column.

    Raises:
        SweepError: If the columns have different lengths or one is empty.

    Example:
        >>> rows(paired(learning_rate=(0.1, 0.2), momentum=(0.9, 0.5)))
        [{'learning_rate': 0.1, 'momentum': 0.9}, {'learning_rate': 0.2, 'momentum': 0.5}]
    """
    made = tuple((name, _values(name, values)) for name, values in columns.items())
    lengths = {name: len(values) for name, values in made}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise SweepError(f"paired columns need equal lengths, but {told}: make them equal, or cross them with `grid`")
    return Sweep(made)


def cases(*rows: Mapping[str, Any]) -> Sweep:
    """Returns the sweep with exactly these rows; a name that a row leaves out keeps the base config's value.

    Raises:
        SweepError: If there is no row.

    Example:
        >>> rows(cases({"hidden": 8}, {"hidden": 16}))
        [{'hidden': 8}, {'hidden': 16}]
    """
    if not any(rows):
        raise SweepError("cases() got no value: write `jx.cases({'learning_rate': 0.1}, ...)`")
    names_in_order = tuple(dict.fromkeys(name for row in rows for name in row))
    return Sweep(tuple((name, tuple(row.get(name, MISSING) for row in rows)) for name in names_in_order))


@dataclasses.dataclass(frozen=True)
class Distribution:
    """What one hyperparameter is drawn from: `at(u)` maps uniform numbers in [0, 1) to values."""

    text: str
    at: Callable[[np.ndarray], list[Any]]


def uniform(low: float, high: float) -> Distribution:
    """Returns the uniform distribution on [low, high).

    Raises:
        SweepError: If the bounds are not finite or not in order.
    """
    _check_bounds("uniform", low, high, low < high)
    return Distribution(f"uniform({low}, {high})", lambda u: (low + (high - low) * u).tolist())


def loguniform(low: float, high: float) -> Distribution:
    """Returns the distribution on [low, high) whose logarithm is uniform.

    Raises:
        SweepError: If the bounds are not finite, not in order or not positive.
    """
    _check_bounds("loguniform", low, high, 0 < low < high)
    return Distribution(
        f"loguniform({low}, {high})", lambda u: np.exp(np.log(low) + u * (np.log(high) - np.log(low))).tolist()
    )


def choice(*values: Any) -> Distribution:
    """Returns the distribution that takes each of the values with equal probability.

    Raises:
        SweepError: If no value is given.
    """
    if not values:
        raise SweepError("choice() got no value: write `jx.choice('relu', 'tanh')`")
    text = f"choice({', '.join(map(repr, values))})"
    return Distribution(text, lambda u: [values[int(index)] for index in np.floor(u * len(values))])


def sampled(num_trials: int, /, *, sampling_seed: int = 0, **distributions: Distribution) -> Sweep:
    """Returns the sweep of `num_trials` random rows.

    A value depends on its row's number, its field's name and the sampling seed alone: another field, or more
    rows, changes no value.

    Args:
        num_trials: Rows to draw; at least one.
        sampling_seed: Another number gives other rows.
        distributions: What each field is drawn from.

    Raises:
        SweepError: If `num_trials` is not positive or a field has no distribution.

    Example:
        >>> wide = sampled(3, learning_rate=loguniform(1e-4, 1), momentum=uniform(0, 1))
        >>> narrow = sampled(2, learning_rate=loguniform(1e-4, 1))
        >>> [row["learning_rate"] for row in rows(wide)][:2] == [row["learning_rate"] for row in rows(narrow)]
        True
    """
    if not 1 <= num_trials <= MAX_NUM_TRIALS:
        raise SweepError(f"sampled({num_trials}) is not possible: ask for 1 to {MAX_NUM_TRIALS:,} trials")
    if not distributions:
        raise SweepError(f"sampled({num_trials}) draws no field: write e.g. `learning_rate=jx.loguniform(1e-4, 1)`")
    made = []
    for name, distribution in distributions.items():
        if not isinstance(distribution, Distribution):
            raise SweepError(f"{name}={distribution!r} is no distribution: write `{name}=jx.uniform(low, high)`")
        made.append((name, tuple(distribution.at(_uniforms(name, sampling_seed, num_trials)))))
    return Sweep(tuple(made))


def _uniforms(name: str, sampling_seed: int, num_trials: int) -> np.ndarray:
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), np.uint32)
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([sampling_seed, *words.tolist()])))
    return generator.random(num_trials)


def geomspace(start: float, stop: float, num: int) -> tuple[float, ...]:
    """Returns `num` numbers from start to stop, both included, evenly spaced in the logarithm, as NumPy does.

    Raises:
        SweepError: If a bound is zero or of the other sign, or `num` is below 1.

    Example:
        >>> geomspace(1, 100, 3)
        (1.0, 10.0, 100.0)
    """
    fine = start != 0 and stop != 0 and (start > 0) == (stop > 0)
    _check_spacing("geomspace", start, stop, num, fine, "a geometric spacing never reaches or crosses 0")
    return tuple(np.geomspace(start, stop, num).tolist())


def linspace(start: float, stop: float, num: int) -> tuple[float, ...]:
    """Returns `num` numbers from start to stop, both included, evenly spaced, as NumPy does.

    Raises:
        SweepError: If a bound is not finite or `num` is below 1.

    Example:
        >>> linspace(0, 1, 3)
        (0.0, 0.5, 1.0)
    """
    _check_spacing("linspace", start, stop, num, True, "")
    return tuple(np.linspace(start, stop, num).tolist())


def logspace(start: float, stop: float, num: int) -> tuple[float, ...]:
    """Returns `num` numbers from 10^start to 10^stop, both included, as NumPy does.

    Raises:
        SweepError: If an exponent is not finite or over 300, or `num` is below 1.

    Example:
        >>> logspace(-2, 0, 3)
        (0.01, 0.1, 1.0)
    """
    fine = max(abs(start), abs(stop)) <= 300
    _check_spacing("logspace", start, stop, num, fine, "start and stop are exponents of 10")
    return tuple(np.logspace(start, stop, num).tolist())


def size(sweep: Sweep) -> int:
    """Returns the number of rows, without making them.

    Raises:
        SweepError: If it is no sweep.
    """
    if not isinstance(sweep, Sweep):
        raise SweepError(f"sweep={sweep!r} is no sweep: write e.g. `jx.grid(learning_rate=(0.1, 0.2))`")
    if sweep.parts is not None:
        left, right = map(size, sweep.parts)
        return left * right if sweep.crossed else left + right
    return len(sweep.columns[0][1]) if sweep.columns else 1


def names(sweep: Sweep) -> tuple[str, ...]:
    """Returns the names of the columns, in order of first mention."""
    if sweep.parts is not None:
        return tuple(dict.fromkeys(names(sweep.parts[0]) + names(sweep.parts[1])))
    return tuple(name for name, _ in sweep.columns)


def column(sweep: Sweep, name: str, indices: np.ndarray) -> np.ndarray:
    """Returns the values of one column at these row numbers: an object array that may hold `MISSING`.

    Args:
        sweep: The sweep.
        name: The column.
        indices: Row numbers, int64 [n].
    """
    if sweep.parts is None:
        values = dict(sweep.columns).get(name)
        return np.full(len(indices), MISSING, object) if values is None else _objects(values)[indices]
    left, right = sweep.parts
    if sweep.crossed:
        rows_left, rows_right = np.divmod(indices, size(right))
        return column(left, name, rows_left) if name in names(left) else column(right, name, rows_right)
    first = size(left)
    result = np.empty(len(indices), object)
    in_left = indices < first
    result[in_left] = column(left, name, indices[in_left])
    result[~in_left] = column(right, name, indices[~in_left] - first)
    return result


def rows(sweep: Sweep) -> list[dict[str, Any]]:
    """Returns all rows as dicts: for small sweeps and for looking at."""
    indices = np.arange(size(sweep))
    columns = {name: column(sweep, name, indices) for name in names(sweep)}
    return [{n: c[i] for n, c in columns.items() if c[i] is not MISSING} for i in indices]


def map_values(sweep: Sweep, change: Callable[[str, Any], Any]) -> Sweep:
    """Returns the sweep with every stated value replaced by `change(name, value)`, each looked at once."""
    if sweep.parts is not None:
        left, right = (map_values(part, change) for part in sweep.parts)
        return dataclasses.replace(sweep, parts=(left, right))
    return Sweep(
        tuple(
            (name, tuple(value if value is MISSING else change(name, value) for value in values))
            for name, values in sweep.columns
        )
    )


def without(sweep: Sweep, name: str) -> Sweep:
    """Returns the sweep without a column; rows that differed in it alone may then repeat."""
    if sweep.parts is not None:
        left, right = (without(part, name) for part in sweep.parts)
        return left * right if sweep.crossed else left + right
    return Sweep(tuple((other, values) for other, values in sweep.columns if other != name))


def _crossed(left: Sweep, right: Sweep) -> Sweep:
    both = [name for name in names(left) if name in names(right)]
    if both:
        raise SweepError(f"{both[0]} is an axis on both sides of a `*`: name each hyperparameter once")
    return right if left == ONE else left if right == ONE else Sweep(parts=(left, right), crossed=True)


def _objects(values: Sequence[Any]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _values(name: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, Distribution):
        raise SweepError(f"{name}={values.text} is random: draw it with `jx.sampled(64, {name}=jx.{values.text})`")
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise SweepError(f"{name}={values!r} is one value, but an axis is a list: write `{name}=({values!r},)`")
    made = tuple(value.item() if hasattr(value, "item") and np.ndim(value) == 0 else value for value in values)
    if not made:
        raise SweepError(f"{name} has no value: an axis lists at least one")
    for value in made:
        try:
            hash(value)
        except TypeError as problem:
            raise SweepError(f"{name} has {value!r} ({problem}): use numbers, strings or tuples of them") from None
    return made


def _check_bounds(function: str, low: float, high: float, fine: bool) -> None:
    if not (fine and math.isfinite(low) and math.isfinite(high)):
        positive = "0 < " if function == "loguniform" else ""
        raise SweepError(f"{function}({low}, {high}) needs finite bounds with {positive}low < high")


def _check_spacing(function: str, start: float, stop: float, num: int, fine: bool, why: str) -> None:
    call = f"{function}({start:g}, {stop:g}, {num})"
    if not math.isfinite(num) or int(num) != num or not 1 <= num <= MAX_NUM_TRIALS:
        raise SweepError(f"{call} asks for {num} values: the third number is how many, from 1 to {MAX_NUM_TRIALS:,}")
    if not (fine and math.isfinite(start) and math.isfinite(stop)):
        raise SweepError(f"{call} is not possible: {why or 'bounds must be finite'}; choose other bounds")

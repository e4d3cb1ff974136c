"""Numbers over seeds as functions take them: one dimension, checked, and the finite ones in float64."""

from typing import Any

import numpy as np

from jaxexp.errors import StudyError


def one_per_seed(values: Any, dims: tuple[str, ...] = ("seed",)) -> np.ndarray:
    """Returns numbers over seeds as a float64 array with one dimension for each of `dims`.

    Args:
        values: An array, a list, or an xarray DataArray, whose dims must then have these names, in any order.
        dims: What the dimensions of the result are.

    Raises:
        StudyError: If there are other dimensions, or no value at all: steps and examples are no replicates.

    Example:
        >>> one_per_seed([[1.0, 2.0]])
        Traceback (most recent call last):
        ...
        jaxexp.errors.StudyError: a statistic takes one number a seed, [seed], and this is an array of shape (1, 2):
        seeds are the only replicates, so select or average all else first, `values.mean("step")`
    """
    named = getattr(values, "dims", None)
    if named is not None and sorted(map(str, named)) == sorted(dims):
        values = (values if named == dims else values.transpose(*dims)).values
    elif named is not None:
        raise _refused(f"an array over ({', '.join(map(str, named))})", dims)
    array = np.asarray(values, np.float64)
    if array.ndim != len(dims):
        raise _refused(f"an array of shape {array.shape}" if array.ndim else f"the single number {array}", dims)
    if not array.size:
        raise StudyError("there is no seed to take a statistic over: run at least one, `seeds=8`")
    return array


def _refused(what: str, dims: tuple[str, ...]) -> StudyError:
    one = "one number a seed" if dims == ("seed",) else f"one number a {' and '.join(dims)}"
    return StudyError(
        f"a statistic takes {one}, [{', '.join(dims)}], and this is {what}: seeds are the only replicates, so select "
        'or average all else first, `values.mean("step")`'
    )


def check_level(confidence: float) -> None:
    """Checks that a level of confidence is one.

    Raises:
        StudyError: If it is not between 0 and 1.

    Example:
        >>> check_level(0.95)
    """
    if not 0 < confidence < 1:
        raise StudyError(f"confidence={confidence} is no level between 0 and 1: write 0.95")


def finite(values: Any, confidence: float = 0.95) -> tuple[np.ndarray, int]:
    """Returns the finite numbers over seeds, [n] in float64, and how many others there are.

    Raises:
        StudyError: If there is not one number a seed, no seed at all, or the level is not between 0 and 1.

    Example:
        >>> finite([1.0, float("nan")])
        (array([1.]), 1)
    """
    check_level(confidence)
    array = one_per_seed(values)
    kept = array[np.isfinite(array)]
    return kept, array.size - kept.size

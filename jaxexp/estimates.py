"""Estimates: one number a seed, read off the runs of one trial. What claims and figures of a study are made of.

Runs that are not finite, and trials that were not run, give NaN: they are counted, never scored. Of results with the
attribute `absent="refuse"`, a trial or step that is not there is an error instead: so verdicts tell why a seed is NaN.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxexp import configs
from jaxexp.errors import StudyError, suggestion
from jaxexp.results import NOT_RUN, OK
from jaxexp.study import Interval


def trial(dataset: Any, config: Any) -> Any:
    """Returns the runs of the trial with this config: an `xarray.Dataset` without the dim `trial`.

    Args:
        dataset: Results.
        config: The trial's config; numbers may differ by 1e-9 of themselves.

    Returns:
        All metrics, NaN where the run is not finite or there is no such trial.

    Raises:
        StudyError: If there is no such trial, or it was not run, and the results refuse what is absent.

    Example:
        >>> import jaxexp as jx
        >>> @jx.config
        ... class Config:
        ...     x: float = 0.0
        >>> square = jx.from_train(lambda key, config: {"y": config.x**2})
        >>> dataset = jx.run(jx.Study(experiment=square, config=Config(), sweep=jx.grid(x=(1.0, 2.0)), seeds=1))
        >>> trial(dataset, Config(x=2.0)).y.values.ravel().tolist()
        [4.0]
    """
    wanted = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    known = {name: value for name, value in wanted.items() if name in dataset.coords}
    matches = {name: np.asarray(_equal(dataset[name].values, value)) for name, value in known.items()}
    chosen = np.ones(dataset.sizes["trial"], bool)
    for match in matches.values():
        chosen &= match
    if _refuses(dataset) and (dataset["status"].values[chosen] == NOT_RUN).all():
        raise StudyError(_absent(wanted, matches, bool(chosen.any())))
    finite = dataset.drop_vars(("status", "status_step")).where(dataset.status == OK)
    if chosen.any():
        return finite.isel(trial=int(chosen.argmax()))
    return finite.isel(trial=0).where(False)


def _refuses(dataset: Any) -> bool:
    return dataset.attrs.get("absent") == "refuse"


def _absent(wanted: Mapping[str, Any], matches: Mapping[str, np.ndarray], known: bool) -> str:
    """What is said of a trial that the results do not have, or know and have not run."""
    lacking = [name for name, match in matches.items() if not match.any()]
    words = [f"{name}={wanted[name]}" for name in lacking or [name for name, match in matches.items() if match.ndim]]
    if known:
        return f"the trial with {', '.join(words) or 'this config'} was not run: `jaxexp run` goes on where it stopped"
    told = f"no trial has {', '.join(words)}{' together' * (not lacking)}"
    return f"{told}: it was not trained here; train it too, `jaxexp run EXPERIMENT {' '.join(words)}`"


def _equal(values: np.ndarray, wanted: Any) -> np.ndarray:
    if values.dtype.kind not in "biuf" or not isinstance(wanted, (bool, int, float)):
        return values.astype(str) == configs.text_of(wanted)
    if isinstance(wanted, float):
        return np.isclose(values.astype(np.float64), wanted, rtol=1e-9, atol=0)
    return values == wanted


def measured(metric: str, config: Any, at: int | None = None) -> Callable[[Any], Any]:
    """Returns the function of a dataset that reads a trial's metric off it: one number a seed.

    Args:
        metric: Its name.
        config: The trial's config.
        at: After so many steps; after the last ones that the dataset has where None.

    Returns:
        A function of the dataset that returns values on the dim `seed`: NaN where a run is not finite, or there is no
        such trial or step. It raises a `StudyError` if the dataset lacks the metric, or refuses what is absent.
    """

    def estimate(dataset: Any) -> Any:
        if metric not in dataset:
            raise StudyError(f"the results have no metric {metric!r}{suggestion(metric, dataset.data_vars)}")
        values = trial(dataset[[metric, "status", "status_step"]], config)[metric]
        steps = values.dims[-1]
        there = values[steps].values.tolist()
        if at is not None and at not in there and _refuses(dataset):
            raise StudyError(f"{metric} was not measured at step {at} here: the last of {len(there)} is {there[-1]}")
        wanted = values.isel({steps: -1}) if at is None else values.reindex({steps: [at]}).isel({steps: 0})
        return wanted.drop_vars([name for name in wanted.coords if name != "seed"])

    return estimate


def difference(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns the function of a dataset that gives one estimate minus another, seed by seed."""
    return lambda dataset: first(dataset) - second(dataset)


def share(estimate: Callable[[Any], Any], interval: Interval) -> Callable[[Any], Any]:
    """Returns the function of a dataset that gives 1 for a seed whose estimate lies in an interval, 0 where not.

    A claim on it has `statistic="share"`. NaN stays NaN.
    """

    def inside(dataset: Any) -> Any:
        values = estimate(dataset)
        return ((values > interval.low) & (values < interval.high)).astype(float).where(values.notnull())

    return inside

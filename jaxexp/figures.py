"""Figures of any results: learning curves with bands over seeds. Draws into memory or files, never on a screen.

A study's own figures say more; this is what a study without any gets.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxexp import files, tables
from jaxexp.results import NOT_FINITE
from jaxexp.statistics import INTERVALS, mean_interval

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""

_MAX_LINES = 8


def learning_curves(dataset: Any) -> Any:
    """Returns a figure with one panel a metric: mean over seeds against steps, 95 % bands, a line a trial.

    With more than eight trials, eight of them spread evenly over the sweep are drawn, and the title says so.

    Args:
        dataset: Results with at least one metric.
    """
    from matplotlib.figure import Figure

    names = tables.metrics(dataset)
    chosen = np.unique(np.linspace(0, dataset.sizes["trial"] - 1, _MAX_LINES).astype(int))
    figure = Figure(figsize=(5.2 * max(1, len(names)), 3.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, max(1, len(names)), squeeze=False)[0], names, strict=False):
        for position, trial in enumerate(chosen):
            _curve(axes, dataset, name, int(trial), COLORS[position % len(COLORS)])
        axes.set_xlabel("steps")
        axes.set_ylabel(name.replace("_", " "))
        axes.grid(alpha=0.25)
    if len(chosen) > 1:
        figure.axes[0].legend(fontsize=8, frameon=False)
    which = "" if len(chosen) == dataset.sizes["trial"] else f"{len(chosen)} of {dataset.sizes['trial']} trials, "
    figure.suptitle(f"{which}mean and 95 % interval over n = {dataset.sizes['seed']} seeds", fontsize=10)
    return figure


def _curve(axes: Any, dataset: Any, name: str, trial: int, color: str) -> None:
    array = dataset[name].isel(trial=trial)
    steps, values = dataset[array.dims[-1]].values, array.values
    estimates = [mean_interval(values[:, slot]) for slot in range(values.shape[1])]
    mean = np.asarray([estimate.mean for estimate in estimates])
    label = ", ".join(f"{key}={_short(dataset[key].values[trial])}" for key in tables.varied(dataset))
    axes.plot(steps, mean, color=color, label=label, marker="." if len(steps) < 20 else None)
    low, high = (np.asarray([getattr(estimate, end) for estimate in estimates]) for end in ("low", "high"))
    if np.isfinite(low).all() and np.isfinite(high).all():
        axes.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, (float, np.floating)) else str(value)


def band(axes: Any, x: Any, values: Any, *, statistic: str = "mean", **style: Any) -> None:
    """Draws the mean (or median) over seeds of values [x, seed] against x, with its 95 % interval as a band.

    Args:
        axes: Of matplotlib.
        x: Positions, [x].
        values: One number a position and seed; those that are not finite are left out, positions without two as well.
        statistic: `mean` or `median`.
        style: What matplotlib's `plot` takes: color, label, linestyle.
    """
    shown = [(at, INTERVALS[statistic](seeds)) for at, seeds in zip(np.asarray(x), values, strict=True)]
    shown = [(at, estimate) for at, estimate in shown if estimate.n > 1]
    middle, low, high = np.asarray([estimate[:3] for _, estimate in shown]).reshape(-1, 3).T
    places = [at for at, _ in shown]
    (line,) = axes.plot(places, middle, **{"marker": "." if len(places) < 20 else None, **style})
    if np.isfinite(low).all() and np.isfinite(high).all():
        axes.fill_between(places, low, high, color=line.get_color(), alpha=0.2, linewidth=0)


def rows(axes: Any, values: Mapping[str, Any]) -> None:
    """Draws a row a label: each seed as a circle, above them the mean with its 95 % interval, and both in figures.

    Args:
        axes: Of matplotlib.
        values: One number a seed, by label; labels with less than two finite ones are left out.
    """
    shown = {label: seeds for label, seeds in values.items() if np.isfinite(seeds).sum() > 1}
    for row, seeds in enumerate(shown.values()):
        mean, low, high, n, _ = mean_interval(seeds)
        axes.plot(seeds, [row] * len(seeds), "o", color=COLORS[0], fillstyle="none", markersize=5)
        axes.errorbar(mean, row - 0.25, xerr=[[mean - low], [high - mean]], fmt="D", color=COLORS[1], markersize=5)
        told = f"{mean:.3f}, n = {n}"
        axes.text(1.02, row, told, va="center", fontsize=8, transform=axes.get_yaxis_transform())
    axes.set(yticks=range(len(shown)), yticklabels=list(shown), ylim=(len(shown) - 0.5, -0.6))


def heading(dataset: Any, statistic: str = "mean") -> str:
    """Returns what a figure says of its numbers: the statistic, the seeds, and how many runs are left out."""
    lost, n = int((dataset["status"].values == NOT_FINITE).sum()), dataset.sizes["seed"]
    return f"{statistic} and 95 % interval over n = {n} seeds; {lost} runs not finite, left out"


def save(dataset: Any, drawings: Sequence[Callable[[Any], Any]], folder: Path) -> list[Path]:
    """Draws figures and saves each as `<function's name>.png`; learning curves where there is none to draw.

    Args:
        dataset: Results.
        drawings: Functions of the dataset that return a matplotlib figure.
        folder: Where to; made where it is missing.

    Returns:
        The files.

    Raises:
        StoreError: If the folder cannot be written.
    """
    files.make_folder(folder)
    saved = []
    for draw in drawings or (learning_curves,):
        path = folder / f"{draw.__name__}.png"
        draw(dataset).savefig(path, dpi=130)
        saved.append(path)
    return saved

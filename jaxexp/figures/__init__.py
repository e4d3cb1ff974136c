"""Figures of any results: curves, sensitivity, heatmaps, differences, parallel coordinates. Never on a screen.

A study's own figures say more; these need nothing but the results. Seeds are the replicates of every interval; runs
that are not finite are counted and left out; what is too much for the eye is aggregated, and the figure says so.
"""

import math
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxexp import tables
from jaxexp.errors import StudyError
from jaxexp.figures import coordinates, levels
from jaxexp.results import NOT_FINITE, NOT_RUN, seeds_told
from jaxexp.statistics import INTERVALS, mean_interval

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""

_MAX_LINES, _MAX_PANELS, _MAX_PLACES, _PIXELS_FROM = 8, 6, 24, 256  # marks from which they are pixels in vector files
_CROSS = "\N{MULTIPLICATION SIGN}"


def learning_curves(dataset: Any, metric: str | None = None) -> Any:
    """Returns a figure with one panel a metric: mean over seeds against steps, 95 % bands, a line a trial.

    Of more than eight trials, eight are drawn whose last values are spread evenly from the best to the worst, above a
    grey band that holds the means of nine in ten of all trials; the title says so.

    Args:
        dataset: Results with at least one metric.
        metric: The only one to draw; those of evaluation where None, six at most.

    Raises:
        StudyError: If there is no such metric, or no result.
    """
    first = levels.known_metric(dataset, metric)
    names = [first] if metric else tables.headline(dataset)[:_MAX_PANELS]
    chosen = levels.spread(dataset, first)
    figure, panels = _panels(len(names))
    for axes, name in zip(panels, names, strict=True):
        if len(chosen) < dataset.sizes["trial"]:
            _background(axes, dataset, name)
        for position, (trial, label) in enumerate(zip(chosen, levels.labels(dataset, chosen), strict=True)):
            steps, values = levels.curves(dataset, name, [trial])
            _line(axes, steps, values[0].T, position, label)
        axes.set(xlabel="steps (updates done)", ylabel=_words(name))
        _finish(axes)
    if len(chosen) > 1:
        lines, labels = panels[0].get_legend_handles_labels()
        columns = 2 if max(map(len, labels)) < 20 * min(2, len(panels)) else 1
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + 0.2 * math.ceil(len(labels) / columns))
        figure.legend(lines, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    told = f"{len(chosen)} of {dataset.sizes['trial']:,} trials, from best to worst; grey: nine in ten of all trials\n"
    figure.suptitle((told if len(chosen) < dataset.sizes["trial"] else "") + heading(dataset), fontsize=10)
    return figure


def sensitivity(dataset: Any, metric: str | None = None) -> Any:
    """Returns a figure of a metric's last value against each numeric hyperparameter, with 95 % bands over seeds.

    A line holds all other hyperparameters fixed, where that makes up to eight lines; else each point is a mean over
    trials, taken seed by seed. Geometrically spaced values get a logarithmic axis; crosses count runs not finite.

    Args:
        dataset: Results.
        metric: Its name; the first of evaluation where None.

    Raises:
        StudyError: If there is no such metric, or no number is varied.
    """
    metric = levels.known_metric(dataset, metric)
    numeric = [name for name in levels.varying(dataset) if levels.is_numeric(dataset[name].values)]
    if not numeric:
        raise StudyError("no number is varied here: run e.g. `jaxexp run NAME learning_rate=0.01,0.1`")
    figure, panels = _panels(min(len(numeric), _MAX_PANELS))
    for axes, name in zip(panels, numeric, strict=False):
        _sensitivity(axes, dataset, name, metric)
    told = f"; {len(numeric) - _MAX_PANELS} more hyperparameters not drawn" if len(numeric) > _MAX_PANELS else ""
    figure.suptitle(heading(dataset) + told, fontsize=10)
    return figure


def heatmap(dataset: Any, metric: str | None = None) -> Any:
    """Returns a figure of a metric's last value over the two hyperparameters that were crossed most.

    A cell is the mean over seeds and over all of its trials; a cross counts its runs that are not finite. A cell
    without any finite one is hatched; one whose trials have no finite seed in common has no number. Numbers of more
    than twelve values are put into up to eight classes.

    Args:
        dataset: Results.
        metric: Its name; the first of evaluation where None.

    Raises:
        StudyError: If there is no such metric, or no two hyperparameters are crossed.
    """
    from matplotlib.figure import Figure

    metric = levels.known_metric(dataset, metric)
    (across_name, across), (up_name, up) = levels.crossed(dataset)
    cell, shape = up.codes * len(across.labels) + across.codes, (len(up.labels), len(across.labels))
    shown = (across.codes >= 0) & (up.codes >= 0)
    shown, common = levels.balanced(dataset, cell, shown, (across_name, up_name))
    values = levels.last_values(dataset, metric)[shown]
    by_seed = levels.means(values, cell[shown], shape[0] * shape[1])
    num_trials = np.bincount(cell[shown], minlength=len(by_seed))
    lost = np.bincount(cell[shown], levels.diverged(dataset)[shown], len(by_seed))
    num_finite = np.bincount(cell[shown], np.isfinite(values).sum(1), len(by_seed))
    figure = Figure(figsize=(2.8 + 0.62 * shape[1], 1.9 + 0.55 * shape[0]), layout="constrained")
    axes = figure.subplots()
    mean = levels.mean(by_seed)
    mesh = axes.pcolormesh(mean.reshape(shape), cmap="cividis", edgecolors="white", linewidth=1)
    figure.colorbar(mesh, ax=axes, label=_at_the_end(dataset, metric))
    for index in np.flatnonzero(num_trials).tolist():
        hatched = not num_finite[index]
        _cell(axes, mesh, index % shape[1], index // shape[1], mean[index], int(lost[index]), hatched)
    axes.set(xticks=np.arange(shape[1]) + 0.5, yticks=np.arange(shape[0]) + 0.5)
    axes.set_xticklabels(map(_plain, across.labels), rotation=30 if max(map(len, across.labels)) > 7 else 0)
    axes.set_yticklabels(map(_plain, up.labels))
    axes.set(xlabel=_words(across_name), ylabel=_words(up_name))
    trials = f"{_plain(common)}\n" if common else ""
    trials += f"a cell: mean over up to {num_trials.max()} trials; " if num_trials.max() > 1 else ""
    marks = f"{_CROSS} and number: runs not finite; hatched: no finite run"
    if (num_finite[~np.isfinite(mean)] > 0).any():
        marks += "\nwithout a mean: no seed is finite in all of the cell's trials"
    figure.suptitle(f"{trials}{_left_out(dataset)}\n{marks}", fontsize=9)
    return figure


def differences(dataset: Any, metric: str | None = None) -> Any:
    """Returns a figure of a metric's last value minus that of the first trial, seed by seed: every seed is a circle.

    A seed draws weights and minibatches from the same random numbers in every trial, so that differences are paired.
    Of more than nine trials, eight are compared whose values are spread evenly from the best to the worst.

    Args:
        dataset: Results.
        metric: Its name; the first of evaluation where None.

    Raises:
        StudyError: If there is no such metric, or there are no two trials with two common seeds.
    """
    from matplotlib.figure import Figure

    metric = levels.known_metric(dataset, metric)
    values = levels.last_values(dataset, metric)
    first, others = _paired(np.isfinite(values))
    if first is None:
        raise StudyError(
            "a difference needs two trials that are finite at the same two seeds: run e.g. `jaxexp run NAME seeds=8`"
        )
    others = levels.spread(dataset, metric, others)
    labels = [
        textwrap.fill(_plain(label), 34, break_long_words=False) for label in levels.labels(dataset, [first, *others])
    ]
    figure = Figure(figsize=(8, 1.9 + 0.5 * len(others)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=1)
    rows(axes, {label: values[trial] - values[first] for trial, label in zip(others, labels[1:], strict=True)})
    axes.set_xlabel(f"{_at_the_end(dataset, metric)},\nminus that of {' '.join(labels[0].split())}", wrap=True)
    axes.tick_params("y", labelsize=8)
    axes.grid(alpha=0.25, axis="x")
    told = f"{len(others)} of {dataset.sizes['trial'] - 1:,} trials, from best to worst; "
    told = told if len(others) < dataset.sizes["trial"] - 1 else ""
    figure.suptitle(f"{told}circles: seeds; diamond: mean, 95 % interval\n{_left_out(dataset)}", fontsize=10)
    return figure


def parallel(dataset: Any, metric: str | None = None) -> Any:
    """Returns a figure with an axis for each varied hyperparameter and one for a metric, a line a trial.

    Lines are coloured by the metric, the eight best are thick and on top; a trial without finite run ends in a cross.

    Args:
        dataset: Results.
        metric: Its name; the first of evaluation where None.

    Raises:
        StudyError: If there is no such metric, or less than two hyperparameters are varied.
    """
    from matplotlib.figure import Figure

    metric = levels.known_metric(dataset, metric)
    names = levels.varying(dataset)
    if len(names) < 2:
        raise StudyError("parallel coordinates need two hyperparameters that vary: `--kind sensitivity` shows one")
    drawn = names[:_MAX_PANELS]
    mean = levels.mean(levels.last_values(dataset, metric))
    figure = Figure(figsize=(1.6 * (len(drawn) + 1) + 1, 4.2), layout="constrained")
    axes = figure.subplots()
    columns = [*(dataset[name].values for name in drawn), mean]
    heights = [coordinates.upright(axes, position, values) for position, values in enumerate(columns)]
    coordinates.lines(axes, np.asarray(heights).T, mean, levels.ranked(dataset, metric), num_thick=_MAX_LINES)
    axes.set(xlim=(-0.3, len(drawn) + 0.7), ylim=(-0.05, 1.05), yticks=[], xticks=range(len(drawn) + 1))
    axes.set_xticklabels([_words(name).replace(" ", "\n", 1) for name in (*drawn, metric)], fontsize=9)
    axes.spines[:].set_visible(False)
    told = f"; {len(names) - len(drawn)} more hyperparameters not drawn" if len(names) > len(drawn) else ""
    first = f"{len(mean):,} trials, mean over n = {seeds_told(dataset)} seeds"
    first += f"; thick: the {_MAX_LINES} best{told}\n" if len(mean) > _MAX_LINES else f"{told}\n"
    figure.suptitle(f"{first}{_left_out(dataset)}; {_CROSS}: no finite run", fontsize=10)
    return figure


def _paired(finite: np.ndarray) -> tuple[int | None, list[int]]:
    """The first trial that shares two finite seeds with another, and all that share two with it; [trial, seed]."""
    for first in np.flatnonzero(finite.sum(1) > 1).tolist():
        shared = np.flatnonzero((finite & finite[first]).sum(1) > 1).tolist()
        if len(shared) > 1:
            return first, [trial for trial in shared if trial != first]
    return None, []


KINDS: Mapping[str, Callable[..., Any]] = {
    "curves": learning_curves,
    "sensitivity": sensitivity,
    "heatmap": heatmap,
    "differences": differences,
    "parallel": parallel,
}
"""The figures that any results have, by the word that the command line has for them."""


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
    known = np.isfinite(low) & np.isfinite(high)  # seeds that all agree have no interval
    if known.any():
        axes.fill_between(places, low, high, where=known, color=line.get_color(), alpha=0.2, linewidth=0)


def rows(axes: Any, values: Mapping[str, Any]) -> None:
    """Draws a row a label: each seed as a circle, above them the mean with its 95 % interval, and both in figures.

    Args:
        axes: Of matplotlib.
        values: One number a seed, by label; labels with less than two finite ones are left out.
    """
    shown = {label: seeds for label, seeds in values.items() if np.isfinite(seeds).sum() > 1}
    for row, seeds in enumerate(shown.values()):
        mean, low, high, n, _ = mean_interval(seeds)
        style = {"color": COLORS[0], "fillstyle": "none", "rasterized": len(seeds) > _PIXELS_FROM}
        axes.plot(seeds, [row] * len(seeds), "o", markersize=5, **style)
        interval = {"xerr": [[mean - low], [high - mean]]} if np.isfinite([low, high]).all() else {}
        axes.errorbar(mean, row - 0.25, fmt="D", color=COLORS[1], markersize=5, **interval)
        told = f"{mean:.3f}, n = {n}"
        axes.text(1.02, row, told, va="center", fontsize=8, transform=axes.get_yaxis_transform())
    axes.set(yticks=range(len(shown)), yticklabels=list(shown), ylim=(len(shown) - 0.5, -0.6))


def heading(dataset: Any, statistic: str = "mean") -> str:
    """Returns what a figure says of its numbers: the statistic, the seeds, and how many runs are left out."""
    return f"{statistic} and 95 % interval over n = {seeds_told(dataset)} seeds; {_left_out(dataset)}"


def _plain(text: str) -> str:
    """Text that matplotlib shows as it is: a dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def _words(name: str) -> str:
    return _plain(name.replace("_", " "))


def _at_the_end(dataset: Any, metric: str) -> str:
    steps = dataset[dataset[metric].dims[-1]].values
    return f"{_words(metric)} after {int(steps[-1]):,} steps"


def _left_out(dataset: Any) -> str:
    lost, waiting = (int((dataset["status"].values == code).sum()) for code in (NOT_FINITE, NOT_RUN))
    return f"{lost:,} runs not finite, left out" + (f"; {waiting:,} not run yet" if waiting else "")


def _panels(count: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    columns = min(count, 2)
    figure = Figure(figsize=(4.4 * columns + (2 if count == 1 else 0), 3.2 * math.ceil(count / 2) + 0.7))
    figure.set_layout_engine("constrained")
    panels = figure.subplots(math.ceil(count / 2), columns, squeeze=False).ravel().tolist()
    for unused in panels[count:]:
        unused.set_visible(False)
    return figure, panels[:count]


def _line(axes: Any, x: Any, values: np.ndarray, position: int, label: str) -> None:
    """A line with its band, in the colour of its position; without a band where there is one seed."""
    style = {"color": COLORS[position % len(COLORS)], "linestyle": ("-", "--")[position % 2], "label": _plain(label)}
    if values.shape[1] > 1:
        band(axes, x, values, **style)
    else:
        axes.plot(x, values[:, 0], marker="." if len(values) < 20 else None, **style)


def _finish(axes: Any) -> None:
    """A grid, and a logarithmic axis where positive values differ by more than a factor of a thousand."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.get_lines()] or [np.zeros(0)])
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > 1000 * values.min():
        axes.set_yscale("log")
    axes.grid(alpha=0.25)


def _background(axes: Any, dataset: Any, metric: str) -> None:
    """A grey band from the 5th to the 95th percentile of the trials' means."""
    steps, values = levels.curves(dataset, metric)
    means = levels.mean(np.moveaxis(values, 1, -1))
    there = np.isfinite(means).any(0)
    if there.any():
        low, high = np.nanpercentile(means[:, there], (5, 95), axis=0)
        axes.fill_between(steps[there], low, high, color="0.85", linewidth=0, zorder=0)


def _sensitivity(axes: Any, dataset: Any, name: str, metric: str) -> None:
    """One panel: a metric's last value against one hyperparameter."""
    own, values = levels.levels(dataset[name].values, _MAX_PLACES), levels.last_values(dataset, metric)
    own = levels.levels(dataset[name].values, _MAX_PLACES // 2) if own.is_classed else own
    codes, lines, common = levels.held_fixed(dataset, name, own)
    num_trials = 1
    for position, (code, label) in enumerate(lines.items()):
        mine = codes == code
        by_seed = levels.means(values[mine], own.codes[mine], len(own.places))
        there = np.isfinite(by_seed).any(1)
        num_trials = max(num_trials, np.bincount(own.codes[mine]).max())
        _line(axes, own.places[there], by_seed[there], position, label)
    _finish(axes)
    lost = np.bincount(own.codes, levels.diverged(dataset), len(own.places))
    low = axes.get_xaxis_transform()
    axes.margins(y=0.12 if lost.any() else 0.05)
    axes.plot(own.places[lost > 0], np.full((lost > 0).sum(), 0.03), "x", color="black", markersize=5, transform=low)
    for at, count in zip(own.places[lost > 0], lost[lost > 0], strict=True):
        axes.text(at, 0.06, f"{count:.0f}", ha="center", fontsize=7, transform=low)
    axes.set(xlabel=_words(name), ylabel=_at_the_end(dataset, metric))
    if own.is_log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(lambda *_: "")
    if len(own.places) <= _MAX_LINES and not own.is_classed:
        axes.set_xticks(own.places, own.labels)
    told = [common] if common else []
    told += [f"{len(own.places)} classes"] if own.is_classed else []
    told += [f"a point: mean of up to {num_trials} trials"] if num_trials > 1 else []
    axes.set_title(textwrap.fill(_plain("; ".join(told)), 62), fontsize=7.5)
    if any(lines.values()):
        axes.legend(fontsize=7, frameon=False)


def _cell(axes: Any, mesh: Any, x: int, y: int, mean: float, diverged: int, hatched: bool) -> None:
    """The figures of one cell of a heatmap."""
    from matplotlib.patches import Rectangle

    if hatched:
        axes.add_patch(Rectangle((x, y), 1, 1, fill=False, hatch="///", edgecolor="0.6", linewidth=0))
    told = [f"{mean:.3g}"] if np.isfinite(mean) else []
    told += [f"{_CROSS}{diverged:,}"] if diverged else []
    dark = np.isfinite(mean) and mesh.norm(mean) < 0.55
    axes.text(x + 0.5, y + 0.5, "\n".join(told), ha="center", va="center", fontsize=8, color="w" if dark else "k")

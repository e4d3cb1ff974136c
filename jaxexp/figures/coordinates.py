"""Parallel coordinates: upright axes side by side, and a line a trial through its values. Chooses nothing."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxexp.figures import levels

_MAX_CELLS, _PIXELS_FROM = 12, 256
_HALO = {"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.75, "linewidth": 0}


def upright(axes: Any, position: int, values: np.ndarray) -> np.ndarray:
    """Draws one of the upright axes, and returns how high each trial meets it, from 0 to 1; NaN where it does not.

    Args:
        axes: Of matplotlib.
        position: Where it stands, from the left.
        values: Of the trials, [num_trials]: numbers, or anything else that is shown by its text.

    Example:
        >>> from matplotlib.figure import Figure
        >>> upright(Figure().subplots(), 0, np.asarray([1.0, 3.0, 2.0])).tolist()
        [0.0, 1.0, 0.5]
    """
    finite = values[np.isfinite(values)] if levels.is_numeric(values) else None
    if finite is None:
        own = levels.levels(values, _MAX_CELLS)
        ticks, labels = np.linspace(0, 1, len(own.labels)), own.labels
        heights = np.where(own.codes >= 0, ticks[own.codes], np.nan)
    else:
        is_log = levels.is_geometric(np.unique(finite))
        scaled = np.log(values) if is_log else values.astype(float)
        low, high = (np.nanmin(scaled), np.nanmax(scaled)) if finite.size else (0.0, 0.0)
        heights = (scaled - low) / (high - low) if high > low else np.where(np.isfinite(scaled), 0.5, np.nan)
        ticks = np.asarray([0.0, 0.5, 1.0])
        labels = [f"{np.exp(at) if is_log else at:.3g}" for at in low + ticks * (high - low)]
    axes.axvline(position, color="0.4", linewidth=1, zorder=0)
    for at, label in zip(ticks, labels, strict=True):
        axes.plot(position, at, "_", color="0.4", markersize=7)
        axes.text(position + 0.06, at, label.replace("$", r"\$"), fontsize=7.5, va="center", zorder=9, bbox=_HALO)
    return heights


def lines(axes: Any, heights: np.ndarray, value: np.ndarray, ranked: Sequence[int], num_thick: int) -> None:
    """Draws a line a trial, coloured by its value: the best on top and thick, those without a value dotted.

    Args:
        axes: Of matplotlib.
        heights: Where each trial meets each axis, [num_trials, num_axes].
        value: What came out of each trial, [num_trials]; NaN where nothing did.
        ranked: The trials that have a value, the best first.
        num_thick: How many lines are thick.
    """
    from matplotlib.collections import LineCollection

    place, finite = np.arange(heights.shape[1]), np.asarray(ranked[::-1], np.int64)
    for chosen, width, alpha in ((finite[:-num_thick], 0.8, 0.5), (finite[-num_thick:], 2.6, 1.0)):
        drawn = LineCollection([np.column_stack([place, heights[trial]]) for trial in chosen], cmap="cividis")
        drawn.set(array=value[chosen], linewidth=width, alpha=alpha, rasterized=len(chosen) > _PIXELS_FROM)
        if finite.size:
            drawn.set_clim(value[finite].min(), value[finite].max())
        axes.add_collection(drawn)
    for trial in np.flatnonzero(~np.isfinite(value))[:_PIXELS_FROM]:
        axes.plot(place[:-1], heights[trial, :-1], color="0.6", linewidth=0.6, linestyle=":")
        axes.plot(place[-1], -0.03, "x", color="black", markersize=5)

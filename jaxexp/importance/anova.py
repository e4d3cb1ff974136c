"""Functional analysis of variance on a full grid of trials, in closed form, less what the seeds add to it.

Knows arrays [*grid, seed] alone. Every cell weighs the same. A seed means the same start in every cell, so that what
it does to all cells moves none against another.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.05

_NUM_SWEEPS = 100


class Decomposition(NamedTuple):
    """Variances over a grid, each less what seeds add to its estimate: unbiased, so that one may be below 0.

    Attributes:
        effects: Of each axis, (i,), and of each two axes beyond what they do alone, (i, j).
        rest: Of three axes and more at once; at least 0.
        raw: Of the cells' means, with what seeds add.
        noise: What seeds add to it; 0 where there is one alone.
        p_noise: Of the F test that the means differ by noise alone; 0 where one seed cannot tell.
    """

    effects: dict[tuple[int, ...], float]
    rest: float
    raw: float
    noise: float
    p_noise: float


def decomposed(cells: np.ndarray) -> Decomposition:
    """Returns the variance of each effect of one or two axes on the cells' means over seeds.

    What seeds add to an effect is taken from how the effect itself differs from seed to seed: no assumption on the
    spread being equal in all cells. With missing runs this holds but for a small error. Where the means differ by
    rounding alone, every effect is 0.

    Args:
        cells: [*grid, seed], with at least one finite value in each cell and of each seed; the others are left out.

    Source: Hoeffding (1948), "A class of statistics with asymptotically normal distribution", Annals of Mathematical
    Statistics 19(3), section 5.

    Example:
        >>> found = decomposed(np.asarray([[0.0, 0.0], [0.0, 1.0]])[..., None])  # the product of two axes
        >>> found.effects
        {(0,): 0.0625, (1,): 0.0625, (0, 1): 0.0625}
    """
    means, deviations = _means_and_deviations(cells)
    axes = range(cells.ndim - 1)
    wanted = [*((axis,) for axis in axes), *itertools.combinations(axes, 2)]
    raw, noise = _mean_square(_centered(means)), _noise(_centered(deviations))
    if is_rounding(raw, cells):
        return Decomposition(dict.fromkeys(wanted, 0.0), 0.0, 0.0, noise, 1.0)
    effects = {chosen: _mean_square(_effect(means, chosen)) - _noise(_effect(deviations, chosen)) for chosen in wanted}
    rest = max(0.0, raw - noise - sum(effects.values())) if len(axes) > 2 else 0.0
    return Decomposition(effects, rest, raw, noise, _p_noise(raw, noise, means.size, cells.shape[-1]))


def is_rounding(variance: float, values: np.ndarray) -> bool:
    """Returns whether a variance is too small, for the size of the values, to be more than rounding.

    Differences below 1.5e-8 of the values' size are rounding: float32 cannot hold them, and the fit to missing runs
    may leave as much.

    Args:
        variance: Of means of the values.
        values: Any shape; those that are not finite are left out.

    Example:
        >>> is_rounding(np.var([0.3, 0.1 + 0.2]), np.asarray([0.3])), is_rounding(0.0, np.zeros(1))
        (True, True)
    """
    return bool(variance <= np.finfo(np.float64).eps * np.square(values[np.isfinite(values)]).mean())


def filled(cells: np.ndarray) -> np.ndarray:
    """Returns cells whose missing runs are what an additive fit says: the cell's mean, shifted as the seed shifts all.

    Args:
        cells: [*grid, seed], with at least one finite value in each cell and of each seed.

    Example:
        >>> filled(np.asarray([[1.0, 2.0, 6.0], [11.0, 12.0, np.nan]])).tolist()[1]
        [11.0, 12.0, 16.0]
    """
    finite = np.isfinite(cells)
    if finite.all():
        return cells
    grid = tuple(range(cells.ndim - 1))
    known, of_seed = np.where(finite, cells, 0), np.zeros((1,) * cells.ndim)
    for _ in range(_NUM_SWEEPS):  # backfitting
        of_cell = np.where(finite, known - of_seed, 0).sum(-1, keepdims=True) / finite.sum(-1, keepdims=True)
        of_seed = np.where(finite, known - of_cell, 0).sum(grid, keepdims=True) / finite.sum(grid, keepdims=True)
    return np.where(finite, cells, of_cell + of_seed)


def _means_and_deviations(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each cell's mean [*grid, 1], and how its seeds differ from it beyond what the seed does to all [*grid, seed].

    Where a run is missing the deviation is 0, and the others of the cell are scaled so that the variance of its mean
    is right: sum(deviation^2) / (S (S - 1)) = s^2 / n.
    """
    finite, num_seeds = np.isfinite(cells), cells.shape[-1]
    whole = filled(cells)
    means = whole.mean(-1, keepdims=True)
    deviations = np.where(finite, _centered(whole) - _centered(means), 0)
    num_finite = finite.sum(-1, keepdims=True)
    scale = np.sqrt(num_seeds * (num_seeds - 1) / np.maximum(num_finite * (num_finite - 1), 1))
    return means, deviations * scale


def _effect(cells: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """What some axes do together beyond what fewer of them do: [*(side or 1), seed]."""
    others = tuple(axis for axis in range(cells.ndim - 1) if axis not in axes)
    effect = cells.mean(others, keepdims=True)
    for axis in axes:
        effect = effect - effect.mean(axis, keepdims=True)
    return effect


def _centered(cells: np.ndarray) -> np.ndarray:
    return cells - cells.mean(tuple(range(cells.ndim - 1)), keepdims=True)


def _mean_square(effect: np.ndarray) -> float:
    return float((effect**2).mean())


def _noise(effect: np.ndarray) -> float:
    """The variance over seeds of the mean of an effect [*sides, seed], averaged over the grid."""
    num_seeds = effect.shape[-1]
    return _mean_square(effect) / (num_seeds - 1) if num_seeds > 1 else 0.0


def _p_noise(raw: float, noise: float, num_cells: int, num_seeds: int) -> float:
    from scipy.special import fdtrc

    if noise <= 0:
        return 0.0
    return float(fdtrc(num_cells - 1, (num_cells - 1) * (num_seeds - 1), raw / noise))

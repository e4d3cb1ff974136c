"""Main effects in a sweep that is no full grid: a random forest's functional ANOVA, by optuna (extra `search`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxexp.errors import StudyError
from jaxexp.importance import anova

NUM_TREES, MAX_TRIALS = 64, 300
"""The forest's size, and the trials that it is fitted to: optuna's time grows with the square of these."""


def chosen(num_trials: int) -> np.ndarray:
    """Returns the trials that a forest is fitted to, int [at most MAX_TRIALS]: all, or one of each of equal stretches.

    The same ones each time. Which of a stretch is drawn: every n-th trial of a crossed sweep could have the same value.

    Args:
        num_trials: How many there are.

    Example:
        >>> chosen(3).tolist(), len(chosen(100_000))
        ([0, 1, 2], 300)
    """
    ends = np.arange(MAX_TRIALS + 1) * num_trials // MAX_TRIALS
    return np.arange(num_trials) if num_trials <= MAX_TRIALS else np.random.default_rng(0).integers(ends[:-1], ends[1:])


def main_effects(columns: Mapping[str, tuple[Sequence[Any], np.ndarray]], means: np.ndarray) -> dict[str, float]:
    """Returns the share of variance that each hyperparameter alone accounts for, by a forest fitted to trials' means.

    Numbers count by their rank, so that every value that was swept weighs the same, as on a grid.

    Args:
        columns: For each hyperparameter its sorted values, and the number of its value in each trial, int [trial].
        means: What is explained, finite, float64 [trial].

    Returns:
        Shares from 0 to 1; all 0 where nothing differs but by rounding.

    Raises:
        StudyError: If optuna or scikit-learn is not installed.

    Source: Hutter, Hoos and Leyton-Brown (2014), "An efficient approach for assessing hyperparameter importance", ICML.

    Example:
        >>> main_effects({"a": ([0.1, 0.2], np.asarray([0, 1]))}, np.asarray([3.0, 3.0]))
        {'a': 0.0}
    """
    if anova.is_rounding(np.var(means).item(), means):
        return dict.fromkeys(columns, 0.0)
    try:
        import optuna  # pyright: ignore[reportMissingImports]

        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=NUM_TREES, seed=0)
    except ImportError:
        raise StudyError(
            "this sweep is no full grid, and the shares of such a one come from optuna's fANOVA, which is not "
            "installed: pip install 'jaxexp[search]', or sweep a grid, e.g. learning_rate=0.1,0.01 momentum=0,0.9"
        ) from None
    distributions = {name: _distribution(optuna, values) for name, (values, _) in columns.items()}
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would tell of every study that it makes
    try:
        study = optuna.create_study()
        for row, value in enumerate(means.tolist()):
            params = {name: int(codes[row]) for name, (_, codes) in columns.items()}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
        found = evaluator.evaluate(study)
    finally:
        optuna.logging.set_verbosity(before)
    return {name: float(found.get(name, 0.0)) for name in columns}


def _distribution(optuna: Any, values: Sequence[Any]) -> Any:
    if isinstance(values[0], (int, float)):
        return optuna.distributions.IntDistribution(0, len(values) - 1)
    return optuna.distributions.CategoricalDistribution(tuple(range(len(values))))

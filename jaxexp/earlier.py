"""What a run folder was asked before: its plans' studies, made again of the code at hand, and their results."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_origin

import numpy as np

from jaxexp import configs, store, sweep
from jaxexp.errors import StoreError
from jaxexp.results import Result
from jaxexp.stored_plans import StoredPlan
from jaxexp.study import Study, Table
from jaxexp.trials import aligned, union


def asked(folder: Path) -> tuple[list[StoredPlan], Table, np.ndarray]:
    """Returns a folder's plans, the trials of all of them, and their seeds.

    Raises:
        StoreError: If there is no run, a plan is damaged, or the folder is a reference, which keeps no results.
    """
    record, known = store.record(folder), store.plans(folder)
    if not known:
        raise StoreError(
            f"{folder} holds a record and no results: a reference keeps what its claims use, in claims.npz; "
            f"`jaxexp run {record.get('experiment', 'NAME')} --full` trains it again"
        )
    trials = union([stored.trials for stored in known])
    return known, trials, np.unique(np.concatenate([stored.seeds for stored in known]))


def study_of(study: Study, stored: StoredPlan, rows: Sequence[int] | None = None) -> Study:
    """Returns the study of a stored plan, of another study's experiment.

    Args:
        study: A study of the experiment; it gives the values of hyperparameters that the plan does not know.
        stored: The plan.
        rows: The trials of its table that are wanted; all where None.

    Raises:
        ConfigError: If a stored value does not fit its field any more.
    """
    known = configs.fields(study.config)
    now = {name: getattr(study.config, name) for name in known}
    base = {name: _value(known[name], found, now[name]) for name, found in stored.trials.base.items() if name in known}
    columns = {name: column for name, column in stored.trials.columns.items() if name in known}
    trials = [
        {name: _value(known[name], column[row], now[name]) for name, column in columns.items()}
        for row in (range(len(stored.trials)) if rows is None else rows)
    ]
    num_steps, evaluate_every, log_every = stored.steps
    return study.replace(
        config=dataclasses.replace(study.config, **base),
        sweep=sweep.cases(*trials) if columns else sweep.ONE,
        seeds=tuple(map(int, stored.seeds)),
        num_steps=num_steps,
        evaluate_every=evaluate_every,
        log_every=log_every,
    )


def _value(field: configs.Field, found: Any, now: Any) -> Any:
    """A field's value of what a stored table has of it: a number, or text. `now` is the base config's value."""
    plain = found.item() if isinstance(found, np.generic) else found
    if isinstance(plain, str) and plain == configs.text_of(now):  # of a function nothing else is kept
        return now
    listed = isinstance(plain, list) or (isinstance(plain, str) and plain.startswith("["))
    if listed and any((get_origin(kind) or kind) is tuple for kind in configs.alternatives(field.type)):
        return _tuples(json.loads(plain) if isinstance(plain, str) else plain)  # JSON has lists, a column keeps text
    return plain if type(plain) is field.type else configs.parse_value(field, configs.text_of(plain))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def results(folder: Path, plans: Sequence[StoredPlan], trials: Table, seeds: np.ndarray) -> Iterator[Result]:
    """Yields what stored plans have of some runs, each result's trials numbered as in another table.

    Args:
        folder: The run folder.
        plans: Plans of it.
        trials: The table of the trials that are wanted.
        seeds: The seeds that are wanted.

    Raises:
        StoreError: If a file of the folder is damaged.
    """
    for stored in plans:
        rows = aligned(stored.trials, trials).astype(np.int32)
        for result in store.results(folder, stored.digest):
            trial = rows[result.trial]
            yield result._replace(trial=trial).at((trial >= 0) & np.isin(result.seed, seeds))

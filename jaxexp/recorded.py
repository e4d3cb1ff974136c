"""The study that a run folder records, made again from the experiment file as it is now and the folder's own tables."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxexp import catalog, configs, overrides, plans, store, sweep
from jaxexp.errors import StoreError
from jaxexp.plans import Plan
from jaxexp.store import StoredPlan
from jaxexp.study import Study
from jaxexp.worker import Source


def study(record: Mapping[str, Any]) -> Study:
    """Returns the study that made a folder: of its experiment file, in the size and with the words of the first run.

    Args:
        record: The folder's.

    Raises:
        StudyError: If its experiment cannot be loaded.
    """
    loaded = catalog.load(record.get("path") or record["experiment"])
    sized = loaded.full if record.get("full") and loaded.full is not None else loaded.study
    return overrides.apply(sized, record.get("words") or [], record.get("samples"))


def source(record: Mapping[str, Any]) -> Source:
    """Returns where the study of a record comes from, as the file is now."""
    loaded = catalog.load(record.get("path") or record["experiment"])
    return Source(loaded.name, loaded.text, loaded.path.resolve().parent, bool(record.get("full")))


def plan_of(folder: Path, stored: StoredPlan, trials: np.ndarray, seeds: np.ndarray) -> Plan:
    """Returns a plan, in the folder's tile, of some of the runs of one of its plans.

    Args:
        folder: The run folder.
        stored: The plan.
        trials: Rows of its table.
        seeds: Some of its seeds.

    Raises:
        StoreError: If the code's programs or data are not those that the folder was trained with.
    """
    made = study(store.record(folder))
    known = configs.fields(made.config)
    lost = (stored.trials.base.keys() | stored.trials.columns.keys()) ^ known.keys()
    if lost:
        raise StoreError(f"{folder} was trained with other hyperparameters: {', '.join(sorted(lost))} changed")

    def value(name: str, found: Any) -> Any:
        plain = found.item() if isinstance(found, np.generic) else found
        field = known[name]
        return plain if type(plain) is field.type else configs.parse_value(field, configs.text_of(plain))

    base = {name: value(name, found) for name, found in stored.trials.base.items()}
    rows = [{name: value(name, column[row]) for name, column in stored.trials.columns.items()} for row in trials]
    num_steps, evaluate_every, log_every = stored.steps
    wanted = made.replace(
        config=dataclasses.replace(made.config, **base),
        sweep=sweep.cases(*rows),
        seeds=tuple(map(int, seeds)),
        num_steps=num_steps,
        evaluate_every=evaluate_every,
        log_every=log_every,
    )
    return plans.plan(wanted, tile=stored.tile, yes=True)

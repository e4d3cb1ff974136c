"""The study that a run folder records, made again from the experiment file as it is now and the folder's own tables."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

import numpy as np

from jaxexp import catalog, configs, overrides, plans, store, sweep
from jaxexp import study as studies
from jaxexp.errors import StoreError
from jaxexp.launch import Order
from jaxexp.plans import Plan
from jaxexp.store import StoredPlan
from jaxexp.study import Study
from jaxexp.worker import Source


def order(record: Mapping[str, Any], seeds: int | None = None, words: Sequence[str] = ()) -> Order:
    """Returns what made a folder first, as the command line would say it.

    Args:
        record: The folder's.
        seeds: How many of the recorded seeds, the first ones; all where None.
        words: Fields to be set otherwise than recorded, for those who want to see that it is noticed.

    Raises:
        StudyError: If its experiment cannot be found.
    """
    path = str(catalog.path_of(record.get("path") or record["experiment"]))
    full, samples = bool(record.get("full")), record.get("samples")
    said = _merged(record.get("words") or (), words)
    if seeds is not None:
        first = studies.seeds(overrides.chosen(catalog.load(path), full, said, samples))[:seeds]
        # A single number would mean how many.
        said = _merged(said, [f"seeds={','.join(map(str, first))}" if len(first) > 1 else f"seeds=0:{first[0] + 1}"])
    return Order(path, full, said, samples)


def _merged(words: Sequence[str], later: Sequence[str]) -> list[str]:
    """Words of which the later count where both say the same field."""
    names = {word.partition("=")[0].strip() for word in later}
    return [*(word for word in words if word.partition("=")[0].strip() not in names), *later]


def study(record: Mapping[str, Any]) -> Study:
    """Returns the study that made a folder first, of its experiment file as it is now.

    Args:
        record: The folder's.

    Raises:
        StudyError: If its experiment cannot be loaded.
    """
    asked = order(record)
    return overrides.chosen(catalog.load(asked.path), asked.full, asked.words, asked.samples)


def source(record: Mapping[str, Any]) -> Source:
    """Returns where the study of a record comes from, as the file is now."""
    path = Path(order(record).path)
    return Source(path.stem, path.read_text(), path.resolve().parent)


def run_plan(folder: Path, stored: StoredPlan, row: int, seed: int) -> Plan:
    """Returns a plan, in the folder's tile, of one of its runs.

    Args:
        folder: The run folder.
        stored: The plan that has the run.
        row: The trial's row in the plan's table.
        seed: The seed.

    Raises:
        StoreError: If the experiment has other hyperparameters now.
    """
    made = study(store.record(folder))
    known = configs.fields(made.config)
    lost = (stored.trials.base.keys() | stored.trials.columns.keys()) ^ known.keys()
    if lost:
        raise StoreError(f"{folder} was trained with other hyperparameters: {', '.join(sorted(lost))} changed")

    def value(name: str, found: Any) -> Any:
        plain = found.item() if isinstance(found, np.generic) else found
        field = known[name]
        if (get_origin(field.type) or field.type) is tuple:  # JSON has lists, and a column keeps text
            return _tuples(json.loads(plain) if isinstance(plain, str) else plain)
        return plain if type(plain) is field.type else configs.parse_value(field, configs.text_of(plain))

    swept = {name: column[row] for name, column in stored.trials.columns.items()}
    values = {name: value(name, found) for name, found in {**stored.trials.base, **swept}.items()}
    num_steps, evaluate_every, log_every = stored.steps
    wanted = made.replace(
        config=dataclasses.replace(made.config, **values),
        sweep=sweep.ONE,
        seeds=(seed,),
        num_steps=num_steps,
        evaluate_every=evaluate_every,
        log_every=log_every,
    )
    return plans.plan(wanted, tile=stored.tile, yes=True)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value

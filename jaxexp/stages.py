"""More seeds for some trials of a run folder: which come first, which next, and how to ask for them.

Which seeds were the first stage of two arms is kept in the folder, so that it stays what it was. Trains nothing itself.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxexp import catalog, configs, files, overrides, recorded, tables
from jaxexp import study as studies
from jaxexp.errors import DamagedError, JaxexpError, StoreError
from jaxexp.launch import Order

NAME = "stages.json"
"""The file of a run folder that says which arms were given more seeds because of their first ones."""


class Stage(NamedTuple):
    """The first seeds of two arms, by whose spread it was decided how many more to train.

    Attributes:
        seeds: The first stage.
        widths: The half-widths that were asked for, one a look.
    """

    seeds: list[int]
    widths: list[float]


def known(folder: Path) -> dict[str, Stage]:
    """Returns the first stages that a run folder keeps, by what stands for their arms.

    Args:
        folder: The run folder.

    Raises:
        StoreError: If the file is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    try:
        found = files.read_sealed_json(path)["stages"]
        return {arms: Stage([int(seed) for seed in stage["seeds"]], list(stage["widths"])) for arms, stage in found}
    except (DamagedError, KeyError, TypeError, ValueError) as problem:
        raise StoreError(
            f"{path} is damaged, which says by which seeds it was decided to train more: restore it, or, to do "
            f"without, remove it: `rm {path}`"
        ) from problem


def note(folder: Path) -> str | None:
    """Returns what a reader of intervals over a run's seeds should know of how many there are; None where nothing."""
    if not known(folder):
        return None
    return (
        "`jaxexp compare --until` added seeds to two arms by what it saw. These intervals take no account of that; "
        "`jaxexp compare RUN A B` gives the right one of their difference."
    )


def of_arms(folder: Path, dataset: Any, pairs: Sequence[tuple[int, int]]) -> Stage | None:
    """Returns the first stage of two arms, in either order; None where the folder keeps none.

    Args:
        folder: The run folder.
        dataset: Its results.
        pairs: What `arms.matched` gave.

    Raises:
        StoreError: If the file is damaged.
    """
    return known(folder).get(_text_of_arms(dataset, pairs))


def keep(folder: Path, dataset: Any, pairs: Sequence[tuple[int, int]], seeds: Sequence[int], width: float) -> Stage:
    """Notes in a run folder what the first stage of two arms is, and one more look; returns what is kept.

    Args:
        folder: The run folder.
        dataset: Its results.
        pairs: What `arms.matched` gave.
        seeds: The first stage.
        width: The half-width that is asked for; one that was asked for last is no other look.

    Raises:
        StoreError: If the file is damaged, or cannot be written.
    """
    with files.locked(folder):
        stages, arms = known(folder), _text_of_arms(dataset, pairs)
        widths = stages[arms].widths if arms in stages else []
        stages[arms] = Stage(list(seeds), widths if widths[-1:] == [width] else [*widths, width])
        files.write(folder / NAME, files.sealed_json({"stages": [[key, one._asdict()] for key, one in stages.items()]}))
    return stages[arms]


def _text_of_arms(dataset: Any, pairs: Sequence[tuple[int, int]]) -> str:
    """What stands for two arms: the hyperparameters of their trials, in whatever order and place."""
    names = sorted(n for n, value in dataset.coords.items() if value.dims in ((), ("trial",)) and n != "trial")
    columns = {name: np.broadcast_to(dataset[name].values, (dataset.sizes["trial"],)).tolist() for name in names}
    told = [[{name: str(column[trial]) for name, column in columns.items()} for trial in pair] for pair in pairs]
    return json.dumps(sorted((sorted(pair, key=json.dumps) for pair in told), key=json.dumps))


def with_more(seeds: Sequence[int], count: int) -> list[int]:
    """Returns seeds, followed by the smallest others until there are so many.

    Example:
        >>> with_more([1, 5], 4)
        [1, 5, 0, 2]
    """
    made, known, seed = list(seeds), set(seeds), 0
    while len(made) < count:
        if seed not in known:
            made.append(seed)
        seed += 1
    return made


def orders(folder: Path, dataset: Any, trials: Sequence[int], seeds: Sequence[int]) -> list[Order]:
    """Returns what asks for some trials of a folder and these seeds, as the command line would say it.

    Args:
        folder: The run folder.
        dataset: Its results.
        trials: Positions of trials in them.
        seeds: Which seeds.

    Returns:
        One order where the trials are all combinations of their values, else one for each; where words cannot say
        their values, as of a tuple, one order for the whole recorded study.

    Raises:
        StudyError: If the experiment cannot be found.
    """
    names = tables.varied(dataset)
    rows = [[_text(dataset[name].values[trial].item()) for name in names] for trial in trials]
    axes = [list(dict.fromkeys(column)) for column in zip(*rows, strict=True)]
    is_grid = math.prod(map(len, axes)) == len(rows)
    asked = [axes] if is_grid else [[[text] for text in row] for row in rows]
    counts = [f"{name}={dataset.attrs[name]}" for name in ("num_steps", "evaluate_every", "log_every")]
    common = [_seeds(seeds), *counts]
    made = []
    for values in asked:
        words = [f"{name}={','.join(texts)}" for name, texts in zip(names, values, strict=True)]
        made.append(recorded.order(folder, words=[*words, *common])._replace(samples=None))
    return made if _mean(made, dataset, trials) else [recorded.order(folder, words=common)]


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _seeds(seeds: Sequence[int]) -> str:
    first, last = min(seeds), max(seeds)
    if last - first + 1 == len(seeds):
        return f"seeds={first}:{last + 1}"
    return f"seeds={','.join(map(str, seeds))}"


def _mean(made: Sequence[Order], dataset: Any, trials: Sequence[int]) -> bool:
    """Whether orders mean these trials and no others."""
    names = [name for name, value in dataset.coords.items() if value.dims in ((), ("trial",)) and name != "trial"]
    found: list[list[Any]] = []
    try:
        for order in made:
            study = studies.check(overrides.chosen(catalog.load(order.path), order.full, order.words, order.samples))
            table = studies.table(study)
            for row in range(len(table)):
                config = studies.trial_config(study, table, row)
                found.append([_label(getattr(config, name, None)) for name in names])
    except JaxexpError:
        return False
    columns = {name: np.broadcast_to(dataset[name].values, (dataset.sizes["trial"],)) for name in names}
    wanted = [[column[trial].item() for column in columns.values()] for trial in trials]
    return len(found) == len(wanted) and all(row in found for row in wanted)


def _label(value: Any) -> Any:
    """A config's value as the results of a folder have it."""
    return value if isinstance(value, (bool, int, float, str)) else configs.text_of(value)

"""More seeds for some trials of a run folder: which seeds come next, and how the command line would ask for them.

Trains nothing itself.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxexp import catalog, configs, overrides, recorded, tables
from jaxexp import study as studies
from jaxexp.errors import JaxexpError
from jaxexp.launch import Order


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


def orders(record: Mapping[str, Any], dataset: Any, trials: Sequence[int], seeds: Sequence[int]) -> list[Order]:
    """Returns what asks for some trials of a folder and these seeds, as the command line would say it.

    Args:
        record: The folder's.
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
        made.append(recorded.order(record, words=[*words, *common])._replace(samples=None))
    return made if _mean(made, dataset, trials) else [recorded.order(record, words=common)]


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
                found.append([_label(getattr(config, name, None), bool(dataset[name].dims)) for name in names])
    except JaxexpError:
        return False
    columns = {name: np.broadcast_to(dataset[name].values, (dataset.sizes["trial"],)) for name in names}
    wanted = [[column[trial].item() for column in columns.values()] for trial in trials]
    return len(found) == len(wanted) and all(row in found for row in wanted)


def _label(value: Any, varies: bool) -> Any:
    """A config's value as the results of a folder have it."""
    if isinstance(value, (bool, int, float, str)):
        return value
    return configs.text_of(value) if varies else str(configs.plain(value))

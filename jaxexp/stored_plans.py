"""The plans that a run folder was asked for, as files in its `plans/`: trials, seeds, steps, tile and programs.

Knows nothing of results or training.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxexp import configs, contents, files
from jaxexp.errors import DamagedError
from jaxexp.plans import Plan, Tile
from jaxexp.study import Table


class StoredPlan(NamedTuple):
    """A plan that a folder was asked to do.

    Attributes:
        digest: The plan's digest, which the names of its chunks carry.
        asked: What stands for what was asked for: trials, seeds, steps and tile.
        tile: The tile in which all runs of the folder are trained.
        trials: Its trials; what is no number is text.
        seeds: uint32 [num_seeds].
        steps: `num_steps`, `evaluate_every` and `log_every`.
        programs: For each group, by the text of its static fields, its program's and its data's digest.
        done: Bool [num_trials, num_seeds]: runs that other plans had done when this one was made; or None.
    """

    digest: str
    asked: str
    tile: Tile
    trials: Table
    seeds: np.ndarray
    steps: tuple[int, int, int]
    programs: dict[str, dict[str, str]]
    done: np.ndarray | None


def add(folder: Path, plan: Plan, programs: dict[str, dict[str, str]]) -> None:
    """Writes a plan into a folder, as the one that was asked for last."""
    numbers = [path.name.split("-")[0] for path in (folder / "plans").glob("[0-9]*.npz")]
    position = 1 + max([-1, *(int(number) for number in numbers if number.isdecimal())])
    columns, texts = {}, {}
    for name, column in plan.trials.columns.items():
        if column.dtype == object:
            values = list(dict.fromkeys(map(configs.text_of, column)))
            numbers = {value: code for code, value in enumerate(values)}
            columns[f"code:{name}"] = np.asarray([numbers[configs.text_of(value)] for value in column], np.int32)
            texts[name] = values
        else:
            columns[f"value:{name}"] = column
    header = {
        "asked": plan.asked,
        "tile": list(plan.tile),
        "base": {name: configs.plain(value) for name, value in plan.trials.base.items()},
        "names": list(plan.trials.columns),
        "num_trials": len(plan.trials),
        "programs": programs,
        "steps": list(plan.steps),
        "texts": texts,
    }
    arrays = {"header": files.text_array(header), "seeds": plan.seeds, **columns}
    if plan.done is not None:
        arrays["done"] = np.packbits(plan.done)
    files.write(folder / "plans" / f"{position:04d}-{plan.digest}.npz", files.npz_bytes(arrays))


def read(path: Path) -> StoredPlan:
    """Returns the plan of a file.

    Raises:
        StoreError: If it is damaged.
    """
    arrays = files.read_npz(path)
    try:
        header = files.array_text(arrays["header"])
        contents.check_plan(header, arrays)
        columns = {}
        for name in header["names"]:
            if name in header["texts"]:
                values = np.empty(len(header["texts"][name]), object)
                values[:] = header["texts"][name]
                columns[name] = values[arrays[f"code:{name}"]]
            else:
                columns[name] = arrays[f"value:{name}"]
        trials = Table(columns, header["base"], header["num_trials"])
        digest = path.stem.split("-")[1]
        seeds, shape = arrays["seeds"], (len(trials), len(arrays["seeds"]))
        packed = arrays.get("done")
        done = None if packed is None else np.unpackbits(packed, count=shape[0] * shape[1]).astype(bool).reshape(shape)
        steps = tuple(header["steps"])
        tile = Tile(*header["tile"])
        return StoredPlan(digest, header["asked"], tile, trials, seeds, steps, header["programs"], done)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, MemoryError, RecursionError) as problem:
        raise DamagedError(f"{path} is no plan of a run ({problem!r}): {files.REDO}") from problem

"""What the files of a run folder may say: each value's type and range, and that arrays fit one another.

A seal shows that a file is as it was written, and not by whom: what is read is checked as if a stranger had written it.
Knows no files.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def check_environment(found: Any) -> None:
    """Checks the environment of a record, a chunk or a checkpoint.

    Raises:
        ValueError: If it is no mapping, or what it says of versions or the device is none.
    """
    _require(isinstance(found, dict), "an environment is no mapping")
    for name in ("versions", "device"):
        _require(isinstance(found.get(name), (dict, type(None))), name)


def check_record(found: Mapping[str, Any]) -> None:
    """Checks what `run.json` says and others rely on.

    Raises:
        ValueError: If a value has another type than what is written there.
    """
    check_environment(found)
    _require(_counts(found.get("tile"), 2), "tile")
    _require(isinstance(found.get("experiment"), str), "experiment")
    _require(_texts(found.get("words") or []), "words")
    _require(isinstance(found.get("path") or "", str), "path")
    _require(isinstance(found.get("source") or "", str), "source")
    _require(isinstance(found.get("fields", {}), dict), "fields")
    modules = found.get("modules", {})
    _require(isinstance(modules, dict) and _texts(list(modules.values())), "modules")
    _require(found.get("samples") is None or _count(found["samples"]), "samples")


def check_plan(header: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Checks a plan's header and that its arrays fit it.

    Raises:
        ValueError: If a value has another type, an array another shape, or a code names no text.
        KeyError: If one is missing.
    """
    _require(isinstance(header, dict), "header")
    _require(isinstance(header["asked"], str), "asked")
    _require(_counts(header["tile"], 2), "tile")
    _require(_counts(header["steps"], 3), "steps")
    _require(isinstance(header["base"], dict), "base")
    _require(_texts(header["names"]) and len(set(header["names"])) == len(header["names"]), "names")
    _require(_count(header["num_trials"]), "num_trials")
    _require(isinstance(header["texts"], dict) and all(map(_texts, header["texts"].values())), "texts")
    _require(isinstance(header["programs"], dict) and all(map(_program, header["programs"].values())), "programs")
    _require(bool(header["names"]) or header["num_trials"] == 1, "num_trials")
    for name in header["names"]:
        texts = header["texts"].get(name)
        column = arrays[f"value:{name}" if texts is None else f"code:{name}"]
        _require(column.shape == (header["num_trials"],), f"column {name}")
        _require(column.dtype.kind in ("biuf" if texts is None else "iu"), f"column {name}")
        _require(texts is None or _within(column, len(texts)), f"column {name}")
    seeds = arrays["seeds"]
    _require(seeds.dtype == np.uint32 and seeds.ndim == 1 and seeds.size > 0, "seeds")
    _require(len(np.unique(seeds)) == len(seeds), "seeds")
    if (done := arrays.get("done")) is not None:
        _require(done.dtype == np.uint8 and done.shape == (-(-header["num_trials"] * len(seeds) // 8),), "done")


def check_result(arrays: Mapping[str, np.ndarray]) -> None:
    """Checks that the arrays of a chunk's results fit one another.

    Raises:
        ValueError: If one has another dtype or shape, or numbers that cannot be.
        KeyError: If one is missing.
    """
    runs = arrays["trial"].shape
    _require(len(runs) == 1 and runs[0] > 0, "trial")
    for name in ("trial", "seed", "status", "status_step"):
        _require(arrays[name].dtype.kind in "iu" and arrays[name].shape == runs, name)
    _require(_within(arrays["status"], 4), "status")
    for name in ("step", "eval_step"):
        steps = arrays[name]
        _require(steps.dtype.kind in "iu" and steps.ndim == 1 and _within(steps, 2**31), name)
        _require(bool((np.diff(steps.astype(np.int64)) > 0).all()), name)
    lengths = {"logged": arrays["step"].shape, "evaluated": arrays["eval_step"].shape}
    for name, values in arrays.items():
        kind, separator, _ = name.partition(":")
        if separator and kind in lengths:
            _require(_numbers(values) and values.shape == (*runs, *lengths[kind]), name)
        if separator and kind == "state":
            _require(_numbers(values) and values.shape[:1] == runs, name)


def check_runs(arrays: Mapping[str, np.ndarray], num_trials: int, seeds: np.ndarray) -> None:
    """Checks that the runs of a chunk are some of its plan's.

    Args:
        arrays: The chunk's.
        num_trials: The plan's.
        seeds: The plan's.

    Raises:
        ValueError: If a trial or a seed is none of them.
    """
    _require(_within(arrays["trial"], num_trials) and bool(np.isin(arrays["seed"], seeds).all()), "a trial or seed")


def check_origin(
    environment: Mapping[str, Any], programs: Mapping[str, Mapping[str, str]], record: Mapping[str, Any]
) -> None:
    """Checks that a chunk was trained by a program and on data of its plan, where it says by what it was.

    Trained with another version of JAX, or on another machine, the same code may be another program.

    Args:
        environment: The chunk's.
        programs: The plan's, by group.
        record: The folder's; empty where it is not known.

    Raises:
        ValueError: If it was not.
    """
    made = {(digests["program"], digests["data"]) for digests in programs.values()}
    program, data = environment.get("program"), environment.get("data")
    if not made or program is None or data is None:
        return
    _require(isinstance(program, str) and isinstance(data, str), "the program or the data that it was trained by")
    if (program, data) in made:
        return
    place = {name: value for name, value in environment.items() if name not in ("program", "data")}
    if (record and _says(record, place)) or data not in {data for _, data in made}:
        raise ValueError("it was trained by another program or on other data")


def _says(whole: Any, part: Any) -> bool:
    """Whether all that a mapping says is in another one."""
    if isinstance(part, Mapping) and isinstance(whole, Mapping):
        return all(name in whole and _says(whole[name], value) for name, value in part.items())
    return whole == part


def check_checkpoint(arrays: Mapping[str, np.ndarray], text: Callable[[np.ndarray], Any]) -> None:
    """Checks that the arrays of a checkpoint fit one another; whether they fit a program, its reader knows.

    Args:
        arrays: By name.
        text: What makes a JSON document of an array.

    Raises:
        ValueError: If one has another dtype or shape.
        KeyError: If one is missing.
    """
    check_environment(text(arrays["environment"]))
    where, bad = arrays["where"], arrays["first_bad"]
    _require(where.dtype.kind in "iu" and where.shape == (3,) and bool((where >= 0).all()), "where")
    _require(_within(where, 2**31) and where[1] > 0, "where")
    _require(bad.dtype == np.int32 and bad.ndim == 3 and len(bad) == where[1], "first_bad")
    for name, array in arrays.items():
        if name.startswith(("leaf:", "record:")):
            _require(_numbers(array) and array.shape[:1] == bad.shape[:1], name)
        if name.startswith("record:"):
            _require(array.ndim == 4 and array.shape[2:] == bad.shape[1:], name)


def _require(so: bool, what: str) -> None:
    if not so:
        raise ValueError(f"{what} is not what is written there")


def _count(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**63


def _counts(value: Any, number: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == number and all(map(_count, value))


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def _program(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("program", "data"))


def _within(array: np.ndarray, limit: int) -> bool:
    return bool(((array >= 0) & (array < limit)).all())


def _numbers(array: np.ndarray) -> bool:
    """Whether an array holds numbers, also those that NumPy itself lacks, like bfloat16."""
    return array.dtype.kind in "biufc" or array.dtype.isbuiltin == 2

"""Run folders: `run.json`, the plans that were asked for, immutable chunks of results, and checkpoints.

A chunk is a batch; its final name is its commit. What is read is checked first; what is damaged is put into
`quarantine/` by those who will do it anew. Knows nothing of training.
"""

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxexp import contents, files, stored_plans
from jaxexp.errors import DamagedError, StoreError
from jaxexp.results import Result
from jaxexp.stored_plans import StoredPlan

SCHEMA = 1
_FOLDERS = ("plans", "chunks", "checkpoints", "claims")
NAMES = {*_FOLDERS, "run.json", "lock", "quarantine"}
"""What a run folder holds beside what is derived from it."""

_RESULT_ARRAYS = ("trial", "seed", "status", "status_step", "step", "eval_step")


def exists(folder: Path) -> bool:
    """Returns whether a folder holds a run."""
    return (folder / "run.json").is_file()


def identity(folder: Path) -> tuple[int, bytes] | None:
    """Returns what tells a folder's record from one that replaces it; None where there is none."""
    with contextlib.suppress(OSError), (folder / "run.json").open("rb") as file:
        return os.fstat(file.fileno()).st_ino, file.read()
    return None


def make_folders(folder: Path) -> None:
    """Makes the folders in a run folder.

    Raises:
        StoreError: If they cannot be made or written.
    """
    check_no_links(folder)
    for name in _FOLDERS:
        files.make_folder(folder / name)


def check_no_links(folder: Path) -> None:
    """Checks that what lies in a run folder lies there.

    Raises:
        StoreError: If a folder in it is a link.
    """
    for name in _FOLDERS:
        if (folder / name).is_symlink():
            raise StoreError(f"{folder / name} is a link, which may lead out of the run: put a folder in its place")


def create(folder: Path, record: Mapping[str, Any]) -> None:
    """Writes the record of a run folder, which is one from now on.

    Raises:
        StoreError: If it cannot be written.
    """
    make_folders(folder)
    plain = json.loads(json.dumps({"schema": SCHEMA, **record}, sort_keys=True))
    files.write(folder / "run.json", files.sealed_json(plain))


def record(folder: Path) -> dict[str, Any]:
    """Returns the record of a run folder.

    Raises:
        StoreError: If there is no run, or its record is damaged or of a newer schema.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise StoreError(f"{folder} holds no run (it has no run.json): give the folder that `jaxexp run` printed")
    found = files.read_sealed_json(path)
    schema = found.get("schema")
    if type(schema) is not int or schema not in _READERS:
        raise StoreError(f"{path} has schema {schema}, this jaxexp reads up to {SCHEMA}: update jaxexp")
    found = _READERS[schema](found)
    try:
        contents.check_record(found)
    except ValueError as problem:
        raise DamagedError(f"{path} is damaged ({problem!r}): {files.REDO}") from problem
    return found


_READERS: dict[Any, Callable[[dict[str, Any]], dict[str, Any]]] = {1: lambda found: found}
"""For each schema that was ever written, what makes a record of today's of one of that schema."""


def quarantine(path: Path) -> Path:
    """Puts a damaged file aside, into the run folder's `quarantine/`, and returns where it is now."""
    folder = path.parents[0 if path.name in ("run.json", "claims.npz") else 1] / "quarantine"
    files.make_folder(folder, own=True)
    number = 0
    while os.path.lexists(aside := folder / f"{number:03d}-{path.name[:100]}"):
        number += 1
    with contextlib.suppress(FileNotFoundError):  # a checkpoint may be gone: its batch was committed meanwhile
        path.rename(aside)
    return aside


def plans(folder: Path) -> list[StoredPlan]:
    """Returns the plans of a folder, in the order in which they were asked for.

    Raises:
        StoreError: If a plan's file is damaged, or a folder of the run is a link.
    """
    check_no_links(folder)
    return [stored_plans.read(path) for path in sorted((folder / "plans").glob("[0-9]*.npz"))]


def chunk_path(folder: Path, digest: str, batch: str) -> Path:
    """Returns where the results of a batch of a plan lie, or would."""
    return folder / "chunks" / f"{batch}-{digest}.npz"


def write_chunk(folder: Path, digest: str, batch: str, result: Result, environment: Mapping[str, Any]) -> None:
    """Commits the results of a batch, with what they may depend on beside the code."""
    arrays = {**result_arrays(result), "environment": files.text_array(environment), "name": _name(digest, batch)}
    files.write(chunk_path(folder, digest, batch), files.npz_bytes(arrays))


def _name(digest: str, batch: str) -> np.ndarray:
    """Which chunk a file is, so that one under another's name is noticed."""
    return files.text_array(f"{batch}-{digest}")


def committed(folder: Path, digest: str) -> set[str]:
    """Returns the names of the batches of a plan whose results are there."""
    return {path.name.split("-")[0] for path in (folder / "chunks").glob(f"[0-9]*-{digest}.npz")}


def results(folder: Path, digest: str) -> Iterator[Result]:
    """Yields the committed results of a plan, in the order of its batches.

    Raises:
        StoreError: If a chunk is damaged.
    """
    for batch in sorted(committed(folder, digest)):
        yield read_chunk(folder, digest, batch)


def read_chunk(folder: Path, digest: str, batch: str) -> Result:
    """Returns the committed results of one batch.

    Raises:
        StoreError: If the chunk is damaged, or another's.
    """
    return read_chunk_and_environment(folder, digest, batch)[0]


def read_chunk_and_environment(folder: Path, digest: str, batch: str) -> tuple[Result, dict[str, Any]]:
    """Returns the committed results of one batch and the environment in which it was trained.

    Raises:
        StoreError: If the chunk is damaged, or another's.
    """
    path = chunk_path(folder, digest, batch)
    arrays = files.read_npz(path)
    if not np.array_equal(arrays.get("name", ()), _name(digest, batch)):
        raise DamagedError(f"{path} is the chunk of another batch: {files.REDO}")
    result = result_of(arrays)
    try:
        environment = files.array_text(arrays["environment"])
        contents.check_environment(environment)
        contents.check_result(arrays)
        for plan in (folder / "plans").glob(f"[0-9]*-{digest}.npz"):
            if (extent := _extent(plan, plan.lstat().st_mtime_ns)) is not None:
                num_trials, seeds, programs = extent
                contents.check_runs(arrays, num_trials, seeds)
                contents.check_origin(environment, programs, _record_of(folder / "run.json"))
    except (KeyError, ValueError, RecursionError) as problem:
        raise DamagedError(f"{path} is no chunk of a run ({problem}): {files.REDO}") from problem
    return result, environment


@functools.lru_cache(maxsize=8)
def _extent(path: Path, _written: int) -> tuple[int, np.ndarray, dict[str, dict[str, str]]] | None:
    """The number of trials, the seeds and the programs of a plan, which its chunks fit; None where it is damaged."""
    with contextlib.suppress(StoreError):
        stored = stored_plans.read(path)
        return len(stored.trials), stored.seeds, stored.programs
    return None


def _record_of(path: Path) -> dict[str, Any]:
    """The record that chunks are checked against; empty where it is gone or damaged."""
    with contextlib.suppress(OSError):
        return _read_record(path, path.lstat().st_mtime_ns)
    return {}


@functools.lru_cache(maxsize=8)
def _read_record(path: Path, _written: int) -> dict[str, Any]:
    with contextlib.suppress(StoreError):
        return record(path.parent)
    return {}


def environments(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields for each chunk its name and the environment in which it was trained."""
    for path in sorted((folder / "chunks").glob("[0-9]*.npz")):
        yield path.stem, read_chunk_and_environment(folder, path.stem[-12:], path.stem[:-13])[1]


def damaged(folder: Path) -> Iterator[tuple[Path, DamagedError]]:
    """Yields the files of a run folder that are not what was written, and what is wrong; derived files are not read.

    Raises:
        StoreError: If a folder of the run is a link.
    """
    check_no_links(folder)
    if exists(folder):
        yield from _trial(folder / "run.json", lambda: record(folder))
    for path in sorted((folder / "plans").glob("*")):
        yield from _trial(path, lambda path=path: stored_plans.read(path))
    for path in sorted((folder / "chunks").glob("*")):
        yield from _trial(path, lambda path=path: read_chunk(folder, path.stem[-12:], path.stem[:-13]))
    if (folder / "claims.npz").exists():
        yield from _trial(folder / "claims.npz", lambda: files.read_npz(folder / "claims.npz"))
    for path in sorted((folder / "checkpoints").glob("*")):
        yield from _trial(path, lambda path=path: _check_checkpoint(path))


def _trial(path: Path, read: Callable[[], Any]) -> Iterator[tuple[Path, DamagedError]]:
    if files.is_temporary(path):
        return
    try:
        read()
    except DamagedError as problem:
        if os.path.lexists(path):  # else another process has removed it since: a checkpoint
            yield path, problem


def result_arrays(result: Result) -> dict[str, np.ndarray]:
    """Returns a result as named arrays."""
    arrays = {name: getattr(result, name) for name in _RESULT_ARRAYS}
    arrays |= {f"logged:{name}": values for name, values in result.logged.items()}
    arrays |= {f"evaluated:{name}": values for name, values in result.evaluated.items()}
    return arrays | {f"state:{index:04d}": leaf for index, leaf in enumerate(result.state)}


def result_of(arrays: Mapping[str, np.ndarray]) -> Result:
    """Returns the result that `result_arrays` made arrays of.

    Raises:
        StoreError: If an array is missing.
    """

    def named(kind: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(kind): values for name, values in arrays.items() if name.startswith(kind)}

    try:
        plain = {name: arrays[name] for name in _RESULT_ARRAYS}
    except KeyError as problem:
        raise DamagedError(f"a chunk lacks {problem}: it was not written by jaxexp; {files.REDO}") from problem
    return Result(
        **plain, logged=named("logged:"), evaluated=named("evaluated:"), state=tuple(named("state:").values())
    )


def write_checkpoint(
    folder: Path, digest: str, batch: str, step: int, arrays: Mapping[str, np.ndarray], maker: str
) -> None:
    """Writes a checkpoint of a batch in flight and removes all but the maker's last two.

    Args:
        folder: The run folder.
        digest: The plan's.
        batch: The batch's name.
        step: By which checkpoints are ordered.
        arrays: What is kept.
        maker: A word for the program and the environment that made it, in its name: who cannot go on from another's
            checkpoints leaves them alone, and does not take them for later ones of its own.
    """
    path = folder / "checkpoints" / f"{batch}-{digest}-{step:020d}-{maker}.npz"
    files.write(path, files.npz_bytes({**arrays, "name": _name(digest, batch)}))
    own = [one for one in _checkpoints(folder, digest, batch) if one.stem.endswith(f"-{maker}") and one != path]
    for old in own[:-1]:
        old.unlink(missing_ok=True)


def read_checkpoints(folder: Path, digest: str, batch: str) -> Iterator[dict[str, np.ndarray]]:
    """Yields the whole checkpoints of a batch, whoever made them, the newest first."""
    for path in reversed(_checkpoints(folder, digest, batch)):
        with contextlib.suppress(StoreError):
            arrays = files.read_npz(path)
            if np.array_equal(arrays.pop("name", ()), _name(digest, batch)):
                yield arrays
                continue
        path.unlink(missing_ok=True)  # a damaged or another's is worth nothing, and an older one may be whole


def _check_checkpoint(path: Path) -> None:
    arrays = files.read_npz(path)
    try:
        contents.check_checkpoint(arrays, files.array_text)
        if "name" in arrays and files.array_text(arrays["name"]) != batch_of(path):
            raise ValueError("it is another batch's")
    except (KeyError, ValueError, RecursionError) as problem:
        raise DamagedError(f"{path} is no checkpoint ({problem}): {files.REDO}") from problem


def batch_of(checkpoint: Path) -> str:
    """Returns the batch and plan of a checkpoint by its name, as chunks are named."""
    return "-".join(checkpoint.stem.split("-")[:2])


def remove_checkpoints(folder: Path, digest: str, batch: str) -> None:
    """Removes the checkpoints of a batch, once its results are committed."""
    for path in _checkpoints(folder, digest, batch):
        path.unlink(missing_ok=True)


def checkpointed(folder: Path) -> set[str]:
    """Returns the names of the batches that have a checkpoint."""
    return {path.name.split("-")[0] for path in (folder / "checkpoints").glob("*.npz")}


def _checkpoints(folder: Path, digest: str, batch: str) -> list[Path]:
    own = f"{batch}-{digest}-"
    with contextlib.suppress(FileNotFoundError):  # and no glob: it would compile a pattern for each batch
        there = (folder / "checkpoints").iterdir()
        return sorted(path for path in there if path.name.startswith(own) and path.suffix == ".npz")
    return []

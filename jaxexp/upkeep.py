"""What a run folder's keeper asks: how far it is, whether its files are whole, and what may be removed."""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxexp import claims, devices, earlier, files, stages, store
from jaxexp.errors import StoreError
from jaxexp.results import NOT_FINITE, NOT_RUN, OK, STOPPED_EARLY, positions
from jaxexp.trials import aligned

_HOUR = 3600.0
"""Temporary files that are younger, in seconds, may be in use; and what counts for the rate."""

_FOLDERS = ("", "plans", "chunks", "checkpoints", "claims", "figures", "reproductions", "quarantine")


def state(folder: Path) -> dict[str, Any]:
    """Returns how far a run is, as plain values.

    Args:
        folder: The run folder, which may be in use.

    Returns:
        `runs` that were asked for in all, each for the steps of the plan that came last; `ok`, `not_finite`,
        `stopped_early` and `not_run` of them; `running`, the batches that processes have claimed; `first_not_finite`,
        up to five diverged runs with the step where it showed; `checkpoints`; `bytes`; and `eta_seconds`, by the
        chunks of the last hour, while something is running (else None).

    Raises:
        StoreError: If there is no run, or a file that is needed is damaged.
    """
    known, trials, seeds = earlier.asked(folder)
    asked = np.full((len(trials), len(seeds)), -1)  # by which plan's steps: of several, the last one's
    status, steps = np.full(asked.shape, NOT_RUN), np.full(asked.shape, -1)
    lengths = list(dict.fromkeys(stored.steps for stored in known))
    for stored in known:
        rows = aligned(stored.trials, trials)
        asked[np.ix_(rows, positions(seeds, stored.seeds))] = lengths.index(stored.steps)
    for stored in known:
        for result in earlier.results(folder, [stored], trials, seeds):
            where = result.trial, positions(seeds, result.seed)
            counts = asked[where] == lengths.index(stored.steps)
            status[where] = np.where(counts, result.status, status[where])
            steps[where] = np.where(counts, result.status_step, steps[where])
    counts = {code: int(((status == code) & (asked >= 0)).sum()) for code in (OK, NOT_FINITE, STOPPED_EARLY, NOT_RUN)}
    diverged = np.argwhere(status == NOT_FINITE)[:5]
    running = [name for name, dead in claims.held(folder) if not dead]
    num_runs = sum(counts.values())
    eta = _seconds_left(folder, counts[NOT_RUN], num_runs - counts[NOT_RUN]) if running else None
    return {
        "folder": folder,
        "runs": num_runs,
        "ok": counts[OK],
        "not_finite": counts[NOT_FINITE],
        "stopped_early": counts[STOPPED_EARLY],
        "not_run": counts[NOT_RUN],
        "running": running,
        "first_not_finite": [
            {"trial": int(trial), "seed": int(seeds[seed]), "step": int(steps[trial, seed])} for trial, seed in diverged
        ],
        "checkpoints": len(list((folder / "checkpoints").glob("[0-9]*.npz"))),
        "bytes": sum(found.st_size for _, found in _looked_at(_all(folder)) if stat.S_ISREG(found.st_mode)),
        "eta_seconds": eta,
    }


def _seconds_left(folder: Path, num_left: int, num_done: int) -> float | None:
    """By the rate of the last hour; file times are compared with each other only."""
    times = sorted(found.st_mtime for _, found in _looked_at((folder / "chunks").glob("[0-9]*.npz")))
    recent = [when for when in times if when > times[-1] - _HOUR]
    if len(recent) < 2 or recent[-1] == recent[0]:
        return None
    rate = (len(recent) - 1) / (recent[-1] - recent[0]) * num_done / len(times)
    return num_left / rate


def _all(folder: Path) -> Iterator[Path]:
    """Yields all files in a folder and below, and stops at no folder that goes away."""
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


def _looked_at(paths: Iterable[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    """Yields what the system says of each path that is still there: others may remove files meanwhile."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            yield path, path.lstat()


def machine() -> dict[str, Any]:
    """Returns what this machine is, as `run.json` records it, and what else may matter: cache, memory, disk."""
    devices.use_compile_cache()
    cache = jax.config.values["jax_compilation_cache_dir"]
    return {
        **devices.environment(),
        "cores": devices.num_cores(),
        "memory_left_bytes": devices.available_bytes(),
        "compile_cache": cache,
        "compile_cache_writable": _writable(Path(cache)) if cache else False,
        "disk_left_bytes": shutil.disk_usage(Path.cwd()).free,
    }


def _writable(folder: Path) -> bool:
    try:
        files.make_folder(folder)
    except StoreError:
        return False
    return True


def checked(folder: Path) -> dict[str, Any]:
    """Returns which files of a run folder are what was written, as plain values.

    Args:
        folder: The run folder.

    Returns:
        `whole`, for each kind of file how many are; and `damaged`, for each other one its path and what is wrong.

    Raises:
        StoreError: If a folder of the run is a link.
    """
    damaged: dict[Path, StoreError] = dict(store.damaged(folder))
    try:
        stages.known(folder)
    except StoreError as problem:
        damaged[folder / stages.NAME] = problem
    kinds = {"records": "run.json", "plans": "plans/*.npz", "chunks": "chunks/*.npz", "checkpoints": "checkpoints/*"}
    whole = {kind: sum(path not in damaged for path in folder.glob(form)) for kind, form in kinds.items()}
    return {
        "whole": whole,
        "damaged": [{"file": str(path), "problem": str(problem)} for path, problem in damaged.items()],
    }


def stale(folder: Path, everything: bool = False) -> Iterator[Path]:
    """Yields what a process that ended early has left in a run folder, and nobody needs.

    That is: temporary files over an hour old; claims of processes of this machine that are gone; checkpoints of
    batches that are committed.

    Args:
        folder: The run folder.
        everything: Also temporary files and claims whose owner may be alive on another machine.

    Raises:
        StoreError: If there is no run, or one of a newer schema, or a folder of it is a link.
    """
    store.record(folder)
    store.check_no_links(folder)
    now = claims.clock(folder)
    for name in (name for name in _FOLDERS if not (folder / name).is_symlink()):
        for path, found in _looked_at(filter(files.is_temporary, (folder / name).glob(f"{files.TEMPORARY}*"))):
            if everything or now - found.st_mtime > _HOUR:
                yield path
    for name, dead in claims.held(folder):
        if dead or everything:
            yield folder / "claims" / f"{name}.json"
    done = {path.stem for path in (folder / "chunks").glob("[0-9]*.npz")}
    for path in (folder / "checkpoints").glob("[0-9]*.npz"):
        if store.batch_of(path) in done:
            yield path


def remove(paths: Iterable[Path]) -> None:
    """Removes files.

    Raises:
        StoreError: If one cannot be removed.
    """
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as problem:
            raise StoreError(f"{path} cannot be removed: {problem.strerror}") from problem

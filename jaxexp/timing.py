"""Which tile trains fastest here: for long work, a short timing of the planned tile beside half, twice and one lane.

What it finds is kept beside JAX's compile cache, by program and machine, so that the next run of the same program takes
the same tile at once. Knows no run folders: a folder that exists has its tile.
"""

import concurrent.futures
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxexp import devices, engine, files, plans
from jaxexp.errors import OutOfMemoryError, StoreError
from jaxexp.plans import Plan, Tile
from jaxexp.program import Clock, Lowered

_WORTH_SECONDS = 20.0
"""Work of one core that is worth three more compilations, and by the plan's own estimate the timing of its tile."""

_GAIN = 0.97
"""Another tile is taken where it needs less than this share of the planned one's time."""

_CALL_SECONDS, _REPEATS = 0.05, 5


def fastest(plan: Plan) -> Plan:
    """Returns the plan in the tile that trains it fastest, or as it is where it is too short to find out.

    Args:
        plan: A plan in the tile that was chosen from its working set.
    """
    summary = plans.summary(plan)
    if jax.default_backend() != "cpu" or summary["seconds"] < _WORTH_SECONDS or plan.tile == Tile(1, 1):
        return plan
    heaviest = int(np.argmax([group["seconds"] for group in summary["groups"]]))
    devices.use_compile_cache()
    lowered = engine.lower(plan, heaviest)
    known = _path(lowered.fingerprint, _others(plan, heaviest))
    tile = _read(known)
    if tile is None:
        try:
            seconds = _seconds(plan, lowered, heaviest)
        except OutOfMemoryError:  # the run, which may meet it too, knows what to do
            return plan
        best = min(seconds, key=lambda tile: seconds[tile])
        tile = best if seconds[best] < _GAIN * seconds[plan.tile] else plan.tile
        if len(seconds) > 1:
            _write(known, tile, seconds)
    return plans.in_folder(plan, tile, None)


def _seconds(plan: Plan, lowered: Lowered, group: int) -> dict[Tile, float]:
    """The time that one step of all runs of a group takes in the plan's tile and, if it is worth it, in others."""
    calls = [_call(plan, lowered, lowered.compile(), group)]
    if plan.study.num_steps * calls[0]() < _WORTH_SECONDS:
        return {plan.tile: 0.0}
    others = [plans.in_folder(plan, tile, None) for tile in _others(plan, group)]
    programs = [engine.lower(other, group) for other in others]
    with concurrent.futures.ThreadPoolExecutor(devices.num_cores()) as pool:
        compiled = list(pool.map(lambda program: program.compile(), programs))
    calls += [_call(*given, group) for given in zip(others, programs, compiled, strict=True)]
    # In turns, so that a busy moment meets all of them; the fastest counts.
    rounds = [[call() for call in calls] for _ in range(_REPEATS)]
    return {made.tile: min(times) for made, times in zip((plan, *others), zip(*rounds, strict=True), strict=True)}


def _others(plan: Plan, group: int) -> list[Tile]:
    """Half of the tile along its longer side, twice along its shorter where there are as many runs, and one lane."""
    trials, seeds = plan.tile
    half = Tile(trials, -(-seeds // 2)) if seeds >= trials else Tile(-(-trials // 2), seeds)
    twice = Tile(2 * trials, seeds) if seeds >= trials else Tile(trials, 2 * seeds)
    fits = twice.trials <= len(plan.groups[group].trials) and twice.seeds <= len(plan.seeds)
    fits &= twice.trials * twice.seeds <= plans.MAX_LANES["cpu"]
    return list(dict.fromkeys([half, *[twice] * fits, Tile(1, 1)]))


def _call(plan: Plan, lowered: Lowered, compiled: Any, group: int) -> Callable[[], float]:
    """A function that trains a tile for some steps and returns the seconds that one step of all tiles would take."""
    made = engine.ready(plan.groups[group], lowered, compiled, jax.device_put(plan.groups[group].data))
    own = [batch for batch in plans.batches(plan) if batch.group == group]
    num_tiles = sum(len(batch.tiles) for batch in own)
    tiles = engine.tile_arrays(plan, made, own[0].tiles[:1])
    progress, start, num_steps = made.blank, 0, 1

    def timed() -> float:
        clock = Clock(*map(np.int32, (1, start, start + num_steps, *plan.steps)))
        began = time.perf_counter()
        jax.block_until_ready(made.call(progress, tiles, made.data, clock))
        return time.perf_counter() - began

    timed()  # the first call of a program pays for more than its steps
    if plan.study.num_steps > 1:
        clock = Clock(*map(np.int32, (1, 0, 1, *plan.steps)))
        progress, start = made.call(progress, tiles, made.data, clock)[0], 1
        fitting = int(_CALL_SECONDS / max(min(timed(), timed()), 1e-6))
        num_steps = max(1, min(fitting, plan.study.num_steps - 1, engine.most_steps(plan, made)))
    return lambda: num_tiles * timed() / num_steps


def _path(fingerprint: str, others: list[Tile]) -> Path | None:
    """Where the best of a program's tile and others on this machine is kept; nowhere without a compile cache."""
    folder = jax.config.values["jax_compilation_cache_dir"]
    if not folder or not jax.config.values["jax_enable_compilation_cache"]:
        return None
    known = json.dumps([fingerprint, others, devices.environment()], sort_keys=True)
    return Path(folder) / "tiles" / f"{hashlib.sha256(known.encode()).hexdigest()[:32]}.json"


def _read(path: Path | None) -> Tile | None:
    if path is None:
        return None
    try:
        trials, seeds = json.loads(path.read_text())["tile"]
        return plans.check_tile(Tile(int(trials), int(seeds)))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or damaged: it is timed again


def _write(path: Path | None, tile: Tile, seconds: dict[Tile, float]) -> None:
    if path is None:
        return
    text = {"tile": list(tile), "seconds_a_step": {f"{t.trials}x{t.seeds}": found for t, found in seconds.items()}}
    try:
        files.make_folder(path.parent)
        files.write(path, json.dumps(text, indent=1).encode())
    except StoreError:
        return  # a cache that cannot be written costs the next run a timing

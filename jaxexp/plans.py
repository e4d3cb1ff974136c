"""The plan of a study: groups that share a program, the tile, and the batches of runs, in a fixed order.

A plan is arithmetic on tables and abstract shapes; nothing is compiled, trained or written here.
"""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxexp import configs, devices, trees
from jaxexp import study as studies
from jaxexp import sweep as sweeps
from jaxexp.errors import StudyError, TooManyRunsError
from jaxexp.signature import SEED, Signature, load_data, signature
from jaxexp.sizes import MANY_RUNS
from jaxexp.study import Study, Table

_CACHE_BYTES = 7 * 2**20
"""The working set of a tile on a CPU, in bytes: beyond a core's caches, wider is not faster there."""

_MEMORY_SHARE = 8
"""Of an accelerator's memory a tile's working set, by a rough guess, takes one part in so many."""

_MAX_BATCHES = 256
"""Of a plan, at most. Folders know batches by name: other rules by which they are made need other digests of plans."""

_MOST_LANES = 2**24
"""More than this no tile has: a mistyped number is refused before anything is made of it."""

MAX_LANES = {"cpu": 64}
"""The widest tile that is chosen on a platform; 4096 lanes on any other."""

_TILE_OVERHEAD_LANES, _SEED_LANES = 4, 4
"""What a tile costs beside its lanes, and each seed in it that has minibatches of its own: in lanes."""


_KEPT_BYTES = 64 * 2**20
"""Final states of all runs that a folder keeps, so that more steps go on from them; larger ones it does not."""


class Tile(NamedTuple):
    """The fixed (trials x seeds) shape that one program call trains."""

    trials: int
    seeds: int


@dataclasses.dataclass(frozen=True)
class Group:
    """Trials with equal static fields: they share one program.

    Attributes:
        static: The static fields that the sweep varies, with this group's values.
        config: The config of the group's first trial.
        trials: Rows of the trial table, int64 [n], in order.
        data: The group's data as host arrays.
        data_digest: Their SHA-256.
        signature: Shapes, metrics and owners of the experiment's functions.
    """

    static: Mapping[str, Any]
    config: Any
    trials: np.ndarray
    data: Any
    data_digest: str
    signature: Signature

    @functools.cached_property
    def name(self) -> str:
        """What a folder's records call the group: all its static fields, in alphabetical order."""
        fields = sorted(field.name for field in configs.fields(self.config).values() if not field.dynamic)
        return ", ".join(f"{name}={configs.text_of(getattr(self.config, name))}" for name in fields) or "all"


class Batch(NamedTuple):
    """The runs that are computed and committed together: one tile or several of one group.

    Attributes:
        name: Unique among the plan's batches: the number of its first run, nine digits.
        group: Index of the group.
        tiles: For each tile its trials (rows of the table) and its seeds; never more than the tile holds.
    """

    name: str
    group: int
    tiles: tuple[tuple[np.ndarray, np.ndarray], ...]

    @property
    def num_runs(self) -> int:
        """How many runs the batch holds."""
        return sum(len(trials) * len(seeds) for trials, seeds in self.tiles)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A checked study, its trials and seeds, its groups and the tile they are trained in.

    Attributes:
        done: Bool [num_trials, num_seeds]: runs that other plans of the same folder had done; or None.
        asked: Twelve hexadecimal digits that stand for trials, seeds, steps and tile.
    """

    study: Study
    trials: Table
    seeds: np.ndarray
    groups: tuple[Group, ...]
    tile: Tile
    done: np.ndarray | None
    asked: str

    @functools.cached_property
    def digest(self) -> str:
        """What the names of the plan's chunks carry."""
        if self.done is None:
            return self.asked
        return hashlib.sha256(self.asked.encode() + np.packbits(self.done).tobytes()).hexdigest()[:12]

    @functools.cached_property
    def keeps_states(self) -> bool:
        """Whether a folder keeps the final states of the plan's runs: where all of them have up to 64 MiB."""
        sizes = (len(group.trials) * trees.num_bytes(group.signature.state) for group in self.groups)
        return len(self.seeds) * sum(sizes) <= _KEPT_BYTES

    @property
    def num_runs(self) -> int:
        """Runs that the study asks for."""
        return len(self.trials) * len(self.seeds)

    @property
    def steps(self) -> tuple[int, int, int]:
        """The study's `num_steps`, `evaluate_every` and `log_every`."""
        return self.study.num_steps, studies.evaluate_every(self.study), studies.log_every(self.study)


def check_size(study: Study, yes: bool) -> None:
    """Checks that a study is not larger than its author is likely to know.

    Raises:
        TooManyRunsError: If it has over 100,000 runs and `yes` was not said.
    """
    num_trials, num_seeds = sweeps.size(study.sweep), len(studies.seeds(study))
    if num_trials <= MANY_RUNS < num_trials * num_seeds:  # rows that repeat earlier ones are no trials
        num_trials = len(studies.table(studies.check(study)))
    if num_trials * num_seeds > MANY_RUNS and not yes:
        raise TooManyRunsError(
            f"{num_trials:,} trials x {num_seeds:,} seeds = {num_trials * num_seeds:,} runs, more than {MANY_RUNS:,}: "
            "say --yes if you mean it (in Python yes=True), or sweep less"
        )


def plan(study: Study, *, tile: Tile | None = None, yes: bool = False) -> Plan:
    """Returns the plan of a study: what would be trained, in which programs and tiles.

    Args:
        study: The study.
        tile: The shape to train in; chosen from the working set where None.
        yes: Whether more than 100,000 runs are meant.

    Raises:
        ConfigError: If a value does not fit its field.
        StudyError: If an experiment's function cannot be traced, or JAX finds no device.
        TooManyRunsError: If the study is very large and `yes` is not set.
    """
    devices.check()
    devices.check_settings()
    check_size(study, yes)
    study = studies.check(study)
    trials, seeds = studies.table(study), studies.seeds(study)
    groups = _groups(study, trials)
    if tile is None:
        tile = _choose_tile(groups, len(seeds))
    return Plan(study, trials, seeds, groups, check_tile(tile), None, _digest(study, trials, seeds, tile))


def in_folder(fresh: Plan, tile: Tile, done: np.ndarray | None) -> Plan:
    """Returns the same plan in the tile of an existing folder, less the runs that are done there."""
    asked = _digest(fresh.study, fresh.trials, fresh.seeds, tile)
    return dataclasses.replace(fresh, tile=tile, done=done, asked=asked)


def _groups(study: Study, trials: Table) -> tuple[Group, ...]:
    known = configs.fields(study.config)
    names = [name for name in trials.columns if not known[name].dynamic]
    rows = zip(*(trials.columns[name].tolist() for name in names), strict=True) if names else [()] * len(trials)
    members: dict[tuple, list[int]] = {}
    for index, row in enumerate(rows):
        members.setdefault(row, []).append(index)
    loaded: dict[str, Any] = {}
    return tuple(
        _group(study, trials, dict(zip(names, row, strict=True)), np.asarray(indices), loaded)
        for row, indices in members.items()
    )


def _group(study: Study, trials: Table, static: dict, indices: np.ndarray, loaded: dict[str, Any]) -> Group:
    config = studies.trial_config(study, trials, int(indices[0]))
    data = load_data(study, config)
    digest = trees.digest(data)
    data = loaded.setdefault(digest, data)  # groups with equal data share one copy
    return Group(static, config, indices, data, digest, signature(study, config, data))


def _choose_tile(groups: Sequence[Group], num_seeds: int) -> Tile:
    """The shape that wastes least: wide enough to share work, narrow enough for a core's cache, or a GPU's memory."""
    most_trials = max(len(group.trials) for group in groups)
    widest = max(group.signature.lane_bytes for group in groups)
    on_cpu = jax.default_backend() == "cpu"
    room = _CACHE_BYTES if on_cpu else devices.available_bytes() // _MEMORY_SHARE
    limit = MAX_LANES.get(jax.default_backend(), 4096)
    lanes = max(1, min(limit, 2 ** int(math.log2(max(1, room // max(1, widest))))))
    if on_cpu and any(group.signature.has_convolution for group in groups):
        lanes = 1  # XLA computes grouped convolutions more slowly than one after the other

    by_seed = _SEED_LANES * any(SEED in group.signature.owners for group in groups)

    def cost(tile: Tile) -> tuple[float, int, int]:
        num_tiles = math.ceil(num_seeds / tile.seeds) * sum(math.ceil(len(g.trials) / tile.trials) for g in groups)
        lanes = tile.trials * tile.seeds + by_seed * tile.seeds + _TILE_OVERHEAD_LANES
        return num_tiles * lanes, abs(tile.trials - tile.seeds), tile.trials

    candidates = (
        Tile(trials, seeds)
        for trials in range(1, min(most_trials, lanes) + 1)
        for seeds in range(1, min(num_seeds, lanes // trials) + 1)
    )
    return min(candidates, key=cost)


def batches(plan: Plan) -> Iterator[Batch]:
    """Yields the batches of a plan, always the same ones in the same order."""
    rectangles = [(index, *part) for index, group in enumerate(plan.groups) for part in _rectangles(plan, group)]
    rows, columns = plan.tile
    num_tiles = sum(-(-len(trials) // rows) * -(-len(seeds) // columns) for _, trials, seeds in rectangles)
    tiles_per_batch = max(1, math.ceil(num_tiles / _MAX_BATCHES))
    position = {int(seed): column for column, seed in enumerate(plan.seeds)}
    for group, trials, seeds in rectangles:
        tiles = [
            (trials[row : row + rows], seeds[column : column + columns])
            for row in range(0, len(trials), rows)
            for column in range(0, len(seeds), columns)
        ]
        for first in range(0, len(tiles), tiles_per_batch):
            chosen = tuple(tiles[first : first + tiles_per_batch])
            first_run = int(chosen[0][0][0]) * len(plan.seeds) + position[int(chosen[0][1][0])]
            yield Batch(f"{first_run:09d}", group, chosen)


def _rectangles(plan: Plan, group: Group) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The group's runs that are not done, as full (trials x seeds) rectangles."""
    if plan.done is None:
        yield group.trials, plan.seeds
        return
    pending = ~plan.done[group.trials]
    patterns: dict[bytes, list[int]] = {}
    for row, trial in zip(pending, group.trials, strict=True):
        patterns.setdefault(row.tobytes(), []).append(int(trial))
    for pattern, trials in patterns.items():
        wanted = plan.seeds[np.frombuffer(pattern, bool)]
        if len(wanted):
            yield np.asarray(trials), wanted


def _digest(study: Study, trials: Table, seeds: np.ndarray, tile: Tile) -> str:
    total = hashlib.sha256()
    steps = (study.num_steps, studies.evaluate_every(study), studies.log_every(study))
    total.update(repr((tuple(tile), *steps, len(trials))).encode())
    total.update(json.dumps({name: configs.text_of(value) for name, value in sorted(trials.base.items())}).encode())
    for name, column in trials.columns.items():
        total.update(name.encode())
        texts = column.dtype == object
        total.update(json.dumps([configs.text_of(v) for v in column]).encode() if texts else column.tobytes())
    total.update(seeds.tobytes())
    return total.hexdigest()[:12]


def summary(plan: Plan) -> dict[str, Any]:
    """Returns what a reader wants to know of a plan before it runs, as plain values.

    Bytes are of one tile's state and working set, from abstract shapes; seconds assume 20 GFLOP/s and 3
    microseconds a step, which is right within a factor of about 6 on one core of a current CPU.
    """
    made = list(batches(plan))
    lanes = plan.tile.trials * plan.tile.seeds
    groups = []
    for index, group in enumerate(plan.groups):
        tiles = sum(len(batch.tiles) for batch in made if batch.group == index)
        step_seconds = 3e-6 + lanes * group.signature.step_flops / 2e10
        groups.append(
            {
                "static": dict(group.static),
                "trials": len(group.trials),
                "runs": sum(batch.num_runs for batch in made if batch.group == index),
                "tiles": tiles,
                "tile_bytes": lanes * group.signature.lane_bytes + trees.num_bytes(group.data),
                "seconds": tiles * plan.study.num_steps * step_seconds,
            }
        )
    return {
        "runs": plan.num_runs,
        "runs_to_do": sum(group["runs"] for group in groups),
        "trials": len(plan.trials),
        "seeds": len(plan.seeds),
        "num_steps": plan.study.num_steps,
        "tile": {"trials": plan.tile.trials, "seeds": plan.tile.seeds},
        "programs": len(plan.groups),
        "static": {name: len({repr(group.static[name]) for group in plan.groups}) for name in plan.groups[0].static},
        "batches": len(made),
        "groups": groups,
        "seconds": sum(group["seconds"] for group in groups),
    }


def check_tile(tile: Tile) -> Tile:
    """Returns the tile.

    Raises:
        StudyError: If it is no pair, a side of it is not positive, or it has over 2^24 lanes.
    """
    if not isinstance(tile, tuple) or len(tile) != 2:
        raise StudyError(f"tile={tile!r} is no (trials, seeds): write e.g. tile=(8, 8)")
    tile = Tile(*tile)
    if min(tile) < 1:
        raise StudyError(f"tile {tile.trials}x{tile.seeds} is empty: both sides are at least 1, e.g. --tile 8x8")
    if tile.trials * tile.seeds > _MOST_LANES:
        raise StudyError(f"tile {tile.trials}x{tile.seeds} has over {_MOST_LANES:,} lanes: say e.g. --tile 8x8")
    return tile

"""The engine: trains the batches of a plan, tile by tile and segment by segment, and yields what happens.

It knows neither disk nor terminal. Between two segments the caller has control: it shows, stores, or stops.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxexp import devices, trees
from jaxexp import program as programs
from jaxexp import study as studies
from jaxexp.errors import OutOfMemoryError
from jaxexp.plans import Batch, Group, Plan
from jaxexp.program import NEVER, Clock, Lowered, Progress, Shape, Tiles
from jaxexp.results import NOT_FINITE, OK, Result, joined
from jaxexp.signature import SEED, SHARED

_SEGMENT_SECONDS = 0.5
_FIRST_TILE_STEPS = 1
"""Of one tile alone: nobody knows yet how long a step takes."""


class Segment(NamedTuple):
    """A stretch of steps that ended: what the caller needs to show progress, or to stop with nothing lost.

    Attributes:
        batch: The batch in training.
        tile: The first of its tiles that the segment trained, from 0.
        num_tiles: How many it trained, one after the other.
        step: Steps that the runs of these tiles have done in all.
        num_steps: Steps that they did in this segment.
        seconds: Wall time of the segment, or of what the caller did meanwhile where that took longer.
        snapshot: What `train` takes to go on from here; None where another has it: it holds on to the device's memory.
    """

    batch: Batch
    tile: int
    num_tiles: int
    step: int
    num_steps: int
    seconds: float
    snapshot: "Snapshot | None" = None

    def num_runs(self, total: int) -> float:
        """Returns how many runs it was worth: its share of the `total` steps, times the runs of its tiles."""
        return self.batch.num_runs * self.num_tiles / len(self.batch.tiles) * self.num_steps / total


class Dispatched(NamedTuple):
    """A segment that the device has been given: while it trains, the caller may do something else."""


class Trained(NamedTuple):
    """A batch that is trained.

    Attributes:
        result: Gives its `Result`, on the host; the device may train another meanwhile.
    """

    result: Callable[[], Result]


class Snapshot(NamedTuple):
    """A batch in the middle: its finished tiles' results, and the state and records of the tiles in flight."""

    tile: int
    num_tiles: int
    step: int
    progress: Progress
    records: list[dict[str, np.ndarray]]
    finished: list[Result]

    def on_host(self) -> "Snapshot":
        """Returns the snapshot with the arrays of its tiles copied to host memory."""
        return self._replace(progress=jax.tree.map(lambda leaf: leaf[: self.num_tiles], jax.device_get(self.progress)))


class Begun(NamedTuple):
    """Where tiles begin that have been trained for fewer steps: how many, their progress, and what was recorded."""

    step: int
    progress: Progress
    records: dict[str, np.ndarray]


@dataclasses.dataclass
class Compiled:
    """A group's compiled program with its data on the device.

    Attributes:
        group: The group.
        shape: The program's.
        fingerprint: The program's, which stands for the experiment's code.
        call: The program.
        data: The group's data, on the device.
        blank: What a first call takes in place of a state.
        tile_steps: Steps that fill a segment, counted over all its tiles; follows the measured time.
    """

    group: Group
    shape: Shape
    fingerprint: str
    call: Any
    data: Any
    blank: Progress
    tile_steps: int = _FIRST_TILE_STEPS


def lower(plan: Plan, group: int) -> Lowered:
    """Returns a group's program, traced and lowered but not compiled."""
    return programs.lower(plan.groups[group], shape_of(plan, group))


def shape_of(plan: Plan, group: int) -> Shape:
    """Returns the shape of a group's program."""
    num_steps, evaluate_every, log_every = plan.steps
    num_records = 2 + num_steps // min(evaluate_every, log_every)
    return programs.shape_of(plan.groups[group].signature, plan.tile, num_records)


@contextlib.contextmanager
def compiler(plan: Plan, lowered: Mapping[int, Lowered], needed: Sequence[int]) -> Iterator[Callable[[int], Compiled]]:
    """Yields the function that gives a group's compiled program and begins to compile the next in the background.

    Args:
        plan: The plan.
        lowered: Programs that are lowered already; the others are when they are asked for.
        needed: Groups, in the order in which they are likely to be asked for.
    """
    made: dict[int, Compiled] = {}  # of the groups whose data are on the device, which are the same
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="jaxexp-compile") as pool:
        calls: dict[int, concurrent.futures.Future] = {}

        def program(index: int) -> Compiled:
            if index in made:
                return made[index]
            group = plan.groups[index]
            there = next((one for one in made.values() if one.group.data is group.data), None)
            if there is None:
                made.clear()
            data = there.data if there else jax.device_put(group.data)
            given = lowered[index] if index in lowered else lower(plan, index)
            with _memory_errors(given.shape):
                if index not in calls or calls[index].cancel():
                    calls[index] = concurrent.futures.Future()
                    calls[index].set_result(given.compile())
                made[index] = ready(group, given, calls[index].result(), data)
            following = [other for other in needed if other in lowered and other not in calls]
            for other in following[:1]:
                calls[other] = pool.submit(lowered[other].compile)
            return made[index]

        try:
            yield program
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def ready(group: Group, lowered: Lowered, call: Any, data: Any) -> Compiled:
    """Returns a group's compiled program, ready to train.

    Raises:
        OutOfMemoryError: If it needs more memory than the device has left.
    """
    shape, there = lowered.shape, devices.available_bytes()
    needed = num_bytes(call) - trees.num_bytes(data)  # which are on the device already
    if needed > there:
        raise OutOfMemoryError(_too_large(shape, f"needs {needed / 2**20:,.0f} MiB of {there / 2**20:,.0f} MiB"))
    blank = jax.device_put(programs.blank(group.signature, shape))
    return Compiled(group, shape, lowered.fingerprint, call, data, blank)


def num_bytes(call: Any) -> int:
    """Returns the memory that a compiled program takes while it runs: working set, arguments and results."""
    found = call.memory_analysis()
    return found.temp_size_in_bytes + found.argument_size_in_bytes + found.output_size_in_bytes


@contextlib.contextmanager
def _memory_errors(shape: Shape) -> Iterator[None]:
    """Turns XLA's error into ours."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as problem:
        lacking = "RESOURCE_EXHAUSTED" in str(problem) or isinstance(problem, MemoryError)
        if isinstance(problem, OutOfMemoryError) or not lacking:
            raise
        raise OutOfMemoryError(_too_large(shape, str(problem).split("\n")[0])) from problem


def _too_large(shape: Shape, why: str) -> str:
    trials, seeds = shape.tile
    return f"a tile of {trials}x{seeds} does not fit into memory ({why}): train in a narrower one, e.g. --tile 1x1"


def train(
    plan: Plan,
    made: Compiled,
    batch: Batch,
    *,
    snapshot: Snapshot | None = None,
    begun: Callable[[Sequence[Any]], Begun | None] = lambda tiles: None,
    keep_state: bool = False,
) -> Generator[Dispatched | Segment | Trained]:
    """Yields a `Dispatched` before and a `Segment` after every segment of the tiles of a batch, and last a `Trained`.

    Args:
        plan: The plan that the batch is of.
        made: The compiled program of the batch's group.
        batch: The batch.
        snapshot: Where to go on from; where None, `begun` knows.
        begun: Says of tiles, of which it takes as many as it likes, where they begin; at the start where None.
        keep_state: Whether the result carries the final states.
    """
    finished = list(snapshot.finished) if snapshot else []
    index, total = snapshot.tile if snapshot else 0, plan.study.num_steps
    while True:
        if snapshot is None:
            snapshot = _next(plan, made, batch, index, begun)
        count, step, progress, records = snapshot.num_tiles, snapshot.step, _filled(made, snapshot), [*snapshot.records]
        tiles = tile_arrays(plan, made, batch.tiles[index : index + count])
        while step < total:
            stop = min(total, step + _segment_length(plan, made, count))
            began = time.perf_counter()
            with _memory_errors(made.shape):
                progress, reported = made.call(progress, tiles, made.data, _clock(plan, count, step, stop))
            yield Dispatched()
            with _memory_errors(made.shape):
                records.append(_host_records(plan, reported, count, step, stop))
            seconds = time.perf_counter() - began
            made.tile_steps = _adapted(made.tile_steps, count * (stop - step), seconds)
            there = Snapshot(index, count, stop, progress, list(records), list(finished))
            yield Segment(batch, index, count, stop, stop - step, seconds, there)
            step = stop
        kept = progress if keep_state else Progress([], progress.first_bad)
        last = functools.partial(_result, plan, made, batch.tiles[index : index + count], kept, records, keep_state)
        index, snapshot = index + count, None
        if index == len(batch.tiles):
            break
        finished.append(last())
    yield Trained(lambda: joined([*finished, last()]))


def _next(
    plan: Plan, made: Compiled, batch: Batch, index: int, begun: Callable[[Sequence[Any]], Begun | None]
) -> Snapshot:
    """Where the tiles of a batch from one on begin, as many together as have done equally many steps."""
    tiles = batch.tiles[index : index + _tiles_at_once(plan, made, batch, index)]
    known = begun(tiles)
    if known is not None:
        return Snapshot(index, len(known.progress.first_bad), known.step, known.progress, [known.records], [])
    count = next((number for number in range(1, len(tiles)) if begun(tiles[number:])), len(tiles))
    return Snapshot(index, count, 0, made.blank, [], [])


def _filled(made: Compiled, snapshot: Snapshot) -> Progress:
    """The progress of a snapshot with as many tiles as a call takes."""
    if snapshot.progress is made.blank:
        return made.blank
    missing = made.shape.num_tiles - snapshot.num_tiles

    def filled(leaf: Any) -> np.ndarray:
        host = np.asarray(leaf)[: snapshot.num_tiles]
        return np.concatenate([host, np.repeat(host[:1], missing, axis=0)])

    return jax.tree.map(filled, snapshot.progress)


def _tiles_at_once(plan: Plan, made: Compiled, batch: Batch, index: int) -> int:
    """How many tiles of a batch, from one on, one call trains from their start to their end."""
    return max(1, min(made.tile_steps // plan.study.num_steps, made.shape.num_tiles, len(batch.tiles) - index))


def filled(ids: np.ndarray, width: int) -> np.ndarray:
    """Returns a tile's trials or seeds with its empty lanes, which repeat the first."""
    return ids if len(ids) == width else np.concatenate([ids, np.repeat(ids[:1], width - len(ids))])


def tile_arrays(plan: Plan, made: Compiled, tiles: Sequence[tuple[np.ndarray, np.ndarray]]) -> Tiles:
    """Returns the seeds and configs of tiles; empty lanes repeat the first trial and seed, tiles not needed the first.

    Args:
        plan: The plan.
        made: The compiled program of the tiles' group.
        tiles: For each tile its trials and its seeds.
    """
    group, (tile, num_tiles, _) = made.group, made.shape

    trials = np.stack([filled(ids, tile.trials) for ids, _ in tiles])
    seeds = np.stack([filled(ids, tile.seeds) for _, ids in tiles])
    unused = num_tiles - len(tiles)
    trials, seeds = (np.concatenate([ids, np.repeat(ids[:1], unused, axis=0)]) for ids in (trials, seeds))
    columns = {n: column[trials] for n, column in plan.trials.columns.items() if n not in group.static}
    config = dataclasses.replace(group.config, **columns)
    arrays = jax.tree.map(
        lambda shape, value: np.ascontiguousarray(np.broadcast_to(np.asarray(value, shape.dtype), shape.shape)),
        programs.config_arrays(group.config, made.shape).config,
        config,
    )
    return Tiles(seeds.astype(np.uint32), arrays)


def _segment_length(plan: Plan, made: Compiled, count: int) -> int:
    """Steps of the next segment: near the wished wall time, within what one call can record."""
    return max(1, min(made.tile_steps // count, most_steps(plan, made)))


def most_steps(plan: Plan, made: Compiled) -> int:
    """Returns how many steps one call can record."""
    _, evaluate, log = plan.steps
    return (made.shape.num_slots - 1) * min(log, evaluate)


def _adapted(planned: int, tile_steps: int, seconds: float) -> int:
    """The next segment's steps over all tiles: at most four times as many, so that one odd timing decides little."""
    fitting = int(tile_steps * _SEGMENT_SECONDS / max(seconds, 1e-6))
    return max(1, min(fitting, 4 * planned))


def _clock(plan: Plan, count: int, start: int, stop: int) -> Clock:
    return Clock(*map(np.int32, (count, start, stop, *plan.steps)))


def logged_steps(study: studies.Study, start: int, stop: int) -> np.ndarray:
    """Returns the steps from `start` to before `stop` whose metrics are recorded, int32."""
    every = studies.log_every(study)
    return np.arange(-(-start // every) * every, stop, every, dtype=np.int32)


def eval_steps(study: studies.Study, start: int, stop: int) -> np.ndarray:
    """Returns the numbers of steps after which is evaluated, in (start, stop], and 0 where start is 0."""
    every = studies.evaluate_every(study)
    first = 0 if start == 0 else start // every + 1
    steps = np.arange(first, stop // every + 1, dtype=np.int32) * np.int32(every)
    last = [stop] if stop == study.num_steps and stop % every else []
    return np.concatenate([steps, np.asarray(last, np.int32)])


def _host_records(plan: Plan, reported: Any, count: int, start: int, stop: int) -> dict[str, np.ndarray]:
    """The slots of a call that were filled, by metric name, as host arrays [tiles, slots, S, T]."""
    num_logged = len(logged_steps(plan.study, start, stop))
    num_evaluated = len(eval_steps(plan.study, start, stop))
    filled = dict.fromkeys(reported.logged, num_logged) | dict.fromkeys(reported.evaluated, num_evaluated)
    values = _on_host([*reported.logged.values(), *reported.evaluated.values()])
    return {name: array[:count, : filled[name]].copy() for name, array in zip(filled, values, strict=True)}


def _on_host(arrays: list[Any]) -> list[np.ndarray]:
    """The arrays in host memory: on a CPU they are, elsewhere each is on its way before the first is waited for."""
    if jax.default_backend() != "cpu":
        return jax.device_get(arrays)
    return [np.asarray(array) for array in arrays]


def _result(
    plan: Plan, made: Compiled, tiles: Sequence[tuple], progress: Progress, records: list, keep_state: bool
) -> Result:
    """What was measured of the runs of tiles that were trained together: tile by tile, seeds inside trials."""
    width, height = plan.tile
    wanted = np.zeros((len(tiles), width, height), bool)
    for mask, (trials, seeds) in zip(wanted, tiles, strict=True):
        mask[: len(trials), : len(seeds)] = True

    def by_run(array: np.ndarray) -> np.ndarray:
        """[K, S, T, ...] of the tiles as [runs, ...] of the batch."""
        return np.swapaxes(np.asarray(array)[: len(tiles)], 1, 2)[wanted]

    first_bad, *leaves = _on_host([progress.first_bad, *progress.leaves])
    bad = by_run(first_bad)

    def recorded(names: Sequence[str]) -> dict[str, np.ndarray]:
        whole = (records[0][n] if len(records) == 1 else np.concatenate([r[n] for r in records], axis=1) for n in names)
        return {name: by_run(slots.transpose(0, 2, 3, 1)) for name, slots in zip(names, whole, strict=True)}

    return Result(
        trial=np.concatenate([np.repeat(trials, len(seeds)) for trials, seeds in tiles]).astype(np.int32),
        seed=np.concatenate([np.tile(seeds, len(trials)) for trials, seeds in tiles]).astype(np.uint32),
        status=np.where(bad == NEVER, OK, NOT_FINITE).astype(np.int8),
        status_step=np.where(bad == NEVER, -1, bad).astype(np.int32),
        step=logged_steps(plan.study, 0, plan.study.num_steps),
        eval_step=eval_steps(plan.study, 0, plan.study.num_steps),
        logged=recorded(made.group.signature.step_metrics),
        evaluated=recorded(made.group.signature.eval_metrics),
        state=tuple(by_run(leaf) for leaf in _widened(made.group, plan, leaves)) if keep_state else (),
    )


def _widened(group: Group, plan: Plan, leaves: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The state's leaves with both lane axes [K, S, T, ...], also those that many runs share."""
    for leaf, owner in zip(leaves, group.signature.owners, strict=True):
        wide = leaf[:, None, None] if owner == SHARED else leaf[:, :, None] if owner == SEED else leaf
        yield np.broadcast_to(wide, (len(leaf), plan.tile.seeds, plan.tile.trials, *wide.shape[3:]))

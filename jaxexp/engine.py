"""The engine: trains the batches of a plan, tile by tile and segment by segment, and yields what happens.

It knows neither disk nor terminal. Between two segments the caller has control: it shows, stores, or stops.
"""

import concurrent.futures
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxexp import program as programs
from jaxexp import study as studies
from jaxexp.plans import Batch, Group, Plan
from jaxexp.program import LOG_SLOTS, NEVER, Clock, Lowered, Progress, Tiles
from jaxexp.results import NOT_FINITE, OK, Result, joined
from jaxexp.signature import SEED, SHARED

_SEGMENT_SECONDS = 0.2
_FIRST_SEGMENT_STEPS = 8


class Segment(NamedTuple):
    """A stretch of steps that ended: what the caller needs to show progress, or to stop with nothing lost.

    Attributes:
        batch: The batch in training.
        tile: Which of its tiles, from 0.
        step: Steps that the tile's runs have done.
        seconds: Wall time of the segment.
        snapshot: What `train` takes to go on from here; None where another process has it.
    """

    batch: Batch
    tile: int
    step: int
    seconds: float
    snapshot: "Snapshot | None" = None


class Snapshot(NamedTuple):
    """A batch in the middle: its finished tiles' results, and the state and records of the tile in flight."""

    tile: int
    step: int
    progress: Progress
    records: list[dict[str, np.ndarray]]
    finished: list[Result]

    def on_host(self) -> "Snapshot":
        """Returns the snapshot with its arrays copied to host memory."""
        return self._replace(progress=jax.device_get(self.progress))


@dataclasses.dataclass
class Compiled:
    """A group's compiled program with its data on the device, and the steps that fill a segment."""

    group: Group
    call: Any
    data: Any
    segment_steps: int = _FIRST_SEGMENT_STEPS


def lower(plan: Plan, group: int) -> Lowered:
    """Returns a group's program, traced and lowered but not compiled."""
    return programs.lower(plan.study.experiment, plan.groups[group], plan.tile)


def compiled(plan: Plan, lowered: Mapping[int, Lowered], needed: Sequence[int]) -> Iterator[tuple[int, Compiled]]:
    """Yields the compiled program of each needed group, the next ones compiling in the background meanwhile.

    Args:
        plan: The plan.
        lowered: Programs that are lowered already; the others are when they are needed.
        needed: Groups, in the order in which they will be trained.
    """
    on_device: dict[int, Any] = {}
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="jaxexp-compile") as pool:
        known = {index: lowered[index] for index in needed if index in lowered}
        waiting = {index: pool.submit(made.lowered.compile) for index, made in known.items()}
        try:
            for index in needed:
                group = plan.groups[index]
                if id(group.data) not in on_device:  # groups with equal data share one copy
                    on_device[id(group.data)] = jax.device_put(group.data)
                call = waiting[index].result() if index in waiting else lower(plan, index).lowered.compile()
                yield index, Compiled(group, call, on_device[id(group.data)])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def train(
    plan: Plan, made: Compiled, batch: Batch, *, snapshot: Snapshot | None = None, keep_state: bool = False
) -> Iterator[Segment | Result]:
    """Yields a `Segment` after every segment of every tile of a batch, and last the batch's `Result`.

    Args:
        plan: The plan that the batch is of.
        made: The compiled program of the batch's group.
        batch: The batch.
        snapshot: Where to go on from; from the beginning where None.
        keep_state: Whether the result carries the final states.
    """
    finished = list(snapshot.finished) if snapshot else []
    for index in range(snapshot.tile if snapshot else 0, len(batch.tiles)):
        going = snapshot if snapshot and snapshot.tile == index else None
        progress, records, step = _begin(plan, made, going)
        tiles = _tile_arrays(plan, made.group, batch.tiles[index])
        while step < plan.study.num_steps:
            stop = min(plan.study.num_steps, step + _segment_length(plan, made, step))
            began = time.perf_counter()
            progress, reported = made.call(progress, tiles, made.data, _clock(plan, step, stop))
            records.append(_host_records(plan, made, reported, step, stop))
            seconds = time.perf_counter() - began
            made.segment_steps = _adapted(made.segment_steps, stop - step, seconds)
            step = stop
            yield Segment(batch, index, step, seconds, Snapshot(index, step, progress, list(records), list(finished)))
        finished.append(_tile_result(plan, made, batch.tiles[index], progress, records, keep_state))
    yield joined(finished)


def _begin(plan: Plan, made: Compiled, snapshot: Snapshot | None) -> tuple[Progress, list, int]:
    if snapshot is None:
        return programs.blank(made.group.signature, plan.tile), [], 0
    return snapshot.progress, list(snapshot.records), snapshot.step


def _tile_arrays(plan: Plan, group: Group, tile: tuple[np.ndarray, np.ndarray]) -> Tiles:
    """The seeds and configs of a tile; empty lanes repeat the first trial and seed."""
    trials = np.concatenate([tile[0], np.repeat(tile[0][:1], plan.tile.trials - len(tile[0]))])
    seeds = np.concatenate([tile[1], np.repeat(tile[1][:1], plan.tile.seeds - len(tile[1]))])
    shapes = programs.config_arrays(group.config, plan.tile)
    leaves = {}
    for name, column in plan.trials.columns.items():
        if name not in group.static:
            leaves[name] = column[trials]
    config = dataclasses.replace(group.config, **leaves)
    filled = jax.tree.map(
        lambda shape, value: np.broadcast_to(np.asarray(value, shape.dtype), shape.shape), shapes.config, config
    )
    return Tiles(seeds.astype(np.uint32), jax.tree.map(np.ascontiguousarray, filled))


def _segment_length(plan: Plan, made: Compiled, step: int) -> int:
    """Steps of the next segment: near the wished wall time, within what one call can record."""
    _, evaluate, log = plan.steps
    return max(1, min(made.segment_steps, (LOG_SLOTS - 1) * log, (LOG_SLOTS - 1) * evaluate))


def _adapted(planned: int, steps: int, seconds: float) -> int:
    """The next segment's steps: at most four times as many, so that one odd timing decides little."""
    fitting = int(steps * _SEGMENT_SECONDS / max(seconds, 1e-6))
    return max(1, min(fitting, 4 * planned))


def _clock(plan: Plan, start: int, stop: int) -> Clock:
    return Clock(*map(np.int32, (start, stop, *plan.steps)))


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


def _host_records(plan: Plan, made: Compiled, reported: Any, start: int, stop: int) -> dict[str, np.ndarray]:
    """The slots of a call that were filled, by metric name, as host arrays [slots, S, T]."""
    host = jax.device_get(reported)
    num_logged = len(logged_steps(plan.study, start, stop))
    num_evaluated = len(eval_steps(plan.study, start, stop))
    return {
        **{name: values[:num_logged].copy() for name, values in host.logged.items()},
        **{name: values[:num_evaluated].copy() for name, values in host.evaluated.items()},
    }


def _tile_result(
    plan: Plan, made: Compiled, tile: tuple, progress: Progress, records: list, keep_state: bool
) -> Result:
    trials, seeds = tile
    num_runs = len(trials) * len(seeds)

    def by_run(array: np.ndarray) -> np.ndarray:
        """[S, T, ...] of the tile as [runs, ...] of the batch, trials outside, seeds inside."""
        kept = np.asarray(array)[: len(seeds), : len(trials)]
        return np.ascontiguousarray(np.swapaxes(kept, 0, 1)).reshape(num_runs, *kept.shape[2:])

    host = jax.device_get(progress) if keep_state else Progress([], jax.device_get(progress.first_bad))
    bad = by_run(host.first_bad)

    def recorded(names: Sequence[str]) -> dict[str, np.ndarray]:
        joined_slots = {name: np.concatenate([record[name] for record in records]) for name in names}
        return {name: by_run(np.moveaxis(slots, 0, -1)) for name, slots in joined_slots.items()}

    state = [by_run(leaf) for leaf in _widened(made.group, plan, host.leaves)] if keep_state else []
    return Result(
        trial=np.repeat(trials, len(seeds)).astype(np.int32),
        seed=np.tile(seeds, len(trials)).astype(np.uint32),
        status=np.where(bad == NEVER, OK, NOT_FINITE).astype(np.int8),
        status_step=np.where(bad == NEVER, -1, bad).astype(np.int32),
        step=logged_steps(plan.study, 0, plan.study.num_steps),
        eval_step=eval_steps(plan.study, 0, plan.study.num_steps),
        logged=recorded(made.group.signature.step_metrics),
        evaluated=recorded(made.group.signature.eval_metrics),
        state=tuple(state),
    )


def _widened(group: Group, plan: Plan, leaves: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The state's leaves with both lane axes [S, T, ...], also those that many runs share."""
    for leaf, owner in zip(leaves, group.signature.owners, strict=True):
        wide = leaf[None, None] if owner == SHARED else leaf[:, None] if owner == SEED else leaf
        yield np.broadcast_to(wide, (plan.tile.seeds, plan.tile.trials, *wide.shape[2:]))

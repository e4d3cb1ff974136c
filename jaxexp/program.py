"""The one compiled program of a group: initialise, step, log and evaluate tiles of runs between two steps.

vmap over seeds around vmap over configs, loops with traced bounds over tiles and steps inside one program: the same
program serves every tile, every cut into segments and every number of steps, so that none of them can change a bit.
Knows neither batches nor files.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxexp import devices, trees
from jaxexp.errors import StudyError
from jaxexp.plans import Group, Tile
from jaxexp.signature import KEYS, RUN, SHARED, Signature, told

LOG_SLOTS, FEW_LOG_SLOTS = 256, 8
"""Records of the step's metrics that one call can hold, and evaluations that it can make: runs with few need few."""

_CALL_BYTES, _MOST_TILES = 2**22, 64
"""How much state and records the tiles of one call have together, and how many tiles there are at most."""

_VERSION = 2
"""Part of every fingerprint: raised when a change to this file can change the bits of a run."""

NEVER = np.int32(2**31 - 1)
"""The step at which a run that stays finite stops being so."""


class Shape(NamedTuple):
    """What of a call is fixed when it is compiled, beside the experiment: no bit of a run depends on the last two.

    Attributes:
        tile: The lanes that are trained together.
        num_tiles: Tiles that a call can train one after the other.
        num_slots: Records of each metric that a call can hold.
    """

    tile: Tile
    num_tiles: int
    num_slots: int


class Clock(NamedTuple):
    """How many tiles a call trains, and which steps: from `start` to before `stop`, of `num_steps`; int32 scalars."""

    num_tiles: Any
    start: Any
    stop: Any
    num_steps: Any
    evaluate_every: Any
    log_every: Any


class Tiles(NamedTuple):
    """What a call takes of its runs: seeds uint32 [K, S] and, for each dynamic field, its values [K, T], of K tiles."""

    seeds: Any
    config: Any


class Progress(NamedTuple):
    """What a call passes on to the next: the state's leaves and the first step not finite, int32 [K, S, T]."""

    leaves: list[Any]
    first_bad: Any


class Records(NamedTuple):
    """What a call reports: by metric name, arrays [K, slots + 1, S, T], of which the last slot means nothing."""

    logged: dict[str, Any]
    evaluated: dict[str, Any]


class Lowered(NamedTuple):
    """A program before compilation, its shape, and the fingerprint that the experiment's code has."""

    lowered: Any
    shape: Shape
    fingerprint: str

    def compile(self) -> Any:
        """Returns the compiled program."""
        return self.lowered.compile(compiler_options=devices.compiler_options())


def key_stream(seed: Any, name: str) -> jax.Array:
    """Returns the random key of a seed's named stream (`init` or `step`).

    Args:
        seed: An integer from 0 to 2^32 - 1, traced or not.
        name: The stream.

    Example:
        >>> bool(key_stream(0, "init") == key_stream(0, "step"))
        False
    """
    stream = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    return jax.random.fold_in(jax.random.key(jnp.asarray(seed, jnp.uint32), impl=KEYS), np.uint32(stream))


def step_key(seed: Any, step: Any) -> jax.Array:
    """Returns the random key of one step of a seed, whatever the run has done before."""
    return jax.random.fold_in(key_stream(seed, "step"), step)


def shape_of(signature: Signature, tile: Tile, num_records: int) -> Shape:
    """Returns the shape of a group's program.

    Args:
        signature: The group's.
        tile: The lanes that are trained together.
        num_records: Records of a metric that a whole run makes.
    """
    num_slots = FEW_LOG_SLOTS if num_records <= FEW_LOG_SLOTS else LOG_SLOTS
    num_metrics = len(signature.step_metrics) + len(signature.eval_metrics)
    lanes = tile.trials * tile.seeds
    tile_bytes = lanes * (2 * trees.num_bytes(signature.state) + 4 * num_slots * num_metrics)
    return Shape(tile, max(1, min(_MOST_TILES, _CALL_BYTES // max(1, tile_bytes))), num_slots)


def lower(group: Group, shape: Shape) -> Lowered:
    """Returns the group's program, traced and lowered but not compiled.

    Raises:
        StudyError: If JAX cannot vectorise something in the experiment's functions over runs.
    """
    call = _call(group.signature, shape)
    data = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), group.data)
    clock = Clock(*[jax.ShapeDtypeStruct((), np.int32)] * 6)
    try:
        traced = jax.jit(call).trace(blank(group.signature, shape), config_arrays(group.config, shape), data, clock)
    except MemoryError:
        raise
    except Exception as problem:  # rules of operations for vmap may raise anything
        why = told(problem, group.config)
        raise StudyError(f"many runs cannot be trained at once, by jax.vmap: {why}") from problem
    lowered = traced.lower()
    names = (group.signature.step_metrics, group.signature.eval_metrics)
    return Lowered(lowered, shape, _fingerprint(lowered.as_text(), names, traced.jaxpr.consts))


_FUNCTIONS = ("jaxexp_init", "jaxexp_step", "jaxexp_evaluate")


def _fingerprint(text: str, metrics: tuple[Sequence[str], ...], constants: Sequence[Any]) -> str:
    """A hash of the experiment's functions over a tile, in a lowered program, and of the names of its metrics.

    What is around them, locations, and the names of inner functions do not count.
    """
    bodies = dict(re.findall(r"^  func\.func \w+ @([\w.$]+)(\(.*?^  })$", text, flags=re.MULTILINE | re.DOTALL))
    order = {name: f"@{name}" for name in _FUNCTIONS if name in bodies}
    total, waiting = hashlib.sha256(repr((_VERSION, *map(sorted, metrics))).encode()), list(order)
    while waiting:
        body = bodies[waiting.pop(0)]
        for name in re.findall(r"@([\w.$]+)", body):
            if name in bodies and name not in order:
                order[name] = f"@f{len(order)}"
                waiting.append(name)
        total.update(re.sub(r"@([\w.$]+)", lambda match: order.get(match[1], match[0]), body).encode())
    for constant in constants:
        total.update(np.ascontiguousarray(trees.key_to_integers(constant)).tobytes())
    return total.hexdigest()


def blank(signature: Signature, shape: Shape) -> Progress:
    """Returns what the first call takes: zeros in place of the state, which it makes itself."""
    tile, leaves = shape.tile, []
    for leaf, owner in zip(jax.tree.leaves(signature.state), signature.owners, strict=True):
        plain = jax.eval_shape(trees.key_to_integers, leaf) if trees.is_key(leaf) else leaf
        leaves.append(np.zeros((shape.num_tiles, *_lanes(owner, tile), *plain.shape), plain.dtype))
    return Progress(leaves, np.full((shape.num_tiles, tile.seeds, tile.trials), NEVER, np.int32))


def _lanes(owner: int, tile: Tile) -> tuple[int, ...]:
    return () if owner == SHARED else (tile.seeds, tile.trials) if owner == RUN else (tile.seeds,)


def config_arrays(config: Any, shape: Shape) -> Tiles:
    """Returns zeros shaped like the seeds and configs of a call's tiles."""

    def lane(leaf: Any) -> np.ndarray:
        dtype = jax.dtypes.canonicalize_dtype(np.asarray(leaf).dtype)
        return np.zeros((shape.num_tiles, shape.tile.trials), dtype)

    return Tiles(np.zeros((shape.num_tiles, shape.tile.seeds), np.uint32), jax.tree.map(lane, config))


def _call(signature: Signature, shape: Shape) -> Callable[..., Any]:
    """The function that is compiled: `(progress, tiles, data, clock) -> (progress, records)`."""
    train_tile = _train_tile(signature, shape)
    names = (signature.step_metrics, signature.eval_metrics)

    def train_tiles(progress: Progress, tiles: Tiles, data: Any, clock: Clock) -> tuple[Progress, Records]:
        def one_tile(index: Any, carry: tuple[Progress, Records]) -> tuple[Progress, Records]:
            mine = jax.tree.map(lambda leaf: _row(leaf, index), (carry[0], tiles))
            made = train_tile(*mine, data, clock)
            return jax.tree.map(lambda rows, row: _with_row(rows, row, index), carry, made)

        empty = Records(*[_empty(some, (shape.num_tiles,), shape) for some in names])
        return jax.lax.fori_loop(0, clock.num_tiles, one_tile, (progress, empty))

    return train_tiles


def _train_tile(signature: Signature, shape: Shape) -> Callable[..., Any]:
    """The function that trains one tile: as `_call`'s, without the leading axis of tiles."""
    run_init, run_step, run_evaluate = _over_lanes(signature, shape.tile)

    def train_tile(progress: Progress, tiles: Tiles, data: Any, clock: Clock) -> tuple[Progress, Records]:
        leaves, first_bad = progress
        leaves = jax.lax.cond(clock.start == 0, lambda: run_init(tiles.seeds, data, tiles.config), lambda: list(leaves))
        records = Records(*[_empty(names, (), shape) for names in (signature.step_metrics, signature.eval_metrics)])
        first_log = -(-clock.start // clock.log_every)
        first_interval = jnp.where(clock.start == 0, 0, clock.start // clock.evaluate_every + 1)

        def one_step(step: Any, carry: tuple[Any, ...]) -> tuple[Any, ...]:
            leaves, first_bad, logged = carry
            leaves, metrics = run_step(tiles.seeds, step, leaves, data, tiles.config)
            number = jax.lax.div(step, clock.log_every)  # not `//`, which has a second division for signs
            logs = number * clock.log_every == step
            slot = jnp.where(logs, number - first_log, shape.num_slots)  # the last slot is thrown away
            return leaves, _mark(first_bad, metrics, step), _write(logged, metrics, slot)

        def one_interval(interval: Any, carry: tuple[Any, ...]) -> tuple[Any, ...]:
            leaves, first_bad, records = carry
            end = interval * clock.evaluate_every
            low = jnp.maximum(end - clock.evaluate_every, clock.start)
            high = jnp.minimum(end, clock.stop)
            leaves, first_bad, logged = jax.lax.fori_loop(low, high, one_step, (leaves, first_bad, records.logged))
            if run_evaluate is None:
                return leaves, first_bad, Records(logged, {})

            def measured() -> tuple[Any, ...]:
                metrics = run_evaluate(leaves, data, tiles.config)
                bad = _mark(first_bad, metrics, high)
                return bad, _write(records.evaluated, metrics, interval - first_interval)

            due = (end <= clock.stop) | (clock.stop == clock.num_steps)
            first_bad, evaluated = jax.lax.cond(due, measured, lambda: (first_bad, records.evaluated))
            return leaves, first_bad, Records(logged, evaluated)

        last_interval = -(-clock.stop // clock.evaluate_every)
        carry = (leaves, first_bad, records)
        leaves, first_bad, records = jax.lax.fori_loop(first_interval, last_interval + 1, one_interval, carry)
        return Progress(leaves, first_bad), records

    return train_tile


def _over_lanes(signature: Signature, tile: Tile) -> tuple[Any, Any, Any]:
    """The experiment's functions over a tile: vmap over seeds around vmap over configs, on flat states."""
    experiment, structure = signature.traced, jax.tree.structure(signature.state)
    shapes = jax.tree.leaves(signature.state)
    outer = [None if owner == SHARED else 0 for owner in signature.owners]
    inner = [0 if owner == RUN else None for owner in signature.owners]

    def pack(state: Any) -> list[Any]:
        leaves = zip(jax.tree.leaves(state), shapes, strict=True)
        return [trees.key_to_integers(_strong(leaf, shape)) for leaf, shape in leaves]

    def unpack(leaves: Sequence[Any]) -> Any:
        return jax.tree.unflatten(
            structure, [trees.integers_to_key(*pair) for pair in zip(leaves, shapes, strict=True)]
        )

    def over(function: Callable[..., Any], state_in: bool, out_inner: Any, out_outer: Any) -> Callable[..., Any]:
        # Each lane gets a number that it ignores, so that a config without dynamic fields has an axis too.
        numbered = lambda _, *arguments: function(*arguments)  # noqa: E731
        states = ([inner], [outer]) if state_in else ([], [])
        by_config = jax.vmap(
            numbered, in_axes=(0, None, *states[0], None, 0), out_axes=out_inner, axis_size=tile.trials
        )
        return jax.vmap(by_config, in_axes=(None, 0, *states[1], None, None), out_axes=out_outer, axis_size=tile.seeds)

    lanes = np.arange(tile.trials)
    init = over(
        lambda seed, data, config: pack(experiment.init(key_stream(seed, "init"), data, config)), False, inner, outer
    )

    def stepped(step: Any) -> Callable[..., Any]:
        def one(seed: Any, leaves: Any, data: Any, config: Any) -> Any:
            state, metrics = experiment.step(step_key(seed, step), unpack(leaves), data, config)
            return pack(state), dict(metrics)

        return over(one, True, (inner, 0), (outer, 0))

    evaluate, given = None, experiment.evaluate
    if given is not None:

        def measure(_seed: Any, leaves: Any, data: Any, config: Any) -> Any:
            return dict(given(unpack(leaves), data, config))

        measured = over(measure, True, 0, 0)
        unused = np.zeros(tile.seeds, np.uint32)

        def jaxexp_evaluate(leaves: Any, data: Any, config: Any) -> Any:
            return measured(lanes, unused, leaves, data, config)

        evaluate = jax.jit(jaxexp_evaluate)

    # Functions of their own in the lowered program, so that the fingerprint finds them there.
    def jaxexp_init(seeds: Any, data: Any, config: Any) -> Any:
        return init(lanes, seeds, data, config)

    def jaxexp_step(seeds: Any, step: Any, leaves: Any, data: Any, config: Any) -> Any:
        return stepped(step)(lanes, seeds, leaves, data, config)

    return jax.jit(jaxexp_init), jax.jit(jaxexp_step), evaluate


def _strong(leaf: Any, shape: Any) -> Any:
    """The leaf with its dtype made definite: a Python number in a state is weakly typed."""
    return leaf if trees.is_key(shape) else jax.lax.convert_element_type(leaf, shape.dtype)


def _empty(names: Sequence[str], leading: tuple[int, ...], shape: Shape) -> dict[str, Any]:
    size = (*leading, shape.num_slots + 1, shape.tile.seeds, shape.tile.trials)
    return {name: jnp.zeros(size, float) for name in sorted(names)}


def _write(records: dict[str, Any], metrics: dict[str, Any], slot: Any) -> dict[str, Any]:
    return {name: _with_row(kept, metrics[name].astype(float), slot) for name, kept in records.items()}


def _row(array: Any, index: Any) -> Any:
    """The row of an array at an index that is not negative: one operation, where JAX's own function has several."""
    sizes = (1, *array.shape[1:])
    return jax.lax.squeeze(
        jax.lax.dynamic_slice(array, _first(array, index), sizes, allow_negative_indices=False), (0,)
    )


def _with_row(array: Any, row: Any, index: Any) -> Any:
    """The array with another row at an index that is not negative."""
    row = jax.lax.expand_dims(row, (0,))
    return jax.lax.dynamic_update_slice(array, row, _first(array, index), allow_negative_indices=False)


def _first(array: Any, index: Any) -> tuple[Any, ...]:
    """Where the row of an array at an index begins."""
    return index, *np.zeros(array.ndim - 1, index.dtype)


def _mark(first_bad: Any, metrics: dict[str, Any], step: Any) -> Any:
    """The first step at which a metric of the run was not finite."""
    finite = jnp.bool_(True)
    for value in metrics.values():
        finite = finite & jnp.isfinite(value)
    return jnp.where(finite, first_bad, jnp.minimum(first_bad, step))

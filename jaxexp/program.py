"""The one compiled program of a group: initialise, step, log and evaluate a tile of runs between two steps.

vmap over seeds around vmap over configs, a loop with traced bounds inside one program: the same program serves
every tile, every cut into segments and every number of steps, so that none of them can change a bit.
Knows neither batches nor files.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxexp import trees
from jaxexp.experiment import Experiment
from jaxexp.plans import Group, Tile
from jaxexp.signature import RUN, SHARED, Signature

LOG_SLOTS = 256
"""Records of the step's metrics that one call can hold, and evaluations that it can make."""

NEVER = np.int32(2**31 - 1)
"""The step at which a run that stays finite stops being so."""


class Clock(NamedTuple):
    """Which steps a call runs: from `start` to before `stop`, of `num_steps`; int32 scalars."""

    start: Any
    stop: Any
    num_steps: Any
    evaluate_every: Any
    log_every: Any


class Tiles(NamedTuple):
    """What a call takes of its runs: seeds uint32 [S] and, for each dynamic field, its values [T]."""

    seeds: Any
    config: Any


class Progress(NamedTuple):
    """What a call passes on to the next: the state's leaves and the first step not finite, int32 [S, T]."""

    leaves: list[Any]
    first_bad: Any


class Records(NamedTuple):
    """What a call reports: by metric name, arrays [LOG_SLOTS, S, T]."""

    logged: dict[str, Any]
    evaluated: dict[str, Any]


class Lowered(NamedTuple):
    """A program before compilation, and the fingerprint that its code has."""

    lowered: Any
    fingerprint: str


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
    return jax.random.fold_in(jax.random.key(jnp.asarray(seed, jnp.uint32), impl="threefry2x32"), np.uint32(stream))


def step_key(seed: Any, step: Any) -> jax.Array:
    """Returns the random key of one step of a seed, whatever the run has done before."""
    return jax.random.fold_in(key_stream(seed, "step"), step)


def lower(experiment: Experiment, group: Group, tile: Tile) -> Lowered:
    """Returns the group's program for a tile, traced and lowered but not compiled."""
    call = _call(experiment, group.config, group.signature, tile)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), group.data)
    clock = Clock(*[jax.ShapeDtypeStruct((), np.int32)] * 5)
    traced = jax.jit(call).trace(blank(group.signature, tile), config_arrays(group.config, tile), shapes, clock)
    lowered = traced.lower()
    return Lowered(lowered, _fingerprint(lowered.as_text(), traced.jaxpr.consts))


def _fingerprint(text: str, constants: Sequence[Any]) -> str:
    """A hash of a lowered program that neither locations nor the names of its inner functions change."""
    order: dict[str, str] = {}
    named = re.sub(r"@[\w.$]+", lambda match: order.setdefault(match.group(), f"@f{len(order)}"), text)
    total = hashlib.sha256(named.encode())
    for constant in constants:
        total.update(np.ascontiguousarray(trees.key_to_integers(constant)).tobytes())
    return total.hexdigest()


def blank(signature: Signature, tile: Tile) -> Progress:
    """Returns what the first call takes: zeros in place of the state, which it makes itself."""
    leaves = []
    for leaf, owner in zip(jax.tree.leaves(signature.state), signature.owners, strict=True):
        plain = jax.eval_shape(trees.key_to_integers, leaf)
        leaves.append(np.zeros((*_lanes(owner, tile), *plain.shape), plain.dtype))
    return Progress(leaves, np.full((tile.seeds, tile.trials), NEVER, np.int32))


def _lanes(owner: int, tile: Tile) -> tuple[int, ...]:
    return () if owner == SHARED else (tile.seeds, tile.trials) if owner == RUN else (tile.seeds,)


def config_arrays(config: Any, tile: Tile) -> Tiles:
    """Returns zeros shaped like a tile's seeds and configs."""

    def lane(leaf: Any) -> np.ndarray:
        return np.zeros(tile.trials, jax.dtypes.canonicalize_dtype(np.asarray(leaf).dtype))

    return Tiles(np.zeros(tile.seeds, np.uint32), jax.tree.map(lane, config))


def _call(experiment: Experiment, config: Any, signature: Signature, tile: Tile) -> Callable[..., Any]:
    """The function that is compiled: `(progress, tiles, data, clock) -> (progress, records)`."""
    run_init, run_step, run_evaluate = _over_lanes(experiment, signature, tile)

    def train_tile(progress: Progress, tiles: Tiles, data: Any, clock: Clock) -> tuple[Progress, Records]:
        leaves, first_bad = progress
        leaves = jax.lax.cond(clock.start == 0, lambda: run_init(tiles.seeds, data, tiles.config), lambda: list(leaves))
        records = Records(*[_empty(names, tile) for names in (signature.step_metrics, signature.eval_metrics)])
        first_interval = jnp.where(clock.start == 0, 0, clock.start // clock.evaluate_every + 1)

        def one_step(step: Any, carry: tuple[Any, ...]) -> tuple[Any, ...]:
            leaves, first_bad, logged = carry
            leaves, metrics = run_step(tiles.seeds, step, leaves, data, tiles.config)
            slot = step // clock.log_every - -(-clock.start // clock.log_every)
            slot = jnp.where(step % clock.log_every == 0, slot, LOG_SLOTS)  # the last slot is thrown away
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


def _over_lanes(experiment: Experiment, signature: Signature, tile: Tile) -> tuple[Any, Any, Any]:
    """The experiment's functions over a tile: vmap over seeds around vmap over configs, on flat states."""
    structure = jax.tree.structure(signature.state)
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
        evaluate = lambda leaves, data, config: measured(lanes, unused, leaves, data, config)  # noqa: E731
    return (
        lambda seeds, data, config: init(lanes, seeds, data, config),
        lambda seeds, step, leaves, data, config: stepped(step)(lanes, seeds, leaves, data, config),
        evaluate,
    )


def _strong(leaf: Any, shape: Any) -> Any:
    """The leaf with its dtype made definite: a Python number in a state is weakly typed."""
    return leaf if trees.is_key(shape) else jax.lax.convert_element_type(leaf, shape.dtype)


def _empty(names: Sequence[str], tile: Tile) -> dict[str, Any]:
    return {name: jnp.zeros((LOG_SLOTS + 1, tile.seeds, tile.trials), float) for name in sorted(names)}


def _write(records: dict[str, Any], metrics: dict[str, Any], slot: Any) -> dict[str, Any]:
    return {name: records[name].at[slot].set(metrics[name].astype(float)) for name in records}


def _mark(first_bad: Any, metrics: dict[str, Any], step: Any) -> Any:
    """The first step at which a metric of the run was not finite."""
    finite = jnp.bool_(True)
    for value in metrics.values():
        finite = finite & jnp.isfinite(value)
    return jnp.where(finite, first_bad, jnp.minimum(first_bad, step))

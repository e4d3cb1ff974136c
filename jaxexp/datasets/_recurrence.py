"""Sequences of the recurrence "plus one below 10, else the sine", from a seed or from a JAX key.

Both forms follow the same rule in float32. No model of the sequences is here, and no loss.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxexp.datasets._arguments import stream_seed, whole_number
from jaxexp.datasets._records import Sequences
from jaxexp.errors import ConfigError

_THRESHOLD = 10.0
_LARGEST_PHASE = 24


def recurrence(
    num: int, *, length: int = 10, peak_range: tuple[float, float] | None = None, seed: int = 0
) -> Sequences:
    """Returns sequences in which the next number is x + 1 if x is below 10, and sin(x) if it is not.

    A sequence starts at U(0, 10), moved on by 0 to 24 steps of the rule, each number of steps as likely as
    another, so that its phase is random. Then `length` numbers are its input and the next one its target:
    ``targets = where(inputs[:, -1] < 10, inputs[:, -1] + 1, sin(inputs[:, -1]))``. The sine is the target of 8 %.

    With the rule alone no number reaches 11. With a `peak_range`, each number of a sequence that reaches 10
    is drawn anew from that range, and the rule goes on from there; the sine then has to be known over the
    whole range. A target is what the rule gives and is never drawn.

    Args:
        num: The number of sequences, at least 1.
        length: The number of inputs in each, at least 1.
        peak_range: The ends (low, high) of the uniform range, 10 <= low < high, from which numbers of 10 and
            above come; None for what the rule gives, which lies in [10, 11).
        seed: The seed of ``numpy.random.RandomState``, from 0 to 2**32 - 1.

    Returns:
        Inputs [num, length] and targets [num], both float32 in [-1, 11), or up to the end of `peak_range`.

    Raises:
        ConfigError: A whole number is out of its range, or `peak_range` is no range above 10.

    Source:
        The recurrence of the forum question whether an LSTM under a dense layer is trained at all.

    Example:
        >>> inputs, targets = recurrence(1000)
        >>> inputs.shape, targets.shape, bool(inputs.max() < 11)
        ((1000, 10), (1000,), True)
        >>> wide, _ = recurrence(1000, peak_range=(10.0, 100.0))
        >>> bool(wide.max() > 90)
        True
    """
    num, length = _checked("datasets.recurrence", num, length, peak_range)
    random = np.random.RandomState(stream_seed("datasets.recurrence", seed))
    starts = random.uniform(0.0, _THRESHOLD, size=num).astype(np.float32)
    phases = np.floor((_LARGEST_PHASE + 1) * random.random_sample(num)).astype(np.float32)
    peaks = None
    if peak_range is not None:
        peaks = random.uniform(*peak_range, size=(_num_climbs(length), num)).astype(np.float32)
    return Sequences(*_follow(np, starts, phases, peaks, length))


def recurrence_from_key(
    key: jax.Array, num: int, *, length: int = 10, peak_range: tuple[float, float] | None = None
) -> tuple[jax.Array, jax.Array]:
    """Returns sequences as `recurrence` does, drawn from a JAX key: a fresh minibatch for each step.

    It is a pure function that may be traced; all its arguments but the key are static.

    Args:
        key: The random key that starts, phases and peaks come from.
        num: The number of sequences, at least 1.
        length: The number of inputs in each, at least 1.
        peak_range: As for `recurrence`.

    Returns:
        Inputs [num, length] and targets [num], both float32, in the ranges of `recurrence`.

    Raises:
        ConfigError: A whole number is out of its range, or `peak_range` is no range above 10.

    Source:
        As for `recurrence`.

    Example:
        >>> import jax
        >>> inputs, targets = recurrence_from_key(jax.random.key(0), 4)
        >>> inputs.shape, targets.shape
        ((4, 10), (4,))
    """
    num, length = _checked("datasets.recurrence_from_key", num, length, peak_range)
    start_key, phase_key, peak_key = jax.random.split(key, 3)
    starts = jax.random.uniform(start_key, (num,), jnp.float32, 0.0, _THRESHOLD)
    phases = jax.random.randint(phase_key, (num,), 0, _LARGEST_PHASE + 1).astype(jnp.float32)
    peaks = None
    if peak_range is not None:
        peaks = jax.random.uniform(peak_key, (_num_climbs(length), num), jnp.float32, *peak_range)
    return _follow(jnp, starts, phases, peaks, length)


def _num_climbs(length: int) -> int:
    # The first climb ends at index 1 or later, each other takes 10 numbers or more, and the last index is 23 + length.
    return 1 + (21 + length) // 10


def _follow(xp: Any, starts: Any, phases: Any, peaks: Any, length: int) -> tuple[Any, Any]:
    # xp is numpy or jax.numpy. Numbers climb by one to a peak, whose sine starts the next climb, so a few climbs
    # give every number in closed form. Of the rule applied step after step XLA would compute each step anew for
    # every later number, and a scan would be a loop within the experiment's own loop over training steps.
    index = phases[:, np.newaxis] + np.arange(length, dtype=np.float32)[np.newaxis]
    first, start = xp.zeros_like(starts), starts
    inputs = start[:, np.newaxis] + index
    for climb in range(_num_climbs(length)):
        num_steps = xp.ceil(_THRESHOLD - start)
        # Rounding may lift the number before the peak to the threshold: that one is the peak then.
        num_steps = num_steps - (start + (num_steps - 1) >= _THRESHOLD)
        peak = start + num_steps if peaks is None else peaks[climb]
        last = first + num_steps
        inputs = xp.where(index == last[:, np.newaxis], peak[:, np.newaxis], inputs)
        first, start = last + 1, xp.sin(peak)
        climbing = start[:, np.newaxis] + (index - first[:, np.newaxis])
        inputs = xp.where(index >= first[:, np.newaxis], climbing, inputs)
    return inputs, _rule(xp, inputs[:, -1])


def _rule(xp: Any, numbers: Any) -> Any:
    return xp.where(numbers < _THRESHOLD, numbers + 1, xp.sin(numbers))


def _checked(where: str, num: int, length: int, peak_range: tuple[float, float] | None) -> tuple[int, int]:
    if peak_range is not None:
        ends = peak_range if isinstance(peak_range, (tuple, list)) else ()
        if len(ends) != 2 or not _THRESHOLD <= ends[0] < ends[1] < float("inf"):
            raise ConfigError(
                f"{where}: peak_range={peak_range!r} is no range (low, high) with 10 <= low < high, within which "
                "the recurrence is to peak; pass for example peak_range=(10.0, 100.0), or None for the plain rule"
            )
    return whole_number(where, "num", num), whole_number(where, "length", length)

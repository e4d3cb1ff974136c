"""Checkpoints: a batch in the middle of its training, as arrays in the run folder and back.

What a checkpoint holds is the engine's; where it lies is the store's.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxexp import engine, files, store
from jaxexp.engine import Compiled, Segment, Snapshot
from jaxexp.plans import Batch, Plan
from jaxexp.program import Progress
from jaxexp.results import joined


def write(folder: Path, digest: str, segment: Segment, environment: Mapping[str, Any]) -> None:
    """Writes a checkpoint of the batch in flight, as it stood after a segment.

    Args:
        folder: The run folder.
        digest: The plan's.
        segment: A segment of this process, with its snapshot.
        environment: What the bits depend on beside the code, as chunks record it.
    """
    if segment.snapshot is None:
        return
    snapshot = segment.snapshot.on_host()
    arrays = {"environment": files.text_array(environment)}
    arrays |= {"where": np.asarray([snapshot.tile, snapshot.num_tiles, snapshot.step], np.int64)}
    arrays |= {f"leaf:{index:04d}": np.asarray(leaf) for index, leaf in enumerate(snapshot.progress.leaves)}
    arrays["first_bad"] = np.asarray(snapshot.progress.first_bad)
    for name in snapshot.records[0]:
        arrays[f"record:{name}"] = np.concatenate([record[name] for record in snapshot.records], axis=1)
    if snapshot.finished:
        whole = store.result_arrays(joined(snapshot.finished))
        arrays |= {f"finished:{name}": values for name, values in whole.items()}
    step = snapshot.tile * 2**31 + snapshot.step
    maker = hashlib.sha256(arrays["environment"].tobytes()).hexdigest()[:8]
    store.write_checkpoint(folder, digest, segment.batch.name, step, arrays, maker)


def read(folder: Path, plan: Plan, made: Compiled, batch: Batch, environment: Mapping[str, Any]) -> Snapshot | None:
    """Returns the newest whole checkpoint of a batch, or None; those of another environment or program are none.

    Args:
        folder: The run folder.
        plan: The plan.
        made: The compiled program of the batch's group.
        batch: The batch.
        environment: What the bits depend on beside the code.
    """
    every = store.read_checkpoints(folder, plan.digest, batch.name)
    own = (
        arrays for arrays in every if files.array_text(arrays.get("environment", files.text_array({}))) == environment
    )
    return next(filter(None, (_snapshot(arrays, plan, made, batch) for arrays in own)), None)


def _snapshot(arrays: Mapping[str, np.ndarray], plan: Plan, made: Compiled, batch: Batch) -> Snapshot | None:
    """What is gone on from, of a checkpoint's arrays; None where the program cannot."""

    def named(kind: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(kind): values for name, values in arrays.items() if name.startswith(kind)}

    tile, num_tiles, step = map(int, arrays["where"])
    leaves = [leaf for _, leaf in sorted(named("leaf:").items())]
    finished = [store.result_of(named("finished:"))] if named("finished:") else []
    progress = Progress(leaves, arrays["first_bad"])
    found = Snapshot(tile, num_tiles, step, progress, [named("record:")], finished)
    return found if _fits(found, plan, made, batch) else None


def _fits(found: Snapshot, plan: Plan, made: Compiled, batch: Batch) -> bool:
    """Whether the program can go on from a checkpoint: a sealed one of anybody's may hold anything."""
    signature, study = made.group.signature, plan.study
    pairs = zip(jax.tree.leaves(found.progress), jax.tree.leaves(made.blank), strict=False)
    slots = dict.fromkeys(signature.step_metrics, len(engine.logged_steps(study, 0, found.step)))
    slots |= dict.fromkeys(signature.eval_metrics, len(engine.eval_steps(study, 0, found.step)))
    (records,), before = found.records, batch.tiles[: found.tile]
    return (
        len(found.progress.leaves) == len(made.blank.leaves)
        and all(leaf.shape[1:] == blank.shape[1:] and leaf.dtype == blank.dtype for leaf, blank in pairs)
        and 0 < found.num_tiles <= made.shape.num_tiles
        and found.tile + found.num_tiles <= len(batch.tiles)
        and 0 < found.step <= study.num_steps
        and {name: values.shape[1] for name, values in records.items()} == slots
        and sum(len(part.trial) for part in found.finished) == sum(len(some) * len(seeds) for some, seeds in before)
    )

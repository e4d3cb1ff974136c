"""Checkpoints: a batch in the middle of its training, as arrays in the run folder and back.

What a checkpoint holds is the engine's; where it lies is the store's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxexp import files, store
from jaxexp.engine import Segment, Snapshot
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
    store.write_checkpoint(folder, digest, segment.batch.name, snapshot.tile * 2**31 + snapshot.step, arrays)


def read(folder: Path, digest: str, batch: str, environment: Mapping[str, Any]) -> Snapshot | None:
    """Returns the newest whole checkpoint of a batch, or None; one of another environment is none."""
    arrays = store.read_checkpoint(folder, digest, batch)
    if arrays is None or "environment" not in arrays or files.array_text(arrays["environment"]) != environment:
        return None

    def named(kind: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(kind): values for name, values in arrays.items() if name.startswith(kind)}

    tile, num_tiles, step = map(int, arrays["where"])
    leaves = [leaf for _, leaf in sorted(named("leaf:").items())]
    finished = [store.result_of(named("finished:"))] if named("finished:") else []
    return Snapshot(tile, num_tiles, step, Progress(leaves, arrays["first_bad"]), [named("record:")], finished)

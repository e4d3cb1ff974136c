"""Speed and memory against the tile: `python -m benchmarks.widths [W1 ...] [--json]`.

One core; each tile's program is compiled before, and trains one tile several times: the fastest counts. The first row
of a workload is the tile that the plan chooses. Memory is what XLA says that the program takes, beside the prediction
from two narrower ones.
"""

import argparse
import json
import os
import sys
import time
from typing import Any

TILES = {
    "W1": ("2x4", "4x4", "8x4", "4x8", "16x4", "16x8", "32x8"),
    "W2": ("1x1", "2x1", "4x1", "4x2", "4x4", "8x4"),
    "W3": ("4x4", "8x2", "16x1", "16x2", "32x2", "32x4"),
    "W4": ("1x1", "4x1", "8x1", "4x2"),
}
_STEPS, _REPEATS = 300, 5


def measured(name: str) -> list[dict[str, Any]]:
    """Returns a row a tile of a workload: runs a second on one core, and bytes."""
    import jax
    import numpy as np

    from benchmarks import workloads
    from jaxexp import catalog, engine, memory, plans, program
    from jaxexp.plans import Tile

    study = catalog.load(str(workloads.path(name))).study
    chosen = plans.plan(study).tile
    rows = []
    for tile in dict.fromkeys([chosen, *(Tile(*map(int, text.split("x"))) for text in TILES[name])]):
        plan = plans.plan(study, tile=tile)
        with engine.compiler(plan, {}, ()) as compiled:
            made = compiled(0)
        tiles = engine.tile_arrays(plan, made, next(plans.batches(plan)).tiles[:1])
        clock = program.Clock(*map(np.int32, (1, 0, _STEPS, *plan.steps)))
        seconds = []
        for _ in range(_REPEATS):
            began = time.perf_counter()
            jax.block_until_ready(made.call(made.blank, tiles, made.data, clock))
            seconds.append(time.perf_counter() - began)
        lanes = tile.trials * tile.seeds
        rows.append(
            {
                "workload": name,
                "tile": f"{tile.trials}x{tile.seeds}",
                "chosen": tile == chosen,
                "runs_per_second": lanes * _STEPS / study.num_steps / min(seconds),
                "bytes": engine.num_bytes(made.call),
                "predicted_bytes": memory.predicted(plan, 0).total,
            }
        )
    return rows


def main() -> None:
    """Measures the workloads that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(TILES)}; all where none")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = [row for name in given.workloads or TILES for row in measured(name)]
    if given.json:
        sys.stdout.write(json.dumps({"rows": rows}, indent=1) + "\n")
        return
    sys.stdout.write(
        "| workload | tile (trials x seeds) | runs/s, one core | MiB | predicted |\n|---|---|---|---|---|\n"
    )
    for row in rows:
        mark = ", chosen" * row["chosen"]
        size, predicted = (row[name] / 2**20 for name in ("bytes", "predicted_bytes"))
        share = f"{predicted / size - 1:+.1%}"
        speed = f"{row['runs_per_second']:.1f}"
        sys.stdout.write(f"| {row['workload']} | {row['tile']}{mark} | {speed} | {size:.2f} | {share} |\n")


if __name__ == "__main__":
    main()

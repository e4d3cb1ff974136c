"""Bytecode instructions that the planner and the store execute: `python -m benchmarks.instructions [--write]`.

Unlike time they are the same at every run, so that a change that makes either do more work is seen on any machine
(`tests/test_instructions.py`); what NumPy does inside one call is not counted. `--write` keeps the counts, of this
version of Python, in `benchmarks/instructions.json`.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import jaxexp as jx
from jaxexp import claims, plans, store
from jaxexp.plans import Tile
from jaxexp.results import Result

KEPT = Path(__file__).with_suffix(".json")
NUM_RUNS, NUM_CHUNKS = 64, 16


@jx.config
class Config:
    """One dynamic and one static field."""

    rate: float = 0.1
    width: int = 1


def counted(function: Callable[[], Any]) -> int:
    """Returns how many bytecode instructions a function executes, with all that it calls."""
    total = 0

    def trace(frame: Any, event: str, _argument: Any) -> Any:
        nonlocal total
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        total += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return total


def study(num_trials: int, num_seeds: int) -> jx.Study:
    """Returns a study of so many trials and seeds, in two groups."""
    return jx.Study(
        experiment=jx.from_train(lambda key, config: {"end": config.rate**2}),
        config=Config(),
        sweep=jx.grid(rate=jx.linspace(0.0, 1.0, num_trials // 2), width=(1, 2)),
        seeds=num_seeds,
    )


def result() -> Result:
    """Returns what a batch of `NUM_RUNS` runs might give."""
    runs, steps = np.arange(NUM_RUNS), np.arange(3, dtype=np.int32)
    status, bad_step = np.zeros(NUM_RUNS, np.int8), np.full(NUM_RUNS, -1, np.int32)
    logged, evaluated = {"loss": np.zeros((NUM_RUNS, 3))}, {"end": np.ones((NUM_RUNS, 3))}
    return Result(runs.astype(np.int32), runs.astype(np.uint32), status, bad_step, steps, steps, logged, evaluated)


def counts() -> dict[str, int]:
    """Returns the instructions of each task, by name."""
    large = plans.plan(study(1000, 1000), tile=Tile(8, 8), yes=True)
    with tempfile.TemporaryDirectory(prefix="jaxexp-instructions-") as name:
        folder = Path(name)
        store.make_folders(folder)
        batches = list(plans.batches(large))[:NUM_CHUNKS]

        def write() -> None:
            for batch in batches:
                store.write_chunk(folder, large.digest, batch.name, result(), {})

        def take() -> None:
            queue = claims.Queue(folder, "other", batches)
            while (batch := queue.take()) is not None:
                queue.done(batch)
            queue.close()

        def look() -> None:
            for batch in batches:
                list(store.read_checkpoints(folder, large.digest, batch.name))
                store.remove_checkpoints(folder, large.digest, batch.name)

        return {
            "the batches of 10^6 runs": counted(lambda: list(plans.batches(large))),
            "the summary of 10^6 runs": counted(lambda: plans.summary(large)),
            f"writing {NUM_CHUNKS} chunks": counted(write),
            f"reading {NUM_CHUNKS} chunks": counted(lambda: list(store.results(folder, large.digest))),
            f"claiming {NUM_CHUNKS} batches": counted(take),
            f"looking for checkpoints of {NUM_CHUNKS} batches": counted(look),
        }


def main() -> None:
    """Prints the counts, and keeps them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the counts as those to compare with")
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "instructions": counts()}
    text = json.dumps(found, indent=1) + "\n"
    if parser.parse_args().write:
        KEPT.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()

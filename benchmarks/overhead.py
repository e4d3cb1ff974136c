"""What the engine and the store cost: `python -m benchmarks.overhead [W1 ...] [--repeats 5] [--json]`.

jaxexp trains a workload into a new run folder. Beside it, two loops train the same tiles and keep nothing: one calls
jaxexp's own compiled program, which is what engine and store are measured against; one a vmapped scan of the same
experiment, which neither looks whether metrics are finite nor can be cut into segments. All in one process on one
core, compiled before with the same options, in turns; medians. Planning and loading the program, once a run whatever
its length, have columns of their own.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxexp.plans import Tile
    from jaxexp.study import Study
    from jaxexp.worker import Job


def bare(study: "Study", tile: "Tile") -> Callable[[], Any]:
    """Returns the function that trains a supervised study tile by tile: final losses [num_seeds, num_trials].

    Args:
        study: The study; trials and seeds are a multiple of the tile's.
        tile: The (trials, seeds) that one call trains.
    """
    import dataclasses
    import functools

    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxexp import devices
    from jaxexp import study as tables
    from jaxexp.experiment import SupervisedState
    from jaxexp.program import key_stream, step_key

    trials, seeds = tables.table(tables.check(study)), tables.seeds(study)
    data = jax.device_put(study.data(study.config) if study.data else None)
    init, step, evaluate = study.experiment
    if evaluate is None or len(trials) % tile.trials or len(seeds) % tile.seeds:
        raise ValueError(f"a bare loop needs whole tiles of {tile.trials}x{tile.seeds} and something to evaluate")
    cursor = jax.eval_shape(init, jax.random.key(0), data, study.config).cursor
    epoch: Any = None if cursor is None else type(cursor)(0, None)
    # What a seed draws, its trials share; where an epoch stands, all do, or each step would shuffle.
    of_config, of_seed = SupervisedState(0, 0, None), SupervisedState(0, 0, epoch)

    def over_tile(function: Callable[..., Any], states: Sequence[Any], out: Sequence[Any]) -> Callable[..., Any]:
        by_config = jax.vmap(function, in_axes=(None, *states[:1], 0), out_axes=out[0])
        return jax.vmap(by_config, in_axes=(0, *states[1:], None), out_axes=out[1])

    states = (of_config, of_seed)

    # The data is an argument: XLA takes minutes to fold what it can compute of constants.
    @functools.partial(jax.jit, compiler_options=devices.compiler_options())
    def train(seeds: jax.Array, config: Any, data: Any) -> tuple[jax.Array, ...]:
        starting = over_tile(lambda seed, config: init(key_stream(seed, "init"), data, config), (), states)
        measuring = over_tile(lambda seed, state, config: evaluate(state, data, config)["test_loss"], states, (0, 0))

        def one_step(state: Any, number: jax.Array) -> tuple[Any, jax.Array]:
            def one(seed: jax.Array, state: Any, config: Any) -> tuple[Any, jax.Array]:
                state, metrics = step(step_key(seed, number), state, data, config)
                return state, metrics["loss"]

            return over_tile(one, states, ((of_config, 0), (of_seed, 0)))(seeds, state, config)

        state = starting(seeds, config)
        before = measuring(seeds, state, config)
        state, losses = jax.lax.scan(one_step, state, jnp.arange(study.num_steps))
        return before, losses, measuring(seeds, state, config)

    def run() -> np.ndarray:
        final = np.empty((len(seeds), len(trials)), np.float32)
        for first in range(0, len(trials), tile.trials):
            rows = slice(first, first + tile.trials)
            columns = {name: column[rows].astype(np.float32) for name, column in trials.columns.items()}
            config = dataclasses.replace(study.config, **columns)
            for second in range(0, len(seeds), tile.seeds):
                lanes = slice(second, second + tile.seeds)
                final[lanes, rows] = jax.device_get(train(seeds[lanes].astype(np.uint32), config, data))[2]
        return final

    return run


def alone(job: "Job", made: Any) -> Callable[[], list[Any]]:
    """Returns the function that calls a job's program for its batches and keeps records in memory, as a script would.

    Args:
        job: The job, of one group, whose runs need no more than one call holds.
        made: The group's compiled program.
    """
    import jax
    import numpy as np

    from jaxexp import engine
    from jaxexp.program import Clock

    num_steps, most = job.plan.study.num_steps, made.shape.num_tiles
    if len(job.plan.groups) > 1 or num_steps > engine.most_steps(job.plan, made):
        raise ValueError("a loop around the program needs one group, and runs that one call holds")

    def run() -> list[Any]:
        found = []
        for batch in job.pending:
            for first in range(0, len(batch.tiles), most):
                some = batch.tiles[first : first + most]
                tiles = engine.tile_arrays(job.plan, made, some)
                clock = Clock(*map(np.int32, (len(some), 0, num_steps, *job.plan.steps)))
                found.append(jax.device_get(made.call(made.blank, tiles, made.data, clock)[1]))
        return found

    return run


def measured(workload: str, repeats: int = 5) -> dict[str, Any]:
    """Returns the row of a workload.

    Args:
        workload: W1, W2, W3 or W4.
        repeats: How often both train it.
    """
    from benchmarks import workloads
    from jaxexp import engine, worker

    study = workloads.module(workload).study
    own, programs, scans = [], [], []
    with tempfile.TemporaryDirectory(prefix="jaxexp-overhead-") as folder, contextlib.ExitStack() as stack:
        began = time.perf_counter()
        jobs = [worker.prepare(study, Path(folder) / f"run-{repeat}") for repeat in range(repeats + 1)]
        prepared = (time.perf_counter() - began) / len(jobs)
        tile = jobs[0].plan.tile
        loop = bare(study, tile)
        began = time.perf_counter()
        program = stack.enter_context(engine.compiler(jobs[0].plan, jobs[0].lowered, [0]))
        program(0)
        compiled = time.perf_counter() - began
        for job in jobs:
            scans.append(_seconds(loop))
            programs.append(_seconds(alone(job, program(0))))
            own.append(_seconds(lambda job=job: _trained(job, program(0))))
    every = (own, programs, scans)
    wall, cpu = ([statistics.median(pair[kind] for pair in pairs[1:]) for pairs in every] for kind in (0, 1))
    return {
        "workload": workload,
        "num_runs": jobs[0].plan.num_runs,
        "tile": f"{tile.trials}x{tile.seeds}",
        "jaxexp_seconds": wall[0],
        "program_seconds": wall[1],
        "scan_seconds": wall[2],
        "overhead": wall[0] / wall[1] - 1,
        "cpu_overhead": cpu[0] / cpu[1] - 1,
        "over_scan": wall[0] / wall[2] - 1,
        "cpu_over_scan": cpu[0] / cpu[2] - 1,
        "prepare_seconds": prepared,
        "compile_seconds": compiled,
    }


def _trained(job: "Job", program: Any) -> None:
    """Trains a job as `worker.work` does, by a program that is compiled already."""
    from jaxexp import worker

    before = worker.shorter(job)
    for batch in job.pending:
        for _ in worker.one_batch(job, program, batch, before):
            pass


def _seconds(run: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


_NUMBERS = (
    *("jaxexp_seconds", "program_seconds", "overhead", "cpu_overhead"),
    *("scan_seconds", "over_scan", "cpu_over_scan", "prepare_seconds", "compile_seconds"),
)


def _lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The rows as a Markdown table."""
    yield (
        "| workload | runs | tile | jaxexp s | its program s | overhead | of CPU time | scan s | over it | of CPU time "
        "| planning s | compiling s |"
    )
    yield "|" + " --- |" * 12
    for row in rows:
        forms = {name: ".2f" if name.endswith("seconds") else ".1%" for name in _NUMBERS}
        cells = [row["workload"], f"{row['num_runs']:,}", row["tile"]]
        cells += [format(row[name], form) for name, form in forms.items()]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Measures what the command line asks for and prints a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="*", default=["W1"], help="of W1, W2, W3, W4; W1 where none")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    given = parser.parse_args()
    os.environ["NPROC"] = "1"  # before JAX starts, as the core
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from benchmarks import measurement

    document = measurement.document([measured(workload, given.repeats) for workload in given.workloads])
    table = "\n".join([document["device"], "", *_lines(document["rows"])])
    sys.stdout.write((json.dumps(document, indent=1) if given.json else table) + "\n")


if __name__ == "__main__":
    main()

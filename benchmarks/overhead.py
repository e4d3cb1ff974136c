"""What the engine and the store cost: `python -m benchmarks.overhead [W1 ...] [--repeats 5] [--cores 2] [--json]`.

jaxexp trains a workload into a new run folder, with claims, chunks and all. Beside it, two loops train the same tiles
and keep nothing: one calls jaxexp's own compiled program, which is what engine and store are measured against; one a
vmapped scan of the same experiment, which neither looks whether metrics are finite nor can be cut into segments. All
in one process, compiled before with the same options, whole sweeps in turns. With two cores jaxexp writes a batch on
one while the next trains on the other, as `jaxexp run` does before it is worth it to start a worker for each core;
`--cores 1` tells what such a worker has. Planning and loading the program, once a run whatever its length, have
columns of their own.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxexp.engine import Compiled
    from jaxexp.jobs import Job
    from jaxexp.plans import Batch, Tile
    from jaxexp.study import Study


def bare(study: "Study", tile: "Tile") -> Callable[[Any, Any], Any]:
    """Returns the function that trains one tile of a supervised study: `(trials, seeds) -> [num_seeds, num_trials]`.

    It takes the trials' numbers and the seeds, as many as the tile has, and returns final losses.

    Args:
        study: The study.
        tile: The (trials, seeds) that one call trains.
    """
    import dataclasses
    import functools

    import jax
    import jax.numpy as jnp

    from jaxexp import devices
    from jaxexp import study as tables
    from jaxexp.experiment import SupervisedState
    from jaxexp.program import key_stream, step_key

    trials = tables.table(tables.check(study))
    data = jax.device_put(study.data(study.config) if study.data else None)
    init, step, evaluate = study.experiment
    if evaluate is None:
        raise ValueError("a bare loop needs something to evaluate")
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

    def one_tile(rows: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        if (len(rows), len(seeds)) != tile:
            raise ValueError(f"a bare loop needs whole tiles of {tile.trials}x{tile.seeds}")
        columns = {name: column[rows].astype(np.float32) for name, column in trials.columns.items()}
        config = dataclasses.replace(study.config, **columns)
        return jax.device_get(train(seeds.astype(np.uint32), config, data))[2]

    return one_tile


def alone(job: "Job", made: "Compiled") -> Callable[["Batch"], Any]:
    """Returns the function that calls a job's program for a batch, to its end: its records, as a script has them.

    Args:
        job: The job, of one group, whose batches need no more than one call holds.
        made: The group's compiled program.
    """
    import jax

    from jaxexp import engine
    from jaxexp.program import Clock

    num_steps = job.plan.study.num_steps
    if len(job.plan.groups) > 1 or num_steps > engine.most_steps(job.plan, made):
        raise ValueError("a loop around the program needs one group, and runs that one call holds")

    def one_batch(batch: "Batch") -> Any:
        tiles = engine.tile_arrays(job.plan, made, batch.tiles)
        clock = Clock(*map(np.int32, (len(batch.tiles), 0, num_steps, *job.plan.steps)))
        return jax.device_get(made.call(made.blank, tiles, made.data, clock)[1])

    return one_batch


def measured(workload: str, repeats: int = 5) -> dict[str, Any]:
    """Returns the row of a workload.

    Args:
        workload: W1, W2, W3 or W4.
        repeats: How often both train it.
    """
    from benchmarks import workloads
    from jaxexp import engine, jobs

    study = workloads.module(workload).study
    spent = []  # of each repeat: wall and CPU seconds of jaxexp, of its program, of the scan
    with tempfile.TemporaryDirectory(prefix="jaxexp-overhead-") as folder, contextlib.ExitStack() as stack:
        began = time.perf_counter()
        ready = [jobs.prepare(study, Path(folder) / f"run-{repeat}") for repeat in range(repeats + 1)]
        prepared = (time.perf_counter() - began) / len(ready)
        tile = ready[0].plan.tile
        began = time.perf_counter()
        made = stack.enter_context(engine.compiler(ready[0].plan, ready[0].lowered, [0]))(0)
        compiled = time.perf_counter() - began
        by_program, by_scan = alone(ready[0], made), bare(study, tile)
        for number, job in enumerate(ready):
            turns = [
                lambda job=job: stored(job, made),
                lambda job=job: [by_program(batch) for batch in job.pending],
                lambda job=job: [by_scan(*tile) for batch in job.pending for tile in batch.tiles],
            ]
            seconds = {turn % 3: _seconds(turns[turn % 3]) for turn in range(number, number + 3)}
            spent.append([seconds[turn] for turn in range(3)])
    warm = np.array(spent[1:])
    wall = np.median(warm[..., 0], axis=0)
    over, cpu_over = (np.median(warm[:, :1] / warm[:, 1:], axis=0) - 1).T
    return {
        "workload": workload,
        "num_runs": ready[0].plan.num_runs,
        "tile": f"{tile.trials}x{tile.seeds}",
        "jaxexp_seconds": float(wall[0]),
        "program_seconds": float(wall[1]),
        "overhead": float(over[0]),
        "cpu_overhead": float(cpu_over[0]),
        "scan_seconds": float(wall[2]),
        "over_scan": float(over[1]),
        "cpu_over_scan": float(cpu_over[1]),
        "prepare_seconds": prepared,
        "compile_seconds": compiled,
    }


def stored(job: "Job", made: "Compiled") -> None:
    """Trains a job into its folder as `worker.work` does."""
    from jaxexp import claims, worker

    with contextlib.closing(claims.Queue(job.folder, job.plan.digest, job.pending)) as queue:
        for event in worker.train(job, lambda group: made, iter(queue.take, None)):
            if isinstance(event, worker.Committed):
                queue.done(event.batch)


def _seconds(train: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds of training a sweep."""
    wall, cpu = time.perf_counter(), time.process_time()
    train()
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
    parser.add_argument("--cores", type=int, default=2, help="that the process may use")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    given = parser.parse_args()
    os.environ["NPROC"] = "1"  # before JAX starts, as the cores
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    from benchmarks import measurement

    document = measurement.document(
        [{**measured(workload, given.repeats), "cores": len(os.sched_getaffinity(0))} for workload in given.workloads]
    )
    table = "\n".join([document["device"], "", *_lines(document["rows"])])
    sys.stdout.write((json.dumps(document, indent=1) if given.json else table) + "\n")


if __name__ == "__main__":
    main()

"""What the faults happen to: random walks, cheap to compile, of as many batches and as much work as is wanted."""

import json
import os
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

import jaxexp as jx
from jaxexp import checkpoints, engine, files, jobs, worker
from jaxexp.plans import Tile

ROOT = Path(__file__).resolve().parents[2]
NUM_RUNS, NUM_STEPS, CHECKPOINT_SECONDS = 30, 400, 0.1
SEGMENT_STEPS = 20  # on a fast machine too a batch is of so many segments that kills come between them
FAULTS = ("slow writes", "without rename", "without commit marker")


@jx.config
class Config:
    """A walk's stride."""

    rate: float = jx.dynamic(0.1)


def walk(num_trials: int = 8, num_seeds: int = 4, num_steps: int = 40, side: int = 1, blow_up: bool = False):
    """The study; `side` is that of a matrix whose square a step takes, hence its work."""

    def init(key, data, config):
        return {"x": jax.random.normal(key, (side, side))}

    def step(key, state, data, config):
        x = state["x"] + config.rate * jax.random.normal(key, (side, side))
        x = x + 1e-6 * jnp.tanh(x @ x)
        if blow_up:
            x = jnp.where(config.rate > 1, x * 1e9, x)
        return {"x": x}, {"mean": x.mean()}

    def evaluate(state, data, config):
        return {"largest": state["x"].max()}

    return jx.Study(
        experiment=jx.Experiment(init, step, evaluate),
        config=Config(),
        sweep=jx.grid(rate=jx.linspace(0.1, 0.9, num_trials)) if not blow_up else jx.grid(rate=(0.1, 0.5, 1.5)),
        seeds=num_seeds,
        num_steps=num_steps,
        evaluate_every=10,
    )


def code(*lines: str) -> list[str]:
    """The command line of a process that runs these lines, with this module at hand as `studies`."""
    head = f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(ROOT)!r}]\nimport studies\n"
    return [sys.executable, "-c", head + "\n".join(lines)]


def work(folder: str, log: str, fault: str = "") -> None:
    """Trains `NUM_RUNS` walks of `NUM_STEPS`, a batch each, and tells a log of what is done, as soon as it is.

    A line is [process, "segment" or "checkpoint" or "committed", batch, step, num_steps, seconds].

    Args:
        folder: The run folder.
        log: The log, which several processes may share.
        fault: One of `FAULTS`, all with a checkpoint every `CHECKPOINT_SECONDS`; or none, without checkpoints.
    """
    with Path(log).open("a", buffering=1) as lines:

        def tell(what, batch, step, num_steps=0, seconds=0.0):
            lines.write(json.dumps([os.getpid(), what, batch.name, step, num_steps, seconds]) + "\n")

        train, write = engine.train, checkpoints.write

        def trained(*given, **options):
            for event in train(*given, **options):
                if isinstance(event, engine.Segment):  # told before anything is written of it
                    tell("segment", event.batch, event.step, event.num_steps, event.seconds)
                yield event

        def checkpointed(folder, digest, segment, environment):
            write(folder, digest, segment, environment)
            tell("checkpoint", segment.batch, segment.step)

        engine.train, checkpoints.write = trained, checkpointed
        engine._adapted = lambda *timing: SEGMENT_STEPS
        if fault:
            worker.CHECKPOINT_SECONDS = CHECKPOINT_SECONDS
            _break_writing(fault)
        study = walk(num_trials=NUM_RUNS // 5, num_seeds=5, num_steps=NUM_STEPS, side=220)
        for event in worker.work(jobs.prepare(study, Path(folder), tile=Tile(1, 1))):
            if isinstance(event, worker.Committed):
                tell("committed", event.batch, NUM_STEPS)


def _break_writing(fault: str) -> None:
    """Makes writing slow between content and rename; or what must not be: a chunk has its name before it is whole."""
    write, sync = files.write, os.fsync

    def slow(descriptor):
        sync(descriptor)
        time.sleep(0.03)

    def half(path, content):
        if path.parent.name != "chunks":
            write(path, content)
            return
        with path.open("wb") as file:
            if fault == "without rename":
                file.write(content[: len(content) // 2])
            file.flush()
            time.sleep(0.5)
            file.seek(0)
            file.write(content)

    if fault == "slow writes":
        os.fsync = slow
    else:
        files.write = half


TILE, STUDY = Tile(2, 2), walk(4, 4)


def finished(folder: Path) -> Path:
    """Trains `STUDY` into a folder, and returns it."""
    worker.run(STUDY, folder, tile=TILE)
    return folder


def chunks(folder: Path) -> dict[str, bytes]:
    """The content of a folder's chunks by name."""
    return {path.name: path.read_bytes() for path in sorted((folder / "chunks").glob("*.npz"))}

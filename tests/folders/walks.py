"""A study of walks in an experiment file, for tests of run folders; its programs are compiled once for all of them."""

from pathlib import Path

import jaxexp as jx
from jaxexp import catalog, jobs, worker
from jaxexp.plans import Tile

TILE = Tile(2, 2)
WALK = '''"""How far does a walk get?"""

import jax
import jax.numpy as jnp
import numpy as np

import jaxexp as jx

DATA = (0.0, 1.0, 3.0)


@jx.config
class Config:
    rate: float = 0.5
    width: int = 1


def init(key, data, config):
    return jax.random.uniform(key, (config.width,))


@jax.jit
def pulled(state, data):
    return jnp.mean(data) - state


def step(key, state, data, config):
    """Goes a step."""
    pull = 0.25 * config.rate * pulled(state, data)
    state = state + pull + jax.random.normal(key, state.shape)
    return state, {"distance": jnp.sum(state**2)}


def evaluate(state, data, config):
    return {"end": jnp.sum(state)}


study = jx.Study(
    experiment=jx.Experiment(init, step, evaluate),
    config=Config(),
    sweep=jx.grid(rate=(0.5, 1.0, 2.0), width=(1, 2)),
    seeds=4,
    num_steps=20,
    evaluate_every=5,
    log_every=3,
    data=lambda config: np.asarray(DATA, np.float32),
)
'''


def load(folder: Path, text: str = WALK) -> catalog.Loaded:
    folder.mkdir(exist_ok=True)
    (folder / "walk.py").write_text(text)
    return catalog.load(str(folder / "walk.py"))


def source(loaded: catalog.Loaded) -> jobs.Source:
    return jobs.Source(loaded.name, loaded.text, loaded.path.parent)


def finish(study: jx.Study, folder: Path) -> list[tuple[int, int]]:
    """Trains what is left, and returns the runs (trial, seed) that were trained for it."""
    events = worker.work(jobs.prepare(study, folder, tile=TILE), keep_state=True)
    results = [event.result for event in events if isinstance(event, worker.Committed) and event.result]
    return [(int(t), int(s)) for result in results for t, s in zip(result.trial, result.seed, strict=True)]


def chunks(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "chunks").glob("[0-9]*.npz"))}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted((folder / "chunks").glob("[0-9]*.npz"))}

"""Memory: what is predicted from two narrow programs is what the wide one takes; too little narrows the tile."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxexp as jx
from jaxexp import catalog, devices, engine, memory, plans, worker
from jaxexp.errors import OutOfMemoryError
from jaxexp.plans import Tile

ROOT = Path(__file__).parents[1]
WORKLOADS = ("w1_xor", "w2_spiral", "w3_digits", "w4_convolution")


@pytest.mark.slow
@pytest.mark.parametrize("tile", [Tile(4, 8), Tile(8, 2), Tile(4, 4)])
@pytest.mark.parametrize("name", WORKLOADS)
def test_the_prediction_is_within_5_percent(name, tile):
    study = catalog.load(str(ROOT / "benchmarks" / f"{name}.py")).study
    plan = plans.plan(study, tile=tile)
    expected = engine.num_bytes(engine.lower(plan, 0).compile())
    assert memory.predicted(plan, 0).total == pytest.approx(expected, rel=0.05)


def test_a_small_program_is_predicted_as_well():
    plan = plans.plan(walk(width=1000), tile=Tile(2, 8))
    found = memory.predicted(plan, 0)
    assert found.total == pytest.approx(engine.num_bytes(engine.lower(plan, 0).compile()), rel=0.05)
    assert found.total == found.fixed + 8 * found.each


@jx.config
class Config:
    size: float = 0.1


def walk(width):
    """Runs whose state has `width` numbers."""

    def init(key, data, config):
        return np.ones(width, np.float32) * config.size

    def step(key, state, data, config):
        return state * 0.5, {"loss": (state**2).sum()}

    experiment = jx.Experiment(init, step)
    return jx.Study(experiment=experiment, config=Config(), sweep=jx.grid(size=(0.1, 0.2)), seeds=4, num_steps=3)


def limited(monkeypatch, lanes_that_fit, study):
    """Leaves only as much memory as so many lanes need."""
    plan = plans.plan(study, tile=Tile(1, lanes_that_fit))
    needed = engine.num_bytes(engine.lower(plan, 0).compile())
    monkeypatch.setattr(devices, "available_bytes", lambda: needed + 1000)


@pytest.mark.parametrize("stored", [False, True])
def test_too_little_memory_narrows_the_tile_and_changes_no_run_s_bits(monkeypatch, tmp_path, stored):
    study = walk(10_000)
    expected = jx.run(study, tile=Tile(1, 2))
    limited(monkeypatch, 2, study)
    folder = tmp_path / "walk" if stored else None
    dataset = jx.run(study, folder, tile=Tile(2, 4))
    np.testing.assert_array_equal(dataset.loss, expected.loss)
    assert not stored or Tile(*worker.store.record(folder)["tile"]) in (Tile(1, 2), Tile(2, 1))


def test_a_single_run_that_does_not_fit_is_an_error(monkeypatch):
    monkeypatch.setattr(devices, "available_bytes", lambda: 10)
    with pytest.raises(OutOfMemoryError, match="a single run does not fit"):
        jx.run(walk(10), tile=Tile(2, 2))


def test_results_in_a_wider_tile_are_not_joined_by_others(monkeypatch, tmp_path):
    study = walk(10)
    jx.run(study, tmp_path / "walk", tile=Tile(2, 2))
    monkeypatch.setattr(devices, "available_bytes", lambda: 10)
    with pytest.raises(OutOfMemoryError, match="which other bits must not join"):
        jx.run(study.replace(seeds=8), tmp_path / "walk")


LIMITED = """
import resource, sys
from pathlib import Path
import jaxexp as jx
sys.path.insert(0, {tests!r})
from test_memory import walk
from jaxexp import devices
from jaxexp.plans import Tile
jx.run(walk(4), tile=Tile(1, 1))  # all threads and libraries are there before the limit
devices.available_bytes = lambda: 2**50  # what is planned ahead shall not see it coming
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + {room}, taken + {room}))
dataset = jx.run(walk(2**24), Path({folder!r}), tile=Tile(2, 4))
assert (dataset.status == 0).all()
"""


def test_a_real_limit_narrows_the_tile(tmp_path):
    """One lane's state is 64 MiB: 8 lanes, twice or thrice, do not fit into 900 MB, 1 or 2 do."""
    folder = tmp_path / "walk"
    code = LIMITED.format(tests=str(ROOT / "tests"), folder=str(folder), room=900_000_000)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)
    tile = Tile(*worker.store.record(folder)["tile"])
    assert 1 <= tile.trials * tile.seeds < 8

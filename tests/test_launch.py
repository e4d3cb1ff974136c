"""Worker processes: the same bytes as one process alone, also when one of them is killed."""

import os
import signal

import pytest

from jaxexp import catalog, launch, worker
from jaxexp.worker import Committed

EXPERIMENT = '''"""A walk."""
import jax
import jaxexp as jx

@jx.config
class Config:
    size: float = 0.1
    width: int = 4

def init(key, data, config):
    return jax.random.normal(key, (config.width,))

def step(key, state, data, config):
    return state + config.size * jax.random.normal(key, state.shape), {"loss": (state**2).sum()}

study = jx.Study(
    experiment=jx.Experiment(init, step), config=Config(), sweep=jx.grid(size=(0.1, 0.2, 0.3), width=(2, 4)),
    seeds=8, num_steps=20_000, log_every=1000,
)
'''


@pytest.fixture
def order(tmp_path):
    path = tmp_path / "walk.py"
    path.write_text(EXPERIMENT)
    return launch.Order(str(path), False, [], None)


def chunks(folder):
    return {path.name: path.read_bytes() for path in (folder / "chunks").iterdir()}


@pytest.fixture
def alone(order, tmp_path):
    study = catalog.load(order.path).study
    worker.run(study, tmp_path / "alone", tile=launch.worker.Tile(1, 2))
    return chunks(tmp_path / "alone")


def shared(order, folder, monkeypatch, on_event=lambda number: None):
    monkeypatch.setattr(launch, "_WORTH_SECONDS", 0.0)
    monkeypatch.setattr(launch, "_MEASURE_SECONDS", 0.0)
    job = worker.prepare(catalog.load(order.path).study, folder, tile=worker.Tile(1, 2))
    by_others = 0
    for number, event in enumerate(launch.spread(job, order, 2)):
        by_others += isinstance(event, Committed) and event.result is None
        on_event(number)
    return by_others


def test_two_processes_write_the_bytes_of_one(order, alone, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "_all_ready", lambda hands: wait_for_all(hands))
    assert shared(order, tmp_path / "shared", monkeypatch) > 10
    assert chunks(tmp_path / "shared") == alone


def wait_for_all(hands):
    for hand in hands:
        if not hand.ready:
            hand.ready = any("ready" in said for said in hand.heard())
    return True


def test_a_killed_worker_is_replaced_and_nothing_changes(order, alone, tmp_path, monkeypatch):
    started = []

    def ready(hands):
        started.extend(hands)
        return wait_for_all(hands)

    def kill_once(number):
        if started and number % 7 == 6 and started[0].process.poll() is None:
            os.kill(started[0].process.pid, signal.SIGKILL)

    monkeypatch.setattr(launch, "_all_ready", ready)
    assert shared(order, tmp_path / "shared", monkeypatch, kill_once) > 10
    assert started[0].process.returncode == -signal.SIGKILL
    assert chunks(tmp_path / "shared") == alone

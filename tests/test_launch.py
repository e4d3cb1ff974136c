"""Worker processes: the same bytes as one process alone, also when one of them is killed."""

import io
import json
import os
import queue
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from jaxexp import catalog, jobs, launch, worker, worker_process
from jaxexp.errors import JaxexpError
from jaxexp.plans import Tile
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
    worker.run(study, tmp_path / "alone", tile=Tile(1, 2))
    return chunks(tmp_path / "alone")


def asked(order, job) -> dict:
    """What a worker is told first."""
    return {**order._asdict(), "folder": str(job.folder), "plan": job.plan.digest, "core": None, "digests": job.digests}


def started(told: dict) -> subprocess.Popen:
    """A worker process that has its order."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-m", "jaxexp.worker_process"], **pipes, text=True)
    process.stdin.write(json.dumps(told) + "\n")
    process.stdin.flush()
    return process


def shared(order, folder, monkeypatch, on_event=lambda number: None):
    monkeypatch.setattr(launch, "_WORTH_SECONDS", 0.0)
    monkeypatch.setattr(launch, "_MEASURE_SECONDS", 0.0)
    job = jobs.prepare(catalog.load(order.path).study, folder, tile=Tile(1, 2))
    by_others = 0
    for number, event in enumerate(launch.spread(job, order, 2)):
        by_others += isinstance(event, Committed) and event.result is None
        on_event(number)
    return by_others


@pytest.fixture
def hired(monkeypatch):
    """The worker processes of a job, which waits until they are ready."""
    hire, hands = launch._Crew.hire, []

    def hire_and_wait(crew):
        hire(crew)
        hands.extend(crew.hands)
        while not all(hand.ready for hand in crew.hands):
            assert list(crew.heard(0.1)) == []

    monkeypatch.setattr(launch._Crew, "hire", hire_and_wait)
    return hands


def test_two_processes_write_the_bytes_of_one(order, alone, tmp_path, monkeypatch, hired):
    by_others = shared(order, tmp_path / "shared", monkeypatch)
    assert len(hired) == 1, "the calling process trains as well"
    assert 0 < by_others < len(alone)
    assert chunks(tmp_path / "shared") == alone


def test_a_killed_worker_is_replaced_and_nothing_changes(order, alone, tmp_path, monkeypatch, hired):
    def kill_once(number):
        if hired and number % 7 == 6 and hired[0].process.poll() is None:
            os.kill(hired[0].process.pid, signal.SIGKILL)

    shared(order, tmp_path / "shared", monkeypatch, kill_once)
    assert hired[0].process.returncode == -signal.SIGKILL
    assert chunks(tmp_path / "shared") == alone


def test_what_a_worker_had_committed_before_it_died_counts_as_trained_here(order, tmp_path):
    job = jobs.prepare(catalog.load(order.path).study, tmp_path / "run", tile=Tile(1, 2))
    crew = launch._Crew(job, order, [0])
    batches = [crew.queue.take(), crew.queue.take()]
    for _ in worker.work(job, batches[:1]):
        pass
    crew.suspects.update(batch.name for batch in batches)  # of a death before
    dead = SimpleNamespace(batches=list(batches), ready=True, close=lambda: None, output=io.BytesIO())
    dead.process = SimpleNamespace(wait=lambda: -signal.SIGKILL)
    assert list(crew._bury(dead)) == [Committed(batches[0], None, own=True)]
    assert crew.suspects == {batches[1].name}
    assert crew.pending == [batch for batch in job.pending if batch is not batches[0]]
    crew.end()


def test_while_a_dead_worker_s_batches_are_not_done_none_has_one_that_waits(order, tmp_path):
    job = jobs.prepare(catalog.load(order.path).study, tmp_path / "run", tile=Tile(1, 2))
    crew, batches = launch._Crew(job, order, [0]), []
    dead = SimpleNamespace(batches=[crew.queue.take()], ready=True, close=lambda: None, output=io.BytesIO())
    dead.process = SimpleNamespace(wait=lambda: -signal.SIGKILL)
    assert list(crew._bury(dead)) == []
    crew.hands = [SimpleNamespace(batches=batches, ready=True, ended=False, heard=list, give=batches.append)]
    assert list(crew._events(0)) == []
    assert batches == list(job.pending[:1]) == dead.batches
    crew.done(batches.pop())
    assert list(crew._events(0)) == []
    assert batches == list(job.pending[1:3])
    crew.hands.clear()
    crew.end()


def test_afterwards_the_process_may_use_all_cores_again(order, tmp_path, monkeypatch, hired):
    before = os.sched_getaffinity(0)
    shared(order, tmp_path / "shared", monkeypatch)
    assert hired
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("seed", range(3))
def test_batches_taken_in_any_order_write_the_same_bytes(order, alone, tmp_path, seed):
    job = jobs.prepare(catalog.load(order.path).study, tmp_path / "shuffled", tile=Tile(1, 2))
    batches = list(job.pending)
    random.Random(seed).shuffle(batches)
    assert [event.batch.name for event in worker.work(job, batches) if isinstance(event, Committed)] == [
        batch.name for batch in batches
    ]
    assert chunks(tmp_path / "shuffled") == alone


def test_a_worker_that_dies_before_it_is_ready_is_started_again(order, alone, tmp_path, monkeypatch):
    started, make = [], launch._Hand

    def first_dies(*arguments):
        hand = make(*arguments)
        started.append(hand)
        if len(started) == 1:
            hand.process.kill()
            hand.process.wait()
        return hand

    monkeypatch.setattr(launch, "_Hand", first_dies)
    shared(order, tmp_path / "shared", monkeypatch)
    assert len(started) == 2
    assert chunks(tmp_path / "shared") == alone


def test_a_worker_that_is_told_to_stop_begins_no_other_batch(order, tmp_path, monkeypatch):
    job = jobs.prepare(catalog.load(order.path).study, tmp_path / "run", tile=Tile(1, 2))
    lines, said = queue.Queue(), []
    for line in (job.pending[0].name, job.pending[1].name, worker_process.STOP):
        lines.put(line)
    monkeypatch.setattr(worker_process, "_say", said.append)
    worker_process._serve(asked(order, job), lines)
    assert said == [{"ready": os.getpid()}]


def test_a_worker_whose_starter_is_killed_ends_without_a_word(order, tmp_path):
    job = jobs.prepare(catalog.load(order.path).study, tmp_path / "run", tile=Tile(1, 2))
    with started(asked(order, job)) as process:
        assert "ready" in process.stdout.readline()
        process.stdout.close()
        process.stdin.write(f"{job.pending[0].name}\n")
        process.stdin.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 0


def test_what_an_experiment_prints_is_not_taken_for_a_worker_s_word(order, tmp_path):
    path = Path(order.path)
    printing = "import os, jax\nprint('loading', flush=True)\nos.system('echo from below')\n"
    told = "def step(key, state, data, config):\n    print('tracing')\n"
    text = path.read_text().replace("import jax\n", printing, 1)
    path.write_text(text.replace("def step(key, state, data, config):\n", told))
    job = jobs.prepare(catalog.load(order.path).study, tmp_path / "run", tile=Tile(1, 2))
    with started(asked(order, job)) as process:
        process.stdin.write(f"{job.pending[0].name}\n")
        process.stdin.flush()
        while "committed" not in (said := json.loads(process.stdout.readline())):
            pass
        process.stdin.close()
        printed = process.stderr.read().split()
    assert said == {"committed": job.pending[0].name}
    assert {"loading", "below", "tracing"} <= set(printed)


def test_a_worker_that_cannot_load_the_experiment_says_so_in_one_line(order, tmp_path):
    job = jobs.prepare(catalog.load(order.path).study, tmp_path / "run", tile=Tile(1, 2))
    Path(order.path).unlink()
    with started(asked(order, job)) as process:
        said, rest = json.loads(process.stdout.readline()), process.stdout.read()
        assert (process.stderr.read(), rest) == ("", "")
    assert said["error"].startswith("another process cannot join in: ")
    assert str(order.path) in said["error"]


def test_while_no_worker_answers_the_caller_can_stop(order, tmp_path, hired):
    job = jobs.prepare(catalog.load(order.path).study, tmp_path / "run", tile=Tile(1, 2))
    crew = launch._Crew(job, order, sorted(os.sched_getaffinity(0))[:2])
    crew.hire()
    hired[0].process.send_signal(signal.SIGSTOP)
    try:
        hired[0].give(job.pending[0])
        assert next(crew.heard(None)) is None
    finally:
        hired[0].process.kill()
        crew.end()


def test_workers_that_never_start_end_the_job_with_what_to_do(order, tmp_path, monkeypatch):
    make = launch._Hand

    def dies(*arguments):
        hand = make(*arguments)
        hand.process.kill()
        hand.process.wait()
        return hand

    monkeypatch.setattr(launch, "_Hand", dies)
    with pytest.raises(JaxexpError, match="run with --workers 1 to see why"):
        shared(order, tmp_path / "shared", monkeypatch)

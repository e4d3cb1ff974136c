"""SIGTERM and Ctrl-C, while one or two processes train: in time, without a traceback, and the same bytes afterwards."""

import contextlib
import importlib.machinery
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import studies
from studies import ROOT

from jaxexp import checkpoints, foreground, jobs, signals
from jaxexp.errors import Interrupted, StoreError
from jaxexp.launch import Order

FOLDER = "results/walks/default"
EXPERIMENT = f'''"""Where do walks end?"""

import sys

sys.path.insert(0, {str(Path(__file__).parent)!r})
import studies

study = studies.walk(8, 4, num_steps=NUM_STEPS, side=220)
'''


@pytest.fixture(autouse=True)
def hang_ups_are_heard():
    """Where the tests themselves run under nohup, processes would inherit that they are not."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def prepared(folder: Path, num_steps: int) -> Path:
    (folder / "experiments").mkdir(parents=True)
    (folder / "experiments" / "walks.py").write_text(EXPERIMENT.replace("NUM_STEPS", str(num_steps)))
    return folder


def started(folder: Path, workers: int, before: tuple[str, ...] = ()) -> subprocess.Popen:
    command = [*before, sys.executable, "-m", "jaxexp", "run", "walks", "--tile", "1x1", "--workers", str(workers)]
    path = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"] if before else "", "HOME": str(folder)}
    with (folder / "told").open("w") as told:
        return subprocess.Popen(command, cwd=folder, env=path, stdout=subprocess.DEVNULL, stderr=told)


def claimed(folder: Path) -> int:
    return len(list((folder / FOLDER / "claims").glob("[0-9]*")))


def chunks(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / FOLDER / "chunks").glob("[0-9]*.npz"))}


def listens(process: subprocess.Popen) -> bool:
    """Whether the process has a handler for SIGTERM: not before it is set, nor while Python ends."""
    caught = re.search(r"^SigCgt:\t(\w+)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def wait_until(happened) -> None:
    until = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "workers", "num_steps"),
    [(signal.SIGTERM, 143, 1, 1000), (signal.SIGTERM, 143, 2, 1500), (signal.SIGINT, 130, 1, 1000)],
)
def test_a_signal_ends_it_after_the_segment_and_changes_no_byte(tmp_path, number, code, workers, num_steps):
    folder = prepared(tmp_path / "stopped", num_steps)
    process = started(folder, workers)
    wait_until(lambda: len(chunks(folder)) >= 1 and claimed(folder) >= workers)
    time.sleep(0.4)  # into the middle of a batch: at its end there is nothing to checkpoint
    began = time.monotonic()
    process.send_signal(number)
    process.wait(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode == code
    stderr = (folder / "told").read_text()
    assert f"To go on:\n  python -m jaxexp run walks --tile 1x1 --workers {workers}" in stderr
    assert "Traceback" not in stderr
    assert list((folder / FOLDER / "checkpoints").glob("[0-9]*.npz"))
    assert claimed(folder) == 0
    again, whole = started(folder, workers), started(prepared(tmp_path / "whole", num_steps), 1)
    assert [process.wait(timeout=500) for process in (again, whole)] == [0, 0]
    assert chunks(folder) == chunks(tmp_path / "whole")


@pytest.mark.slow
def test_ctrl_c_twice_ends_now(tmp_path):
    folder = prepared(tmp_path, 400)
    process = started(folder, 1)
    wait_until(lambda: len(chunks(folder)) >= 1)
    before = chunks(folder)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    process.wait(timeout=60)
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert "Traceback" not in (folder / "told").read_text()
    assert before.items() <= chunks(folder).items()
    assert started(folder, 1).wait(timeout=300) == 0
    assert len(chunks(folder)) == 32


LONG = """
import jax
import jaxexp as jx

@jx.config
class Config:
    rate: float = 0.1

def init(key, data, config):
    return jax.random.normal(key, (200, 200))

def step(key, state, data, config):
    state = jax.lax.fori_loop(0, 10**6, lambda _, x: x @ x * config.rate, state)
    return state, {"mean": state.mean()}

study = jx.Study(experiment=jx.Experiment(init, step), config=Config(), seeds=1, num_steps=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("numbers", "code", "least", "most"),
    [((signal.SIGTERM,), 143, 5, 10), ((signal.SIGHUP,), 129, 5, 10), ((signal.SIGINT, signal.SIGINT), 130, 0, 3)],
)
def test_in_the_middle_of_a_step_of_minutes_it_ends_in_time_too(tmp_path, numbers, code, least, most):
    """Python meets no signal in compiled code; a first Ctrl-C waits for the step's end, and a second one does not."""
    folder = prepared(tmp_path, 1)
    (folder / "experiments" / "walks.py").write_text(LONG)
    process = started(folder, 1)
    wait_until(lambda: claimed(folder) >= 1)
    time.sleep(3)  # into the step
    for number in numbers[:-1]:
        process.send_signal(number)
        time.sleep(2)
        assert process.poll() is None, "the step goes on"
    began = time.monotonic()
    process.send_signal(numbers[-1])
    assert process.wait(timeout=60) == code
    assert least < time.monotonic() - began < most
    told = (folder / "told").read_text()
    assert "stopped at once; what was committed is kept" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_sigterm_ends_in_time_while_a_worker_does_not_answer(tmp_path):
    folder = prepared(tmp_path, 1500)
    process = started(folder, 2)
    wait_until(lambda: claimed(folder) >= 2)
    (hand,) = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(hand), signal.SIGSTOP)
    try:
        time.sleep(2)
        began = time.monotonic()
        process.terminate()
        assert process.wait(timeout=60) == 143
        assert time.monotonic() - began < 10
    finally:
        os.kill(int(hand), signal.SIGKILL)
    assert "Traceback" not in (folder / "told").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_at_any_moment_end_it_with_its_code_and_no_traceback(tmp_path, number, code):
    """While it imports, plans, traces, compiles, trains or reports; while Python starts or ends, by the default."""
    folder, codes, listening = prepared(tmp_path, 40), [], []
    for delay in np.linspace(0.15, 4, 15):
        process = started(folder, 1)
        time.sleep(delay)
        listening.append(listens(process))
        process.send_signal(number)
        codes.append(process.wait(timeout=60))
        if listening[-1]:  # before, while Python itself starts, its traceback is not ours
            assert "Traceback" not in (folder / "told").read_text(), delay
    assert set(codes) <= {code, -number, 0}
    assert codes.count(code) >= 3
    heard = [each for each, listened in zip(codes, listening, strict=True) if listened]
    assert heard.count(-number) <= 1, "one may have begun to end between the look and the signal"
    assert started(folder, 1).wait(timeout=500) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_heard_where_nobody_reads_what_is_said(tmp_path, number):
    """As in `jaxexp run ... 2>&1 | tee log`, where Ctrl-C ends the reader too, or in a terminal that is closed."""
    folder = prepared(tmp_path, 4000)
    command = [sys.executable, "-m", "jaxexp", "run", "walks", "--tile", "1x1", "--workers", "1"]
    path = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(folder)}
    process = subprocess.Popen(command, cwd=folder, env=path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_until(lambda: claimed(folder) >= 1)
    time.sleep(2)
    assert process.stdout is not None
    process.send_signal(signal.SIGSTOP)  # or it could notice that nobody reads before the signal comes
    process.stdout.close()
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=60) == 128 + number
    assert list((folder / FOLDER / "checkpoints").glob("[0-9]*.npz"))
    assert claimed(folder) == 0


@pytest.mark.slow
def test_what_nohup_started_outlives_the_terminal(tmp_path):
    process = started(prepared(tmp_path, 40), 1, before=("nohup",))
    wait_until(lambda: claimed(tmp_path) >= 1)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=300) == 0


def called(monkeypatch, module, *arguments):
    """Makes this process one that was started otherwise: of a module by its name, or of a file where that is None."""
    spec = None if module is None else importlib.machinery.ModuleSpec(module, None)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    monkeypatch.setattr(sys, "argv", list(arguments))


def test_the_command_that_goes_on_does_not_start_over(monkeypatch):
    called(monkeypatch, None, "/x/jaxexp", "run", "walks", "--fresh", "--name", "a b")
    assert signals.command() == "jaxexp run walks --fresh --name 'a b'"
    assert signals.command(fresh=False) == "jaxexp run walks --name 'a b'"


@pytest.mark.parametrize(
    ("module", "started", "said"),
    [
        ("jaxexp.__main__", "/x/jaxexp/__main__.py", "python -m jaxexp"),
        ("experiments.walks", "/x/experiments/walks.py", "python -m experiments.walks"),
        (None, "walks.py", "python walks.py"),
        (None, "/x/my walks.py", "python '/x/my walks.py'"),
    ],
)
def test_the_command_that_goes_on_starts_as_this_one_did(monkeypatch, module, started, said):
    called(monkeypatch, module, started, "seeds=8")
    assert signals.command() == f"{said} seeds=8"


def test_a_signal_while_the_disk_is_full_ends_with_its_code_and_says_what_is_lost(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def heard(told):
        yield [int(signal.SIGTERM)]

    def full(*given):
        raise StoreError("cannot write it: No space left on device")

    monkeypatch.setattr(signals, "heard", heard)
    monkeypatch.setattr(checkpoints, "write", full)
    job = jobs.prepare(studies.walk(2, 2), tmp_path / "run")
    with pytest.raises(Interrupted, match=r"in flight is lost: cannot write it: No space.*To go on:") as stop:
        foreground.train(job, Order("", False, [], None), 1, quiet=True)
    assert stop.value.number == signal.SIGTERM

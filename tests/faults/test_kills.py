"""kill -9 at any time, several processes on one folder, and controls that show that these tests see faults."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import studies

import jaxexp as jx
from jaxexp import claims, jobs, store, worker
from jaxexp.errors import MismatchError, StoreError
from jaxexp.plans import Tile

TILE = Tile(1, 1)
SIZE = "num_trials=12, num_seeds=5, num_steps=40, side=220"
WORK = f"""
from pathlib import Path
from jaxexp import files, jobs, store, worker
from jaxexp.plans import Tile
folder, log = Path(sys.argv[1]), open(sys.argv[2], "a", buffering=1)
CONTROL = sys.argv[3] if len(sys.argv) > 3 else ""
whole = files.write
def half(path, content):
    "What must not be: a chunk under its final name before it is whole."
    if path.parent.name != "chunks":
        return whole(path, content)
    with path.open("wb") as file:
        if CONTROL == "without rename":
            file.write(content[: len(content) // 2])
        file.flush()
        time.sleep(0.2)
        file.seek(0)
        file.write(content)
if CONTROL:
    import time
    files.write = half
print("ready", flush=True)
job = jobs.prepare(studies.walk({SIZE}), folder, tile=Tile(1, 1))
for event in worker.work(job):
    if isinstance(event, worker.Committed):
        log.write(event.batch.name + "\\n")
"""


def started(folder: Path, log: Path, control: str = "") -> subprocess.Popen:
    process = subprocess.Popen([*studies.code(WORK), str(folder), str(log), control], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == b"ready\n"
    return process


def tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "chunks").glob("[0-9]*.npz"))}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    process = started(folder / "run", folder / "log")
    assert process.wait(timeout=300) == 0
    return tables(folder / "run")


@pytest.mark.slow
def test_sixty_kills_change_no_byte_and_lose_nothing(tmp_path, uninterrupted):
    folder, log, draw = tmp_path / "run", tmp_path / "log", random.Random(0)
    acknowledged: set[str] = set()
    for _ in range(60):
        process = started(folder, log)
        time.sleep(draw.uniform(0.2, 1.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
        told = set(log.read_text().split()) if log.exists() else set()
        assert told <= {name.split("-")[0] for name in tables(folder)}
        assert acknowledged <= told
        acknowledged = told
        assert list(store.damaged(folder)) == []
    assert started(folder, log).wait(timeout=300) == 0
    assert tables(folder) == uninterrupted
    executed = log.read_text().split()
    assert len(executed) == len(set(executed)), "a committed batch was done again"


@pytest.mark.slow
@pytest.mark.parametrize("control", ["without rename", "without commit marker"])
def test_the_controls_are_seen(tmp_path, control):
    folder, log, draw = tmp_path / "run", tmp_path / "log", random.Random(1)
    for _ in range(20):
        process = started(folder, log, control)
        time.sleep(draw.uniform(1.2, 2.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if list(store.damaged(folder)):
            return
    pytest.fail("no half chunk was seen in 20 kills")


@pytest.mark.slow
def test_four_processes_divide_a_folder_with_kills_among_them(tmp_path, uninterrupted):
    folder, draw = tmp_path / "run", random.Random(2)
    logs = [tmp_path / f"log-{number}" for number in range(4)]
    processes = [started(folder, log) for log in logs]
    for _ in range(6):
        time.sleep(draw.uniform(0.3, 1.0))
        victim = draw.randrange(4)
        processes[victim].send_signal(signal.SIGKILL)
        processes[victim].wait()
        processes[victim] = started(folder, logs[victim])
    assert [process.wait(timeout=300) for process in processes] == [0] * 4
    assert tables(folder) == uninterrupted
    executed = [name for log in logs for name in log.read_text().split()]
    assert len(executed) == len(set(executed)), "a committed batch was done again"
    assert list(claims.held(folder)) == []


def test_a_second_study_on_the_same_folder_is_refused(tmp_path):
    worker.run(studies.walk(2, 2), tmp_path / "run", tile=TILE)
    before = tables(tmp_path / "run")
    with pytest.raises(MismatchError, match="was trained by another program"):
        worker.run(studies.walk(2, 2, side=2), tmp_path / "run")
    assert tables(tmp_path / "run") == before


def test_of_two_that_begin_at_once_one_program_is_refused(tmp_path):
    lines = """
from pathlib import Path
from jaxexp import errors, jobs, worker
try:
    worker.run(studies.walk(3, 3, side=int(sys.argv[2])), Path(sys.argv[1]))
except errors.MismatchError:
    sys.exit(7)
"""
    both = [subprocess.Popen([*studies.code(lines), str(tmp_path / "run"), side]) for side in ("1", "2")]
    assert sorted(process.wait(timeout=120) for process in both) == [0, 7]
    assert int((jx.load(tmp_path / "run")["status"] != 0).sum()) == 0


def test_fresh_is_refused_while_another_process_works(tmp_path):
    study = studies.walk(2, 2)
    job = jobs.prepare(study, tmp_path / "run", tile=TILE)
    work = worker.work(job)
    next(work)
    with pytest.raises(StoreError, match="is in use: another process trains batch"):
        jobs.prepare(study, tmp_path / "run", fresh=True)
    work.close()
    assert jobs.prepare(study, tmp_path / "run", fresh=True).num_done == 0


def test_a_claim_that_stands_still_is_taken_after_a_lease(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.05)
    first, second = claims.Claims(tmp_path, "d"), claims.Claims(tmp_path, "d")
    monkeypatch.setattr(claims, "LEASE_SECONDS", 0.3)
    assert first.take("000000000")
    for _ in range(5):  # its count is raised, so it stays the first one's
        assert not second.take("000000000")
        time.sleep(0.15)
    first._ended.set()
    first._thread.join()
    assert not second.take("000000000")
    time.sleep(0.4)
    assert second.take("000000000")
    first.release("000000000")  # which is not his any more
    assert [name for name, _ in claims.held(tmp_path)] == ["000000000-d"]
    second.close()
    assert list(claims.held(tmp_path)) == []


def test_a_claim_of_another_machine_counts_as_nobodys_after_a_long_silence(tmp_path):
    (tmp_path / "claims").mkdir()
    path = tmp_path / "claims" / "000000000-d.json"
    path.write_text('{"id": "x", "count": 1, "machine": "another", "process": 7, "began": "9"}')
    assert list(claims.held(tmp_path)) == [("000000000-d", False)]
    long_ago = path.stat().st_mtime - claims.SILENT_SECONDS - 1
    os.utime(path, (long_ago, long_ago))
    assert list(claims.held(tmp_path)) == [("000000000-d", True)]
    assert [path.name for path in (tmp_path / "claims").iterdir()] == ["000000000-d.json"]


def test_a_claim_of_a_process_that_is_gone_is_taken_at_once(tmp_path):
    lines = """
from pathlib import Path
from jaxexp import claims
import os, signal
claims.Claims(Path(sys.argv[1]), "d").take("000000000")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([*studies.code(lines), str(tmp_path)], check=False)
    assert [dead for _, dead in claims.held(tmp_path)] == [True]
    mine = claims.Claims(tmp_path, "d")
    assert mine.take("000000000")
    mine.close()


def test_parts_of_a_run_make_the_whole(tmp_path):
    study = studies.walk(3, 3)
    for number in (1, 2, 3):
        job = jobs.prepare(study, tmp_path / "run", tile=TILE, shard=(number, 3))
        assert len(job.pending) == 3
        for _ in worker.work(job):
            pass
        assert jobs.num_left(job) == 9 - 3 * number
    whole = worker.run(study, tmp_path / "whole", tile=TILE)
    np.testing.assert_array_equal(jx.load(tmp_path / "run")["largest"], whole["largest"])
    assert tables(tmp_path / "run") == tables(tmp_path / "whole")
    assert os.listdir(tmp_path / "run" / "claims") == []  # noqa: PTH208

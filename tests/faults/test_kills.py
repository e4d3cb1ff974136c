"""kill -9 at any time, several processes on one folder, and controls that show that these tests see faults."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import studies

import jaxexp as jx
from jaxexp import claims, files, jobs, store, worker
from jaxexp.errors import MismatchError, StoreError
from jaxexp.plans import Tile

TILE = Tile(1, 1)
CONTROLS = studies.FAULTS[1:]


def started(folder: Path, log: Path, fault: str = "") -> subprocess.Popen:
    return subprocess.Popen([*studies.code("studies.work(*sys.argv[1:])"), str(folder), str(log), fault])


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline, "nothing came for two minutes"
        time.sleep(0.005)


def told(log: Path) -> list[list[Any]]:
    """What the log says by now, line by line: process, what, batch, step, num_steps, seconds."""
    text = log.read_text() if log.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def ended_or_told(process: subprocess.Popen, log: Path) -> bool:
    """Whether a process has ended, or has trained something and is at its next."""
    return process.poll() is not None or any(life == process.pid for life, *_ in told(log))


def killed(process: subprocess.Popen, log: Path, seconds: float, moment: Callable[[], bool] = lambda: True) -> int:
    """Kills a process so long after its first segment, at the next such moment; how it ended."""
    wait_until(lambda: ended_or_told(process, log))
    time.sleep(seconds)
    wait_until(lambda: moment() or process.poll() is not None)
    process.kill()
    return process.wait()


def tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "chunks").glob("[0-9]*.npz"))}


def committed(log: Path) -> list[str]:
    return [batch for _, what, batch, *_ in told(log) if what == "committed"]


def cut_short(folder: Path) -> set[str]:
    """The batches that dead processes were at: they hold them, and the table lacks them."""
    return {batch for batch, dead in claims.held(folder) if dead} - {name.split(".")[0] for name in tables(folder)}


def half_written(folder: Path, kind: str) -> set[Path]:
    return set((folder / kind).glob(f"{files.TEMPORARY}*"))


def checked_resumptions(log: Path) -> int:
    """How often a life went on with a batch of another; asserts that none left a step out or did too many twice.

    A life goes on no earlier than the last checkpoint that was told of. Beyond it lie what one interval holds and
    one more segment: as long as all but the last took no longer than the interval, no checkpoint was due.
    """
    saved, reached, beyond = Counter[str](), Counter[str](), dict[tuple[int, str], list[tuple[int, float]]]()
    spent = resumed = 0
    for life, what, batch, step, num_steps, seconds in told(log):
        if (life, batch) not in beyond:
            assert saved[batch] <= step - num_steps <= reached[batch], "not gone on from where it was left off"
            resumed += step > num_steps
        unsaved = beyond.setdefault((life, batch), [])
        if what == "segment":
            assert sum(seconds for _, seconds in unsaved) <= studies.CHECKPOINT_SECONDS, "a checkpoint was due"
            unsaved.append((num_steps, seconds))
            spent, reached[batch] = spent + num_steps, max(reached[batch], step)
        else:
            unsaved.clear()
            saved[batch] = step
    lost = sum(num_steps for unsaved in beyond.values() for num_steps, _ in unsaved)
    assert spent <= studies.NUM_RUNS * studies.NUM_STEPS + lost
    return resumed


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The table of a run that nothing happens to; its program is in the compile cache from now on."""
    folder = tmp_path_factory.mktemp("whole")
    assert started(folder / "run", folder / "log").wait(timeout=300) == 0
    assert len(tables(folder / "run")) == studies.NUM_RUNS
    return tables(folder / "run")


def interrupted(folder: Path, log: Path, draw: random.Random, most: int) -> tuple[int, set[str]]:
    """Kills the work on a folder until all is done or `most` kills cut a batch short; how many, what they left half.

    Every fifth kill waits, after its random time, for a chunk that is being written.
    """
    kills, torn, acknowledged = 0, {"chunks": set[Path](), "checkpoints": set[Path]()}, dict[str, bytes]()
    while kills < most and len(acknowledged) < studies.NUM_RUNS:
        process, seconds = started(folder, log, "slow writes"), draw.uniform(0, 0.5)
        if kills % 5 < 4:
            ended = killed(process, log, seconds)
        else:
            before = torn["chunks"]
            ended = killed(process, log, seconds, lambda before=before: half_written(folder, "chunks") > before)
        found = tables(folder)
        assert ended == -signal.SIGKILL or len(found) == studies.NUM_RUNS
        assert acknowledged.items() <= found.items()
        assert set(committed(log)) <= {name.split("-")[0] for name in found}
        assert list(store.damaged(folder)) == []
        checked_resumptions(log)
        acknowledged, kills = found, kills + bool(cut_short(folder))
        torn = {kind: half_written(folder, kind) for kind in torn}
    return kills, {kind for kind in torn if torn[kind]}


@pytest.mark.slow
def test_sixty_kills_change_no_byte_and_lose_nothing(tmp_path, uninterrupted):
    draw, kills, torn, resumed = random.Random(0), 0, set[str](), 0
    while kills < 60:  # on a fast machine a folder is done before
        folder, log = tmp_path / f"run-{kills}", tmp_path / f"log-{kills}"
        more, kinds = interrupted(folder, log, draw, 60 - kills)
        assert more, "all was done before a kill"
        assert started(folder, log, "slow writes").wait(timeout=300) == 0
        assert tables(folder) == uninterrupted
        assert len(committed(log)) == len(set(committed(log))), "a committed batch was done again"
        kills, torn, resumed = kills + more, torn | kinds, resumed + checked_resumptions(log)
    assert torn == {"chunks", "checkpoints"}, "no kill came in the middle of a write"
    assert resumed >= 15


@pytest.mark.slow
@pytest.mark.parametrize("control", CONTROLS)
def test_the_controls_are_seen(tmp_path, control, uninterrupted):
    folder, log, draw = tmp_path / "run", tmp_path / "log", random.Random(1)
    for _ in range(20):
        assert killed(started(folder, log, control), log, draw.uniform(0, 1.5)) == -signal.SIGKILL
        if list(store.damaged(folder)):
            return
    pytest.fail("no half chunk was seen in 20 kills")


@pytest.mark.slow
def test_four_processes_divide_a_folder_with_kills_among_them(tmp_path, uninterrupted):
    folder, log, draw = tmp_path / "run", tmp_path / "log", random.Random(2)
    processes, cut = [started(folder, log, "slow writes") for _ in range(4)], 0

    def at_work() -> list[int]:
        return [number for number, process in enumerate(processes) if ended_or_told(process, log)]

    for kills in range(1, 7):  # each when so much is done that there is work left for all
        wait_until(lambda kills=kills: len(committed(log)) >= 4 * kills and at_work())
        time.sleep(draw.uniform(0, 0.2))
        victim = draw.choice(at_work())
        before = cut_short(folder)
        assert killed(processes[victim], log, 0) == -signal.SIGKILL
        assert len(tables(folder)) < studies.NUM_RUNS
        cut += bool(cut_short(folder) - before)
        processes[victim] = started(folder, log, "slow writes")
    assert [process.wait(timeout=300) for process in processes] == [0] * 4
    assert tables(folder) == uninterrupted
    assert len(committed(log)) == len(set(committed(log))), "a committed batch was done again"
    assert cut >= 3
    assert checked_resumptions(log) > 0
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


def test_a_folder_of_claims_that_goes_away_is_an_error(tmp_path):
    held = claims.Claims(tmp_path, "d")
    assert held.take("000000000")
    shutil.rmtree(tmp_path / "claims")
    with pytest.raises(StoreError, match=r"cannot write .*No such file or directory; what was committed is kept"):
        held.take("000000001")
    held.close()


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


def test_a_claim_that_cannot_be_renewed_leaves_no_temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.02)
    full = []

    def no_room(path: Path, content: bytes) -> int:
        path.touch()
        full.append(path)
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_room)
    mine = claims.Claims(tmp_path, "d")
    assert mine.take("000000000")
    wait_until(lambda: len(full) >= 2)
    mine.close()
    assert list((tmp_path / "claims").iterdir()) == []


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

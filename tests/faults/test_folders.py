"""Full and read-only disks, damaged bytes, hostile folders, and a lane that diverges."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import studies
from studies import STUDY, chunks, finished

import jaxexp as jx
from jaxexp import files, jobs, replay, store, upkeep, worker
from jaxexp.errors import StoreError
from jaxexp.plans import Tile
from jaxexp.results import NOT_FINITE, OK


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("whole") / "run")


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own in memory."""
    folder.mkdir()
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("only root can mount; CI does")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


EXPERIMENT = """
\"\"\"Do walks fill a disk?\"\"\"
import sys
sys.path.insert(0, {faults!r})
import studies
study = studies.walk({size}).replace(log_every=1)
"""


def command(tmp_path: Path, out: Path, size: str, *words: str) -> subprocess.CompletedProcess:
    path = tmp_path / "walks.py"
    path.write_text(EXPERIMENT.format(faults=str(Path(__file__).parent), size=size).lstrip())
    arguments = ["run", str(path), "--out", str(out), "--quiet", *words]
    return subprocess.run([sys.executable, "-m", "jaxexp", *arguments], capture_output=True, text=True, timeout=300)


def test_a_full_disk_ends_with_one_line_and_the_run_goes_on_when_there_is_room(tmp_path):
    size = "4, 16, num_steps=30000"
    with mounted(tmp_path / "disk", "size=3m") as disk:
        done = command(tmp_path, disk, size, "--tile", "1x1")
        assert done.returncode == 2
        assert done.stderr.startswith("error: cannot write ")
        assert "No space left on device" in done.stderr
        assert done.stderr.count("\n") == 1
        folder = disk / "walks" / "default"
        kept = chunks(folder)
        assert 3 < len(kept) < 64
        assert list(store.damaged(folder)) == []
        assert not list(disk.rglob(f"{files.TEMPORARY}*"))
        subprocess.run(["mount", "-o", "remount,size=60m", str(disk)], check=True)
        assert command(tmp_path, disk, size).returncode == 0
        assert kept.items() <= chunks(folder).items()
        assert len(chunks(folder)) == 64


@pytest.mark.slow
def test_a_disk_that_fills_at_any_file_ends_with_one_line_and_what_is_there_is_whole(tmp_path):
    """At the record, the plan, a claim, a chunk, a figure."""
    size, stopped = "4, 16, num_steps=300", {}
    with mounted(tmp_path / "disk", "size=60m") as disk:
        assert command(tmp_path, disk, size).returncode == 0
        wanted = chunks(disk / "walks" / "default")
        whole = sum(-(-path.stat().st_size // 4096) + 1 for path in disk.rglob("*"))
    for number, blocks in enumerate([*range(1, 7), *range(7, whole, max(1, whole // 4))]):
        with mounted(tmp_path / f"disk-{number}", f"size={4 * blocks}k") as disk:
            done = command(tmp_path, disk, size)
            folder = disk / "walks" / "default"
            if done.returncode:
                stopped[blocks] = done.stderr.split(" write ")[-1].split(":")[0].removeprefix(str(folder))
                assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
                assert "No space left on device" in done.stderr
                assert not list(disk.rglob(f"{files.TEMPORARY}*"))
                assert list(store.damaged(folder)) == [] if (folder / "run.json").exists() else not chunks(folder)
            kept = chunks(folder)
            subprocess.run(["mount", "-o", "remount,size=60m", str(disk)], check=True)
            assert command(tmp_path, disk, size).returncode == 0
            assert kept.items() <= chunks(folder).items() == wanted.items()
    assert len(stopped) > 6
    assert len(set(stopped.values())) > 3, stopped


def test_a_read_only_folder_is_refused_before_anything_is_compiled(tmp_path, monkeypatch):
    with mounted(tmp_path / "disk", "ro") as disk:
        monkeypatch.setattr(worker.engine, "lower", lambda *given: pytest.fail("lowered"))
        with pytest.raises(StoreError, match=r"cannot write to .*Read-only file system; choose another folder"):
            worker.run(STUDY, disk / "run")


def _npy(header: str) -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def _archive(name: str, content: bytes) -> bytes:
    """A sealed archive, as somebody who knows the format could make it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content)
        archive.comment = b"0" * 64
    sealed = memoryview(buffer.getvalue())[:-64]
    return bytes(sealed) + files._seal(sealed)


def hostile(folder: Path, canary: Path) -> dict[str, bytes]:
    """Contents of a chunk that would do harm if they were believed."""
    pickled = f"cposix\nsystem\n(Vtouch {canary}\ntR.".encode()
    objects = _npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + pickled
    huge = _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (137438953472,), }")
    return {
        "pickled objects": _archive("trial", objects),
        "a terabyte declared": _archive("trial", huge),
        "a path out of the folder": _archive("../../../../canary", _npy("{'descr': '<f8', 'shape': (), }")),
        "nothing": b"",
        "zeros": bytes(4096),
    }


@pytest.mark.parametrize("kind", list(hostile(Path(), Path("x"))))
def test_a_hostile_chunk_is_refused_and_put_aside(tmp_path, whole, kind):
    folder, canary = tmp_path / "run", tmp_path / "canary"
    shutil.copytree(whole, folder)
    path = next((folder / "chunks").glob("*.npz"))
    path.write_bytes(hostile(folder, canary)[kind])
    with pytest.raises(StoreError, match=r"is damaged|another batch"):
        jx.load(folder)
    worker.run(STUDY, folder)
    assert chunks(folder) == chunks(whole)
    assert not canary.exists()


def test_links_and_odd_names_lead_nowhere(tmp_path, whole):
    folder, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(whole, folder)
    outside.write_bytes(b"mine")
    path = next((folder / "chunks").glob("*.npz"))
    path.unlink()
    path.symlink_to(outside)
    odd = ["\n", "ü" * 60, "a" * 255, "000000000-\x01.npz", "-rf"]
    for name in odd:
        (folder / "chunks" / name).write_bytes(b"?")
    with pytest.raises(StoreError, match="is no plain file"):
        jx.load(folder)
    worker.run(STUDY, folder)
    assert chunks(folder) == chunks(whole)
    assert outside.read_bytes() == b"mine"
    assert len(list((folder / "quarantine").iterdir())) == len(odd) + 1


def test_a_folder_of_a_run_that_is_a_link_is_refused(tmp_path, whole):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "chunks").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a link"):
        worker.run(STUDY, tmp_path / "run")
    assert os.listdir(tmp_path / "elsewhere") == []  # noqa: PTH208


@pytest.mark.parametrize("name", ["../x", "a/b", "a\0b", "x" * 300, "ünï", "", ".", "..", "-x"])
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(StoreError, match="cannot name a run"):
        files.check_name(name)


def test_a_lane_that_diverges_changes_no_other_and_replay_says_where(tmp_path):
    study = studies.walk(num_seeds=334, num_steps=30, blow_up=True)
    found = worker.run(study, tmp_path / "run", tile=Tile(3, 334))
    rates = jx.grid(rate=(0.1, 0.5))
    without = worker.run(study.replace(sweep=rates), tmp_path / "without", tile=Tile(3, 334))
    assert (found["status"].values[:2] == OK).all()
    assert (found["status"].values[2] == NOT_FINITE).all()
    np.testing.assert_array_equal(found["mean"][:2], without["mean"])
    state = upkeep.state(tmp_path / "run")
    assert state["not_finite"] == 334
    assert state["first_not_finite"][0]["trial"] == 2
    steps = found["status_step"].values[2]
    assert state["first_not_finite"][0]["step"] == steps[0]


def test_one_lane_of_a_thousand_diverges_and_the_other_999_have_the_bits_of_a_sweep_without_it(tmp_path, monkeypatch):
    rates, lane = np.linspace(0.1, 0.9, 999).tolist(), 613
    one = studies.walk(num_seeds=1, num_steps=30, blow_up=True)
    study = one.replace(sweep=jx.grid(rate=(*rates[:lane], 1.5, *rates[lane:])))
    found = worker.run(study, tmp_path / "run", tile=Tile(1000, 1))
    without = worker.run(one.replace(sweep=jx.grid(rate=tuple(rates))), tmp_path / "without", tile=Tile(1000, 1))
    status = found["status"].values[:, 0]
    assert np.flatnonzero(status == NOT_FINITE).tolist() == [lane]
    others = found.drop_sel(trial=lane)
    for name in ("mean", "largest"):
        assert others[name].values.tobytes() == without[name].values.tobytes()
    (where,) = upkeep.state(tmp_path / "run")["first_not_finite"]
    assert (where["trial"], where["seed"]) == (lane, 0)
    monkeypatch.setattr(replay.recorded, "study", lambda record: study)
    monkeypatch.setattr(replay.recorded, "source", lambda record: jobs.Source())
    replayed = replay.replay(tmp_path / "run", lane, 0)
    assert (replayed.not_finite_step, replayed.differing) == (where["step"], [])


def test_a_run_that_was_asked_for_more_steps_is_not_done_by_its_fewer(tmp_path):
    study = studies.walk(num_seeds=3, num_steps=20).replace(sweep=jx.grid(rate=(0.1, 0.5, 0.9)))
    worker.run(study, tmp_path)
    longer = jobs.prepare(study.replace(num_steps=40, sweep=jx.grid(rate=(0.1, 0.5))), tmp_path)
    state = upkeep.state(tmp_path)
    assert (state["runs"], state["ok"], state["not_run"]) == (9, 3, 6)  # of the rate .9 no more was asked
    for _ in worker.work(longer):
        pass
    state = upkeep.state(tmp_path)
    assert (state["runs"], state["ok"], state["not_run"]) == (9, 9, 0)


@pytest.mark.parametrize("position", [0, 2])
def test_replay_has_the_same_bits_and_names_the_step(tmp_path, monkeypatch, position):
    study = studies.walk(num_seeds=4, num_steps=30, blow_up=True)
    monkeypatch.setattr(replay.recorded, "study", lambda record: study)
    monkeypatch.setattr(replay.recorded, "source", lambda record: jobs.Source())
    found = worker.run(study, tmp_path / "run", tile=Tile(3, 4))
    seen = replay.replay(tmp_path / "run", position, 3)
    assert seen.differing == []
    assert seen.hyperparameters == {"rate": (0.1, 0.5, 1.5)[position]}
    if position == 0:
        assert (seen.not_finite_step, seen.parameter_step, seen.parameters) == (None, None, [])
        return
    step = int(found["status_step"][2, 3])
    assert seen.not_finite_step == step
    assert seen.not_finite_metrics == ["mean"]
    assert seen.parameters == ["x"]
    assert seen.parameter_step in (step, step + 1)


def test_a_lock_that_is_a_link_is_refused_and_the_canary_not_made(tmp_path):
    folder = finished(tmp_path / "run")
    (folder / "lock").unlink()
    (folder / "lock").symlink_to(tmp_path / "canary")
    with pytest.raises(StoreError, match=r"lock is no plain file"):
        jobs.prepare(STUDY.replace(seeds=6), folder)
    assert not (tmp_path / "canary").exists()

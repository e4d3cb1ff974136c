"""A run folder after kill -9, a crash at any write, an extension: the same bits, and nothing done twice."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walks import TILE, WALK, chunks, finish, load, source, times

import jaxexp as jx
from jaxexp import devices, display, engine, files, foreground, jobs, launch, store, worker
from jaxexp.errors import MismatchError, StoreError
from jaxexp.results import NOT_RUN, OK, Result

CHILD = """
import os, signal, sys
from pathlib import Path
from jaxexp import catalog, engine, jobs, worker
from jaxexp.plans import Tile

path, folder, events_to_live = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
worker.CHECKPOINT_SECONDS = 0
engine._adapted = lambda *timing: 3
job = jobs.prepare(catalog.load(path).study, folder, tile=Tile(2, 2))
for number, event in enumerate(worker.work(job, keep_state=True), 1):
    if number == events_to_live:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_twice_and_started_again_gives_the_bytes_of_an_uninterrupted_run(tmp_path):
    study = load(tmp_path / "experiments").study
    assert len(finish(study, tmp_path / "whole")) == 24
    path, folder = str(tmp_path / "experiments" / "walk.py"), tmp_path / "run"
    before: dict[str, int] = {}
    for events_to_live in (13, 14):  # segments and commits: the second life goes on in the middle of a tile
        child = subprocess.run(
            [sys.executable, "-c", CHILD, path, folder, str(events_to_live)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert child.returncode == -signal.SIGKILL, child.stderr
        assert list((folder / "checkpoints").iterdir())
        assert before.items() < times(folder).items()
        before = times(folder)
    finish(study, folder)
    assert before.items() < times(folder).items()
    assert chunks(folder) == chunks(tmp_path / "whole")
    assert list((folder / "checkpoints").iterdir()) == []
    assert finish(study, folder) == []


class Killed(BaseException):
    """Ends a run where nobody expects it."""


def test_a_crash_at_any_write_loses_nothing_that_was_finished(tmp_path, study, monkeypatch):
    study = study.replace(sweep=jx.grid(rate=(0.5, 1.0, 2.0)), seeds=2)
    monkeypatch.setattr(worker, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(engine, "_adapted", lambda *timing: 10)
    syncs, really_sync = itertools.count(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (next(syncs), really_sync(file)))
    finish(study, tmp_path / "whole")
    num_syncs = next(syncs)
    assert num_syncs >= 16  # of the record, the plan, two chunks and their checkpoints; files and folders
    for fatal in range(1, num_syncs):
        folder = tmp_path / f"run-{fatal}"
        monkeypatch.setattr(os, "fsync", _fatal_at(fatal))
        with pytest.raises(Killed):
            finish(study, folder)
        monkeypatch.setattr(os, "fsync", really_sync)
        before = times(folder) if folder.exists() else {}
        finish(study, folder)
        assert before.items() <= times(folder).items()
        assert chunks(folder) == chunks(tmp_path / "whole")


def _fatal_at(fatal: int) -> Any:
    calls = itertools.count()

    def sync(file: int) -> None:
        if next(calls) == fatal:
            raise Killed

    return sync


def test_a_folder_is_read_while_it_is_being_written(tmp_path, study):
    events = worker.work(jobs.prepare(study, tmp_path / "run", tile=TILE))
    committed = next(event for event in events if isinstance(event, worker.Committed))
    dataset = jx.load(tmp_path / "run")
    events.close()
    done = np.zeros((6, 4), bool)
    for trials, seeds in committed.batch.tiles:
        done[np.ix_(trials, seeds)] = True
    np.testing.assert_array_equal(dataset.status, np.where(done, OK, NOT_RUN))
    np.testing.assert_array_equal(dataset.end.notnull(), np.repeat(done[..., None], 5, axis=-1))


def test_what_others_have_trained_meanwhile_is_not_counted_as_ones_own(tmp_path, study):
    job = jobs.prepare(study, tmp_path, tile=TILE)
    with contextlib.closing(worker.work(jobs.prepare(study, tmp_path))) as events:
        others = (event for event in events if isinstance(event, worker.Committed))
        theirs = sum(event.batch.num_runs for event in itertools.islice(others, 3))
    done = foreground.train(job, launch.Order("", False, [], None), 1, quiet=True)
    assert theirs > 0
    assert done.num_runs == job.plan.num_runs - theirs > 0
    assert foreground.train(job, launch.Order("", False, [], None), 1, quiet=True).num_runs == 0


def test_what_a_checkpoint_held_says_nothing_of_the_rate(tmp_path, study, monkeypatch, capsys):
    events = worker.work(jobs.prepare(study, tmp_path / "run", tile=TILE))
    first = next(events)
    assert isinstance(first, engine.Segment)
    assert first.step == 1
    events.close()
    job = jobs.prepare(study, tmp_path / "run", tile=TILE)
    events = worker.work(job)
    segment = next(events)
    assert isinstance(segment, engine.Segment)
    segment = segment._replace(seconds=0.2)
    events.close()
    assert (segment.step, segment.num_steps, segment.batch.num_runs) == (2, 1, 4)
    monkeypatch.setattr(display, "_LINE_SECONDS", -1)
    monkeypatch.setattr(display.time, "monotonic", lambda: 100.0)
    display.Meter(job, quiet=False).show(segment)
    # 2 of 20 steps of 4 of 12 runs are done, half of them in these .2 s.
    assert "0/12 runs  step 2  1.0 runs/s  ETA 11.6 s" in capsys.readouterr().err


def test_more_seeds_compute_only_the_new_ones_and_fewer_are_a_selection(tmp_path, study):
    whole = jx.run(study.replace(seeds=8), tile=TILE)
    assert len(finish(study, tmp_path)) == 24
    before = times(tmp_path)
    more = finish(study.replace(seeds=8), tmp_path)
    assert sorted(more) == list(itertools.product(range(6), range(4, 8)))
    assert before.items() < times(tmp_path).items()
    assert jx.run(study.replace(seeds=8), tmp_path).identical(whole)
    few = jx.run(study.replace(seeds=(5, 0)), tmp_path)
    assert finish(study.replace(seeds=(5, 0)), tmp_path) == []
    assert few.identical(whole.sel(seed=[5, 0]))
    assert jx.load(tmp_path).identical(whole)


trials_asked = st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0]), min_size=1, max_size=3, unique=True)
widths_asked = st.sampled_from([(1,), (2,), (2, 1)])
seeds_asked = st.lists(st.sampled_from([0, 1, 2, 7, 2**32 - 1]), min_size=1, max_size=4, unique=True)


@settings(max_examples=8)
@given(st.lists(st.tuples(trials_asked, widths_asked, seeds_asked), min_size=2, max_size=4))
def test_any_extensions_in_any_order_compute_each_run_once(tmp_path_factory, asked):
    base, folder = load(tmp_path_factory.mktemp("walk")).study, tmp_path_factory.mktemp("run")
    known: dict[tuple, np.ndarray] = {}
    for rates, widths, seeds in asked:
        study = base.replace(sweep=jx.grid(rate=rates, width=widths), seeds=seeds)
        trials = list(itertools.product(rates, widths))
        trained = {(*trials[trial], seed) for trial, seed in finish(study, folder)}
        wanted = {(*trial, seed) for trial in trials for seed in seeds}
        assert trained == wanted - known.keys()
        dataset = jx.run(study, folder)
        assert (dataset.status == OK).all()
        for index, trial in enumerate(trials):
            for seed in seeds:
                ends = dataset.end.isel(trial=index).sel(seed=seed).values
                np.testing.assert_array_equal(known.setdefault((*trial, seed), ends), ends)
    loaded = jx.load(folder)
    for index, trial in enumerate(zip(loaded.rate.values.tolist(), loaded.width.values.tolist(), strict=True)):
        for seed in loaded.seed.values.tolist():
            if (*trial, seed) in known:
                ends = loaded.end.isel(trial=index).sel(seed=seed).values
                np.testing.assert_array_equal(known.pop((*trial, seed)), ends)
    assert known == {}


def test_extended_runs_have_the_bits_of_a_run_alone(tmp_path, study):
    jx.run(study.replace(sweep=jx.grid(rate=(1.0,)), seeds=(3, 1)), tmp_path, tile=TILE)
    extended = jx.run(study.replace(sweep=jx.grid(rate=(0.25, 1.0)), seeds=(3, 2, 1)), tmp_path)
    alone = jx.run(study.replace(sweep=jx.grid(rate=(0.25,)), seeds=(2,)), tile=TILE)
    assert (extended.status == OK).all()
    np.testing.assert_array_equal(extended.end.isel(trial=0).sel(seed=2), alone.end.isel(trial=0, seed=0))


def test_a_checkpoint_of_another_version_is_not_gone_on_from(tmp_path, study, monkeypatch):
    there = devices.environment()
    elsewhere = {**there, "versions": {**there["versions"], "jax": "0.9.0"}}
    monkeypatch.setattr(engine, "_adapted", lambda *timing: 3)
    monkeypatch.setattr(devices, "environment", lambda: elsewhere)
    events = worker.work(jobs.prepare(study, tmp_path, tile=TILE))
    next(events)
    events.close()
    assert list((tmp_path / "checkpoints").iterdir())
    monkeypatch.setattr(devices, "environment", lambda: there)
    assert (
        sum(
            event.num_steps * event.num_tiles
            for event in worker.work(jobs.prepare(study, tmp_path, allow_mixed=True))
            if isinstance(event, engine.Segment)
        )
        == 8 * 20
    )


def test_what_was_trained_is_not_put_into_a_folder_that_was_started_over(tmp_path, study):
    job = jobs.prepare(study, tmp_path / "run", tile=TILE)
    jobs.prepare(study.replace(seeds=2), tmp_path / "run", tile=TILE, fresh=True)
    with pytest.raises(StoreError, match="started over meanwhile"):
        for _ in worker.work(job):
            pass
    assert chunks(tmp_path / "run") == {}


def test_results_of_a_folder_that_was_started_over_are_not_taken_for_ones_own(tmp_path, study):
    job = jobs.prepare(study, tmp_path / "run", tile=TILE)
    for _ in worker.work(job):
        pass
    jx.run(study, tmp_path / "run", tile=TILE, fresh=True)
    with pytest.raises(StoreError, match="started over meanwhile"):
        worker.collect(job)


@pytest.mark.parametrize("trained", [False, True])
def test_results_of_a_folder_that_is_started_over_while_they_are_read_are_not_either(
    tmp_path, study, monkeypatch, trained
):
    job = jobs.prepare(study, tmp_path / "run", tile=TILE)
    for _ in worker.work(job):
        pass

    def started_over(folder: Path, digest: str) -> Iterator[Result]:
        monkeypatch.undo()
        again = jobs.prepare(study, folder, tile=TILE, fresh=True)
        for _ in worker.work(again) if trained else ():
            pass
        yield from store.results(folder, digest)

    monkeypatch.setattr(store, "results", started_over)
    with pytest.raises(StoreError, match="started over meanwhile"):
        worker.collect(job)


def test_a_worker_trains_no_other_program_than_was_asked_for(tmp_path, study):
    job = jobs.prepare(study, tmp_path, tile=TILE)
    changed = {name: {**digests, "program": "other"} for name, digests in job.digests.items()}
    with pytest.raises(MismatchError, match="have changed since"):
        next(worker.work(job._replace(digests=changed)))


def test_a_damaged_chunk_is_refused_and_the_next_run_puts_it_aside_and_does_it_again(tmp_path, study):
    finish(study, tmp_path)
    whole = chunks(tmp_path)
    damaged = tmp_path / "chunks" / next(iter(whole))
    damaged.write_bytes(b"zeros")
    with pytest.raises(StoreError, match=f"{damaged.name} is damaged .*: run the same command again"):
        jx.load(tmp_path)
    finish(study, tmp_path)
    assert chunks(tmp_path) == whole
    assert (tmp_path / "quarantine" / f"000-{damaged.name}").read_bytes() == b"zeros"


@pytest.mark.parametrize("lost", ["chunks/*", "plans/0000-*", "plans/0001-*"])
@pytest.mark.parametrize("damaged", [True, False])
def test_what_a_later_plan_counts_on_is_done_again_where_it_is_lost(tmp_path, study, lost, damaged):
    for seeds in (4, 6, 8):
        finish(study.replace(seeds=seeds), tmp_path)
    whole = jx.load(tmp_path)
    path = sorted(tmp_path.glob(lost))[0]
    path.write_bytes(b"zeros") if damaged else path.unlink()
    jobs.prepare(study.replace(seeds=8), tmp_path, tile=TILE)  # of which nothing is trained
    finish(study.replace(seeds=8), tmp_path)
    found = jx.run(study.replace(seeds=8), tmp_path)
    assert (found.status == OK).all()
    assert found.identical(whole)
    assert jx.load(tmp_path).identical(whole)
    assert finish(study.replace(seeds=8), tmp_path) == []


def test_a_folder_whose_times_were_touched_is_trained_into(tmp_path, study):
    job = jobs.prepare(study, tmp_path, tile=TILE)
    os.utime(tmp_path / "run.json", (1, 1))
    assert any(isinstance(event, worker.Committed) for event in worker.work(job))


def test_what_a_folder_records(tmp_path, study):
    loaded = load(tmp_path / "experiments")
    jx.run(loaded.study, tmp_path / "run", tile=TILE, source=source(loaded))
    record = store.record(tmp_path / "run")
    assert (record["experiment"], record["source"], record["tile"]) == ("walk", WALK, [2, 2])
    assert record["fields"] == {"rate": "dynamic", "width": "static"}
    assert record["versions"]["jax"] == jax.__version__
    assert record["device"]["platform"] == jax.default_backend()
    (stored,) = store.plans(tmp_path / "run")
    assert stored.steps == (20, 5, 3)
    assert stored.programs.keys() == {"width=1", "width=2"}
    assert list((tmp_path / "run").rglob(f"{files.TEMPORARY}*")) == []

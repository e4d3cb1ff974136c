"""Whole files in a wrong place, and plans that others have done meanwhile: nothing is mixed up, nothing done twice."""

import shutil

import numpy as np
import pytest
import studies

import jaxexp as jx
from jaxexp import files, jobs, store, upkeep, worker
from jaxexp.plans import Tile
from jaxexp.store import quarantine

TILE = Tile(1, 1)


def chunks(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "chunks").glob("[0-9]*.npz"))}


def begun(study, folder, num_batches):
    """A run folder in which so many batches are done and the next is checkpointed."""
    job, done = jobs.prepare(study, folder, tile=TILE), 0
    work = worker.work(job)
    for event in work:
        done += isinstance(event, worker.Committed)
        if done == num_batches and isinstance(event, worker.Segment):
            break
    work.close()
    return job


@pytest.mark.parametrize("lost", ["nothing", "record", "plan"])
def test_chunks_of_another_program_are_damaged_and_done_anew(tmp_path, lost):
    """As where a folder from before an edit is copied over the one from after it: all names are the same."""
    worker.run(studies.walk(2, 2, side=1), tmp_path / "before", tile=TILE)
    worker.run(studies.walk(2, 2, side=2), tmp_path / "run", tile=TILE)
    right, wrong = chunks(tmp_path / "run"), chunks(tmp_path / "before")
    assert right.keys() == wrong.keys()
    assert right != wrong
    shutil.copytree(tmp_path / "before" / "chunks", tmp_path / "run" / "chunks", dirs_exist_ok=True)
    if lost == "nothing":
        found = upkeep.checked(tmp_path / "run")["damaged"]
        assert len(found) == 4
        assert "it was trained by another program or on other data" in found[0]["problem"]
        with pytest.raises(store.DamagedError):
            jx.load(tmp_path / "run")
        worker.run(studies.walk(2, 2, side=2), tmp_path / "run")
        assert chunks(tmp_path / "run") == right
        return
    for path in (tmp_path / "run").glob("run.json" if lost == "record" else "plans/*.npz"):
        quarantine(path)
    with pytest.raises(jx.JaxexpError, match="another program"):
        worker.run(studies.walk(2, 2, side=2), tmp_path / "run")


def test_a_checkpoint_under_another_batch_s_name_is_not_gone_on_from(tmp_path):
    study = studies.walk(4, 1, num_steps=400, side=60)
    worker.run(study, tmp_path / "whole", tile=TILE)
    begun(study, tmp_path / "run", 1)
    (path,) = (tmp_path / "run" / "checkpoints").glob("000000001-*.npz")
    other = path.with_name(path.name.replace("000000001", "000000002"))
    path.rename(other)
    (told,) = upkeep.checked(tmp_path / "run")["damaged"]
    assert told["file"] == str(other)
    assert "it is another batch's" in told["problem"]
    name, digest, *_ = other.stem.split("-")
    assert list(store.read_checkpoints(tmp_path / "run", digest, name)) == []
    worker.run(study, tmp_path / "run")
    assert chunks(tmp_path / "run") == chunks(tmp_path / "whole")


def test_what_a_later_plan_has_done_is_not_done_again_by_an_earlier_one(tmp_path):
    few, more = studies.walk(3, 3), studies.walk(3, 4)
    begun(few, tmp_path / "run", 2)
    there = len(chunks(tmp_path / "run"))
    job = jobs.prepare(more, tmp_path / "run")
    assert job.num_done == there
    for _ in worker.work(job):
        pass
    again = jobs.prepare(few, tmp_path / "run")
    assert (again.num_done, again.pending) == (9, ())
    whole = worker.run(few, tmp_path / "whole", tile=TILE)
    found = worker.run(few, tmp_path / "run")
    np.testing.assert_array_equal(found["largest"], whole["largest"])
    assert len(chunks(tmp_path / "run")) == 12


def test_what_a_damaged_chunk_of_the_later_plan_held_is_done_again(tmp_path):
    few, more = studies.walk(3, 3), studies.walk(3, 4)
    begun(few, tmp_path / "run", 2)
    worker.run(more, tmp_path / "run")
    digest = store.plans(tmp_path / "run")[-1].digest
    last = sorted((tmp_path / "run" / "chunks").glob(f"*-{digest}.npz"))[0]
    last.write_bytes(last.read_bytes()[:-1])
    job = jobs.prepare(few, tmp_path / "run")
    assert len(job.quarantined) == 1
    whole = worker.run(few, tmp_path / "whole", tile=TILE)
    np.testing.assert_array_equal(worker.run(few, tmp_path / "run")["largest"], whole["largest"])


def test_a_part_that_is_narrowed_stays_that_part(tmp_path):
    study = studies.walk(4, 4)
    job = jobs.prepare(study, tmp_path / "run", tile=Tile(2, 2), shard=(1, 2))
    parts = [jobs.narrowed(job), jobs.prepare(study, tmp_path / "run", shard=(2, 2))]
    names = [{batch.name for batch in part.pending} for part in parts]
    assert len(names[0]) == len(names[1]) == 4
    assert not names[0] & names[1]


def test_checkpoints_of_another_environment_hide_and_remove_none_of_one_s_own(tmp_path):
    """As where two machines, or two versions of JAX, take turns at a batch: each goes on from where it was itself."""
    study, run = studies.walk(4, 1, num_steps=20_000, side=60), tmp_path / "run"
    worker.run(study, tmp_path / "whole", tile=TILE)
    digest = begun(study, run, 1).plan.digest
    own = set((run / "checkpoints").iterdir())
    (arrays,) = store.read_checkpoints(run, digest, "000000001")
    step = int(arrays["where"][2])
    assert 0 < step < 19_000
    other = {**arrays, "environment": files.text_array({"threads": 64})}
    for ahead in (19_500, 19_900):
        store.write_checkpoint(run, digest, "000000001", ahead, other, "another")
    work = worker.work(jobs.prepare(study, run))
    first = next(event for event in work if isinstance(event, worker.Segment))
    assert first.batch.name == "000000001"
    assert first.step - first.num_steps == step
    work.close()
    left = set((run / "checkpoints").iterdir())
    assert len([path for path in left if path.stem.endswith("-another")]) == 2
    assert own < left
    worker.run(study, run)
    assert chunks(run) == chunks(tmp_path / "whole")
    assert list((run / "checkpoints").iterdir()) == []

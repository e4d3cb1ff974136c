"""When batches are committed: each while the device trains the next, or at once where there is none."""

import contextlib

import pytest
from walks import TILE, chunks, finish

from jaxexp import engine, jobs, store, worker
from jaxexp.errors import OutOfMemoryError, StoreError
from jaxexp.worker import Committed


@pytest.fixture
def job(tmp_path, study):
    return jobs.prepare(study, tmp_path / "run", tile=TILE)


@pytest.fixture
def programs(job):
    """The compiled programs of both groups, whose calls hold a batch from its start to its end."""
    with engine.compiler(job.plan, job.lowered, [0, 1]) as program:
        made = [program(group) for group in (0, 1)]
        for each in made:
            each.tile_steps = 100
        yield made.__getitem__


@pytest.fixture
def happened(monkeypatch):
    """What was done in turn: a call given to the device, waited for, or a batch committed."""
    found = []

    def noted(module, name, word):
        function = getattr(module, name)

        def instead(*arguments):
            found.append(word)
            return function(*arguments)

        monkeypatch.setattr(module, name, instead)

    noted(engine, "_clock", "give")
    noted(engine, "_host_records", "wait")
    noted(store, "write_chunk", "commit")
    return found


def name_of(job, batch):
    return store.chunk_path(job.folder, job.plan.digest, batch.name).name


def of_group(job, group):
    return [batch for batch in job.pending if batch.group == group]


def test_a_batch_is_committed_while_the_device_trains_the_next(job, programs, happened):
    events = list(worker.train(job, programs, of_group(job, 0)[:3]))
    assert happened == ["give", "wait", "give", "commit", "wait", "give", "commit", "wait", "commit"]
    committed = [event for event in events if isinstance(event, Committed)]
    assert [event.batch for event in committed] == of_group(job, 0)[:3]
    assert [type(event) for event in events][:3] == [engine.Segment, Committed, engine.Segment]


def test_it_is_committed_before_a_program_is_compiled(job, programs, happened):
    def program(group):
        happened.append("program")
        return programs(group)

    batches = [of_group(job, 0)[0], of_group(job, 1)[0]]
    list(worker.train(job, program, batches))
    assert happened == [*("program", "give", "wait", "commit"), *("program", "give", "wait", "commit")]


def test_it_is_committed_before_another_is_waited_for(job, programs, happened):
    def batches():
        yield of_group(job, 0)[0]
        yield None
        happened.append("look")
        yield of_group(job, 0)[1]

    list(worker.train(job, programs, batches()))
    assert happened == ["give", "wait", "commit", "look", "give", "wait", "commit"]


def test_a_segment_that_was_given_to_the_device_is_kept_where_the_work_is_stopped(job, programs, tmp_path, study):
    programs(0).tile_steps = 20 // 4
    events = worker.train(job, programs, of_group(job, 0))
    first = next(event for event in events if isinstance(event, Committed))
    events.close()
    assert list(chunks(job.folder)) == [name_of(job, first.batch)]
    (checkpoint,) = (job.folder / "checkpoints").iterdir()
    assert checkpoint.name.startswith(of_group(job, 0)[1].name)
    finish(study, job.folder)
    finish(study, tmp_path / "whole")
    assert chunks(job.folder) == chunks(tmp_path / "whole")


def test_what_is_trained_is_committed_where_the_next_cannot_be_given_to_the_device(job, programs, monkeypatch):
    events = worker.train(job, programs, of_group(job, 0))
    assert type(next(events)) is engine.Segment

    def broken(*arguments):
        raise RuntimeError("broken")

    monkeypatch.setattr(engine, "_clock", broken)
    with pytest.raises(RuntimeError, match="broken"):
        next(events)
    assert list(chunks(job.folder)) == [name_of(job, of_group(job, 0)[0])]


def test_batches_whose_checkpoints_have_all_steps_are_committed_one_by_one(job, programs, tmp_path, study, happened):
    batches = of_group(job, 0)
    for batch in batches:
        with contextlib.closing(worker.train(job, programs, [batch])) as events:
            assert next(events).step == study.num_steps
    assert not chunks(job.folder)
    assert len(list((job.folder / "checkpoints").iterdir())) == len(batches)
    happened.clear()
    events = list(worker.train(job, programs, batches))
    assert [event.batch for event in events] == batches
    assert happened == ["commit"] * len(batches)
    finish(study, job.folder)
    finish(study, tmp_path / "whole")
    assert chunks(job.folder) == chunks(tmp_path / "whole")


def test_memory_that_the_next_lacks_does_not_cost_the_one_before(job, programs):
    calls, events = iter((programs(0),)), []

    def program(group):
        if (made := next(calls, None)) is None:
            raise OutOfMemoryError("too large")
        return made

    with pytest.raises(OutOfMemoryError):
        events.extend(worker.train(job, program, of_group(job, 0)))
    assert [type(event) for event in events] == [engine.Segment, Committed]
    assert len(chunks(job.folder)) == 1


def test_a_folder_in_another_s_place_gets_no_checkpoint(job, programs):
    events = worker.train(job, programs, of_group(job, 0))
    next(events)
    job.folder.rename(job.folder.with_name("moved"))
    with pytest.raises(StoreError, match="was moved or started over meanwhile"):
        list(events)
    assert not job.folder.exists()


def test_nor_where_the_work_is_stopped(job, programs, study):
    programs(0).tile_steps = 5
    events = worker.train(job, programs, of_group(job, 0))
    next(events)
    job.folder.rename(job.folder.with_name("moved"))
    jobs.prepare(study, job.folder, tile=TILE)
    with pytest.raises(StoreError, match="was moved or started over meanwhile"):
        events.close()
    assert not list((job.folder / "checkpoints").iterdir())


def test_events_do_not_hold_on_to_the_device_s_memory(job, programs):
    events = worker.train(job, programs, of_group(job, 0)[:1])
    assert next(events).snapshot is None

"""Short batches that are trained in one call: the bytes of batches trained one by one, and nothing lost."""

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

import jaxexp as jx
from jaxexp import claims, engine, jobs, worker
from jaxexp.plans import Tile
from jaxexp.worker import Committed


@jx.config
class Config:
    size: float = 0.1
    width: int = 4


def init(key, data, config):
    return jax.random.normal(key, (config.width,))


def step(key, state, data, config):
    state = state + config.size * jax.random.normal(key, state.shape)
    return state, {"loss": (state**2).sum()}


STUDY = jx.Study(
    experiment=jx.Experiment(init, step, lambda state, data, config: {"end": state.mean()}),
    config=Config(),
    sweep=jx.grid(size=(0.1, 0.2, 0.3), width=(2, 4)),
    seeds=5,
    num_steps=50,
    evaluate_every=25,
)
NUM_BATCHES = 18  # of 2 groups: 3 trials by 5 seeds, in tiles of 1x2


def prepared(folder: Path, study: jx.Study = STUDY) -> jobs.Job:
    return jobs.prepare(study, folder, tile=Tile(1, 2))


def chunks(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "chunks").glob("[0-9]*.npz"))}


@pytest.fixture
def one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    with monkeypatch.context() as patch:
        patch.setattr(worker, "most_with", lambda *given: 0)
        for _ in worker.work(prepared(tmp_path / "one by one")):
            pass
    found = chunks(tmp_path / "one by one")
    assert len(found) == NUM_BATCHES
    return found


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many tiles each call trained; that any number fits into a segment is known after the first."""
    counts, host_records = list[int](), engine._host_records

    def counted(plan, reported, count, start, stop):
        counts.append(count)
        return host_records(plan, reported, count, start, stop)

    monkeypatch.setattr(engine, "_host_records", counted)
    monkeypatch.setattr(engine, "_adapted", lambda *timing: 10**6)
    return counts


def test_batches_that_fit_into_a_segment_share_a_call_and_change_no_byte(tmp_path, one_by_one, calls):
    events = list(worker.work(prepared(tmp_path / "run")))
    assert chunks(tmp_path / "run") == one_by_one
    # Of each group the first batch begins with one step; all others of it are one call.
    assert calls == [1, 1, 8, 1, 1, 8]
    assert len([event for event in events if isinstance(event, Committed)]) == NUM_BATCHES
    assert sum(event.num_runs(50) for event in events if isinstance(event, engine.Segment)) == pytest.approx(30)


def test_in_memory_they_share_calls_as_well(one_by_one, tmp_path, calls):
    found = jx.run(STUDY, tile=Tile(1, 2))
    assert calls == [1, 1, 8, 1, 1, 8]
    assert found.equals(jx.load(tmp_path / "one by one").assign_attrs(found.attrs))


@pytest.mark.parametrize("most", [1, 3])
def test_of_several_that_need_more_than_one_segment_none_is_mixed_up(tmp_path, one_by_one, monkeypatch, most):
    monkeypatch.setattr(worker, "most_with", lambda *given: most)
    monkeypatch.setattr(engine, "_adapted", lambda *timing: 7)
    for _ in worker.work(prepared(tmp_path / "run")):
        pass
    assert chunks(tmp_path / "run") == one_by_one


def test_more_steps_go_on_together_too(tmp_path, monkeypatch, calls):
    longer = STUDY.replace(num_steps=100)
    for folder, most in (("apart", 0), ("together", 3)):
        with monkeypatch.context() as patch:
            patch.setattr(worker, "most_with", lambda *given, most=most: most)
            for study in (STUDY.replace(seeds=3), STUDY, longer):
                for _ in worker.work(prepared(tmp_path / folder, study)):
                    pass
    assert chunks(tmp_path / "together") == chunks(tmp_path / "apart")


def test_stopped_after_any_event_nothing_is_lost_and_no_claim_is_left(tmp_path, one_by_one, calls):
    num_events = len(list(worker.work(prepared(tmp_path / "whole"))))
    for stop in range(1, num_events):
        folder = tmp_path / f"run-{stop}"
        events = worker.work(prepared(folder))
        seen = {event.batch.name for event, _ in zip(events, range(stop), strict=False) if isinstance(event, Committed)}
        events.close()
        before = chunks(folder)
        assert seen <= {name.split("-")[0] for name in before}
        assert list((folder / "claims").iterdir()) == []
        del calls[:]
        for _ in worker.work(prepared(folder)):
            pass
        assert chunks(folder) == one_by_one
        assert before.items() <= chunks(folder).items()


def test_a_batch_that_was_left_off_goes_on_where_others_are_trained_with_it(tmp_path, one_by_one, monkeypatch):
    monkeypatch.setattr(engine, "_adapted", lambda *timing: 10)
    first = worker.work(prepared(tmp_path / "run"))
    segments = [next(first) for _ in range(3)]
    first.close()
    monkeypatch.setattr(worker, "most_with", lambda *given: 3)
    again = next(worker.work(prepared(tmp_path / "run")))
    assert isinstance(segments[-1], engine.Segment)
    assert isinstance(again, engine.Segment)
    assert (again.batch.name, again.step - again.num_steps) == (segments[-1].batch.name, segments[-1].step)
    for _ in worker.work(prepared(tmp_path / "run")):
        pass
    assert chunks(tmp_path / "run") == one_by_one


def test_each_batch_of_several_is_claimed_until_they_are_done_and_all_are_of_one_group(tmp_path):
    job = prepared(tmp_path / "run")
    own, others = (claims.Queue(job.folder, job.plan.digest, job.pending) for _ in range(2))
    first = own.take()
    assert first is not None
    several = [first, *own.more(first, 100)]
    assert len(several) == NUM_BATCHES // 2
    assert {batch.group for batch in several} == {first.group}
    found = [others.take() for _ in range(NUM_BATCHES // 2)]
    assert not {batch.name for batch in several} & {batch.name for batch in found if batch}
    assert others.take() is None
    own.done(first)
    free = others.take()
    assert free is not None
    assert free.name == first.name
    for queue in (own, others):
        queue.close()
    assert list((tmp_path / "run" / "claims").iterdir()) == []

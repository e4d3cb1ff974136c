"""With the tile shape fixed, the bits of a run depend on its config and seed alone: SHA-256 over all it gives."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny_studies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_studies import DIVERGING, LEARNING_RATES, NUM_SEEDS, NUM_STEPS, TILE, Trainer

from jaxexp import engine, jobs, plans, worker
from jaxexp.results import NOT_FINITE, OK

NETWORKS = ("mlp", "cnn", "lstm")
law = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])

learning_rates = st.permutations(LEARNING_RATES).flatmap(
    lambda rates: st.integers(1, len(rates)).map(lambda count: rates[:count])
)
seeds = st.permutations(range(NUM_SEEDS)).flatmap(
    lambda listed: st.integers(1, NUM_SEEDS).map(lambda count: listed[:count])
)
neighbours = st.floats(1e-4, 10, allow_nan=False).filter(lambda rate: rate not in LEARNING_RATES)
lengths = st.lists(st.integers(1, 4 * NUM_STEPS), min_size=1, max_size=NUM_STEPS)  # over 6: several tiles a call


@pytest.fixture(scope="module", params=NETWORKS)
def trained(request: pytest.FixtureRequest) -> tuple[Trainer, dict[str, str]]:
    trainer = tiny_studies.trainer(request.param)
    return trainer, trainer.digests()


def _assert_same(some: dict[str, str], every: dict[str, str], at_least: int) -> None:
    both = some.keys() & every.keys()
    assert len(both) >= at_least
    assert {run: some[run] for run in both} == {run: every[run] for run in both}


def test_every_run_has_bits_of_its_own(trained):
    _, every = trained
    assert len(every) == len(set(every.values())) == len(LEARNING_RATES) * NUM_SEEDS


def test_another_sweep_in_the_same_tile_is_the_same_program(trained):
    trainer, _ = trained
    other = trainer.planned((7.0,), (5,))
    assert engine.lower(other, 0).fingerprint == engine.lower(trainer.plan, 0).fingerprint


@pytest.mark.parametrize("rate", LEARNING_RATES)
def test_alone_in_a_padded_tile(trained, rate):
    trainer, every = trained
    for seed in range(NUM_SEEDS):
        _assert_same(trainer.digests((rate,), (seed,)), every, at_least=1)


@law
@given(rates=learning_rates, listed=seeds)
def test_in_any_order_and_any_part_of_the_sweep(trained, rates, listed):
    trainer, every = trained
    _assert_same(trainer.digests(rates, listed), every, at_least=len(rates) * len(listed))


@law
@given(rates=learning_rates, others=st.lists(neighbours, min_size=1, max_size=4, unique=True), data=st.data())
def test_beside_any_neighbours(trained, rates, others, data):
    trainer, every = trained
    mixed = data.draw(st.permutations([*rates, *others]))
    _assert_same(trainer.digests(mixed), every, at_least=len(rates) * NUM_SEEDS)


@law
@given(rates=learning_rates, data=st.data())
def test_beside_a_run_that_diverges(trained, rates, data):
    trainer, every = trained
    mixed = data.draw(st.permutations([*rates, DIVERGING]))
    _assert_same(trainer.digests(mixed), every, at_least=len(rates) * NUM_SEEDS)


def test_the_diverging_neighbour_does_diverge_and_the_others_do_not(trained):
    trainer, _ = trained
    statuses = {0.1: OK, DIVERGING: NOT_FINITE}
    for result in trainer.results(trainer.planned(tuple(statuses), NUM_SEEDS)):
        assert result.status.tolist() == [list(statuses.values())[trial] for trial in result.trial]


@law
@given(cuts=lengths)
def test_however_the_steps_are_cut_into_segments(trained, cuts):
    trainer, every = trained
    wanted = itertools.cycle(cuts)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine, "_adapted", lambda *timing: next(wanted))
        patched.setattr(trainer.made, "tile_steps", next(wanted))
        assert trainer.digests() == every


def test_the_cuts_are_really_made(trained, monkeypatch):
    trainer, _ = trained
    cuts = iter((2, 3, 1))
    monkeypatch.setattr(engine, "_adapted", lambda *timing: next(cuts, 1))
    monkeypatch.setattr(trainer.made, "tile_steps", 1)
    plan = trainer.planned((0.1,), 1)
    events = engine.train(plan, trainer.made, next(plans.batches(plan)))
    assert [event.step for event in events if isinstance(event, engine.Segment)] == [1, 3, 6]


# Segments: in the first tile, at its end, in the third (that has a run that is not finite any more), at last.
@pytest.mark.parametrize("stop_after", [1, 3, 8, 12])
def test_resumed_from_a_checkpoint(trained, tmp_path, monkeypatch, stop_after):
    trainer, _ = trained
    rates = (*LEARNING_RATES, DIVERGING)
    every = trainer.digests(rates)
    monkeypatch.setattr(plans, "_MAX_BATCHES", 1)  # all four tiles in one batch
    monkeypatch.setattr(engine, "_adapted", lambda *timing: 2)
    monkeypatch.setattr(engine, "compiler", lambda *plan: contextlib.nullcontext(lambda group: trainer.made))
    trainer.made.tile_steps = 2  # three segments a tile
    study = tiny_studies.study(trainer.name, rates)
    events = worker.work(jobs.prepare(study, tmp_path, tile=TILE), keep_state=True)
    before = list(itertools.islice(events, stop_after))
    events.close()
    assert all(isinstance(event, engine.Segment) for event in before)
    assert len(_checkpoints(tmp_path)) == 1

    job = jobs.prepare(study, tmp_path, tile=TILE)
    *segments, last = worker.work(job, keep_state=True)
    assert len(segments) == 12 - stop_after
    assert isinstance(last, worker.Committed)
    assert last.result is not None
    assert tiny_studies.digests(job.plan.trials.columns, [last.result]) == every
    assert _checkpoints(tmp_path) == []


def _checkpoints(folder: Path) -> list[Path]:
    return list((folder / "checkpoints").iterdir())


def _in_a_fresh_process(num_cores: int, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The digests of a child that compiles anew and chooses its threads itself, as `import jaxexp` has it."""
    cores = sorted(os.sched_getaffinity(0))[:num_cores]
    environment = {name: value for name, value in os.environ.items() if name != "NPROC"}
    told = subprocess.run(
        [sys.executable, tiny_studies.__file__, ",".join(map(str, cores)), *names],
        env=environment | {"JAX_ENABLE_COMPILATION_CACHE": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(told.stdout)


def test_in_a_fresh_process_on_one_core_and_on_two():
    here = {"wide": tiny_studies.trainer("wide").digests()}
    for num_cores in (1, 2):
        assert _in_a_fresh_process(num_cores, ("wide",)) == here


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_in_a_fresh_process(name):
    here = {name: tiny_studies.trainer(name).digests()}
    assert _in_a_fresh_process(1, (name,)) == here

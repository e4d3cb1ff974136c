"""Runs that are trained for more steps go on from where fewer ended: the same bits, and no step done twice."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from walks import TILE, finish

import jaxexp as jx
from jaxexp import comparisons, engine, jobs, plans, results, tables, worker
from jaxexp.results import OK


def steps_done(study: Any, folder: Path) -> int:
    """Trains what is left of a study and returns how many steps of a tile that took."""
    events = list(worker.work(jobs.prepare(study, folder)))
    return sum(event.num_steps * event.num_tiles for event in events if isinstance(event, engine.Segment))


@pytest.mark.parametrize("most", [256, 2], ids=["a tile a batch", "six tiles a batch"])
@pytest.mark.parametrize("more", [{"num_steps": 30}, {"num_steps": 23}, {"num_steps": 30, "seeds": 6}])
def test_more_steps_go_on_from_the_final_states(tmp_path, study, more, most, monkeypatch):
    monkeypatch.setattr(plans, "_MAX_BATCHES", most)
    short, longer = study.replace(num_steps=15), study.replace(**more)
    jx.run(short, tmp_path / "run", tile=TILE)
    old_tiles, new_tiles = 2 * 2 * 2, 2 * 2 * (1 if "seeds" in more else 0)
    done = steps_done(longer, tmp_path / "run")
    assert done == old_tiles * (longer.num_steps - 15) + new_tiles * longer.num_steps
    jx.run(longer, tmp_path / "anew", tile=TILE)
    assert jx.run(longer, tmp_path / "run").identical(jx.run(longer, tmp_path / "anew"))
    for path in sorted((tmp_path / "anew" / "chunks").iterdir()):
        assert path.read_bytes() == (tmp_path / "run" / "chunks" / path.name).read_bytes()


def test_more_steps_of_runs_of_several_plans_go_on_too(tmp_path, study):
    for sweep, seeds in (((0.5,), 2), ((0.5, 1.0), 4), ((2.0, 1.0, 0.5), 4)):
        jx.run(study.replace(sweep=jx.grid(rate=sweep, width=(1, 2)), seeds=seeds), tmp_path / "run", tile=TILE)
    longer = study.replace(num_steps=25)
    assert steps_done(longer, tmp_path / "run") == 8 * 5
    assert jx.run(longer, tmp_path / "run").identical(jx.run(longer, tile=TILE))


def test_what_was_not_recorded_begins_at_the_start(tmp_path, study):
    jx.run(study, tmp_path / "run", tile=TILE)
    finer = study.replace(num_steps=30, evaluate_every=2)
    assert steps_done(finer, tmp_path / "run") == 8 * 30
    assert jx.run(finer, tmp_path / "run").identical(jx.run(finer, tile=TILE))


def test_states_too_large_to_keep_begin_at_the_start(tmp_path, study, monkeypatch):
    monkeypatch.setattr(plans, "_KEPT_BYTES", 4 * (1 + 2) * 4 * 3 - 1)
    jx.run(study, tmp_path / "run", tile=TILE)
    assert steps_done(study.replace(num_steps=30), tmp_path / "run") == 8 * 30


def test_states_of_keys_and_of_small_floats_go_on_after_a_stop_and_with_more_steps(tmp_path, study, monkeypatch):
    def init(key, data, config):
        return {"x": jax.random.normal(key, (2,), jax.numpy.bfloat16), "key": key}

    def step(key, state, data, config):
        key = jax.random.fold_in(state["key"], 1)
        noise = jax.random.normal(key, (2,), jax.numpy.bfloat16)
        return {"x": state["x"] * 0.5 + noise, "key": key}, {"first": state["x"][0].astype(float)}

    sweep, steps = jx.grid(rate=(0.5, 1.0, 2.0)), {"num_steps": 8, "evaluate_every": 2, "log_every": 1}
    short = study.replace(experiment=jx.Experiment(init, step, None), sweep=sweep, **steps)
    longer = short.replace(num_steps=16)
    monkeypatch.setattr(engine, "_adapted", lambda *timing: 3)
    events = worker.work(jobs.prepare(longer, tmp_path / "stopped", tile=TILE))
    next(events), next(events)
    events.close()
    assert list((tmp_path / "stopped" / "checkpoints").iterdir())
    jx.run(short, tmp_path / "longer", tile=TILE)
    whole = jx.run(longer, tile=TILE)
    assert jx.run(longer, tmp_path / "stopped").identical(whole)
    assert jx.run(longer, tmp_path / "longer").identical(whole)


def test_an_evaluation_that_more_steps_never_make_marks_no_run(tmp_path, study):
    def evaluate(state, data, config):
        return {"end": jax.numpy.where(jax.numpy.sum(state) == 23, jax.numpy.nan, jax.numpy.sum(state))}

    count = jx.Experiment(
        lambda key, data, config: jax.numpy.zeros(1),
        lambda key, state, data, config: (state + 1, {"x": state.sum()}),
        evaluate,
    )
    longer = study.replace(experiment=count, sweep=jx.grid(rate=(0.5, 1.0)), seeds=2, num_steps=40)
    assert (jx.run(longer.replace(num_steps=23), tmp_path, tile=TILE).status != OK).all()
    assert jx.run(longer, tmp_path).identical(jx.run(longer, tile=TILE))


def test_more_steps_go_beside_the_results_of_fewer(tmp_path, study):
    short = jx.run(study, tmp_path, tile=TILE)
    long = jx.run(study.replace(num_steps=30), tmp_path)
    assert long.eval_step.values.tolist() == list(range(0, 31, 5))
    np.testing.assert_array_equal(long.end.sel(eval_step=short.eval_step), short.end)
    np.testing.assert_array_equal(jx.load(tmp_path).end, long.end)
    assert jx.run(study, tmp_path).identical(short)
    assert finish(study, tmp_path) == []


def test_a_run_of_fewer_steps_is_not_run_at_a_later_one(tmp_path, study):
    short = study.replace(num_steps=10, seeds=8, sweep=jx.grid(rate=(0.5, 1.0)))
    jx.run(short, tmp_path, tile=TILE)
    jx.run(short.replace(num_steps=20, seeds=3), tmp_path, tile=TILE)
    found = jx.load(tmp_path)
    for at, num_seeds in ((None, 3), (20, 3), (10, 8)):
        assert (results.status_at(found, at) == OK).sum(axis=1).tolist() == [num_seeds] * 2
        assert [row["n"] for row in tables.rows(found, shown=["end"], at=at)] == [num_seeds] * 2
        contrast = comparisons.compare(found, "rate=0.5", "rate=1", "end", at)
        assert (contrast.difference.n, contrast.difference.excluded) == (num_seeds, 0)
    recorded = results.status_at(found, 9)  # of the step's metrics alone: nothing was evaluated there
    assert (recorded == OK).sum(axis=1).tolist() == [8] * 2
    assert (results.whole_seeds(found).sizes["seed"], results.seeds_told(found)) == (3, "3")

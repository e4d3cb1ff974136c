"""A run folder after kill -9, a crash at any write, an extension, an edit: the same bits, and nothing done twice."""

import contextlib
import itertools
import json
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

import jaxexp as jx
from jaxexp import catalog, devices, display, engine, files, jobs, plans, store, worker
from jaxexp.errors import MismatchError, StoreError
from jaxexp.plans import Tile
from jaxexp.results import NOT_RUN, OK

TILE = Tile(2, 2)
WALK = '''"""How far does a walk get?"""

import jax
import jax.numpy as jnp
import numpy as np

import jaxexp as jx

DATA = (0.0, 1.0, 3.0)


@jx.config
class Config:
    rate: float = 0.5
    width: int = 1


def init(key, data, config):
    return jax.random.uniform(key, (config.width,))


@jax.jit
def pulled(state, data):
    return jnp.mean(data) - state


def step(key, state, data, config):
    """Goes a step."""
    pull = 0.25 * config.rate * pulled(state, data)
    state = state + pull + jax.random.normal(key, state.shape)
    return state, {"distance": jnp.sum(state**2)}


def evaluate(state, data, config):
    return {"end": jnp.sum(state)}


study = jx.Study(
    experiment=jx.Experiment(init, step, evaluate),
    config=Config(),
    sweep=jx.grid(rate=(0.5, 1.0, 2.0), width=(1, 2)),
    seeds=4,
    num_steps=20,
    evaluate_every=5,
    log_every=3,
    data=lambda config: np.asarray(DATA, np.float32),
)
'''

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

programs: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def compile_each_program_once(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def compiler(plan: Any, lowered: Any, needed: Any) -> Iterator[Any]:
        def program(index: int) -> engine.Compiled:
            made, group = lowered[index], plan.groups[index]
            name = f"{made.fingerprint} {made.shape}"
            if name not in programs:
                programs[name] = made.compile()
            return engine.ready(group, made, programs[name], jax.device_put(group.data))

        yield program

    monkeypatch.setattr(engine, "compiler", compiler)


def load(folder: Path, text: str = WALK) -> catalog.Loaded:
    folder.mkdir(exist_ok=True)
    (folder / "walk.py").write_text(text)
    return catalog.load(str(folder / "walk.py"))


def source(loaded: catalog.Loaded) -> jobs.Source:
    return jobs.Source(loaded.name, loaded.text, loaded.path.parent)


@pytest.fixture
def study(tmp_path_factory: pytest.TempPathFactory) -> jx.Study:
    return load(tmp_path_factory.mktemp("experiments")).study


def finish(study: jx.Study, folder: Path) -> list[tuple[int, int]]:
    """Trains what is left, and returns the runs (trial, seed) that were trained for it."""
    events = worker.work(jobs.prepare(study, folder, tile=TILE), keep_state=True)
    results = [event.result for event in events if isinstance(event, worker.Committed) and event.result]
    return [(int(t), int(s)) for result in results for t, s in zip(result.trial, result.seed, strict=True)]


def chunks(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "chunks").glob("[0-9]*.npz"))}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted((folder / "chunks").glob("[0-9]*.npz"))}


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


def test_a_worker_trains_no_other_program_than_was_asked_for(tmp_path, study):
    job = jobs.prepare(study, tmp_path, tile=TILE)
    changed = {name: {**digests, "program": "other"} for name, digests in job.digests.items()}
    with pytest.raises(MismatchError, match="have changed since"):
        next(worker.work(job._replace(digests=changed)))


def test_more_steps_go_beside_the_results_of_fewer(tmp_path, study):
    short = jx.run(study, tmp_path, tile=TILE)
    long = jx.run(study.replace(num_steps=30), tmp_path)
    assert long.eval_step.values.tolist() == list(range(0, 31, 5))
    np.testing.assert_array_equal(long.end.sel(eval_step=short.eval_step), short.end)
    np.testing.assert_array_equal(jx.load(tmp_path).end, long.end)
    assert jx.run(study, tmp_path).identical(short)
    assert finish(study, tmp_path) == []


EDITS_OF_WORDS = {
    "another docstring": ('"""Goes a step."""', '"""Goes one step, and says how far it is."""'),
    "a comment": ("DATA =", "# three points\nDATA ="),
    "moved lines": ("@jx.config", "\n\n\n\n@jx.config"),
    "another name of a variable": ("pull =", "force = pull ="),
    "another name of a function": ("pulled", "drawn"),
    "another claim": ("num_steps=20,", 'num_steps=20,\n    claims=(jx.Claim("far", lambda d: d.end, jx.above(0)),),'),
}


@pytest.mark.parametrize("name", EDITS_OF_WORDS)
def test_an_edit_that_changes_no_program_trains_nothing_anew(tmp_path, study, name):
    text = WALK.replace(*EDITS_OF_WORDS[name])
    assert text != WALK
    finish(study, tmp_path / "run")
    before = times(tmp_path / "run")
    assert finish(load(tmp_path / "experiments", text).study, tmp_path / "run") == []
    assert times(tmp_path / "run") == before


EDITS_OF_SUBSTANCE = {
    "a constant of the step": ("0.25 * config.rate", "0.26 * config.rate", "another program", "0.26"),
    "a constant of the start": ("uniform(key, (config", "normal(key, (config", "another program", "normal"),
    "what is evaluated": ("jnp.sum(state)}", "jnp.max(state)}", "another program", "jnp.max"),
    "the data": ("(0.0, 1.0, 3.0)", "(0.0, 1.0, 4.0)", "other data", "--fresh"),
    "the shape of the data": ("(0.0, 1.0, 3.0)", "(0.0, 1.0)", "other data", "--name"),
}


@pytest.mark.parametrize("name", EDITS_OF_SUBSTANCE)
def test_an_edit_that_changes_results_is_refused_with_what_changed(tmp_path, name):
    old, new, reason, told = EDITS_OF_SUBSTANCE[name]
    assert old in WALK
    before = load(tmp_path / "experiments")
    jx.run(before.study, tmp_path / "run", tile=TILE, source=source(before))
    written = chunks(tmp_path / "run")
    after = load(tmp_path / "experiments", WALK.replace(old, new))
    with pytest.raises(MismatchError, match=reason) as problem:
        jx.run(after.study, tmp_path / "run", source=source(after))
    assert told in str(problem.value)
    assert "use another --name, or --fresh" in str(problem.value)
    assert chunks(tmp_path / "run") == written
    assert jx.run(before.study, tmp_path / "run", source=source(before)).sizes["seed"] == 4


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("width: int = 1", "width: int = jx.dynamic(1)", "width is dynamic and was static"),
        ("rate: float = 0.5", "rate: float = jx.static(0.5)", "rate is static and was dynamic"),
    ],
)
def test_a_field_that_turns_static_or_dynamic_is_refused(tmp_path, old, new, told):
    narrow = WALK.replace("(config.width,)", "(1,)")
    assert old in narrow
    jobs.prepare(load(tmp_path / "experiments", narrow).study, tmp_path / "run", tile=TILE)
    after = load(tmp_path / "experiments", narrow.replace(old, new).replace("0.25 *", "0.5 *"))
    with pytest.raises(MismatchError, match=f"another program \\({told}\\)"):
        jx.run(after.study.replace(seeds=8), tmp_path / "run")


def test_another_precision_is_refused(tmp_path, study):
    jx.run(study, tmp_path, tile=TILE)
    with jax.enable_x64(True), pytest.raises(MismatchError, match=r"x64: False -> True"):
        jx.run(study, tmp_path)


def test_results_of_other_settings_of_the_compiler_are_not_mixed(tmp_path, study):
    jx.run(study, tmp_path, tile=TILE)
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        with pytest.raises(MismatchError, match=r"settings: \{\} -> \{'jax_disable_most_optimizations': 'True'\}"):
            jx.run(study.replace(seeds=9), tmp_path)
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def test_another_number_of_threads_is_refused_with_the_setting(tmp_path, study):
    assert devices.environment()["threads"] == 1
    jx.run(study, tmp_path, tile=TILE)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["threads"] == 1
    del record["sha256"]
    (tmp_path / "run.json").write_bytes(files.sealed_json(record | {"threads": 7}))
    with pytest.raises(MismatchError, match=r"set NPROC=7; or go on with --allow-mixed.*\nthreads: 7 -> 1"):
        jx.run(study, tmp_path)
    job = jobs.prepare(study, tmp_path, allow_mixed=True)
    assert job.num_done == job.plan.num_runs


def test_another_tile_is_refused(tmp_path, study):
    jx.run(study, tmp_path, tile=TILE)
    with pytest.raises(StoreError, match=r"is trained in tiles of 2x2, not 3x2, .*leave --tile out"):
        jx.run(study, tmp_path, tile=Tile(3, 2))
    assert finish(study, tmp_path) == []


def test_fresh_puts_the_old_folder_aside(tmp_path, study):
    for number in range(3):
        jx.run(study, tmp_path / "run", tile=TILE, fresh=True)
        assert len(list(tmp_path.glob("run.old-*"))) == number
    assert chunks(tmp_path / "run.old-1") == chunks(tmp_path / "run")


def test_a_folder_of_other_files_is_left_alone(tmp_path, study):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"holds other files and no run: choose another --name"):
        jx.run(study, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_in_which_another_process_is_just_beginning_is_no_other_files(tmp_path, study):
    files.temporary_beside(tmp_path / "probe").touch()
    assert jx.run(study, tmp_path, tile=TILE).sizes["seed"] == study.seeds


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

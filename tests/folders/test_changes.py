"""A folder whose experiment, settings, tile or files changed: what changes no result goes on, all else is refused."""

import json

import jax
import pytest
from walks import TILE, WALK, chunks, finish, load, source, times

import jaxexp as jx
from jaxexp import devices, files, jobs
from jaxexp.errors import MismatchError, StoreError
from jaxexp.plans import Tile

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
    (tmp_path / "notes.txt").rename(tmp_path / ".tmp-notes.txt")
    with pytest.raises(StoreError, match="holds other files and no run"):
        jx.run(study, tmp_path)


def test_a_folder_in_which_another_process_is_just_beginning_is_no_other_files(tmp_path, study):
    files.temporary_beside(tmp_path / "probe").touch()
    assert jx.run(study, tmp_path, tile=TILE).sizes["seed"] == study.seeds


def test_fresh_puts_a_folder_without_its_record_aside_as_well(tmp_path, study):
    jx.run(study, tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    jx.run(study.replace(num_steps=7), tmp_path / "run", fresh=True)
    assert len(list(tmp_path.iterdir())) == 2
    assert len(list((tmp_path / "run" / "plans").iterdir())) == 1

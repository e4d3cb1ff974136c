"""The verbs that look after a run folder, at the command line."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxexp import files, upkeep

TEXT = '''"""Where do walks end?"""

import sys

sys.path.insert(0, {faults!r})
import studies

study = studies.walk(3, 4)
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment that was run."""
    place = tmp_path_factory.mktemp("place")
    (place / "experiments").mkdir()
    (place / "experiments" / "walks.py").write_text(TEXT.format(faults=str(Path(__file__).parent)))
    assert jaxexp(place, "run", "walks", "--quiet").returncode == 0
    return place


def jaxexp(place: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "jaxexp", *words]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120)


def test_reproduce_says_identical_and_keeps_a_record(place):
    done = jaxexp(place, "reproduce", "walks", "--quiet", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["verdict"], told["runs"], told["changed"]) == ("identical", 12, [])
    assert (place / told["record"]).is_file()
    changed = jaxexp(place, "reproduce", "walks", "rate=0.11", "--quiet")
    assert changed.returncode == 2  # no run of that rate to compare with
    assert "rate=0.11: results/walks/default has no such trial" in changed.stderr
    longer = jaxexp(place, "reproduce", "walks", "num_steps=30", "evaluate_every=10", "--quiet")
    assert longer.returncode == 0, "the evaluation after 30 steps is the recorded one"


def test_reproduce_keeps_what_it_trained_where_it_is_told_to(place):
    words = ("reproduce", "walks", "--quiet", "--json", "--keep")
    records = [json.loads(jaxexp(place, *words, "results/walks/again").stdout) for _ in range(2)]
    assert [(told["verdict"], told["runs"]) for told in records] == [("identical", 12)] * 2
    nothing = "0 runs were trained now; all others were in results/walks/again before, and are judged as found"
    assert [told["warnings"] for told in records] == [[], [nothing]]
    assert json.loads(jaxexp(place, "status", "results/walks/again", "--json").stdout)["ok"] == 12
    for itself in ("results/walks/default", "results/walks/default/claims"):
        refused = jaxexp(place, *words, itself)
        assert (refused.returncode, "train again in another folder" in refused.stderr) == (2, True)


def test_replay_says_identical(place):
    done = jaxexp(place, "replay", "walks", "--trial", "2", "--seed", "3")
    assert done.returncode == 0, done.stderr
    assert "identical to the folder, bit by bit" in done.stdout
    none = jaxexp(place, "replay", "walks", "--trial", "9", "--seed", "3")
    assert (none.returncode, "its table has the trials 0 to 2 and seeds from 0 to 3" in none.stderr) == (2, True)


def test_a_run_whose_file_is_gone_says_where_its_text_is(place):
    path = place / "experiments" / "walks.py"
    aside = path.rename(place / "walks.txt")
    done = jaxexp(place, "replay", "results/walks/default", "--trial", "2", "--seed", "3")
    aside.rename(path)
    assert (done.returncode, "its text is in the run's run.json" in done.stderr) == (2, True)
    record = json.loads((place / "results" / "walks" / "default" / "run.json").read_text())
    assert record["source"] == path.read_text()


def test_doctor_finds_a_damaged_file_and_run_does_it_anew(place):
    assert jaxexp(place, "doctor", "walks").returncode == 0
    path = next((place / "results" / "walks" / "default" / "chunks").glob("*.npz"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    done = jaxexp(place, "doctor", "walks", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert [Path(one["file"]).name for one in found["damaged"]] == [path.name]
    others = len(list(path.parent.iterdir())) - 1
    assert found["whole"] == {"records": 1, "plans": 1, "chunks": others, "checkpoints": 0}
    assert jaxexp(place, "table", "walks").returncode == 2
    again = jaxexp(place, "run", "walks", "--quiet")
    assert again.returncode == 0
    assert "damaged, put aside and done anew" in again.stderr
    assert path.read_bytes() == whole


def test_a_state_that_is_not_finite_for_one_step_is_named(tmp_path):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "heals.py").write_text(HEALS)
    assert jaxexp(tmp_path, "run", "heals", "--quiet").returncode == 0
    told = json.loads(jaxexp(tmp_path, "replay", "heals", "--trial", "0", "--seed", "0", "--json").stdout)
    assert (told["not_finite_step"], told["not_finite_metrics"]) == (4, ["mean"])
    assert (told["parameter_step"], told["parameters"]) == (4, ["x"])


LEFT = files.temporary_beside(Path("x")).name
"""What a process that was killed leaves of a file."""


def test_gc_removes_what_is_left_over(place):
    folder = place / "results" / "walks" / "default"
    left = folder / "claims" / "000000000-abc.json"
    left.write_text("{}")
    (folder / LEFT).mkdir()
    (folder / ".tmp-mine").write_text("no file that jaxexp made")
    assert "0 files would be removed" in jaxexp(place, "gc", "walks", "--dry-run").stdout
    assert "1 files removed" in jaxexp(place, "gc", "walks", "--all").stdout
    assert not left.exists()
    (folder / LEFT).rmdir()
    (folder / ".tmp-mine").unlink()


def test_a_clock_that_is_ahead_makes_no_file_stale(place, monkeypatch):
    folder = place / "results" / "walks" / "default"
    left = folder / "claims" / LEFT
    left.touch()
    two_hours_later = time.time() + 7200
    monkeypatch.setattr(time, "time", lambda: two_hours_later)
    assert list(upkeep.stale(folder)) == []
    assert list(upkeep.stale(folder, everything=True)) == [left]
    left.unlink()


def test_gc_removes_no_folder_and_nothing_behind_a_link(place, tmp_path):
    folder = place / "results" / "walks" / "default"
    copy = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("quarantine"))
    (copy / "claims" / "5.json").mkdir()
    (tmp_path / LEFT).touch()
    (copy / "quarantine").symlink_to(tmp_path)
    done = jaxexp(place, "gc", str(copy), "--all")
    assert (done.returncode, done.stdout) == (0, "\n0 files removed\n"), done.stderr
    assert (tmp_path / LEFT).exists()


def test_gc_leaves_a_run_of_a_newer_schema_alone(place):
    folder = place / "results" / "walks" / "default"
    (folder / "plans" / LEFT).touch()
    record = (folder / "run.json").read_bytes()
    (folder / "run.json").write_bytes(files.sealed_json({**files.read_sealed_json(folder / "run.json"), "schema": 99}))
    done = jaxexp(place, "gc", "walks", "--all")
    assert (done.returncode, "update jaxexp" in done.stderr) == (2, True)
    assert (folder / "plans" / LEFT).exists()
    (folder / "run.json").write_bytes(record)
    assert "1 files removed" in jaxexp(place, "gc", "walks", "--all").stdout


def test_a_file_that_goes_away_while_it_is_looked_at_is_left_out(tmp_path):
    (tmp_path / "there").write_text("12345")
    (found,) = upkeep._looked_at([tmp_path / "gone", tmp_path / "there"])
    assert (found[0].name, found[1].st_size) == ("there", 5)


def test_replay_and_reproduce_find_the_experiment_from_anywhere(place, tmp_path):
    folder = place / "results" / "walks" / "default"
    told = jaxexp(tmp_path, "replay", str(folder), "--trial", "1", "--seed", "2", "--json")
    assert json.loads(told.stdout)["differing"] == [], told.stderr
    told = jaxexp(tmp_path, "reproduce", str(folder), "--quiet", "--json")
    assert json.loads(told.stdout)["verdict"] == "identical", told.stderr


def test_a_file_that_was_started_by_itself_is_found_again(tmp_path):
    main = "\n\nif __name__ == '__main__':\n    from jaxexp import cli\n    cli.main(study)\n"
    (tmp_path / "mine.py").write_text(TEXT.format(faults=str(Path(__file__).parent)) + main)
    command = [sys.executable, "mine.py", "seeds=2", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = jaxexp(tmp_path, "replay", "mine", "--trial", "0", "--seed", "1", "--json")
    assert json.loads(told.stdout)["differing"] == [], told.stderr
    (tmp_path / "mine.py").unlink()
    gone = jaxexp(tmp_path, "replay", "mine", "--trial", "0", "--seed", "1")
    assert (gone.returncode, "there is no mine.py here, nor in a folder that" in gone.stderr) == (2, True)


def test_replay_of_edited_code_says_what_to_do(place, monkeypatch):
    path = place / "experiments" / "walks.py"
    text = path.read_text()
    path.write_text(text.replace("studies.walk(3, 4)", "studies.walk(3, 4, side=2)"))
    done = jaxexp(place, "replay", "walks", "--trial", "0", "--seed", "1")
    path.write_text(text)
    assert (done.returncode, "put back what has changed since" in done.stderr) == (2, True)
    assert "--fresh" not in done.stderr


LATE = '''"""Where do walks end, whose stride is known when they are traced?"""

import jax

import jaxexp as jx


@jx.config
class Config:
    """A walk's stride."""

    rate: float = jx.dynamic(0.1)


def init(key, data, config):
    """The origin."""
    return 0.0 * config.rate


def step(key, state, data, config):
    """A stride."""
    import strides

    state = state + strides.SIDE * config.rate * jax.random.normal(key)
    return state, {"place": state}


study = jx.Study(experiment=jx.Experiment(init, step, None), config=Config(), sweep=jx.grid(rate=(0.1, 1.0)), seeds=2,
                 num_steps=5)
'''


def early() -> str:
    """The experiment of walks with a module of its own."""
    text = TEXT.format(faults=str(Path(__file__).parent)).replace("import studies", "import strides\nimport studies")
    return text.replace("walk(3, 4)", "walk(3, 4, side=strides.SIDE)")


@pytest.mark.parametrize("late", [False, True])
def test_what_has_changed_in_a_module_that_an_experiment_imports_is_shown(tmp_path, late):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "walks.py").write_text(LATE if late else early())
    module, run = tmp_path / "strides.py", ("run", "walks", "--quiet")
    module.write_text("SIDE = 1\n")
    assert jaxexp(tmp_path, *run).returncode == 0
    module.write_text("SIDE = 1  # of a matrix\n")
    assert "0 runs computed" in jaxexp(tmp_path, *run).stdout
    module.write_text("SIDE = 2\n")
    refused = jaxexp(tmp_path, *run)
    assert (refused.returncode, "--- recorded strides\n+++ now strides" in refused.stderr) == (2, True), refused.stderr
    assert "-SIDE = 1\n+SIDE = 2\n" in refused.stderr
    record = json.loads((tmp_path / "results" / "walks" / "default" / "run.json").read_text())
    assert record["modules"] == {"strides": "SIDE = 1\n"}


def test_the_project_of_an_experiment_comes_before_the_current_folder(tmp_path):
    ours, others = tmp_path / "ours", tmp_path / "others"
    for place, side in ((ours, 1), (others, 2)):
        (place / "experiments").mkdir(parents=True)
        (place / "experiments" / "walks.py").write_text(early())
        (place / "strides.py").write_text(f"SIDE = {side}\n")
    assert jaxexp(ours, "run", "walks", "--quiet").returncode == 0
    again = jaxexp(others, "run", "../ours/experiments/walks.py", "--out", "../ours/results", "--quiet")
    assert "0 runs computed" in again.stdout, again.stderr
    told = jaxexp(others, "replay", "../ours/results/walks/default", "--trial", "1", "--seed", "2", "--json")
    assert json.loads(told.stdout)["differing"] == [], told.stderr


def test_the_standard_library_is_no_module_of_an_experiment(place, tmp_path):
    command = ("run", str(place / "experiments" / "walks.py"), "--out", str(tmp_path), "--quiet")
    assert jaxexp(Path("/"), *command).returncode == 0
    record = json.loads((tmp_path / "walks" / "default" / "run.json").read_text())
    assert {"json", "typing", "abc"}.isdisjoint(record["modules"])


def test_a_file_of_another_encoding_is_run_and_replayed(tmp_path):
    (tmp_path / "experiments").mkdir()
    text = TEXT.format(faults=str(Path(__file__).parent))
    (tmp_path / "experiments" / "walks.py").write_bytes(
        f"# -*- coding: latin-1 -*-\n{text}# \u00e9\n".encode("latin-1")
    )
    assert jaxexp(tmp_path, "run", "walks", "--quiet").returncode == 0
    told = jaxexp(tmp_path, "reproduce", "walks", "--quiet", "--json")
    assert (json.loads(told.stdout)["verdict"], json.loads(told.stdout)["changed"]) == ("identical", []), told.stderr


def test_an_experiment_is_imported_from_its_text_and_not_from_bytecode_of_before(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    path = tmp_path / "walks.py"
    for side in (1, 2):
        path.write_text(
            TEXT.format(faults=str(Path(__file__).parent)).replace("walk(3, 4)", f"walk(3, 4, side={side})")
        )
        os.utime(path, (0, 0))
        done = jaxexp(tmp_path, "run", "walks.py", "--quiet")
        assert done.returncode == 2 * (side - 1), done.stderr


@pytest.mark.parametrize("name", ["JAX_DEBUG_NANS", "JAX_DEBUG_INFS"])
def test_settings_that_end_all_where_one_run_diverges_are_refused(place, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    done = jaxexp(place, "run", "walks", "--name", "nans")
    assert (done.returncode, done.stderr.startswith(f"error: {name} is set: JAX would end all runs")) == (2, True)
    assert not (place / "results" / "walks" / "nans").exists()
    assert jaxexp(place, "doctor").returncode == 0


@pytest.mark.parametrize("platforms", ["nonsense", "cuda"])
def test_where_there_is_no_device_it_is_said(place, platforms, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    done = jaxexp(place, "plan", "walks")
    assert (done.returncode, done.stdout, done.stderr.count("error: JAX finds no device")) == (2, "", 1)
    assert f"JAX_PLATFORMS={platforms} asks for it: unset it" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shard", ["0/2", "3/2", "x", "1", "1/2/3", "\u00b2/4"])
def test_a_shard_that_is_none_is_a_usage_error(place, shard):
    done = jaxexp(place, "run", "walks", "--shard", shard)
    assert (done.returncode, "write I/N" in done.stderr) == (2, True)


def test_shards_make_a_run(place):
    one = jaxexp(place, "run", "walks", "--name", "parts", "--tile", "1x1", "--shard", "1/2", "--quiet")
    assert (one.returncode, "part 1/2 is done, 6 runs computed; 6 runs are left" in one.stderr) == (0, True)
    two = jaxexp(place, "run", "walks", "--name", "parts", "--shard", "2/2", "--quiet")
    assert (two.returncode, "12 runs" in two.stdout or "6 runs computed" in two.stdout) == (0, True)
    told = json.loads(jaxexp(place, "status", "walks", "--name", "parts", "--json").stdout)
    assert (told["ok"], told["not_run"], told["running"]) == (12, 0, [])


HEALS = '''"""When is it whole again?"""

import jax.numpy as jnp

import jaxexp as jx


@jx.config
class Config:
    rate: float = 0.5


def init(key, data, config):
    return {"count": jnp.int32(0), "x": jnp.float32(1)}


def step(key, state, data, config):
    x = jnp.where(state["count"] == 3, jnp.nan, config.rate)
    return {"count": state["count"] + 1, "x": x}, {"mean": state["x"]}


study = jx.Study(experiment=jx.Experiment(init, step), config=Config(), seeds=1, num_steps=9)
'''

TUPLES = '''"""How large is a tower?"""

import jax.numpy as jnp

import jaxexp as jx


@jx.config
class Config:
    sizes: tuple[int, ...] = (1, 2)
    rate: float = 0.5


def init(key, data, config):
    return jnp.ones(sum(config.sizes))


def step(key, state, data, config):
    return state * config.rate, {"size": state.sum()}


study = jx.Study(
    experiment=jx.Experiment(init, step, None), config=Config(), sweep=SWEEP, seeds=2, num_steps=3
)
'''


@pytest.mark.parametrize("sweep", ["jx.grid(rate=(0.5, 0.25))", "jx.grid(sizes=((1, 2), (3,)))"])
def test_replay_of_a_config_with_a_tuple(tmp_path, sweep):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "towers.py").write_text(TUPLES.replace("SWEEP", sweep))
    assert jaxexp(tmp_path, "run", "towers", "--quiet").returncode == 0
    done = jaxexp(tmp_path, "replay", "towers", "--trial", "1", "--seed", "1")
    assert done.returncode == 0, done.stderr
    assert "identical to the folder" in done.stdout

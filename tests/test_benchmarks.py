"""The benchmarks compare like with like: every contender in JAX ends where jaxexp does, and rows have one schema."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import jaxexp as jx
from benchmarks import compare, handwritten, measurement, natural, overhead, scaling, task, workloads
from jaxexp import engine, jobs
from jaxexp.cli import app
from jaxexp.plans import Tile

ROOT = Path(__file__).resolve().parents[1]
NUM_STEPS, NUM_SEEDS = 12, 2
ROW = {
    "workload": str,
    "contender": str,
    "num_runs": int,
    "trials_per_second": float,
    "trials_per_cpu_second": float,
    "ratio_to_careful_loop": float,
}


def small(workload: str, name: str = "study") -> jx.Study:
    """A workload with few steps and seeds, and the corners of its sweep."""
    study = getattr(workloads.module(workload), name)
    first, second = ("learning_rate", "l2") if workload == "W2" else ("learning_rate", "momentum")
    values = ((0.05, 0.2), (1e-3, 3e-3) if workload == "W2" else (0.0, 0.9))
    return study.replace(sweep=jx.grid(**{first: values[0], second: values[1]}), seeds=NUM_SEEDS, num_steps=NUM_STEPS)


def final_losses(study: jx.Study) -> np.ndarray:
    """What jaxexp says, [num_seeds, num_trials]."""
    return jx.run(study, tile=Tile(2, 2))["test_loss"].isel(eval_step=-1).transpose("seed", "trial").values


@pytest.mark.parametrize("workload", ["W1", "W2", "W3", pytest.param("W4", marks=pytest.mark.slow)])
def test_contenders_train_the_same_runs(workload):
    study = small(workload)
    given = workloads.task(workload, study)
    expected = final_losses(study)
    assert expected.shape == (NUM_SEEDS, given.num_trials)
    assert len(set(expected.ravel().tolist())) == expected.size, "each run must be another"
    for contender in (natural.careful_loop, natural.naive_vmap, handwritten.sweep):
        np.testing.assert_allclose(contender(given)(), expected, rtol=1e-4, err_msg=contender.__name__)


@pytest.mark.parametrize("workload", ["W1", pytest.param("W3", marks=pytest.mark.slow)])
def test_a_flax_model_in_natural_layout_trains_likewise_from_its_own_start(workload):
    study = small(workload, "natural")
    given = workloads.task(workload, study)
    np.testing.assert_allclose(natural.naive_vmap(given)(), final_losses(study), rtol=1e-4)


@pytest.mark.parametrize("workload", ["W1", pytest.param("W3", marks=pytest.mark.slow)])
def test_the_bare_loop_trains_what_jaxexp_trains_in_its_tiles(workload):
    study = small(workload)
    one_tile, seeds = overhead.bare(study, Tile(2, 2)), np.arange(2)
    found = np.concatenate([one_tile(trials, seeds) for trials in ([0, 1], [2, 3])], axis=1)
    np.testing.assert_allclose(found, final_losses(study), rtol=1e-5)


def test_the_loop_around_the_program_and_that_into_a_folder_train_the_same_bits(tmp_path):
    study = small("W1")
    job = jobs.prepare(study, tmp_path / "run", tile=Tile(2, 2))
    with engine.compiler(job.plan, job.lowered, [0]) as program:
        by_program = overhead.alone(job, program(0))
        last = [by_program(batch).evaluated["test_loss"][0, 1] for batch in job.pending]  # each batch is one tile
        overhead.stored(job, program(0))
    assert sorted(np.ravel(last)) == sorted(jx.load(tmp_path / "run")["test_loss"].values[..., -1].ravel())


def test_a_tile_may_reach_over_the_edge_of_the_sweep():
    given = workloads.task("W1", small("W1").replace(seeds=3))
    whole, tiled = handwritten.sweep(given, (3, 4))(), handwritten.sweep(given, (2, 3))()
    np.testing.assert_allclose(tiled, whole, rtol=1e-5)


@pytest.mark.parametrize("workload", ["W1", "W3"])
def test_a_task_survives_its_file(workload, tmp_path):
    given = workloads.task(workload, small(workload))
    task.save(given, tmp_path / "task.npz")
    for name, before, after in zip(given._fields, given, task.load(tmp_path / "task.npz"), strict=True):
        for one, other in zip(*(part if isinstance(part, tuple) else (part,) for part in (before, after)), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize(("num_runs", "shape"), [(1, (1, 1)), (2, (1, 2)), (4, (1, 4)), (9, (2, 4)), (100, (2, 4))])
def test_part_of_a_task_holds_about_as_many_runs_as_are_asked_for(num_runs, shape):
    part = workloads.task("W1", small("W1")).at_most(num_runs)
    assert (part.num_seeds, part.num_trials) == shape


def test_every_seed_has_minibatches_of_its_own():
    table = workloads.task("W3", small("W3")).table
    assert table.shape == (NUM_SEEDS, NUM_STEPS, 64)
    assert (table[0] != table[1]).any()
    assert len(np.unique(table[0])) == NUM_STEPS * 64, "an epoch shows no example twice"


def test_rows_have_what_the_command_line_promises():
    given = workloads.task("W1", small("W1"))
    loop = measurement.Contender("careful loop", "benchmarks.natural:careful_loop", num_runs=2)
    absent = measurement.Contender("nobody", "benchmarks.no_such_module:run", note="is not there")
    document = measurement.document(measurement.rows(given, [loop, absent], repeats=2))
    row, missing = json.loads(json.dumps(document))["rows"]
    assert document["device"].startswith("cpu: ")
    assert {name: type(row[name]) for name in ROW} == ROW
    assert row["num_runs"] == 2
    assert row["ratio_to_careful_loop"] == 1
    assert missing["trials_per_second"] is None
    assert "no_such_module" in missing["note"]
    assert len(measurement.markdown(document["rows"]).splitlines()) == 4


@pytest.mark.parametrize("workload", list(workloads.FILES))
def test_the_careful_loop_comes_first_and_names_are_unique(workload):
    names = [contender.name for contender in compare.contenders(workload)]
    assert names[0] == measurement.CAREFUL_LOOP
    assert len(set(names)) == len(names)


@pytest.mark.slow
def test_the_short_comparison_has_the_projects_own_rows():
    command = [sys.executable, "-m", "benchmarks.compare", "W1", "--quick", "--repeats", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)["rows"]
    assert [row["contender"] for row in rows] == ["careful loop", "naive vmap", "jaxexp"]
    assert all(row["trials_per_second"] > 0 for row in rows)


def test_bench_prints_its_document_on_standard_output(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(compare, "measured", lambda say: print("measuring") or {"device": "d", "rows": []})
    done = CliRunner().invoke(app, ["bench", "--json"])
    assert json.loads(done.stdout) == {"device": "d", "rows": []}
    assert done.stderr == "measuring\n"


def test_the_comparison_prints_its_document_on_standard_output(monkeypatch, capsys):
    asked = {"chosen": compare.quick, "only": ["jaxexp"], "repeats": 1, "say": compare.to_stderr}
    document = {"device": "d", "rows": []}
    monkeypatch.setattr(compare, "measured", lambda names, **given: print(names, given == asked) or document)
    compare.main(["W1", "--quick", "--only", "jaxexp", "--repeats", "1", "--json"])
    printed = capsys.readouterr()
    assert json.loads(printed.out) == document
    assert printed.err == "['W1'] True\n"


@pytest.mark.slow
def test_scaling_measures_every_stage():
    (row,) = scaling.measured(["100x2"], [1])
    assert (row["num_runs"], row["workers"]) == (200, 1)
    stages = ("plan", "train", "store", "report", "load", "table")
    assert all(row[f"{stage}_seconds"] > 0 for stage in stages)
    assert 0 < row["store_share"] < 1
    assert 0 < row["store_cpu_share"] < 1
    assert 2**27 < row["peak_bytes"] < 2**31
    assert len(scaling.markdown([row]).splitlines()) == 3

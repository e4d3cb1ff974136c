"""Tables against numbers computed by hand and by `statistics`, a trial and a seed at a time; and what they refuse."""

import csv
import io
import itertools
import json
import time
from typing import Any

import numpy as np
import pytest
import typer
import xarray
from typer.testing import CliRunner

import jaxexp as jx
from jaxexp import display, statistics, tables, worker
from jaxexp.commands import exporting
from jaxexp.errors import StudyError

BY_HAND = {"mean": statistics.mean_interval, "median": statistics.median_interval}


@pytest.fixture
def dataset():
    accuracy = np.asarray([[[0.1, 0.5], [0.1, 0.7]], [[0.1, 0.9], [0.1, np.nan]]], np.float32)
    return xarray.Dataset(
        {
            "accuracy": (("trial", "seed", "eval_step"), accuracy),
            "loss": (("trial", "seed", "step"), np.ones((2, 2, 1), np.float32)),
            "status": (("trial", "seed"), np.asarray([[0, 0], [0, 1]], np.int8)),
            "status_step": (("trial", "seed"), np.asarray([[-1, -1], [-1, 7]], np.int32)),
        },
        coords={
            "trial": [0, 1],
            "seed": [0, 1],
            "eval_step": [0, 10],
            "step": [9],
            "rate": ("trial", [0.1, 0.2]),
            "hidden": 4,
        },
    )


def random_results(num_trials: int = 12, num_seeds: int = 9) -> xarray.Dataset:
    """Trials of three fields, with runs of every status; numbers of runs that are not ok would be seen in any mean."""
    generator = np.random.default_rng(0)
    status = generator.choice([0] * 27 + [1, 2, 3], (num_trials, num_seeds)).astype(np.int8)
    status[0], status[1, 1:] = 1, 1  # no seed, and one
    accuracy = generator.normal(size=(num_trials, num_seeds, 2)).astype(np.float32)
    accuracy[status != 0] = 1e6
    trials = np.arange(num_trials)
    return xarray.Dataset(
        {"accuracy": (("trial", "seed", "eval_step"), accuracy), "status": (("trial", "seed"), status)},
        coords={
            "eval_step": [0, 10],
            "rate": ("trial", np.asarray([0.3, 0.1, 0.2])[trials % 3]),
            "start": ("trial", np.asarray(["zeros", "ones"])[trials // 3 % 2]),
            "wide": ("trial", trials // 6 == 1),
        },
    )


def test_rows_score_ok_runs_and_count_the_others(dataset):
    first, second = tables.rows(dataset)
    assert first["rate"] == 0.1
    assert first["accuracy @10"] == pytest.approx(0.6)
    assert first["accuracy @10 ±"] == pytest.approx(12.706 * 0.1, rel=1e-4)  # t(1) x sd / sqrt(2)
    assert (second["n"], second["diverged"]) == (1, 1)
    assert second["accuracy @10"] == pytest.approx(0.9)
    assert np.isnan(second["accuracy @10 ±"])
    assert "hidden" not in first


@pytest.mark.parametrize("group_by", [(), ("start",), ("rate", "wide"), ("wide", "rate", "start")])
@pytest.mark.parametrize("statistic", BY_HAND)
def test_every_row_is_what_statistics_say_of_its_seeds(statistic, group_by):
    results = random_results()
    found = tables.rows(results, group_by=group_by, statistic=statistic)
    names = list(group_by or ("rate", "start", "wide"))
    members: dict[Any, list[int]] = {}
    for trial in range(12):
        row = tuple(results[name].values[trial].item() for name in names)
        members.setdefault(row if group_by else (trial, row), []).append(trial)
    assert len(found) == len(members)
    for row, (key, trials) in zip(found, members.items(), strict=True):
        assert tuple(row[name] for name in names) == (key if group_by else key[1])
        status = results["status"].values[trials]
        by_seed, anywhere = [], [t for t in trials if (results["status"].values[t] == 0).any()]
        for seed in range(9):
            whole = anywhere and all(results["status"].values[t, seed] == 0 for t in anywhere)
            scored = [results["accuracy"].values[t, seed, 1] for t in anywhere]
            by_seed.append(np.mean(scored, dtype=np.float64) if whole else np.nan)
        expected = BY_HAND[statistic](by_seed)
        title = "accuracy @10" if statistic == "mean" else "accuracy @10 median"
        assert row["n"] == expected.n
        assert [row["diverged"], row["stopped early"], row["not run"]] == [(status == code).sum() for code in (1, 2, 3)]
        assert row[title] == pytest.approx(expected.mean, rel=1e-12, nan_ok=True)
        if statistic == "median":
            assert (row[f"{title} low"], row[f"{title} high"]) == pytest.approx((expected.low, expected.high))
        elif expected.n > 1:
            assert row[f"{title} ±"] == pytest.approx(expected.high - expected.mean, rel=1e-12)
        else:
            assert np.isnan(row[f"{title} ±"])


def test_seeds_that_only_some_trials_of_a_group_have_do_not_shift_its_mean():
    """Two trials that differ by 1, the better of which has more seeds: the group's interval covers the middle."""
    noise = np.random.default_rng(0).normal(scale=0.1, size=(2, 60))
    status = np.zeros((2, 60), np.int8)
    status[0, 8:] = 3
    ragged = xarray.Dataset(
        {
            "y": (("trial", "seed", "eval_step"), np.add(noise, [[0.0], [1.0]])[..., None]),
            "status": (("trial", "seed"), status),
        },
        {"eval_step": [10], "rate": ("trial", [0.1, 0.2]), "wide": ("trial", [True, True])},
    )
    (row,) = tables.rows(ragged, group_by=["wide"])
    assert (row["n"], row["not run"]) == (8, 52)
    assert abs(row["y @10"] - 0.5) < row["y @10 ±"] < 0.2


def test_groups_say_how_many_trials_they_are_of():
    assert [row["trials"] for row in tables.rows(random_results(), group_by=["rate"])] == [4, 4, 4]
    assert "trials" not in tables.rows(random_results())[0]


def test_a_hyperparameter_named_like_a_count_keeps_its_values(dataset):
    renamed = dataset.rename(rate="n")
    row = tables.rows(renamed)[1]
    assert (row["config.n"], row["n"]) == (0.2, 1)
    assert [r["config.n"] for r in tables.rows(renamed, group_by=["n"])] == [0.1, 0.2]


def test_sorting_puts_what_is_missing_last_and_names_are_checked(dataset):
    found = tables.columns(dataset)
    assert tables.ordered(found, "-accuracy")["rate"].tolist() == [0.1, 0.2], "one of the other's runs diverged"
    assert tables.ordered(found, "rate")["rate"].tolist() == [0.1, 0.2]
    with pytest.raises(StudyError, match="did you mean 'rate'"):
        tables.ordered(found, "rat")
    with pytest.raises(StudyError, match="did you mean 'accuracy'"):
        tables.rows(dataset, shown=["accurac"])
    with pytest.raises(StudyError, match="nothing was evaluated at step 5: evaluated at 0, 10"):
        tables.rows(dataset, at=5)
    with pytest.raises(StudyError, match=r"'rat' differs between the trials.*did you mean 'rate'"):
        tables.rows(dataset, group_by=["rat"])
    with pytest.raises(StudyError, match="no statistic 'media'; did you mean 'median'"):
        tables.rows(dataset, statistic="media")


def test_survivors_of_runs_that_diverged_are_not_the_best():
    """Four trials that are equal at every seed, of which two lost their worst: by their means these were the best."""
    status = np.asarray([[0, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], np.int8)
    values = np.tile([1.0, 2.0, 3.0], (4, 1))[..., None]
    coords = {"eval_step": [0], "rate": ("trial", [1.0, 2.0, 3.0, 4.0]), "side": ("trial", ["a", "a", "b", "b"])}
    lossy = xarray.Dataset(
        {"y": (("trial", "seed", "eval_step"), values), "status": (("trial", "seed"), status)}, coords
    )
    found = tables.columns(lossy)
    for by in ("-y", "y", "-y @0"):
        assert tables.ordered(found, by)["rate"].tolist() == [1.0, 3.0, 4.0, 2.0]
    assert tables.ordered(found, "-rate")["rate"].tolist() == [4.0, 3.0, 2.0, 1.0]
    assert tables.ordered(found, "diverged")["rate"].tolist() == [1.0, 3.0, 4.0, 2.0]
    medians = tables.columns(lossy, statistic="median")
    assert tables.ordered(medians, "-y @0 median")["rate"].tolist() == [1.0, 3.0, 4.0, 2.0]
    lossy["status"][2:] = 0
    assert tables.ordered(tables.columns(lossy, group_by=["side"]), "-y")["side"].tolist() == ["b", "a"]


@pytest.mark.parametrize("by", ["rate", "-rate", "start", "-start", "wide", "accuracy", "-accuracy", "accuracy @10 ±"])
def test_columns_and_rows_are_sorted_as_python_sorts_them(by):
    found = tables.columns(random_results())
    rows = tables.as_rows(found)
    name = by.removeprefix("-")
    column = "accuracy @10" if name == "accuracy" else name
    there = [row for row in rows if row[column] == row[column]]
    expected = sorted(there, key=lambda row: row[column], reverse=by.startswith("-"))
    if name == "accuracy":
        expected.sort(key=lambda row: row["diverged"])
    expected += [row for row in rows if row[column] != row[column]]
    assert [repr(row) for row in tables.as_rows(tables.ordered(found, by))] == [repr(row) for row in expected]
    assert repr(tables.as_rows(tables.ordered(found, by, 3))) == repr(expected[:3])


def test_csv_round_trips(dataset):
    rows = tables.rows(dataset)
    read = list(csv.DictReader(io.StringIO(tables.to_csv(rows))))
    assert [float(row["accuracy @10"]) for row in read] == [row["accuracy @10"] for row in rows]


NUMBERS = {
    "as usual": ({"x": 0.5, "x ±": 0.25}, "0.5000 ± 0.2500"),
    "no interval": ({"x": 0.5, "x ±": np.nan}, "0.5"),
    "large": ({"x": 12345.0, "x ±": 10.0}, "1.234e+04 ± 10"),
    "small": ({"x": 1.25e-6, "x ±": 3e-7}, "1.25e-06 ± 3e-07"),
    "a narrow interval": ({"x": 0.5, "x ±": 1.25e-6}, "0.5000 ± 1.25e-06"),
    "a median": ({"x": 0.5, "x low": 0.25, "x high": 0.75}, "0.5000 [0.2500, 0.7500]"),
    "a median of few": ({"x": 0.5, "x low": -np.inf, "x high": np.inf}, "0.5"),
    "a whole number": ({"x": 3}, "3"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_a_cell_shows_a_number_and_its_interval(case):
    row, shown = NUMBERS[case]
    assert tables.cells([{"not run": 0, **row}]) == (["x"], [[shown]])


def test_markdown_keeps_a_cell_in_its_cell():
    assert tables.to_markdown(["a", "b"], [["x|y", "two\nlines"]]) == "| a | b |\n|---|---|\n| x\\|y | two lines |\n"


# The verb


@jx.config
class Config:
    rate: float = 0.1
    width: int = 1


STUDY = jx.Study(
    experiment=jx.from_train(lambda key, config: {"score": config.rate * config.width}),
    config=Config(),
    sweep=jx.grid(rate=(0.2, 0.1), width=(1, 3)),
    seeds=2,
)
app = typer.Typer()
app.command("table")(exporting.table)
app.command("export")(exporting.export)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("runs") / "scores"
    jx.run(STUDY, made)
    return str(made)


def invoked(folder: str, *words: str) -> str:
    done = CliRunner().invoke(app, ["table", folder, *words])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_the_best_row_of_a_sorted_table_is_judged_by_other_seeds(folder):
    told = invoked(folder, "--by", "-score").splitlines()[-1]
    assert "the first row is the best by its own seeds, which flatters it" in told
    assert told.endswith("the best is trial 1 (rate=0.2, width=3), and has at the seeds between them 0.6 (no interval)")
    assert "trial 2 (rate=0.1, width=1)" in invoked(folder, "--by", "score @0")
    for words in (["--by", "rate"], [], ["--by", "-score", "--csv"], ["--group-by", "rate", "--by", "-score"]):
        assert "flatters" not in invoked(folder, *words)


@pytest.mark.parametrize("status", [[[0, 0], [0, 3], [0, 3], [0, 3]], [[0, 3], [3, 0], [0, 3], [0, 3]], [[1, 1]] * 4])
def test_where_no_two_seeds_ran_everywhere_nothing_is_judged(folder, monkeypatch, status):
    results = worker.load(folder)
    results["status"].values[:] = status
    monkeypatch.setattr(worker, "load", lambda folder: results)
    assert "flatters" not in invoked(folder, "--by", "-score")


def test_a_path_leaves_nothing_to_choose_by_name(folder):
    done = CliRunner().invoke(app, ["table", folder, "--name", "other"])
    assert done.exit_code == 2
    assert f"{folder} is a run, and --name other would choose one of an experiment's" in done.stderr


def test_a_title_is_no_markup(capsys):
    display.table(["loss[val]", "a_b"], [["1", "2"]])
    assert capsys.readouterr().out.split() == ["loss[val]", "a", "b", "1", "2"]


def test_the_verb_sorts_groups_and_limits(folder):
    told = json.loads(invoked(folder, "--json", "--group-by", "rate", "--by", "rate"))
    assert [row["rate"] for row in told] == [0.1, 0.2]
    assert [row["trials"] for row in told] == [2, 2]
    assert [row["score @0"] for row in told] == pytest.approx([0.2, 0.4])
    both = json.loads(invoked(folder, "--json", "--group-by", "rate,width", "--by", "-score", "--limit", "1"))
    assert [(row["rate"], row["width"]) for row in both] == [(0.2, 3)]
    assert len(json.loads(invoked(folder, "--json"))) == 4
    shown = invoked(folder, "--limit", "3")
    assert "... and 1 more rows: --limit 4 shows all" in shown


def test_the_verb_prints_markdown_csv_and_medians(folder):
    lines = invoked(folder, "--markdown", "--by", "-score").splitlines()
    assert lines[:3] == [
        "| rate | width | n | diverged | score @0 |",
        "|---|---|---|---|---|",
        "| 0.2 | 3 | 2 | 0 | 0.6 |",
    ]
    rows = list(csv.DictReader(io.StringIO(invoked(folder, "--csv", "--statistic", "median"))))
    assert [float(row["score @0 median"]) for row in rows] == pytest.approx([0.2, 0.6, 0.1, 0.3])
    assert rows[0]["score @0 median low"] == "-inf"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--csv", "--markdown"], "choose one"),
        (["--group-by", "widht"], "did you mean 'width'?"),
        (["--statistic", "mode"], "there is no statistic 'mode'"),
        (["--by", "scor"], "did you mean 'score @0'?"),
        (["--at", "7"], "nothing was evaluated at step 7: evaluated at 0, 1"),
        (["--at", "1"], "--at is of evaluations, and nothing evaluated is shown (score)"),
    ],
)
def test_the_verb_says_what_is_wrong(folder, words, message):
    done = CliRunner().invoke(app, ["table", folder, *words])
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


# Time, of this process alone


def results_of(num_trials: int, num_seeds: int) -> xarray.Dataset:
    generator = np.random.default_rng(0)
    rates, sizes = np.arange(num_trials) % 10 / 10, np.arange(num_trials) // 10
    return xarray.Dataset(
        {
            "accuracy": (("trial", "seed", "eval_step"), generator.random((num_trials, num_seeds, 3), np.float32)),
            "status": (("trial", "seed"), np.zeros((num_trials, num_seeds), np.int8)),
        },
        coords={"eval_step": [0, 1, 2], "rate": ("trial", rates), "size": ("trial", sizes)},
    )


@pytest.mark.parametrize(("num_trials", "num_seeds", "seconds"), [(2_000, 50, 1), (100_000, 1, 1), (20_000, 50, 3)])
def test_tables_of_many_runs_are_fast(num_trials, num_seeds, seconds):
    big = results_of(num_trials, num_seeds)
    tables.columns(results_of(2, 2))  # imports scipy
    for statistic, group_by in itertools.product(("mean", "median"), ((), ("size",))):
        began = time.process_time()
        found = tables.columns(big, group_by=group_by, statistic=statistic)
        shown = tables.as_rows(tables.ordered(found, "-accuracy", 30))
        assert time.process_time() - began < seconds
        assert len(shown) == 30
        assert shown[0]["accuracy @2" + " median" * (statistic == "median")] > 0.5

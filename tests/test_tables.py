"""Tables against numbers computed by hand, and what they refuse."""

import csv
import io

import numpy as np
import pytest
import xarray

from jaxexp import tables
from jaxexp.errors import StudyError


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


def test_rows_score_ok_runs_and_count_the_others(dataset):
    first, second = tables.rows(dataset)
    assert first["rate"] == 0.1
    assert first["accuracy @10"] == pytest.approx(0.6)
    assert first["accuracy @10 ±"] == pytest.approx(12.706 * 0.1, rel=1e-4)  # t(1) x sd / sqrt(2)
    assert (second["n"], second["diverged"]) == (1, 1)
    assert second["accuracy @10"] == pytest.approx(0.9)
    assert np.isnan(second["accuracy @10 ±"])
    assert "hidden" not in first


def test_sorting_puts_what_is_missing_last_and_names_are_checked(dataset):
    rows = tables.rows(dataset)
    assert [row["rate"] for row in tables.sorted_rows(rows, "-accuracy")] == [0.2, 0.1]
    assert [row["rate"] for row in tables.sorted_rows(rows, "rate")] == [0.1, 0.2]
    with pytest.raises(StudyError, match="did you mean 'rate'"):
        tables.sorted_rows(rows, "rat")
    with pytest.raises(StudyError, match="did you mean 'accuracy'"):
        tables.rows(dataset, shown=["accurac"])
    with pytest.raises(StudyError, match="nothing was evaluated at step 5: evaluated at 0, 10"):
        tables.rows(dataset, at=5)


def test_csv_round_trips(dataset):
    rows = tables.rows(dataset)
    read = list(csv.DictReader(io.StringIO(tables.to_csv(rows))))
    assert [float(row["accuracy @10"]) for row in read] == [row["accuracy @10"] for row in rows]


def test_a_table_of_100_000_runs_takes_under_two_seconds():
    import time

    big = xarray.Dataset(
        {
            "accuracy": (("trial", "seed", "eval_step"), np.ones((10_000, 10, 2), np.float32)),
            "status": (("trial", "seed"), np.zeros((10_000, 10), np.int8)),
        },
        coords={"eval_step": [0, 1], "rate": ("trial", np.arange(10_000.0))},
    )
    began = time.process_time()
    assert len(tables.rows(big)) == 10_000
    assert time.process_time() - began < 2

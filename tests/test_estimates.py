"""Estimates: the runs of one trial, one number a seed, and NaN for what was not run or is not finite."""

import numpy as np
import pytest
import xarray

import jaxexp as jx
from jaxexp.errors import StudyError


@jx.config
class Config:
    rate: float = 0.1
    start: str = "zeros"
    width: int = 8


def dataset():
    """Three trials of two seeds, evaluated at 0 and 10: the value is 100 trial + 10 seed + slot."""
    values = 100.0 * np.arange(3)[:, None, None] + 10 * np.arange(2)[:, None] + np.arange(2)
    return xarray.Dataset(
        {
            "loss": (("trial", "seed", "eval_step"), values),
            "status": (("trial", "seed"), np.zeros((3, 2), np.int8)),
            "status_step": (("trial", "seed"), np.full((3, 2), -1, np.int32)),
        },
        coords={
            "trial": np.arange(3),
            "seed": [4, 7],
            "eval_step": [0, 10],
            "rate": ("trial", [0.1, 0.1 + 1e-12, 0.3]),
            "start": ("trial", ["zeros", "ones", "zeros"]),
            "width": 8,
        },
    )


def test_a_trial_is_found_by_its_whole_config():
    assert jx.trial(dataset(), Config()).loss.values.tolist() == [[0.0, 1.0], [10.0, 11.0]]
    assert jx.trial(dataset(), Config(start="ones")).loss.values.tolist() == [[100.0, 101.0], [110.0, 111.0]]
    assert jx.trial(dataset(), Config(rate=0.3)).loss.values.tolist() == [[200.0, 201.0], [210.0, 211.0]]


def test_a_trial_of_values_that_are_no_numbers_is_found_in_memory_and_in_a_folder(tmp_path):
    @jx.config
    class Mixed:
        note: str | int | None = None
        sizes: tuple[int, ...] = (1,)

    def train(key, config):
        return {"y": 1.0 * len(config.sizes) + 10.0 * (config.note == 3) + 100.0 * (config.note is None)}

    sweep = jx.grid(note=(None, "x", 3), sizes=((4, 4), (3,)))
    study = jx.Study(experiment=jx.from_train(train), config=Mixed(), sweep=sweep, seeds=1)
    jx.run(study, tmp_path)
    for found in (jx.run(study), jx.load(tmp_path)):
        for note, sizes, y in ((None, (4, 4), 102), (None, (3,), 101), ("x", (3,), 1), (3, (4, 4), 12)):
            assert jx.trial(found, Mixed(note=note, sizes=sizes))["y"].values.item() == y


@pytest.mark.parametrize("config", [Config(rate=0.2), Config(start="twos"), Config(width=9)])
def test_a_trial_that_was_not_run_is_nan_at_every_seed(config):
    found = jx.measured("loss", config)(dataset())
    assert found.dims == ("seed",)
    assert np.isnan(found).all()


def test_measured_reads_one_number_a_seed_at_a_step_or_at_the_last():
    assert jx.measured("loss", Config())(dataset()).values.tolist() == [1.0, 11.0]
    found = jx.measured("loss", Config(), at=0)(dataset())
    assert (found.values.tolist(), list(found.coords)) == ([0.0, 10.0], ["seed"])
    assert np.isnan(jx.measured("loss", Config(), at=5)(dataset())).all()


def test_a_run_that_is_not_finite_is_nan():
    bad = dataset()
    bad["status"][0, 1] = 1
    assert jx.measured("loss", Config())(bad).values.tolist()[0] == 1.0
    assert np.isnan(jx.measured("loss", Config())(bad).values[1])


def test_a_difference_is_taken_seed_by_seed():
    first, second = jx.measured("loss", Config(rate=0.3)), jx.measured("loss", Config(), at=0)
    assert jx.difference(first, second)(dataset()).values.tolist() == [201.0, 201.0]


def test_an_unknown_metric_is_an_error_that_suggests_one():
    with pytest.raises(StudyError, match=r"no metric 'los'.*did you mean 'loss'"):
        jx.measured("los", Config())(dataset())


def test_a_share_is_1_or_0_a_seed_and_nan_stays():
    bad = dataset()
    bad["status"][0, 1] = 1
    inside = jx.share(jx.measured("loss", Config()), jx.between(0.5, 1.5))
    assert inside(dataset()).values.tolist() == [1.0, 0.0]
    found = inside(bad).values
    assert found[0] == 1.0
    assert np.isnan(found[1])

"""The grammar of `key=value` words, against the sweeps that they stand for."""

import numpy as np
import pytest

import jaxexp as jx
from jaxexp import overrides, study, sweep
from jaxexp.errors import JaxexpError


@jx.config
class Config:
    rate: float = 0.1
    momentum: float = jx.dynamic(0.9, minimum=0, maximum=1)
    hidden: int = 8
    nesterov: bool = False
    name: str = "relu"
    depth: int | None = None


STUDY = jx.Study(
    experiment=jx.from_train(lambda key, config: {"loss": config.rate}),
    config=Config(),
    sweep=jx.grid(rate=(1.0, 2.0), hidden=(8, 16)),
    seeds=4,
    num_steps=100,
)


def rows(*words, samples=None):
    return sweep.rows(overrides.apply(STUDY, words, samples).sweep)


def test_a_value_replaces_the_axis_and_changes_the_config():
    changed = overrides.apply(STUDY, ["rate=0.5", "nesterov=true", "depth=none", "name=tanh"])
    assert changed.config == Config(rate=0.5, nesterov=True, name="tanh")
    assert sweep.rows(changed.sweep) == [{"hidden": 8}, {"hidden": 16}]


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("momentum=0.1,0.2", [0.1, 0.2]),
        ("momentum=geomspace(0.01,1,3)", np.geomspace(0.01, 1, 3)),
        ("momentum=linspace(0,1,5)", np.linspace(0, 1, 5)),
        ("momentum=logspace(-2,0,3)", np.logspace(-2, 0, 3)),
        ("hidden=range(2,9,3)", [2, 5, 8]),
        ("depth=none,3", [None, 3]),
        ("nesterov=false,true", [False, True]),
    ],
)
def test_axes(word, values):
    name = word.split("=")[0]
    others = 2 if name == "hidden" else 4
    assert [row[name] for row in rows(word)][::others] == list(values)


def test_distributions_are_those_of_sampled():
    drawn = rows("rate=loguniform(1e-4,1)", "hidden=8", samples=5)
    expected = sweep.rows(jx.sampled(5, rate=jx.loguniform(1e-4, 1)))
    assert [row["rate"] for row in drawn] == [row["rate"] for row in expected]
    assert {row["name"] for row in rows("name=choice(relu,tanh)", samples=20)} == {"relu", "tanh"}


def test_counts_and_seeds():
    changed = overrides.apply(STUDY, ["seeds=2:5", "num_steps=1e3", "evaluate_every=10", "log_every=5"])
    assert study.seeds(changed).tolist() == [2, 3, 4]
    assert (changed.num_steps, changed.evaluate_every, changed.log_every) == (1000, 10, 5)
    assert study.seeds(overrides.apply(STUDY, ["seeds=7,3"])).tolist() == [7, 3]


@pytest.mark.parametrize(
    "word",
    [
        "rate", "rate=1,,2", "rate=geomspace(1,2)", "rate=geomspace(1,2,2.5)", "rate=uniform(2,1)", "hidden=range(3,3)",
        "hidden=range(0.5)", "seeds=5:5", "seeds=1,1", "seeds=-1", "num_steps=1.5", "num_steps=inf", "nesterov=maybe",
        "momentum=2", "momentum=nan", "rate=inf", "hidden=8.5", "rate=os.system(1)", "rate=linspace(0,1,0)", "=3",
        "hidden=range(0,10,0)", "hidden=range(inf)", "rate=geomspace(1,2,inf)", "rate=linspace(nan,1,3)",
        "hidden=range(1e12)",
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(word):
    with pytest.raises(JaxexpError):
        study.check(overrides.apply(STUDY, [word], 4 if "uniform" in word else None))

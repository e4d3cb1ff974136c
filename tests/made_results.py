"""Results that nobody trained, for tests of figures and pages: a metric that is a known function of its trial."""

from typing import Any

import numpy as np

import jaxexp as jx
from jaxexp.plans import Tile
from jaxexp.results import NOT_FINITE, NOT_RUN, OK, Result, dataset
from jaxexp.stored_plans import StoredPlan
from jaxexp.study import Table

STEPS = np.asarray([0, 50, 100], np.int32)


def made(
    columns: dict[str, Any], num_seeds: int = 4, lost: Any = (), waiting: Any = (), names: Any = ("accuracy",)
) -> Any:
    """A dataset whose first metric rises to (trial + 1) / num_trials + seed / 1000, others to half of that.

    Args:
        columns: The hyperparameters' values by trial.
        num_seeds: How many seeds.
        lost: (trial, seed) of runs that are not finite.
        waiting: (trial, seed) of runs that have not run.
        names: The metrics of evaluation.
    """
    columns = {name: np.asarray(values) for name, values in columns.items()}
    num_trials = len(next(iter(columns.values())))
    trial, seed = (axis.ravel() for axis in np.indices((num_trials, num_seeds)))
    status = np.full(len(trial), OK, np.int8)
    for at in lost:
        status[(trial == at[0]) & (seed == at[1])] = NOT_FINITE
    kept = np.ones(len(trial), bool)
    for at in waiting:
        kept &= ~((trial == at[0]) & (seed == at[1]))
    last = (trial + 1) / num_trials + seed / 1000
    values = np.where(status[:, None] == OK, last[:, None] * STEPS / 100, np.nan).astype(np.float32)
    result = Result(
        trial=trial.astype(np.int32), seed=seed.astype(np.uint32), status=status,
        status_step=np.where(status == OK, -1, 50).astype(np.int32), step=STEPS[1:], eval_step=STEPS,
        logged={"loss": 1 - values[:, 1:]}, evaluated={name: values / (1 + place) for place, name in enumerate(names)},
    )  # fmt: skip
    table = Table(columns, {name: values[0] for name, values in columns.items()} | {"momentum": 0.9}, num_trials)
    attributes = {"experiment": "made", "num_steps": 100, "evaluate_every": 50, "log_every": 50}
    assert NOT_RUN not in status
    return dataset(table, np.arange(num_seeds, dtype=np.uint32), [result.at(kept)], attributes)


def record(**changes: Any) -> dict[str, Any]:
    """What `run.json` would say."""
    return {
        "experiment": "made", "full": False, "path": "", "words": ["hidden=8"],
        "source": '"""Is it so?\n\nIt may be.\n"""\n',
        "samples": None, "fields": {"learning_rate": "dynamic", "hidden": "static", "momentum": "dynamic"},
        "tile": [4, 2], "git": {"commit": "a" * 40, "dirty": True}, "device": {"platform": "cpu", "kind": "AMD EPYC"},
        "versions": {"jax": "0.10.2"}, "threads": 1, "xla_flags": "", "compiler_options": {}, "x64": False, **changes,
    }  # fmt: skip


def plan(data: Any) -> StoredPlan:
    """The plan that such results are of."""
    names = [name for name, value in data.coords.items() if value.dims == ("trial",) and name != "trial"]
    trials = Table({name: data[name].values for name in names}, {"momentum": 0.9}, data.sizes["trial"])
    programs = {"hidden=8": {"program": "1f" * 32, "data": "2e" * 32}}
    return StoredPlan("3d" * 6, "asked", Tile(4, 2), trials, data["seed"].values, (100, 50, 50), programs, None)


def study(**changes: Any) -> jx.Study:
    """A study with a claim for each verdict, on trials with 8 and 16 hidden units and a learning rate of 0.1."""

    @jx.config
    class Config:
        learning_rate: float = 0.1
        hidden: int = 8
        momentum: float = 0.9

    given: dict[str, Any] = {
        "experiment": jx.from_train(lambda key, config: {"accuracy": config.learning_rate}),
        "config": Config(),
        "seeds": 4,
        "claims": (
            jx.Claim("The best trial is above .9.", jx.measured("accuracy", Config(hidden=16)), jx.above(0.9)),
            jx.Claim("It is below .5.", jx.measured("accuracy", Config(hidden=16)), jx.below(0.5)),
            jx.Claim("The other is above .5.", jx.measured("accuracy", Config()), jx.above(0.501)),
        ),
    }
    return jx.Study(**given | changes)

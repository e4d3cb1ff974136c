"""Experiments, data or machines that changed since a folder was trained: what that changes is done anew or refused."""

import json

import numpy as np
import pytest
import studies
from studies import STUDY, finished

import jaxexp as jx
from jaxexp import jobs, store, upkeep, worker
from jaxexp.errors import MismatchError

SOURCE = '''"""What changes when an experiment file is edited?"""

import jax
import jax.numpy as jnp
import optax

import jaxexp as jx


@jx.config
class Config:
    """A rate."""

    rate: float = jx.dynamic(0.1)
    width: int = 2


def data(config):
    """Two numbers."""
    return jnp.array([1.0, 2.0])


def squared_distance(params, data):
    """Squared distance."""
    squares = (params - data) ** 2
    return squares.sum()


def init(key, data, config):
    """A start."""
    params = jax.random.normal(key, (config.width,))
    return params, optax.sgd(config.rate).init(params)


def step(key, state, data, config):
    """One step."""
    params, opt_state = state
    value, slope = jax.value_and_grad(squared_distance)(params, data)
    updates, opt_state = optax.sgd(config.rate).update(slope, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), {"loss": value}


study = jx.Study(
    experiment=jx.Experiment(init, step, None),
    config=Config(),
    sweep=jx.grid(rate=(0.1, 0.2)),
    seeds=2,
    num_steps=4,
    data=data,
)
'''

EDITS: dict[str, tuple[str, str, int | None]] = {
    "docstring": ('"""One step."""', '"""A step of gradient descent."""', 0),
    "comment": ("    params, opt_state = state\n", "    # what we have\n    params, opt_state = state\n", 0),
    "name of a local": ("squares", "sq", 0),
    "name of a function": ("squared_distance", "objective", 0),
    "name of a metric": ('"loss": value', '"objective": value', None),
    "format": ("(params - data) ** 2", "(\n        params - data\n    ) ** 2", 0),
    "blank lines": ("def init", "\n\n\ndef init", 0),
    "equal expression": ("optax.sgd(config.rate).init(params)", "optax.sgd(learning_rate=config.rate).init(params)", 0),
    "default that the sweep overrides": ("jx.dynamic(0.1)", "jx.dynamic(0.7)", 0),
    "a range": ("jx.dynamic(0.1)", "jx.dynamic(0.1, minimum=0)", 0),
    "one more trial": ("rate=(0.1, 0.2)", "rate=(0.1, 0.2, 0.3)", 2),
    "one more seed": ("seeds=2", "seeds=3", 2),
    "one trial less": ("rate=(0.1, 0.2)", "rate=(0.2,)", 0),
    "one seed less": ("seeds=2", "seeds=1", 0),
    "another order": ("rate=(0.1, 0.2)", "rate=(0.2, 0.1)", 0),
    "more steps": ("num_steps=4", "num_steps=6", 4),
    "another static value": ("width: int = 2", "width: int = 1", 4),
    "a constant in the loss": ("** 2", "** 4", None),
    "another optimizer": ("optax.sgd(config.rate)", "optax.adam(config.rate)", None),
    "other data": ("[1.0, 2.0]", "[1.0, 2.5]", None),
    "another dtype of data": ("jnp.array([1.0, 2.0])", "jnp.array([1.0, 2.0], jnp.bfloat16)", None),
    "another start": ("jax.random.normal", "jax.random.uniform", None),
    "another metric": ('{"loss": value}', '{"loss": 2 * value}', None),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_re_runs_what_it_changes_and_no_more(tmp_path, edit):
    from jaxexp import catalog

    old, new, expected = EDITS[edit]
    path = tmp_path / "edited.py"
    path.write_text(SOURCE)
    worker.run(catalog.load(str(path)).study, tmp_path / "run", source=jobs.Source("edited", SOURCE))
    assert old in SOURCE
    path.write_text(SOURCE.replace(old, new))
    study, source = catalog.load(str(path)).study, jobs.Source("edited", path.read_text())
    if expected is None:
        with pytest.raises(MismatchError, match=r"was trained (by another program|on other data)") as problem:
            jobs.prepare(study, tmp_path / "run", source=source)
        assert "--fresh" in str(problem.value)
    else:
        job = jobs.prepare(study, tmp_path / "run", source=source)
        assert job.plan.num_runs - job.num_done == expected


@pytest.mark.parametrize("used", ["rate", "decay"])
def test_hyperparameters_are_known_by_name_in_whatever_order_they_are_declared(tmp_path, used):
    """Another order and another use of it lower to the same text, where arguments go by their order."""
    from jaxexp import catalog

    rate, decay, path = "    rate: float = jx.dynamic(0.1)\n", "    decay: float = 0.5\n", tmp_path / "edited.py"
    assert rate in SOURCE
    path.write_text(SOURCE.replace(rate, rate + decay))
    worker.run(catalog.load(str(path)).study, tmp_path / "run", source=jobs.Source("edited", path.read_text()))
    path.write_text(SOURCE.replace(rate, decay + rate).replace("config.rate", f"config.{used}"))
    study, source = catalog.load(str(path)).study, jobs.Source("edited", path.read_text())
    if used == "rate":
        job = jobs.prepare(study, tmp_path / "run", source=source)
        assert job.num_done == job.plan.num_runs
    else:
        with pytest.raises(MismatchError, match="by another program"):
            jobs.prepare(study, tmp_path / "run", source=source)


@pytest.mark.parametrize(
    ("edits", "refused"),
    [
        ((("width: int = 2", "width: int = 1"), ("** 2", "** 4")), "by another program"),
        ((("width: int = 2", "width: int = 1"), ("[1.0, 2.0]", "[1.0, 2.5]")), "on other data"),
        ((("    width: int = 2", "    width: int = 2\n    depth: int = 1"),), "with other hyperparameters"),
        ((("width", "breadth"),), "with other hyperparameters"),
        ((("width: int = 2", "width: bool = True"), ("(config.width,)", "(2,)")), "cannot be"),
    ],
)
def test_other_static_values_alone_do_not_hide_that_the_code_has_changed(tmp_path, edits, refused):
    """No group of the folder is asked for again: one is made by the code at hand, to be compared."""
    from jaxexp import catalog

    path = tmp_path / "edited.py"
    path.write_text(SOURCE)
    worker.run(catalog.load(str(path)).study, tmp_path / "run", source=jobs.Source("edited", SOURCE))
    text = SOURCE
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    study, source = catalog.load(str(path)).study, jobs.Source("edited", text)
    with pytest.raises(MismatchError, match=refused) as problem:
        jobs.prepare(study, tmp_path / "run", source=source)
    assert "--fresh" in str(problem.value)
    assert len(list((tmp_path / "run" / "plans").iterdir())) == 1


GROUPS = SOURCE.replace("jx.grid(rate=(0.1, 0.2))", "jx.grid(width=WIDTHS)").replace("[1.0, 2.0]", "0.5")


@pytest.mark.parametrize(("widths", "changed"), [("(1, 3)", True), ("(4,)", True), ("(4,)", False)])
def test_what_only_a_group_that_is_not_asked_for_trains_may_not_change(tmp_path, widths, changed):
    from jaxexp import catalog

    path = tmp_path / "edited.py"
    path.write_text(GROUPS.replace("WIDTHS", "(1, 2)"))
    worker.run(catalog.load(str(path)).study, tmp_path / "run", source=jobs.Source("edited", path.read_text()))
    text = GROUPS.replace("WIDTHS", widths)
    power = "** (4 if params.shape[0] == 2 else 2)"
    path.write_text(text.replace("** 2", power) if changed else text)
    study, source = catalog.load(str(path)).study, jobs.Source("edited", path.read_text())
    if not changed:
        assert jobs.prepare(study, tmp_path / "run", source=source).num_done == 0
        return
    with pytest.raises(MismatchError, match=r"by another program \(group width=2\)"):
        jobs.prepare(study, tmp_path / "run", source=source)


def test_a_changed_constant_is_shown(tmp_path):
    from jaxexp import catalog

    path = tmp_path / "edited.py"
    path.write_text(SOURCE)
    worker.run(catalog.load(str(path)).study, tmp_path / "run", source=jobs.Source("edited", SOURCE))
    path.write_text(SOURCE.replace("** 2", "** 4"))
    with pytest.raises(MismatchError, match=r"-    squares = \(params - data\) \*\* 2"):
        jobs.prepare(catalog.load(str(path)).study, tmp_path / "run", source=jobs.Source("edited", path.read_text()))


def test_another_machine_is_refused_or_recorded_in_each_chunk(tmp_path, monkeypatch):
    folder = finished(tmp_path / "run")
    there = worker.devices.environment()
    elsewhere = {**there, "versions": {**there["versions"], "jax": "0.99.0"}}
    monkeypatch.setattr(worker.devices, "environment", lambda: elsewhere)
    more = STUDY.replace(seeds=6)
    with pytest.raises(MismatchError, match=r"go on with --allow-mixed.*\nversions: .*0.99.0"):
        jobs.prepare(more, folder)
    for _ in worker.work(jobs.prepare(more, folder, allow_mixed=True)):
        pass
    versions = {environment["versions"]["jax"] for _, environment in store.environments(folder)}
    assert versions == {there["versions"]["jax"], "0.99.0"}
    json.dumps(upkeep.state(folder), default=str)


def test_no_thread_count_excuses_other_code(tmp_path, monkeypatch):
    folder = finished(tmp_path / "run")
    there = worker.devices.environment()
    monkeypatch.setattr(worker.devices, "environment", lambda: {**there, "threads": 99})
    with pytest.raises(MismatchError, match="by another program"):
        jobs.prepare(studies.walk(2, 3, side=2), folder, allow_mixed=True)


@jx.config
class Sized:
    """A walk's stride, and the size of its data, which are read for each."""

    rate: float = jx.dynamic(0.1)
    size: int = 2


def test_data_that_only_a_group_that_is_not_asked_for_reads_may_not_change(tmp_path):
    def study(size, of_two):
        data = {2: np.full(2, of_two, np.float32), 3: np.ones(3, np.float32)}
        return studies.walk(2, 3).replace(config=Sized(size=size), data=lambda config: data[config.size])

    worker.run(study(2, 1.0), tmp_path / "run")
    worker.run(study(3, 1.0), tmp_path / "run")
    assert jobs.prepare(study(3, 1.0), tmp_path / "run").num_done == 6
    with pytest.raises(MismatchError, match=r"on other data \(group size=2\)"):
        jobs.prepare(study(3, 2.0), tmp_path / "run")

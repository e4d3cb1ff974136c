"""A study compiles one program for each group and nothing else, whatever else about it is large."""

from collections.abc import Iterator
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxexp as jx
from jaxexp import engine, jobs, plans
from jaxexp.errors import OutOfMemoryError
from jaxexp.plans import Tile
from jaxexp.results import OK

COMPILED = "/jax/core/compile/backend_compile_duration"
LEARNING_RATES = jx.geomspace(1e-3, 1, 100)
HIDDEN = (2, 3, 5)
NUM_GROUPS = 6


@jx.config
class Config:
    learning_rate: float = 0.1
    hidden: int = 2
    velocity_init: Literal["zeros", "ones"] = "zeros"


def optimizer(config):
    start = getattr(jax.nn.initializers, config.velocity_init)
    return optax.chain(optax.scale(-config.learning_rate), jx.optimizers.trace(0.9, initial_velocity=start))


def init(key, data, config):
    params = jax.random.uniform(key, (config.hidden,))
    return params, optimizer(config).init(params)


def step(key, state, data, config):
    params, opt_state = state
    updates, opt_state = optimizer(config).update(2 * (params - data[: config.hidden]), opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), {"loss": jnp.sum((params - data[: config.hidden]) ** 2)}


study = jx.Study(
    experiment=jx.Experiment(init, step),
    config=Config(),
    sweep=jx.grid(hidden=HIDDEN, velocity_init=("zeros", "ones"), learning_rate=LEARNING_RATES),
    seeds=10,
    num_steps=4,
    log_every=2,
    data=lambda config: np.arange(5, dtype=np.float32),
)


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """What was compiled since the test began: one entry a program, also where the persistent cache has it."""
    seen: list[str] = []

    def on_duration(event: str, seconds: float, **details: str) -> None:
        if event == COMPILED:
            seen.append(str(details.get("fun_name", "")))

    jax.monitoring.register_event_duration_secs_listener(on_duration)
    yield seen
    jax.monitoring.unregister_event_duration_listener(on_duration)


def test_the_counter_counts(compilations):
    jax.jit(lambda x: x + jnp.float32(12.375))(np.float32(1))
    assert len(compilations) == 1


def test_the_plan_names_the_groups():
    plan = plans.plan(study)
    assert (len(plan.groups), plan.num_runs, plans.summary(plan)["programs"]) == (NUM_GROUPS, 6000, NUM_GROUPS)
    assert {tuple(group.static.items()) for group in plan.groups} == {
        (("hidden", hidden), ("velocity_init", start)) for hidden in HIDDEN for start in ("zeros", "ones")
    }


def test_a_large_study_compiles_one_program_a_group(compilations, monkeypatch):
    monkeypatch.setattr(engine, "_segment_length", lambda *position: 1)  # four segments a tile
    dataset = jx.run(study, tile=Tile(30, 4))  # twelve tiles a group
    assert len(compilations) == NUM_GROUPS
    assert dataset.loss.sizes == {"trial": 600, "seed": 10, "step": 2}
    assert (dataset.status == OK).all()


def test_an_extension_compiles_no_more_than_the_groups_that_it_needs(compilations, tmp_path):
    small = study.replace(sweep=jx.grid(hidden=HIDDEN, velocity_init=("zeros", "ones"), learning_rate=(0.1, 0.2)))
    for seeds, groups in ((2, 6), (5, 6), (5, 0), (3, 0)):
        compilations.clear()
        jx.run(small.replace(seeds=seeds), tmp_path, tile=Tile(2, 2))
        assert len(compilations) == groups

    wider = jx.grid(hidden=(3,), velocity_init=("ones",), learning_rate=(0.3,))
    compilations.clear()
    jx.run(small.replace(sweep=small.sweep + wider, seeds=5), tmp_path)
    assert len(compilations) == 1


def test_planning_and_preparing_compile_nothing(compilations, tmp_path):
    job = jobs.prepare(study, tmp_path, tile=Tile(30, 4))
    assert len(job.lowered) == NUM_GROUPS
    assert compilations == []


def of_data(width):
    """A study of two groups with data of their own, 4 MiB and one more byte a row."""
    experiment = jx.Experiment(
        lambda key, data, config: jnp.zeros(()), lambda key, state, data, config: (state, {"loss": data[0, 0] + state})
    )
    sweep = jx.grid(hidden=(2, 3), learning_rate=(0.1, 0.2))
    data = lambda config: np.full((width, 2**10), config.hidden, np.float32)  # noqa: E731
    return jx.Study(experiment=experiment, config=Config(), sweep=sweep, data=data)


def test_only_the_data_of_the_group_in_training_are_on_the_device(compilations):
    plan = plans.plan(of_data(2**10), tile=Tile(1, 1))
    lowered = {index: engine.lower(plan, index) for index in range(2)}
    before = sum(array.nbytes for array in jax.live_arrays())
    with engine.compiler(plan, lowered, (0, 1)) as program:
        for index in (0, 1, 0):
            assert np.asarray(program(index).data)[0, 0] == index + 2
            assert sum(array.nbytes for array in jax.live_arrays()) - before < 2**22 + 2**16
            assert program(index) is program(index)
    assert len(compilations) == 2


def test_data_that_are_on_the_device_are_not_asked_for_again(monkeypatch):
    room = 6 * 2**20 + sum(array.nbytes for array in jax.live_arrays())  # of a device: what is there is taken from it
    monkeypatch.setattr(
        engine.devices, "available_bytes", lambda: room - sum(array.nbytes for array in jax.live_arrays())
    )
    assert jx.run(of_data(2**10)).loss.values.ravel().tolist() == [2.0, 2.0, 3.0, 3.0]
    with pytest.raises(OutOfMemoryError, match="does not fit into memory"):
        jx.run(of_data(2**11))

"""Programs are made of an experiment's functions as they were traced, and are those of the functions themselves."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive

import jaxexp as jx
from jaxexp import engine, plans, program
from jaxexp.errors import StudyError
from jaxexp.plans import Tile


@jx.config
class Config:
    """A learning rate."""

    rate: float = jx.dynamic(0.1)


def _init(key, data, config):
    return {"weights": jax.random.normal(key, 4), "key": key}


def _study(step: Any) -> jx.Study:
    return jx.Study(experiment=jx.Experiment(_init, step), config=Config(), sweep=jx.grid(rate=(0.5, 2.0)), seeds=4)


@jax.custom_vjp
def _halved(x: Any) -> Any:
    return jnp.sin(x)


_halved.defvjp(lambda x: (jnp.sin(x), x), lambda x, slope: (0.5 * slope * jnp.cos(x),))
TABLE = np.arange(12.0, dtype=np.float32).reshape(3, 4)

REPLAYED: dict[str, Callable[[Any, Any, Any], Any]] = {
    "a gradient of its own": lambda state, key, config: jnp.sum(_halved(state)),
    "random numbers": lambda state, key, config: jnp.sum(jax.random.bernoulli(key, 0.5, (4,)) * state),
    "a constant array": lambda state, key, config: jnp.sum(TABLE @ state),
    "a loop": lambda state, key, config: jax.lax.scan(lambda sum_, x: (0.5 * sum_ + x, None), 0.0, state)[0],
    "branches": lambda state, key, config: jax.lax.cond(config.rate > 1, jnp.sum, jnp.max, state),
    "an inverse": lambda state, key, config: jnp.linalg.inv(3 * jnp.eye(4) + jnp.outer(state, state)).sum(),
    "inner functions": lambda state, key, config: jax.jit(jax.vmap(lambda x: jnp.where(x > 0, x, 0) ** 2))(state).sum(),
}


@pytest.mark.parametrize("name", REPLAYED)
def test_what_was_traced_makes_the_program_that_the_functions_make_themselves(name):
    def step(key, state, data, config):
        loss, slope = jax.value_and_grad(REPLAYED[name])(state["weights"], key, config)
        return {"weights": state["weights"] - config.rate * slope, "key": key}, {"loss": loss}

    plan = plans.plan(_study(step))
    (group,) = plan.groups
    themselves = group.signature._replace(traced=plan.study.experiment)
    shape = engine.shape_of(plan, 0)
    found = [program.lower(dataclasses.replace(group, signature=s), shape) for s in (group.signature, themselves)]
    assert found[0].fingerprint == found[1].fingerprint
    assert found[0].lowered.as_text() == found[1].lowered.as_text()


def test_a_step_is_traced_once_for_all_programs():
    calls = []
    plan = plans.plan(_study(lambda key, state, data, config: calls.append(config) or (state, {})))
    for tile in (Tile(1, 1), Tile(2, 4)):
        engine.lower(plans.in_folder(plan, tile, None), 0)
    assert len(calls) == 1


def test_the_kind_of_keys_that_jax_makes_by_itself_changes_no_program():
    study = _study(lambda key, state, data, config: (state, {"noise": jax.random.normal(key)}))
    programs = []
    for kind in ("threefry2x32", "rbg"):
        with jax.default_prng_impl(kind):
            programs.append(engine.lower(plans.plan(study), 0).fingerprint)
    assert programs[0] == programs[1]


def test_what_has_no_rule_for_vmap_is_named_by_its_line():
    single = Primitive("single")
    single.def_abstract_eval(lambda value: value)

    def step(key, state, data, config):
        return state, {"loss": single.bind(config.rate)}

    plan = plans.plan(_study(step))
    line = step.__code__.co_firstlineno + 1
    with pytest.raises(StudyError, match=f"by jax.vmap: NotImplementedError: .* line {line} of .*test_program.py"):
        engine.lower(plan, 0)

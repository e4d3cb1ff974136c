"""What planning finds out about an experiment without computing, and what it refuses, with the fix."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import jaxexp as jx
from jaxexp import plans, trees
from jaxexp.errors import StudyError
from jaxexp.plans import Tile
from jaxexp.signature import RUN, SEED, SHARED, Signature


@jx.config
class Config:
    rate: float = 0.5
    count: int = jx.dynamic(3)
    flag: bool = jx.dynamic(True)
    width: int = 2


def init(key, data, config):
    return jnp.zeros(3)


def step(key, state, data, config):
    return state, {"loss": jnp.sum(state)}


def _study(*, init: Any = init, step: Any = step, evaluate: Any = None, **parts: Any) -> jx.Study:
    experiment = jx.Experiment(init, step, evaluate)
    return jx.Study(experiment=experiment, config=Config(), sweep=jx.grid(rate=(0.5, 2.0)), **parts)


def _signature(study: jx.Study) -> Signature:
    (group,) = plans.plan(study).groups
    return group.signature


# What is found


def test_the_names_of_metrics_and_the_shapes_of_the_state():
    found = _signature(
        _study(
            init=lambda key, data, config: {"w": jnp.zeros((config.width, 5)), "key": key, "n": 0},
            step=lambda key, state, data, config: (state, {"b": jnp.sum(state["w"]), "a": 1.0}),
            evaluate=lambda state, data, config: {"end": jnp.float16(1)},
        )
    )
    assert (set(found.step_metrics), found.eval_metrics) == ({"a", "b"}, ("end",))
    shapes = {name: (leaf.shape, str(leaf.dtype)) for name, leaf in found.state.items()}
    assert shapes == {"w": ((2, 5), "float32"), "key": ((), "key<fry>"), "n": ((), "int32")}


def test_matrix_products_are_counted_exactly_also_in_loops():
    def product(key, state, data, config):
        state = jax.lax.fori_loop(0, 3, lambda _, s: s, state)
        products, _ = jax.lax.scan(lambda total, _: (total + state @ state.T, None), jnp.zeros((30, 30)), length=7)
        return state, {"loss": products[0, 0]}

    flops = _signature(_study(init=lambda *_: jnp.zeros((30, 50)), step=product)).step_flops
    assert 7 * 2 * 30 * 30 * 50 <= flops <= 1.1 * 7 * 2 * 30 * 30 * 50


def _owners_step(key, state, data, config):
    noise = jax.random.uniform(key)
    weights = state["weights"] - config.rate * noise
    return {
        "updates": state["updates"] + 1,
        "data": state["data"] * 2,
        "noise": noise,
        "order": jax.lax.cond(noise > 0.5, lambda: state["order"] + 1, lambda: state["order"]),
        "weights": weights,
        "chosen": jnp.where(weights > 0, state["chosen"], 1.0),
        "branch": jax.lax.cond(config.flag, lambda: state["branch"] + 1, lambda: state["branch"]),
        "looped": jax.lax.fori_loop(0, config.count, lambda _, x: x + 1.0, state["looped"]),
        # Each takes from the next: what the config owns reaches the first in the third step.
        "first": state["second"],
        "second": state["third"],
        "third": weights,
        "stopped": jax.lax.stop_gradient(jax.jit(lambda x: x * config.rate)(state["stopped"])),
    }, {"loss": weights}


def _owners_init(key, data, config):
    numbers = ("weights", "chosen", "branch", "looped", "first", "second", "third", "stopped")
    parts = {"updates": 0, "data": data.sum(), "noise": 0.0, "order": jax.random.randint(key, (), 0, 9)}
    return parts | {name: jnp.float32(index + 1) for index, name in enumerate(numbers)}


OWNERS = {
    **dict.fromkeys(("updates", "data"), SHARED),
    **dict.fromkeys(("noise", "order"), SEED),
    **dict.fromkeys(("weights", "chosen", "branch", "looped", "first", "second", "third", "stopped"), RUN),
}


def test_each_part_of_the_state_has_the_owner_that_it_depends_on():
    study = _study(init=_owners_init, step=_owners_step, data=lambda config: np.arange(3.0))
    found = _signature(study)
    assert dict(zip(trees.leaf_names(found.state), found.owners, strict=True)) == OWNERS


def test_parts_that_many_runs_share_have_the_values_that_each_would_have_alone():
    study = _study(
        init=_owners_init,
        step=_owners_step,
        evaluate=lambda state, data, config: dict(state),
        data=lambda config: np.arange(3.0),
        num_steps=4,
        evaluate_every=1,
        seeds=2,
    )
    study = study.replace(
        sweep=jx.cases({"rate": 0.5}, {"rate": 2.0, "count": 1}, {"flag": False, "rate": -1.0}),
    )
    dataset, functions = jx.run(study, tile=Tile(2, 2)), reference.compiled(study)
    for trial, config in enumerate((Config(0.5), Config(2.0, 1), Config(-1.0, 3, False))):
        for seed in range(2):
            run = reference.train(functions, study, config, seed)
            for name, values in run.evaluated.items():
                np.testing.assert_allclose(dataset[name][trial, seed], values, rtol=1e-6)


# What is refused: values that Python needs while the function is traced

STATIC = "uses the dynamic field '{0}' where Python needs its value .*: mark it static, `{0}: {1} = jx.static"
NEEDED = {
    "an if": ("rate", "float", lambda config: 1.0 if config.rate > 1 else 2.0),
    "a while": ("rate", "float", lambda config: next(1.0 for _ in iter(lambda: config.rate > 1, 2))),
    "a bool": ("flag", "bool", lambda config: 1.0 if config.flag else 2.0),
    "a range": ("count", "int", lambda config: sum(1.0 for _ in range(config.count))),
    "the length of an array": ("count", "int", lambda config: jnp.arange(config.count).sum()),
    "the length of a scan": (
        "count",
        "int",
        lambda config: jax.lax.scan(lambda x, _: (x + 1, None), 0.0, length=config.count)[0],
    ),
    "math": ("rate", "float", lambda config: math.exp(config.rate)),
    "numpy": ("rate", "float", lambda config: np.sqrt(config.rate)),
    "float()": ("rate", "float", lambda config: float(config.rate)),
}


@pytest.mark.parametrize("function", ["init", "step", "evaluate"])
@pytest.mark.parametrize("name", NEEDED)
def test_a_dynamic_field_that_python_needs_is_named_with_the_fix(function, name):
    field, kind, use = NEEDED[name]
    functions = {
        "init": lambda key, data, config: jnp.zeros(3) + use(config),
        "step": lambda key, state, data, config: (state, {"loss": jnp.sum(state) * use(config)}),
        "evaluate": lambda state, data, config: {"end": jnp.sum(state) * use(config)},
    }
    with pytest.raises(StudyError, match=f"{function} {STATIC.format(field, kind)}"):
        plans.plan(_study(**{function: functions[function]}))


def test_the_fix_works():
    @jx.config
    class Fixed:
        rate: float = jx.static(0.5)

    fast = lambda key, state, data, config: (state, {"loss": jnp.float32(1 if config.rate > 1 else 2)})  # noqa: E731
    study = jx.Study(experiment=jx.Experiment(init, fast), config=Fixed(), sweep=jx.grid(rate=(0.5, 2.0)))
    assert jx.run(study).loss.values.ravel().tolist() == [2.0, 1.0]


def test_a_static_field_and_jnp_where_are_fine():
    both = lambda key, state, data, config: (  # noqa: E731
        state + jnp.zeros(3 if config.width > 1 else 1),
        {"loss": jnp.where(config.rate > 1, 1.0, 2.0)},
    )
    assert jx.run(_study(step=both)).loss.values.ravel().tolist() == [2.0, 1.0]


def test_a_number_of_the_state_that_python_needs_is_not_blamed_on_a_field():
    greedy = lambda key, state, data, config: (state, {"loss": state[0] if state[0] > 0 else state[1]})  # noqa: E731
    with pytest.raises(StudyError, match=r"step needs a number .* not a hyperparameter's: use jnp.where"):
        plans.plan(_study(step=greedy))


Step = Callable[..., Any]
WRONG_STEPS: dict[str, tuple[Step, str]] = {
    "another shape": (
        lambda key, state, data, config: (jnp.zeros(4), {"loss": state[0]}),
        r"step changes the state from float32\[3\] \(init's\) to float32\[4\]",
    ),
    "another dtype": (
        lambda key, state, data, config: (state.astype(int), {"loss": state[0]}),
        r"from float32\[3\] \(init's\) to int32\[3\]: keep shape and dtype",
    ),
    "another structure": (
        lambda key, state, data, config: ({"w": state}, {"loss": state[0]}),
        "step returns a state of another structure than init",
    ),
    "no metrics": (lambda key, state, data, config: state, "step must return .state, metrics.: end it with"),
    "a list of two": (lambda key, state, data, config: [state, {}], "step must return .state, metrics.: end it with"),
    "an array of metrics": (lambda key, state, data, config: (state, state), "must report its metrics as a dict"),
    "a misspelt name": (lambda key, state, data, config: (state, {"loss": stat}), "NameError: name 'stat'"),  # noqa: F821 # pyright: ignore[reportUndefinedVariable]
    "arguments that are too few": (lambda key, state, data: (state, {}), "step cannot be traced: TypeError"),
    "shapes that do not fit": (
        lambda key, state, data, config: (state @ jnp.zeros(4), {}),
        "step cannot be traced: TypeError: dot_general",
    ),
}


@pytest.mark.parametrize("name", WRONG_STEPS)
def test_a_step_that_does_not_fit_is_refused(name):
    wrong, message = WRONG_STEPS[name]
    with pytest.raises(StudyError, match=message):
        plans.plan(_study(step=wrong))


def test_a_changed_part_of_a_state_is_named():
    nested = lambda key, data, config: {"layers": [jnp.zeros(2), jnp.zeros(3)]}  # noqa: E731
    longer = lambda key, state, data, config: ({"layers": [jnp.zeros(2), jnp.zeros(5)]}, {})  # noqa: E731
    with pytest.raises(StudyError, match=r"step changes layers/1 from float32\[3\]"):
        plans.plan(_study(init=nested, step=longer))


TAKEN = ("trial", "seed", "step", "eval_step", "status", "status_step", "rate", "count", "width")
WRONG_METRICS: dict[str, tuple[dict[Any, Any], str]] = {
    **{f"called {name}": ({name: jnp.float32(1)}, f"metric '{name}' needs another name") for name in TAKEN},
    "called nothing": ({"": jnp.float32(1)}, "metric '' needs another name"),
    "called unprintably": ({"a\0b": jnp.float32(1)}, "metric .* needs a name of printable characters"),
    "called like a dtype": ({"a::dtype=bfloat16": jnp.float32(1)}, "metric .* without '::'"),
    "called by a number": ({1: jnp.float32(1)}, "metric 1 needs another name"),
    "a vector": ({"y": jnp.zeros(3)}, r"metric 'y' has shape \[3\], not that of a scalar: use jnp.mean"),
    "one number in a vector": ({"y": jnp.zeros(1)}, r"metric 'y' has shape \[1\], not that of a scalar"),
    "nothing": ({"y": None}, "metric 'y' "),
    "a dict": ({"y": {"z": jnp.float32(1)}}, "metric 'y' is a dict: metrics are a .*dict of scalars"),
    "a list": ({"y": [jnp.float32(1)]}, "metric 'y' is a list"),
    "complex": ({"y": jnp.complex64(1)}, "metric 'y' is complex64, not a real number"),
    "a key": ({"y": jax.random.key(0)}, "metric 'y' is key<fry>, not a real number"),
}


@pytest.mark.parametrize("function", ["step", "evaluate"])
@pytest.mark.parametrize("name", WRONG_METRICS)
def test_metrics_that_are_no_scalars_with_names_of_their_own_are_refused(function, name):
    metrics, message = WRONG_METRICS[name]
    functions = {
        "step": lambda key, state, data, config: (state, metrics),
        "evaluate": lambda state, data, config: metrics,
    }
    with pytest.raises(StudyError, match=f"{function}'s {message}"):
        plans.plan(_study(**{function: functions[function]}))


def test_a_call_of_python_in_compiled_code_is_refused():
    def step(key, state, data, config):
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        return state, {"loss": jax.pure_callback(lambda x: 2 * x, shape, config.rate, vmap_method="sequential")}

    with pytest.raises(StudyError, match=r"step calls Python in .* \(pure_callback\): .* jax.numpy"):
        plans.plan(_study(step=step))


def test_a_metric_of_both_step_and_evaluate_is_refused():
    with pytest.raises(StudyError, match=r"step and evaluate both report 'loss': rename one, e.g. 'test_loss'"):
        plans.plan(_study(evaluate=lambda state, data, config: {"loss": jnp.sum(state)}))


REAL = {"python": 1.5, "int": jnp.int32(3), "bool": jnp.bool_(True), "half": jnp.float16(0.5), "a/b": jnp.float32(-2)}


def test_any_real_scalar_is_a_metric(tmp_path):
    study = _study(step=lambda key, state, data, config: (state, REAL), evaluate=lambda state, data, config: {})
    dataset = jx.run(study, tmp_path)
    assert {name: dataset[name].values.ravel().tolist() for name in REAL} == {
        name: [float(value)] * 2 for name, value in REAL.items()
    }


def test_the_state_may_hold_python_numbers_and_nothing():
    study = _study(
        init=lambda key, data, config: (0, 1.5, None, ()),
        step=lambda key, state, data, config: ((state[0] + 1, *state[1:]), {"loss": state[0] * state[1]}),
        num_steps=3,
        log_every=1,
    )
    assert jx.run(study).loss.values.tolist() == [[[0.0, 1.5, 3.0]]] * 2


# What is refused: data

USES: dict[str, Callable[[Any], Any]] = {
    "==": lambda x: x == 0.5,
    "!=": lambda x: x != 0.5,
    "<": lambda x: x < 0.5,
    "<=": lambda x: x <= 0.5,
    "hash": lambda x: {0.5: 1}[x],
    "in": lambda x: x in (0.5, 1),
    "str": str,
    "repr": repr,
    "format": lambda x: f"{x:.2f}",
    "abs": abs,
    "-x": lambda x: -x,
    "+ 1": lambda x: x + 1,
    "1 -": lambda x: 1 - x,
    "*": lambda x: x * 2,
    "2 /": lambda x: 2 / x,
    "**": lambda x: x**2,
    "2 **": lambda x: 2**x,
    "%": lambda x: x % 2,
    "2 %": lambda x: 2 % x,
    "//": lambda x: x // 2,
    "2 //": lambda x: 2 // x,
    "round": round,
    "floor": math.floor,
    "float": float,
    "int": int,
    "bool": bool,
    "not": lambda x: not x,
    "index": lambda x: [1, 2][x],
    "range": range,
    "math": math.sqrt,
    "numpy": np.sqrt,
    "full": lambda x: np.full(3, x),
    "asarray": np.asarray,
    "jax": lambda x: jnp.ones(3) * x,
    "an array times it": lambda x: np.ones(3) * x,
    "an attribute": lambda x: x.real,
}


@pytest.mark.parametrize("name", USES)
def test_data_that_read_a_dynamic_field_are_refused_with_the_fix(name):
    def data(config):
        USES[name](config.rate)
        return np.ones(3)

    with pytest.raises(StudyError, match=r"data.config. reads the dynamic field 'rate', .* `rate: ... = jx.static"):
        plans.plan(_study(data=data))


def test_data_that_hold_a_dynamic_field_are_refused():
    with pytest.raises(StudyError, match=r"dynamic field 'rate'|give arrays of numbers"):
        plans.plan(_study(data=lambda config: {"x": config.rate}))


def test_data_may_read_static_fields():
    study = _study(
        data=lambda config: np.full(config.width, 2.0),
        step=lambda key, state, data, config: (state, {"loss": jnp.sum(data)}),
    )
    assert jx.run(study.replace(sweep=jx.grid(width=(1, 3)))).loss.values.ravel().tolist() == [2.0, 6.0]


@pytest.mark.parametrize(
    ("value", "where"),
    [("text", "its root"), ({"a": ["b"]}, "a/0"), ({"a": np.asarray([{}], object)}, "a"), (print, "")]
    + [({"a": leaf}, "a") for leaf in (np.array(["cat"]), np.array(["2020-01-01"], "datetime64[D]"))]
    + [({"a": jax.random.key(0)}, "a")],
)
def test_data_that_are_no_numbers_are_refused_with_their_place(value, where):
    with pytest.raises(StudyError, match=rf"data gave a .+ at {where}.*: give arrays of numbers"):
        plans.plan(_study(data=lambda config: value))


def test_data_may_be_any_tree_of_numbers():
    value = {"a": None, "b": [1, 2.5], "c": (np.arange(3), jnp.ones((2, 2)), np.float64(7), True)}
    study = _study(
        data=lambda config: value,
        step=lambda key, state, data, config: (state, {"loss": sum(jnp.sum(leaf) for leaf in jax.tree.leaves(data))}),
    )
    assert jx.run(study).loss.values.ravel().tolist() == [18.5, 18.5]


def test_numpy_on_a_traced_array_is_told_with_its_line():
    study = _study(evaluate=lambda state, data, config: {"mean": np.mean(np.asarray(state))})
    with pytest.raises(
        StudyError, match=r"evaluate uses NumPy, .*line \d+ of .*test_signature.py: use jax.numpy there"
    ):
        plans.plan(study)

"""The engine against plain Python loops: the same metrics at the same steps, and the same final states."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import tiny_studies
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxexp as jx
from jaxexp import catalog, engine, plans, program, trees
from jaxexp import study as studies
from jaxexp.plans import Tile
from jaxexp.results import NOT_FINITE, OK, Result

FOLDER = Path(__file__).parents[1] / "experiments"
NUM_STEPS, SEEDS = 12, (0, 7)


def _digits() -> jx.Study:
    study = tiny_studies.study("mlp", (0.03, 0.1, 0.3))
    return study.replace(data=lambda config: jax.tree.map(_widest, tuple(jx.datasets.digits())))


def _velocity_init() -> jx.Study:
    starts = jx.grid(velocity_init=("normal",)) * jx.paired(velocity_scale=(0.5, 0.5, 2.0), momentum=(0.5, 0.9, 0.5))
    return _of("velocity_init").replace(sweep=starts, data=lambda config: jax.tree.map(_widest, jx.datasets.digits()))


def _softmax_spiral() -> jx.Study:
    study = _of("softmax_spiral")
    net = jx.grid(hidden_units=(10,), start=("printed_points",))
    return study.replace(
        sweep=net * jx.paired(learning_rate=(1.0, 1.0, 0.1), l2=(1e-3, 1e-2, 1e-3)),
        experiment=study.experiment._replace(evaluate=_without_difference(study)),
        data=lambda config: jax.tree.map(_widest, jx.datasets.spiral_stream()),
    )


def _without_difference(study: jx.Study) -> Any:
    """Its `evaluate` less the difference of two equal gradients, which is nothing but rounding."""
    measure = study.experiment.evaluate
    assert measure is not None

    def evaluate(state: Any, data: Any, config: Any) -> Any:
        metrics = measure(state, data, config)
        return {name: value for name, value in metrics.items() if name != "gradient_difference"}

    return evaluate


def _of(name: str) -> jx.Study:
    return catalog.load(str(FOLDER / f"{name}.py")).study


def _widest(array: np.ndarray) -> np.ndarray:
    """An array in the widest type of its kind that JAX allows now: models take theirs from their inputs."""
    return array.astype(jax.dtypes.canonicalize_dtype(np.float64)) if array.dtype.kind == "f" else array


EXPERIMENTS = {"velocity_init": _velocity_init, "softmax_spiral": _softmax_spiral}
STUDIES = {"digits": _digits, **EXPERIMENTS}


def _short(study: jx.Study) -> jx.Study:
    return study.replace(seeds=SEEDS, num_steps=NUM_STEPS, evaluate_every=5, log_every=3)


def _compiled(plan: plans.Plan) -> dict[int, engine.Compiled]:
    with engine.compiler(plan, {}, ()) as program:
        return {group: program(group) for group in range(len(plan.groups))}


def _trained(plan: plans.Plan, made: dict[int, engine.Compiled]) -> list[Result]:
    events = (
        event
        for batch in plans.batches(plan)
        for event in engine.train(plan, made[batch.group], batch, keep_state=True)
    )
    return [event.result() for event in events if isinstance(event, engine.Trained)]


def _check(plan: plans.Plan, results: list[Result], tolerance: float) -> None:
    functions = reference.compiled(plan.study)
    num_runs = 0
    for result in results:
        for index, (trial, seed) in enumerate(zip(result.trial, result.seed, strict=True)):
            config = studies.trial_config(plan.study, plan.trials, int(trial))
            run = reference.train(functions, plan.study, config, int(seed))
            assert result.step.tolist() == run.step
            assert result.eval_step.tolist() == run.eval_step
            assert result.status[index] == (NOT_FINITE if run.not_finite else OK)
            assert result.status_step[index] == min(run.not_finite, default=-1)
            _check_metrics(result.logged, run.logged, index, tolerance)
            _check_metrics(result.evaluated, run.evaluated, index, tolerance)
            leaves = [np.asarray(trees.key_to_integers(leaf)) for leaf in map(jnp.asarray, jax.tree.leaves(run.state))]
            for got, wanted in zip(result.state, leaves, strict=True):
                assert got[index].dtype == wanted.dtype
                _assert_close(got[index], wanted, tolerance)
            num_runs += 1
    assert num_runs == plan.num_runs


def _check_metrics(got: dict[str, np.ndarray], wanted: dict[str, list[float]], index: int, tolerance: float) -> None:
    assert got.keys() == wanted.keys()
    for name, values in wanted.items():
        _assert_close(got[name][index], np.asarray(values), tolerance)


def _assert_close(got: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * largest)


def _check_study(name: str, tolerance: float) -> None:
    plan = plans.plan(_short(STUDIES[name]()), tile=Tile(2, 2))
    assert plan.num_runs == 6
    _check(plan, _trained(plan, _compiled(plan)), tolerance)


@pytest.mark.parametrize("name", STUDIES)
def test_the_engine_agrees_with_plain_loops(name):
    _check_study(name, 1e-5)


@pytest.mark.parametrize("name", ["digits", *(pytest.param(name, marks=pytest.mark.slow) for name in EXPERIMENTS)])
def test_in_float64_they_agree_to_twelve_digits(name):
    with jax.enable_x64(True):
        _check_study(name, 1e-12)


@jx.config
class Walk:
    drift: float = 0.5


def _walk_step(key: jax.Array, state: Any, data: Any, config: Walk) -> Any:
    return state + config.drift + jax.random.uniform(key), {"place": state}


walk = jx.Study(
    experiment=jx.Experiment(
        init=lambda key, data, config: jax.random.uniform(key),
        step=_walk_step,
        evaluate=lambda state, data, config: {"end": state},
    ),
    config=Walk(),
    sweep=jx.grid(drift=(0.5, 2e37, -1.0)),  # the second is beyond float32 after 17 steps
    seeds=3,
)


@pytest.fixture(scope="module")
def walker() -> dict[int, engine.Compiled]:
    return _compiled(plans.plan(walk.replace(num_steps=1000, log_every=1), tile=Tile(2, 2)))


counts = st.integers(1, 40)


@settings(max_examples=40)
@given(num_steps=counts, evaluate_every=counts, log_every=counts, length=counts)
def test_one_program_keeps_any_calendar(walker, num_steps, evaluate_every, log_every, length):
    study = walk.replace(num_steps=num_steps, evaluate_every=evaluate_every, log_every=log_every)
    plan = plans.plan(study, tile=Tile(2, 2))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine, "_adapted", lambda *timing: length)
        walker[0].tile_steps = length
        _check(plan, _trained(plan, walker), 1e-5)


@pytest.mark.parametrize("length", [1, 10_000])
def test_a_run_may_record_more_than_one_call_can_hold(walker, length):
    study = walk.replace(num_steps=2 * program.LOG_SLOTS + 5, evaluate_every=1, log_every=1, seeds=1)
    plan = plans.plan(study, tile=Tile(2, 2))
    made = _compiled(plan)
    made[0].tile_steps = length  # with 10,000 several tiles are trained together, and cut where the records are full
    _check(plan, _trained(plan, made), 1e-5)


def test_programs_for_few_and_for_many_records_give_the_same_bits(walker):
    plan = plans.plan(walk.replace(num_steps=5, log_every=1), tile=Tile(2, 2))
    few, many = _compiled(plan), walker
    assert (few[0].shape.num_slots, many[0].shape.num_slots) == (program.FEW_LOG_SLOTS, program.LOG_SLOTS)
    for one, other in zip(_trained(plan, few), _trained(plan, many), strict=True):
        assert jax.tree.all(jax.tree.map(np.array_equal, one, other))


def test_a_run_in_float64_is_one_to_the_last_digit():
    thirds = jx.Experiment(
        init=lambda key, data, config: data[0] * 0,
        step=lambda key, state, data, config: (state + config.drift / 3, {"place": state}),
    )
    study = walk.replace(experiment=thirds, sweep=jx.grid(drift=(0.1,)), data=lambda config: np.ones(1), num_steps=4)
    with jax.enable_x64(True):
        place = jx.run(study.replace(log_every=1, seeds=1), tile=Tile(1, 1)).place
    assert place.dtype == np.float64
    assert place.values.ravel().tolist() == [0.0, 0.1 / 3, 0.1 / 3 + 0.1 / 3, 0.1 / 3 + 0.1 / 3 + 0.1 / 3]

"""The velocity's start against closed forms, against optax itself and against plain numpy loops."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxexp import models, optimizers
from jaxexp.errors import StudyError

INITIALIZERS = jax.nn.initializers
PARAMS = {"a": jnp.array([[0.5, -1.0, 2.0]]), "b": (jnp.array([1.5, -0.25]), jnp.array(0.75))}


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def _x64():
    with jax.enable_x64(True):
        yield


def _loss(params):
    return sum((jnp.cosh(leaf) + jnp.sin(3 * leaf)).sum() for leaf in jax.tree.leaves(params))


def _train(optimizer, params, num_steps, gradient=None):
    """Returns parameters and state after `num_steps`; `gradient` defaults to that of `_loss`."""
    gradient = gradient or jax.grad(_loss)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(gradient(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), length=num_steps)[0]


def _differences(left, right):
    return max(float(abs(a - b).max()) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True))


@pytest.mark.usefixtures("_x64")
@pytest.mark.parametrize("mu", [0.5, 0.9, 0.99])
def test_without_gradients_the_displacement_is_a_geometric_series(mu):
    start, params = 0.7, {"w": np.array([0.0, 0.0])}
    optimizer = optax.chain(optax.scale(-0.1), optimizers.trace(mu, initial_velocity=INITIALIZERS.constant(start)))
    # mu^steps is below 1e-17 at the end, so that the rest of the series is nothing in f64.
    num_steps = int(np.log(1e-17) / np.log(mu)) + 1
    after, _ = _train(optimizer, params, num_steps, gradient=lambda p: jax.tree.map(jnp.zeros_like, p))
    np.testing.assert_allclose(after["w"], start * mu / (1 - mu), rtol=1e-12)


@pytest.mark.usefixtures("_x64")
@pytest.mark.parametrize("mu", [0.5, 0.9])
def test_the_two_conventions_map_onto_each_other(mu):
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), PARAMS)
    lr, start = 0.01, 0.3

    def steps_first(v0):
        return optax.chain(optax.scale(-lr), optimizers.trace(mu, initial_velocity=INITIALIZERS.constant(v0)))

    def gradients_first(v0):
        return optax.chain(optimizers.trace(mu, initial_velocity=INITIALIZERS.constant(v0)), optax.scale(-lr))

    one, _ = _train(steps_first(start), params, 200)
    other, _ = _train(gradients_first(-start / lr), params, 200)
    assert _differences(one, other) <= 1e-12
    wrong, _ = _train(gradients_first(start / lr), params, 200)
    assert _differences(one, wrong) > 0.1
    unscaled, _ = _train(gradients_first(-start), params, 200)
    assert _differences(one, unscaled) > 0.1


@pytest.mark.usefixtures("_x64")
@pytest.mark.parametrize("nesterov", [False, True])
def test_agrees_with_a_numpy_loop(nesterov):
    mu, lr, start = 0.8, 0.05, -0.4
    transform = optimizers.trace(mu, initial_velocity=INITIALIZERS.constant(start), nesterov=nesterov)
    got, _ = _train(optax.chain(optax.scale(-lr), transform), jnp.array([0.3, -1.2]), 20)
    w, v = np.array([0.3, -1.2]), np.full(2, start)
    for _ in range(20):
        step = -lr * (np.sinh(w) + 3 * np.cos(3 * w))
        v = mu * v + step
        w = w + (mu * v + step if nesterov else v)
    np.testing.assert_allclose(got, w, rtol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_zeros_is_optax_bit_for_bit(nesterov):
    ours = optax.chain(optimizers.trace(0.9, nesterov=nesterov), optax.scale_by_learning_rate(0.01))
    theirs = optax.sgd(0.01, momentum=0.9, nesterov=nesterov)
    after, expected = _train(ours, PARAMS, 50), _train(theirs, PARAMS, 50)
    assert jax.tree.structure(after) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, after, expected)
    # The same through the wrapper, and no update at all is taken from the wrapper's side.
    wrapped = optimizers.with_initial_velocity(theirs, INITIALIZERS.zeros)
    jax.tree.map(np.testing.assert_array_equal, _train(wrapped, PARAMS, 50), expected)


STARTS = {
    "zeros": (INITIALIZERS.zeros, lambda v: (v == 0).all()),
    "ones": (INITIALIZERS.ones, lambda v: (v == 1).all()),
    "constant": (INITIALIZERS.constant(-0.25), lambda v: (v == -0.25).all()),
    "normal": (INITIALIZERS.normal(2.0), lambda v: abs(v.std() - 2) < 0.1 and abs(v.mean()) < 0.1),
    "uniform(0, 1)": (INITIALIZERS.uniform(1.0), lambda v: 0 <= v.min() < 0.01 and 0.99 < v.max() < 1),
    "uniform(-1, 1)": (models.uniform_symmetric(1.0), lambda v: -1 <= v.min() < -0.99 and 0.99 < v.max() < 1),
}


@pytest.mark.parametrize("name", STARTS)
def test_any_initialiser_starts_the_velocity(name):
    initializer, holds = STARTS[name]
    params = {"w": jnp.zeros((50, 100))}
    state = optimizers.trace(0.9, initial_velocity=initializer, key=jax.random.key(0)).init(params)
    assert isinstance(state, optax.TraceState)
    assert state.trace["w"].shape == (50, 100)
    assert holds(np.asarray(state.trace["w"]))


def test_each_array_has_a_stream_of_its_own_whatever_stands_beside_it():
    normal, key = INITIALIZERS.normal(1.0), jax.random.key(5)
    params = {"a": jnp.zeros((4,)), "b": [jnp.zeros((4,)), jnp.zeros((4,))]}
    transform = optimizers.trace(0.9, initial_velocity=normal, key=key)
    drawn = jax.tree.leaves(transform.init(params).trace)
    assert len({np.asarray(leaf).tobytes() for leaf in drawn}) == 3
    np.testing.assert_array_equal(transform.init({"b": params["b"]}).trace["b"][1], drawn[2])
    other = optimizers.trace(0.9, initial_velocity=normal, key=jax.random.key(6)).init(params)
    assert not np.array_equal(other.trace["a"], drawn[0])
    again = optimizers.with_initial_velocity(optax.adam(1e-3), normal, key=key).init(params)
    np.testing.assert_array_equal(again[0].mu["a"], drawn[0])


def test_numbers_and_keys_may_be_traced_under_jit_and_vmap():
    def final(key, decay, scale):
        transform = optimizers.trace(decay, initial_velocity=INITIALIZERS.normal(scale), key=key)
        shifted = optimizers.with_initial_velocity(optax.trace(decay), INITIALIZERS.constant(scale))
        return _train(optax.chain(optax.scale(-0.05), transform, shifted), PARAMS, 5)[0]

    keys = jax.random.split(jax.random.key(0), 3)
    decays, scales = jnp.array([0.5, 0.9, 0.0]), jnp.array([0.1, 0.2, 0.3])
    lanes = jax.jit(jax.vmap(final))(keys, decays, scales)
    for lane in range(3):
        alone = final(keys[lane], float(decays[lane]), float(scales[lane]))
        jax.tree.map(
            lambda many, one, lane=lane: np.testing.assert_allclose(many[lane], one, rtol=2e-5, atol=1e-5), lanes, alone
        )


def test_a_traced_scale_can_be_differentiated():
    def displacement(scale):
        optimizer = optimizers.trace(0.5, initial_velocity=INITIALIZERS.constant(scale))
        return _train(optimizer, jnp.zeros(()), 3, gradient=jnp.zeros_like)[0]

    np.testing.assert_allclose(jax.grad(displacement)(0.3), 0.5 + 0.25 + 0.125)


OPTIMIZERS_WITH_VELOCITY = {
    "sgd": lambda: optax.sgd(0.1, momentum=0.9),
    "adam": lambda: optax.adam(0.1),
    "adamw": lambda: optax.adamw(0.1),
    "lion": lambda: optax.lion(0.1),
    "rmsprop": lambda: optax.rmsprop(0.1, centered=True, momentum=0.9),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9)),
    "several steps": lambda: optax.MultiSteps(optax.adam(0.1), 2),
}


def _velocity(state):
    buffers = [
        value
        for name in ("trace", "mu")
        for path, value in optax.tree.get_all_with_path(state, name)
        if not path[-1].tuple_name.startswith("ScaleByRStdDev")
    ]
    (buffer,) = buffers
    return buffer


@pytest.mark.parametrize("name", OPTIMIZERS_WITH_VELOCITY)
def test_the_wrapper_changes_the_velocity_and_nothing_else(name):
    make = OPTIMIZERS_WITH_VELOCITY[name]
    plain = make()
    wrapped = optimizers.with_initial_velocity(
        optax.GradientTransformationExtraArgs(plain.init, plain.update), INITIALIZERS.constant(3.0)
    )
    before, after = plain.init(PARAMS), wrapped.init(PARAMS)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, np.full(leaf.shape, 3.0)), _velocity(after))
    assert jax.tree.structure(_velocity(after)) == jax.tree.structure(PARAMS)
    changed = [
        not np.array_equal(old, new) for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    ]
    assert sum(changed) == len(jax.tree.leaves(PARAMS))


def test_adams_debiasing_enlarges_the_start():
    # m_1 = b1 mu0 with a zero gradient, debiased by 1 - b1; nu is 0, so that only eps divides it.
    b1, eps, start = 0.9, 1.0, 0.2
    adam = optimizers.with_initial_velocity(optax.adam(1.0, b1=b1, eps=eps), INITIALIZERS.constant(start))
    params = jnp.zeros(())
    updates, _ = adam.update(jnp.zeros(()), adam.init(params), params)
    np.testing.assert_allclose(updates, -start * b1 / (1 - b1) / eps, rtol=1e-6)


def test_a_parameter_that_is_called_mu_is_no_velocity():
    class Normal(NamedTuple):
        mu: jax.Array
        trace: jax.Array

    params = Normal(jnp.ones(2), jnp.ones(2))
    state = optimizers.with_initial_velocity(optax.adam(0.1), INITIALIZERS.constant(3.0)).init(params)
    np.testing.assert_array_equal(state[0].mu.mu, [3.0, 3.0])
    jax.tree.map(np.testing.assert_array_equal, state[0].nu, Normal(np.zeros(2), np.zeros(2)))
    with pytest.raises(StudyError, match="no velocity"):
        optimizers.with_initial_velocity(optax.rmsprop(0.1), INITIALIZERS.ones).init(params)


@pytest.mark.parametrize("start", [INITIALIZERS.normal(1.0), optimizers.FIRST_GRADIENT])
def test_inside_and_outside_a_partition_are_the_same(start):
    labels = {"a": "train", "b": "freeze"}

    def partitioned(train):
        return optax.partition({"train": train, "freeze": optax.set_to_zero()}, labels)

    def wrapped(optimizer):
        return optimizers.with_initial_velocity(optimizer, start, key=jax.random.key(0))

    momentum = optax.sgd(0.01, momentum=0.9)
    inside, _ = _train(partitioned(wrapped(momentum)), PARAMS, 5)
    outside, _ = _train(wrapped(partitioned(momentum)), PARAMS, 5)
    jax.tree.map(np.testing.assert_array_equal, inside, outside)
    jax.tree.map(np.testing.assert_array_equal, inside["b"], PARAMS["b"])
    unwrapped, _ = _train(partitioned(momentum), PARAMS, 5)
    assert not np.array_equal(inside["a"], unwrapped["a"])


@pytest.mark.usefixtures("_x64")
def test_the_first_gradient_start_is_the_first_update_that_is_seen():
    mu, lr = 0.6, 0.05
    first = optimizers.trace(mu, initial_velocity=optimizers.FIRST_GRADIENT)
    got, state = _train(optax.chain(optax.scale(-lr), first), jnp.array([0.3, -1.2]), 4)
    w = np.array([0.3, -1.2])
    v = -lr * (np.sinh(w) + 3 * np.cos(3 * w))
    for _ in range(4):
        v = mu * v - lr * (np.sinh(w) + 3 * np.cos(3 * w))
        w = w + v
    np.testing.assert_allclose(got, w, rtol=1e-12)
    assert not state[1].is_first
    # The start scales with the update, so that the order of the chain does not matter.
    other, _ = _train(optax.chain(first, optax.scale(-lr)), jnp.array([0.3, -1.2]), 4)
    np.testing.assert_allclose(other, w, rtol=1e-12)


def test_the_first_gradient_start_of_adam_makes_the_first_moment_the_gradient():
    adam = optimizers.with_initial_velocity(optax.adam(1.0), optimizers.FIRST_GRADIENT)
    gradient = jax.tree.map(jnp.cos, PARAMS)
    _, state = adam.update(gradient, adam.init(PARAMS), PARAMS)
    assert isinstance(state, optimizers.FirstGradientState)
    jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-6), state.inner_state[0].mu, gradient)


@pytest.mark.parametrize("start", [INITIALIZERS.ones, optimizers.FIRST_GRADIENT])
def test_refuses_an_optimizer_without_velocity(start):
    with pytest.raises(StudyError, match=r"no velocity.*momentum=0\.9"):
        optimizers.with_initial_velocity(optax.sgd(0.1), start).init(PARAMS)
    with pytest.raises(StudyError, match="no velocity"):
        optimizers.with_initial_velocity(optax.rmsprop(0.1, centered=True), start).init(PARAMS)


def test_refuses_a_drawn_start_without_a_key():
    with pytest.raises(StudyError, match=r"parameter 'a' without a key.*key=jax.random.fold_in"):
        optimizers.trace(0.9, initial_velocity=INITIALIZERS.normal(1.0)).init(PARAMS)


def test_refuses_what_is_no_initialiser():
    for wrong in (0.5, "first_gradiant", None):
        with pytest.raises(StudyError, match=r"FIRST_GRADIENT; type jax.nn.initializers.constant\(0.1\)"):
            optimizers.trace(0.9, initial_velocity=wrong)


def test_refuses_a_start_of_another_shape():
    with pytest.raises(StudyError, match=r"shape \[3\] for parameter 'a' of shape \[1, 3\]"):
        optimizers.trace(0.9, initial_velocity=lambda key, shape, dtype: jnp.zeros(3)).init(PARAMS)


def test_the_type_error_of_an_initialiser_with_a_key_is_its_own():
    def broken(key, shape, dtype):
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        optimizers.trace(0.9, initial_velocity=broken, key=jax.random.key(0)).init(PARAMS)

"""Frozen parameters do not move at all, and the others train as if those were not there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxexp import optimizers
from jaxexp.errors import StudyError

PARAMS = {"lstm": {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array(0.5)}, "head": [jnp.array([3.0, 0.25])]}


def _gradient(params):
    return jax.tree.map(lambda leaf: jnp.cos(leaf) + 5.0, params)


def _train(optimizer, params, num_steps=20):
    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(_gradient(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), length=num_steps)[0]


def _is_lstm(path):
    return path.startswith("lstm/")


OPTIMIZERS = {
    "sgd": lambda: optax.sgd(0.1),
    "adamw": lambda: optax.adamw(0.1, weight_decay=0.3),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1, momentum=0.9)),
    "started": lambda: optimizers.with_initial_velocity(
        optax.sgd(0.1, momentum=0.9), jax.nn.initializers.normal(1.0), key=jax.random.key(0)
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_frozen_part_does_not_move_and_the_rest_trains_as_if_alone(name):
    after, _ = _train(optimizers.freeze(OPTIMIZERS[name](), _is_lstm), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, after["lstm"], PARAMS["lstm"])
    alone, _ = _train(OPTIMIZERS[name](), {"head": PARAMS["head"]})
    np.testing.assert_array_equal(after["head"][0], alone["head"][0])
    assert not np.array_equal(after["head"][0], PARAMS["head"][0])


def test_no_state_is_kept_for_the_frozen_part():
    state = optimizers.freeze(optax.adam(0.1), _is_lstm).init(PARAMS)
    # Adam keeps two moments of the two trained numbers, and a count.
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 2 * 2 + 1


def test_the_paths_name_every_array():
    seen = set()
    optimizers.freeze(optax.sgd(0.1), lambda path: seen.add(path) is None).init(PARAMS)
    assert seen == {"lstm/kernel", "lstm/bias", "head/0"}


def test_works_under_jit_and_vmap_with_a_traced_learning_rate():
    def final(learning_rate):
        return _train(optimizers.freeze(optax.sgd(learning_rate), _is_lstm), PARAMS)[0]

    lanes = jax.jit(jax.vmap(final))(jnp.array([0.1, 0.2]))
    for lane in range(2):
        np.testing.assert_array_equal(lanes["lstm"]["kernel"][lane], PARAMS["lstm"]["kernel"])
    np.testing.assert_allclose(lanes["head"][0][1], final(0.2)["head"][0], rtol=1e-6)


def test_refuses_to_freeze_nothing():
    with pytest.raises(StudyError, match=r"no parameter.*head/0, lstm/bias, lstm/kernel.*startswith\('head/0'\)"):
        optimizers.freeze(optax.sgd(0.1), lambda path: path.startswith("ltsm")).init(PARAMS)
    with pytest.raises(StudyError, match=r"paths are \(none\)"):
        optimizers.freeze(optax.sgd(0.1), lambda path: True).init({})

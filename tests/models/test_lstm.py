"""The LSTM regressor against a plain numpy loop, and its start against the rule that it names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxexp import models
from jaxexp.errors import StudyError


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_rank_promotion("raise"):
        yield


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _forward(params, sequence, forget_bias):
    """The outputs for one sequence [time, features], gate by gate, example by example."""
    lstm, head = params["lstm"], params["head"]
    hidden = lstm["hi"]["bias"].size
    h, c = np.zeros(hidden), np.zeros(hidden)
    for x in sequence:
        i, f, g, o = (
            x @ lstm["i" + gate]["kernel"] + h @ lstm["h" + gate]["kernel"] + lstm["h" + gate]["bias"]
            for gate in "ifgo"
        )
        c = _sigmoid(f + forget_bias) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
    z = h @ head["kernel"] + head["bias"]
    return np.where(z > 0, z, np.expm1(z))


@pytest.mark.parametrize(("length", "forget_bias"), [(1, 1.0), (10, 1.0), (20, -0.5)])
def test_equals_a_numpy_loop_in_double_precision(length, forget_bias):
    with jax.enable_x64(True):
        model = models.lstm_regressor(hidden=5, outputs=2, forget_bias=forget_bias)
        sequences = np.random.RandomState(0).randn(3, length, 4) * 3
        start = model.init(jax.random.key(0), sequences)
        assert {leaf.dtype for leaf in jax.tree.leaves(start)} == {jnp.dtype(jnp.float64)}
        # Larger parameters than the start's, so that every term counts, also the biases that start at 0.
        params = jax.tree.map(lambda leaf: leaf + np.random.RandomState(leaf.size).randn(*leaf.shape), start)
        expected = [_forward(jax.tree.map(np.asarray, params), sequence, forget_bias) for sequence in sequences]
        np.testing.assert_allclose(model.apply(params, sequences), expected, rtol=1e-12)
        assert min(np.min(expected), 0) > -1


def test_the_start_follows_the_rule():
    hidden, features = 32, 1
    model = models.lstm_regressor()
    keys = jax.random.split(jax.random.key(0), 50)
    params = jax.vmap(model.init, (0, None))(keys, jnp.ones((1, 10, features)))
    lstm, head = jax.tree.map(np.asarray, (params["lstm"], params["head"]))
    limit = np.sqrt(6 / ((features + hidden) + 4 * hidden))  # Glorot: 6 / (fan in + fan out) of [33, 128]
    for name, layer in lstm.items():
        fan_in = features if name.startswith("i") else hidden
        assert layer["kernel"].shape == (50, fan_in, hidden)
        assert abs(layer["kernel"]).max() <= limit
        np.testing.assert_allclose(layer["kernel"].std(), limit / np.sqrt(3), rtol=0.05)
        if name.startswith("h"):
            np.testing.assert_array_equal(layer["bias"], np.zeros((50, hidden)))
    # A standard normal cut off at 2 has the standard deviation 0.8796.
    assert 1.9 < abs(head["kernel"]).max() <= 2
    np.testing.assert_allclose(head["kernel"].std(), 0.8796, rtol=0.05)
    np.testing.assert_allclose(head["bias"], 0.1)
    assert len({layer["kernel"].tobytes() for layer in lstm.values()}) == 8


def test_every_parameter_is_trained_under_vmap_over_parameters():
    model = models.lstm_regressor(hidden=3)
    sequences = jax.random.normal(jax.random.key(1), (2, 3, 1))
    params = jax.vmap(model.init, (0, None))(jax.random.split(jax.random.key(0), 2), sequences)
    gradients = jax.jit(jax.vmap(jax.grad(lambda p: model.apply(p, sequences).sum())))(params)
    assert all((abs(leaf) > 0).all() for leaf in jax.tree.leaves(gradients))
    alone = model.apply(jax.tree.map(lambda leaf: leaf[1], params), sequences)
    np.testing.assert_allclose(jax.vmap(model.apply, (0, None))(params, sequences)[1], alone, atol=1e-6)


def test_options_are_taken():
    model = models.lstm_regressor(hidden=2, output_activation=jnp.tanh, output_bias=0.5, outputs=4)
    params = model.init(jax.random.key(0), jnp.zeros((1, 1, 2)))
    # A sequence of zeros leaves h at 0, since tanh(g) = 0.
    np.testing.assert_allclose(model.apply(params, jnp.zeros((1, 1, 2))), np.full((1, 4), np.tanh(0.5)), rtol=1e-6)


def test_refuses_wrong_sizes_and_shapes():
    with pytest.raises(StudyError, match="hidden=0"):
        models.lstm_regressor(hidden=0)
    model = models.lstm_regressor()
    with pytest.raises(StudyError, match=r"\[5, 10\] are not \[n, time, features\].*inputs\[..., None\]"):
        model.init(jax.random.key(0), jnp.ones((5, 10)))
    params = model.init(jax.random.key(0), jnp.ones((5, 10, 1)))
    with pytest.raises(StudyError, match=r"\[10\] are not"):
        model.apply(params, jnp.ones(10))

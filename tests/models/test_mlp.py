"""`models.mlp` against a flax stack of Dense layers and against plain numpy."""

import flax.linen as nn
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


INPUTS = jax.random.normal(jax.random.key(7), (5, 6))


class _Stack(nn.Module):
    use_bias: bool

    @nn.compact
    def __call__(self, x):
        for width in (8, 7):
            x = nn.tanh(nn.Dense(width, use_bias=self.use_bias)(x))
        return nn.sigmoid(nn.Dense(3, use_bias=self.use_bias)(x))


def _as_flax(layer):
    return {"kernel": layer["weight"].T} | {name: layer[name] for name in layer if name == "bias"}


@pytest.mark.parametrize("use_bias", [True, False])
def test_equals_a_flax_stack_of_dense_layers(use_bias):
    model = models.mlp(
        (6, 8, 7, 3),
        activation=jnp.tanh,
        output_activation=jax.nn.sigmoid,
        use_bias=use_bias,
        bias_init=jax.nn.initializers.normal(1.0),
    )
    params = model.init(jax.random.key(0), INPUTS)
    of_flax = {"params": {f"Dense_{number}": _as_flax(layer) for number, layer in enumerate(params)}}
    expected = _Stack(use_bias).apply(of_flax, INPUTS)
    np.testing.assert_allclose(model.apply(params, INPUTS), expected, atol=1e-6, rtol=0)


def test_equals_numpy_in_double_precision():
    with jax.enable_x64(True):
        model = models.mlp((6, 4, 2), bias_init=jax.nn.initializers.normal(1.0))
        inputs = np.random.RandomState(0).randn(3, 6)
        first, second = params = model.init(jax.random.key(1), inputs)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float64)}
        first, second = jax.tree.map(np.asarray, (first, second))
        hidden = np.maximum(inputs @ first["weight"].T + first["bias"], 0)
        expected = hidden @ second["weight"].T + second["bias"]
        np.testing.assert_allclose(model.apply(params, inputs), expected, rtol=1e-14)


def test_structure_and_dtypes_of_the_parameters():
    params = models.mlp([6, 8, 3]).init(jax.random.key(0), INPUTS)
    assert jax.tree.map(jnp.shape, params) == (
        {"weight": (8, 6), "bias": (8,)},
        {"weight": (3, 8), "bias": (3,)},
    )
    of_bytes = models.mlp([6, 3]).init(jax.random.key(0), jnp.ones((2, 6), jnp.uint8))
    assert of_bytes[0]["weight"].dtype == jnp.float32
    of_halves = models.mlp([6, 3]).init(jax.random.key(0), jnp.ones((2, 6), jnp.bfloat16))
    assert of_halves[0]["weight"].dtype == jnp.bfloat16
    assert [set(layer) for layer in models.mlp([6, 3], use_bias=False).init(jax.random.key(0), INPUTS)] == [{"weight"}]


def test_the_start_depends_on_the_key_and_the_layer_alone():
    normal = jax.nn.initializers.normal(1.0)
    short = models.mlp([6, 6, 6], kernel_init=normal, bias_init=normal).init(jax.random.key(3), INPUTS)
    long = models.mlp([6, 6, 6, 6], kernel_init=normal, bias_init=normal).init(jax.random.key(3), INPUTS[:1])
    jax.tree.map(np.testing.assert_array_equal, short, long[:2])
    arrays = [np.asarray(leaf).ravel()[:6] for leaf in jax.tree.leaves(long)]
    assert len({array.tobytes() for array in arrays}) == len(arrays)
    other = models.mlp([6, 6, 6], kernel_init=normal).init(jax.random.key(4), INPUTS)
    assert not np.array_equal(short[0]["weight"], other[0]["weight"])


def test_works_under_vmap_over_keys_and_parameters_and_under_grad():
    model = models.mlp([6, 8, 1], activation=jnp.tanh)
    keys = jax.random.split(jax.random.key(0), 3)
    stacked = jax.jit(jax.vmap(model.init, (0, None)))(keys, INPUTS)
    outputs = jax.vmap(model.apply, (0, None))(stacked, INPUTS)
    gradients = jax.vmap(jax.grad(lambda params: model.apply(params, INPUTS).sum()))(stacked)
    for lane, key in enumerate(keys):
        alone = model.init(key, INPUTS)
        np.testing.assert_allclose(outputs[lane], model.apply(alone, INPUTS), atol=1e-6)
    # The derivative of a sum over n examples with respect to the output bias is n.
    np.testing.assert_allclose(gradients[1]["bias"], np.full((3, 1), 5.0))


@pytest.mark.parametrize("sizes", [[6], [], [6, 0, 2], [6, -1]])
def test_refuses_sizes_that_are_no_network(sizes):
    with pytest.raises(StudyError, match="two or more layers") as error:
        models.mlp(sizes)
    assert repr(sizes) in str(error.value)


@pytest.mark.parametrize("sizes", [[6, 3.5], 6, [6, jnp.ones(2)]])
def test_refuses_sizes_that_are_no_integers(sizes):
    with pytest.raises(StudyError, match="sequence of integers"):
        models.mlp(sizes)


def test_refuses_a_traced_size():
    with pytest.raises(StudyError, match="static"):
        jax.jit(lambda width: models.mlp([6, width]).init(jax.random.key(0), INPUTS))(3)


def test_refuses_inputs_of_another_width():
    model = models.mlp([64, 10])
    with pytest.raises(StudyError, match=r"\[2, 8, 8\].*64 features.*reshape"):
        model.init(jax.random.key(0), jnp.ones((2, 8, 8)))
    params = model.init(jax.random.key(0), jnp.ones((2, 64)))
    with pytest.raises(StudyError, match=r"\[2, 65\]"):
        model.apply(params, jnp.ones((2, 65)))


def test_uniform_symmetric_fills_its_interval_evenly():
    init = models.uniform_symmetric(3.0)
    draws = np.asarray(init(jax.random.key(0), (100_000,), jnp.float32))
    assert draws.dtype == np.float32
    assert draws.min() >= -3
    assert draws.max() < 3
    counts, _ = np.histogram(draws, bins=10, range=(-3, 3))
    np.testing.assert_allclose(counts, 10_000, atol=5 * np.sqrt(9_000))


def test_uniform_symmetric_takes_a_traced_scale():
    def draw(scale):
        return models.uniform_symmetric(scale)(jax.random.key(0), (4,), jnp.float32)

    lanes = jax.jit(jax.vmap(draw))(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(lanes[1], 2 * lanes[0], rtol=1e-6)

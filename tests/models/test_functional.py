"""`models.functional`: linen and nnx modules as pure pairs, and the refusals."""

import operator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxexp import models
from jaxexp.errors import StudyError

INPUTS = jax.random.normal(jax.random.key(7), (5, 6))


class _Linen(nn.Module):
    dropout_is_off: bool = True

    @nn.compact
    def __call__(self, x):
        x = nn.Dropout(0.5, deterministic=self.dropout_is_off)(nn.tanh(nn.Dense(4)(x)))
        return nn.Dense(2)(x)


class _Nnx(nnx.Module):
    def __init__(self, rngs, *, extra=None):
        self.layers = nnx.List([nnx.Linear(6, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)])
        self.dropout = nnx.Dropout(0.5, deterministic=True)
        self.extra = extra(rngs) if extra else None

    def __call__(self, x):
        first, second = self.layers
        return second(self.dropout(jnp.tanh(first(x))))


MODELS = {
    "linen": models.functional(_Linen()),
    "nnx class": models.functional(_Nnx),
    "nnx function": models.functional(lambda rngs: _Nnx(rngs)),
}


def _dense_layers(params):
    layers = params["layers"].values() if "layers" in params else params.values()
    return [jax.tree.map(np.asarray, layer) for layer in layers]


@pytest.mark.parametrize("name", MODELS)
def test_equals_numpy_on_the_same_parameters(name):
    model = MODELS[name]
    params = model.init(jax.random.key(0), INPUTS)
    first, second = _dense_layers(params)
    hidden = np.tanh(np.asarray(INPUTS) @ first["kernel"] + first["bias"])
    np.testing.assert_allclose(model.apply(params, INPUTS), hidden @ second["kernel"] + second["bias"], atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_nested_dicts_of_arrays_and_a_function_of_the_key(name):
    model = MODELS[name]
    params = model.init(jax.random.key(0), INPUTS)
    assert type(params) is dict
    assert sorted(leaf.shape for leaf in jax.tree.leaves(params)) == [(2,), (4,), (4, 2), (6, 4)]
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))
    jax.tree.map(np.testing.assert_array_equal, params, model.init(jax.random.key(0), INPUTS))
    other = _dense_layers(model.init(jax.random.key(1), INPUTS))
    assert not np.array_equal(_dense_layers(params)[0]["kernel"], other[0]["kernel"])


@pytest.mark.parametrize("name", MODELS)
def test_works_under_jit_grad_and_vmap_over_keys_and_parameters(name):
    model = MODELS[name]
    keys = jax.random.split(jax.random.key(0), 3)
    stacked = jax.jit(jax.vmap(model.init, (0, None)))(keys, INPUTS)

    @jax.jit
    def loss(params):
        return (model.apply(params, INPUTS) ** 2).sum()

    gradients = jax.vmap(jax.grad(loss))(stacked)
    for lane, key in enumerate(keys):
        params = model.init(key, INPUTS)
        np.testing.assert_allclose(jax.vmap(loss)(stacked)[lane], loss(params), rtol=1e-5)
        # A derivative along the gradient by central differences, as an oracle for the gradient.
        gradient = jax.tree.map(operator.itemgetter(lane), gradients)
        ahead = loss(optax.tree.add_scale(params, 1e-3, gradient))
        behind = loss(optax.tree.add_scale(params, -1e-3, gradient))
        squared = optax.tree.norm(gradient, squared=True)
        np.testing.assert_allclose((ahead - behind) / 2e-3, squared, rtol=1e-2)


def test_an_applied_nnx_model_leaves_no_trace_behind():
    model = MODELS["nnx class"]
    params = model.init(jax.random.key(0), INPUTS)
    jax.jit(model.apply)(params, INPUTS)
    jax.vmap(model.apply, (None, 0))(params, INPUTS[:, None])
    assert model.apply(params, INPUTS).shape == (5, 2)


def test_a_linen_module_without_parameters_is_a_model():
    model = models.functional(nn.Sequential([nn.relu]))
    params = model.init(jax.random.key(0), INPUTS)
    assert jax.tree.leaves(params) == []
    np.testing.assert_array_equal(model.apply(params, INPUTS), np.maximum(INPUTS, 0))


def test_refuses_linen_batch_statistics():
    model = models.functional(nn.BatchNorm(use_running_average=False))
    with pytest.raises(StudyError, match=r"BatchNorm keeps state .*: batch_stats.*GroupNorm"):
        model.init(jax.random.key(0), INPUTS)


def test_refuses_linen_dropout_that_draws():
    model = models.functional(_Linen(dropout_is_off=False))
    params = model.init(jax.random.key(0), INPUTS)
    with pytest.raises(StudyError, match=r"_Linen draws random numbers .*\"dropout\".*deterministic=True"):
        model.apply(params, INPUTS)


def test_refuses_another_linen_collection_by_its_name():
    class Counting(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.variable("tally", "calls", jnp.zeros, ())
            return x

    with pytest.raises(StudyError, match=r"parameters: tally\.") as error:
        models.functional(Counting()).init(jax.random.key(0), INPUTS)
    assert "Make the variables nn.Param" in str(error.value)


@pytest.mark.parametrize(
    ("extra", "collections", "fix"),
    [
        (lambda rngs: nnx.BatchNorm(2, rngs=rngs), "BatchStat", "GroupNorm"),
        (lambda rngs: nnx.Dropout(0.5, rngs=rngs), "RngCount, RngKey", "deterministic=True"),
        (lambda rngs: nnx.Variable(jnp.zeros(())), "Variable", "nnx.Param"),
    ],
)
def test_refuses_nnx_state_other_than_parameters_at_once(extra, collections, fix):
    with pytest.raises(StudyError, match=f"_Nnx keeps state .*: {collections}.*{fix}"):
        models.functional(lambda rngs: _Nnx(rngs, extra=extra))


def test_refuses_an_nnx_instance_and_says_what_to_type():
    with pytest.raises(StudyError, match=r"models.functional\(lambda rngs: _Nnx\(\.\.\., rngs=rngs\)\)"):
        models.functional(_Nnx(nnx.Rngs(0)))


def test_refuses_a_linen_class_and_says_what_to_type():
    with pytest.raises(StudyError, match=r"linen class _Linen.*models.functional\(_Linen\(\.\.\.\)\)"):
        models.functional(_Linen)


def test_refuses_what_is_no_module():
    with pytest.raises(StudyError, match="3 is neither"):
        models.functional(3)
    with pytest.raises(StudyError, match="made 'net' from rngs"):
        models.functional(lambda rngs: "net")

"""The convolutional classifier against flax's own layers, with the same parameters."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxexp import models
from jaxexp.errors import StudyError


class Flax(nn.Module):
    channels: tuple[int, ...]
    strides: tuple[int, ...]

    @nn.compact
    def __call__(self, images):
        for count, step in zip(self.channels, self.strides, strict=True):
            images = nn.relu(nn.Conv(count, (3, 3), (step, step))(images))
        return nn.Dense(10)(images.reshape(len(images), -1))


def _as_flax(params):
    *convolutions, dense = params
    return {"params": {**{f"Conv_{i}": layer for i, layer in enumerate(convolutions)}, "Dense_0": dense}}


@pytest.mark.parametrize(
    ("size", "channels", "strides"),
    [((8, 8, 1), (8, 16), (1, 2)), ((7, 5, 2), (3, 4), (2, 1)), ((9, 6, 3), (4,), (3,)), ((9, 3, 1), (4, 2), (4, 1))],
)
def test_value_and_gradient_are_flax_s(size, channels, strides):
    images = jax.random.normal(jax.random.key(0), (6, *size))
    model, other = models.cnn(channels, 10, strides=strides), Flax(channels, strides)
    params = model.init(jax.random.key(1), images)
    assert jax.tree.map(jnp.shape, _as_flax(params)) == jax.tree.map(jnp.shape, other.init(jax.random.key(1), images))

    def ours(params):
        return jnp.sum(jnp.sin(model.apply(params, images)))

    def theirs(params):
        return jnp.sum(jnp.sin(jnp.asarray(other.apply(_as_flax(params), images))))

    np.testing.assert_allclose(model.apply(params, images), other.apply(_as_flax(params), images), atol=1e-6)
    found, expected = jax.jit(jax.grad(ours))(params), jax.jit(jax.grad(theirs))(params)
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, atol=1e-5), found, expected)


def test_kernels_start_as_flax_s_do():
    params = models.cnn((64,), 10).init(jax.random.key(0), jnp.ones((1, 8, 8, 16)))
    assert float(params[0]["kernel"].std()) == pytest.approx((9 * 16) ** -0.5, rel=0.05)
    assert float(params[1]["kernel"].std()) == pytest.approx((64 * 64) ** -0.5, rel=0.05)


def test_what_does_not_fit_is_refused():
    with pytest.raises(StudyError, match="one positive stride for each convolution"):
        models.cnn((8, 16), 10, strides=(1,))
    with pytest.raises(StudyError, match="a last axis of length 1"):
        models.cnn((8,), 10).init(jax.random.key(0), jnp.ones((5, 8, 8)))

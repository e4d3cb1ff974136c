"""`models.segmenter` and `models.u_net` against forward passes in plain numpy and scipy, in 1 to 3 dimensions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxexp import models
from jaxexp.errors import StudyError


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_rank_promotion("raise"):
        yield


def _relu(x):
    return np.maximum(x, 0)


def _dense(x, layer):
    return x @ layer["kernel"] + layer["bias"]


def _convolve(image, layer):
    """A convolution of [*spatial, in] with zeros outside, one pair of channels at a time."""
    kernel = layer["kernel"].reshape(*(3,) * (image.ndim - 1), image.shape[-1], -1)
    planes = [
        sum(scipy.ndimage.correlate(image[..., i], kernel[..., i, o], mode="constant") for i in range(image.shape[-1]))
        for o in range(layer["bias"].size)
    ]
    return np.stack(planes, axis=-1) + layer["bias"]


def _pool(image, reduce):
    """`reduce` over blocks of side 2, one block at a time."""
    pooled = np.empty([side // 2 for side in image.shape[:-1]] + [image.shape[-1]])
    for index in np.ndindex(*pooled.shape[:-1]):
        block = image[tuple(slice(2 * i, 2 * i + 2) for i in index)]
        pooled[index] = reduce(block.reshape(-1, image.shape[-1]), axis=0)
    return pooled


def _drawn_params(model, images, seed):
    """Parameters of the model's shapes with no zeros among them, so that every bias counts."""
    random = np.random.RandomState(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return jax.tree.map(lambda leaf: random.randn(*leaf.shape) / np.sqrt(leaf.shape[0]), shapes)


def _segment(params, image):
    hidden = _dense(_relu(_convolve(image, params["local_convolution"])), params["local_dense"])
    if "context_hidden" in params:
        pooled = _pool(image, np.mean).ravel()
        hidden = hidden + _dense(_relu(_dense(pooled, params["context_hidden"])), params["context_dense"])
    return _dense(_relu(hidden), params["output"])


@pytest.mark.parametrize(
    ("spatial", "channels", "num_context"),
    [((6,), 2, 5), ((4, 8), 1, 7), ((4, 2, 6), 2, 3), ((5, 3, 4), 1, None)],
)
def test_the_segmenter_equals_numpy(spatial, channels, num_context):
    with jax.enable_x64(True):
        model = models.segmenter(3, num_local=4, num_hidden=6, num_context=num_context)
        images = np.random.RandomState(0).randn(2, *spatial, channels)
        params = _drawn_params(model, images, seed=1)
        expected = [_segment(params, image) for image in images]
        np.testing.assert_allclose(jax.jit(model.apply)(params, images), expected, rtol=1e-11, atol=1e-12)


def test_the_segmenter_is_that_of_the_question():
    digits = jax.eval_shape(models.segmenter(11).init, jax.random.key(0), jnp.ones((16, 28, 28, 1)))
    kernels = {name: layer["kernel"].shape for name, layer in digits.items()}
    assert kernels == {
        "local_convolution": (9, 8),
        "local_dense": (8, 32),
        "context_hidden": (196, 128),
        "context_dense": (128, 32),
        "output": (32, 11),
    }
    of_volumes = models.segmenter(4, num_hidden=16, num_context=None)
    volumes = jax.eval_shape(of_volumes.init, jax.random.key(0), jnp.ones((2, 12, 12, 12, 1)))
    kernels = {name: layer["kernel"].shape for name, layer in volumes.items()}
    assert kernels == {"local_convolution": (27, 8), "local_dense": (8, 16), "output": (16, 4)}


def _u_net(params, image, num_levels):
    def block(name, features):
        for number in range(2):
            features = _relu(_convolve(features, params[f"{name}_{number}"]))
        return features

    seen = []
    for level in range(num_levels):
        seen.append(block(f"down_{level}", image))
        image = _pool(seen[-1], np.max)
    image = block("bottom", image)
    for level in reversed(range(num_levels)):
        larger = np.empty([2 * side for side in image.shape[:-1]] + [image.shape[-1]])
        for index in np.ndindex(*larger.shape[:-1]):
            larger[index] = image[tuple(i // 2 for i in index)]
        image = block(f"up_{level}", np.concatenate([larger, seen[level]], axis=-1))
    return _dense(image, params["output"])


@pytest.mark.parametrize(("spatial", "channels", "num_levels"), [((8,), 1, 3), ((4, 8), 2, 2), ((4, 2, 2), 1, 1)])
def test_the_u_net_equals_numpy(spatial, channels, num_levels):
    with jax.enable_x64(True):
        model = models.u_net(3, num_features=2, num_levels=num_levels)
        images = np.random.RandomState(0).randn(2, *spatial, channels)
        params = _drawn_params(model, images, seed=1)
        expected = [_u_net(params, image, num_levels) for image in images]
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(jax.jit(model.apply)(params, images), expected, rtol=1e-11, atol=1e-12)


def test_the_u_net_takes_images_of_another_size():
    model = models.u_net(3, num_features=2, num_levels=1)
    params = _drawn_params(model, jnp.ones((1, 4, 4, 1)), seed=0)
    logits = jax.eval_shape(model.apply, params, jnp.ones((5, 6, 2, 1)))
    assert logits.shape == (5, 6, 2, 3)


NETS = {
    "segmenter": lambda: models.segmenter(3, num_local=2, num_hidden=2, num_context=2),
    "u_net": lambda: models.u_net(3, num_features=1, num_levels=1),
}


@pytest.mark.parametrize("name", NETS)
def test_starts_from_the_key_with_zero_biases_and_trains_in_lanes(name):
    model, images = NETS[name](), jax.random.normal(jax.random.key(3), (2, 4, 2))
    stacked = jax.jit(jax.vmap(model.init, (0, None)))(jax.random.split(jax.random.key(0), 2), images)
    for layer in stacked.values():
        np.testing.assert_array_equal(layer["bias"], np.zeros(layer["bias"].shape))
        assert not np.array_equal(layer["kernel"][0], layer["kernel"][1])
    outputs = jax.jit(jax.vmap(model.apply, (0, None)))(stacked, images)
    alone = jax.jit(model.apply)(jax.tree.map(lambda leaf: leaf[1], stacked), images)
    np.testing.assert_allclose(outputs[1], alone, atol=1e-5)
    assert {leaf.dtype for leaf in jax.tree.leaves(stacked)} == {jnp.dtype(jnp.float32)}


def test_refuses_numbers_out_of_range():
    with pytest.raises(StudyError, match=r"num_classes=1 .*models.segmenter\(11\)"):
        models.segmenter(1)
    with pytest.raises(StudyError, match="num_context=0"):
        models.segmenter(3, num_context=0)
    with pytest.raises(StudyError, match=r"num_levels=0 .*models.u_net\(11\)"):
        models.u_net(3, num_levels=0)


@pytest.mark.parametrize("model", [models.segmenter(3), models.u_net(3)])
def test_refuses_images_of_a_wrong_shape(model):
    key = jax.random.key(0)
    with pytest.raises(StudyError, match=r"\[5, 28\] are not \[n, \*spatial, channels\].*images\[..., None\]"):
        model.init(key, jnp.ones((5, 28)))
    with pytest.raises(StudyError, match=r"\[5, 6, 7, 1\] have"):
        model.init(key, jnp.ones((5, 6, 7, 1)))
    with pytest.raises(StudyError, match=r"\[5, 6, 7, 1\] have"):
        model.apply({}, jnp.ones((5, 6, 7, 1)))

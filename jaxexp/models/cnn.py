"""A small convolutional classifier of images, its convolutions written as one matrix product each.

Lanes whose kernels differ turn a convolution into a grouped one, which XLA's CPU backend computes slowly; the pixels
around each pixel as columns, times a matrix, are the same function (`docs/performance.md`). It has no pooling and no
normalisation: take a flax module by `functional` for those.
"""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer

from jaxexp.errors import StudyError
from jaxexp.models.initializers import parameter_dtype
from jaxexp.models.model import Model

_SIDE = 3
_LECUN_NORMAL = jax.nn.initializers.lecun_normal()


def cnn(
    channels: Sequence[int],
    num_classes: int,
    *,
    strides: Sequence[int] | None = None,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
    kernel_init: Initializer = _LECUN_NORMAL,
) -> Model:
    """Returns a model of 3 x 3 convolutions, each followed by an activation, and a dense layer on all that they give.

    It is flax's ``Conv(channels, (3, 3), strides)`` and ``Dense(num_classes)``, with their parameters' shapes and
    starts: a tuple with one ``{"kernel": [3, 3, in, out], "bias": [out]}`` a convolution, and the dense layer's last.

    Args:
        channels: What each convolution gives; one or more integers >= 1.
        num_classes: Outputs, at least 1.
        strides: Pixels from one output to the next, for each convolution; 1 where None.
        activation: Applied after each convolution, elementwise.
        kernel_init: Draws each kernel, as ``(key, shape, dtype) -> array``.

    Returns:
        A `Model`. ``init`` and ``apply`` take images ``[n, height, width, in]``; outputs are ``[n, num_classes]``.

    Raises:
        StudyError: `channels` is empty or `strides` has another length; or (from ``init`` and ``apply``) the images
            have another number of axes.

    Example:
        >>> digits = cnn((8, 16), 10, strides=(1, 2))
        >>> images = jnp.ones((5, 8, 8, 1))
        >>> params = digits.init(jax.random.key(0), images)
        >>> digits.apply(params, images).shape, params[2]["kernel"].shape
        ((5, 10), (256, 10))
    """
    steps = tuple(strides) if strides is not None else (1,) * len(channels)
    if not channels or len(steps) != len(channels) or min(*channels, *steps, num_classes) < 1:
        raise StudyError(
            f"models.cnn: channels={channels!r}, strides={strides!r}, num_classes={num_classes} do not fit: give one "
            "positive stride for each convolution, e.g. models.cnn((8, 16), 10, strides=(1, 2))"
        )

    def init(key, images):
        _check(images)
        dtype, (_, height, width, depth) = parameter_dtype(images), images.shape
        params = []
        for number, (count, step) in enumerate(zip(channels, steps, strict=True)):
            kernel = kernel_init(jax.random.fold_in(key, number), (_SIDE, _SIDE, depth, count), dtype)
            params.append({"kernel": kernel, "bias": jnp.zeros(count, dtype)})
            height, width, depth = -(-height // step), -(-width // step), count
        kernel = kernel_init(jax.random.fold_in(key, len(channels)), (height * width * depth, num_classes), dtype)
        return (*params, {"kernel": kernel, "bias": jnp.zeros(num_classes, dtype)})

    def apply(params, images):
        _check(images)
        *convolutions, dense = params
        dtype = jnp.result_type(images, dense["kernel"])
        units = images.transpose(3, 1, 2, 0).astype(dtype)  # [channels, height, width, n]
        for layer, step in zip(convolutions, steps, strict=True):
            around = _neighbourhoods(units, step)
            kernel = layer["kernel"].reshape(-1, layer["kernel"].shape[-1]).T
            outputs = kernel @ around.reshape(len(around), -1)
            outputs = activation(outputs + jnp.broadcast_to(layer["bias"][:, None], outputs.shape))
            units = outputs.reshape(-1, *around.shape[1:])
        features = units.transpose(1, 2, 0, 3).reshape(-1, len(images))
        outputs = dense["kernel"].T @ features
        return (outputs + jnp.broadcast_to(dense["bias"][:, None], outputs.shape)).T

    return Model(init, apply)


def _check(images: jax.Array) -> None:
    if images.ndim != 4:
        raise StudyError(
            f"models.cnn: images of shape {list(images.shape)} are not [n, height, width, channels]; give grey images "
            "a last axis of length 1: images[..., None]"
        )


def _neighbourhoods(units: jax.Array, step: int) -> jax.Array:
    """The 3 x 3 pixels around every `step`-th pixel of [channels, height, width, n], as [9 channels, h, w, n].

    What lies outside is 0, and as many rows are added at either end as flax's "SAME" adds.
    """
    (height, width), shifted = [-(-side // step) for side in units.shape[1:3]], []
    planes = _planes(units, step, (height, width))
    for row, column in itertools.product(range(_SIDE), repeat=2):
        top, left = row // step, column // step
        shifted.append(planes[row % step][column % step][:, top : top + height, left : left + width])
    return jnp.concatenate(shifted)


def _planes(units: jax.Array, step: int, sizes: tuple[int, int]) -> list[list[jax.Array]]:
    """Framed units, dealt by row and column modulo `step`: all that a tap sees of them is a stretch of one plane.

    Slices with strides would be the same; but of those XLA computes gradients slowly, of splits it joins them.
    """
    frame = []
    for size, side in zip(sizes, units.shape[1:3], strict=True):
        before = max(0, (size - 1) * step + _SIDE - side) // 2
        frame.append((before, (size + (_SIDE - 1) // step) * step - before - side))
    framed = jnp.pad(units, ((0, 0), *frame, (0, 0)))
    channels, height, width, num_images = framed.shape
    dealt = framed.reshape(channels, height // step, step, width // step, step, num_images)
    return [
        [plane.squeeze((2, 4)) for plane in jax.lax.split(rows, (1,) * step, axis=4)]
        for rows in jax.lax.split(dealt, (1,) * step, axis=2)
    ]

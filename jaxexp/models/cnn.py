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
        units = jnp.moveaxis(images, -1, 0).astype(dtype)  # [channels, n, height, width]
        for layer, step in zip(convolutions, steps, strict=True):
            around = _neighbourhoods(units, step)
            kernel = layer["kernel"].reshape(-1, layer["kernel"].shape[-1]).T
            outputs = kernel @ around.reshape(len(around), -1)
            outputs = activation(outputs + jnp.broadcast_to(layer["bias"][:, None], outputs.shape))
            units = outputs.reshape(-1, *around.shape[1:])
        count, num_images, height, width = units.shape
        features = units.transpose(2, 3, 0, 1).reshape(height * width * count, num_images)
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
    """The 3 x 3 pixels around every `step`-th pixel of [channels, n, height, width], as [9 channels, n, h, w].

    What lies outside is 0, and as many rows are added at either end as flax's "SAME" adds.
    """
    sizes = [-(-side // step) for side in units.shape[2:]]
    missing = [max(0, (size - 1) * step + _SIDE - side) for size, side in zip(sizes, units.shape[2:], strict=True)]
    framed = jnp.pad(units, ((0, 0), (0, 0), *((less // 2, less - less // 2) for less in missing)))
    (height, width), shifted = sizes, []
    for row, column in itertools.product(range(_SIDE), repeat=2):
        shifted.append(
            framed[:, :, row : row + (height - 1) * step + 1 : step, column : column + (width - 1) * step + 1 : step]
        )
    return jnp.concatenate(shifted)

"""What the nets on images share: the pixels around each pixel, pooling, doubling, and a check of shapes.

Private to this package; images are ``[n, *spatial, channels]`` throughout. Convolution and pooling are written as
slices, reshapes and one matrix product rather than by flax's `Conv` and pools: lanes turn a convolution, whose
kernels differ from lane to lane, into a grouped one, and the gradient of a pool into a scatter, both of them slow on
a CPU. A dense layer of the neighbourhoods is the same function.
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxexp.errors import StudyError


def neighbourhoods(images: jax.Array) -> jax.Array:
    """Returns each pixel's surroundings of side 3 as one long vector, zeros standing for what is outside.

    A dense layer of them is a convolution: its kernel ``[3**d * channels, out]`` is the convolution's
    ``[3, ..., 3, channels, out]`` reshaped.

    Args:
        images: ``[n, *spatial, channels]`` with d spatial dimensions.

    Returns:
        ``[n, *spatial, 3**d * channels]``.

    Example:
        >>> neighbourhoods(jnp.array([[[1.0], [2.0], [3.0]]])).tolist()
        [[[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 0.0]]]
    """
    spatial = images.shape[1:-1]
    framed = jnp.pad(images, [(0, 0), *[(1, 1)] * len(spatial), (0, 0)])
    corners = itertools.product(range(3), repeat=len(spatial))
    shifted = [
        framed[(slice(None), *(slice(start, start + side) for start, side in zip(corner, spatial, strict=True)))]
        for corner in corners
    ]
    return jnp.concatenate(shifted, axis=-1)


def halve(images: jax.Array, reduce: Callable[..., jax.Array]) -> jax.Array:
    """Returns images of half the size, each pixel being `reduce` of a block of side 2.

    Args:
        images: ``[n, *spatial, channels]`` with even sides.
        reduce: `jnp.mean`, `jnp.max` or another function that takes an array and `axis=`.

    Returns:
        ``[n, *(side / 2), channels]``.

    Example:
        >>> halve(jnp.array([[[1.0], [5.0], [2.0], [3.0]]]), jnp.max).tolist()
        [[[5.0], [3.0]]]
    """
    spatial = images.shape[1:-1]
    split = [length for side in spatial for length in (side // 2, 2)]
    blocks = images.reshape(len(images), *split, images.shape[-1])
    return reduce(blocks, axis=tuple(range(2, 1 + 2 * len(spatial), 2)))


def double(images: jax.Array) -> jax.Array:
    """Returns images of twice the size, each pixel repeated to a block of side 2.

    Args:
        images: ``[n, *spatial, channels]``.

    Returns:
        ``[n, *(2 side), channels]``.

    Example:
        >>> double(jnp.array([[[1.0], [5.0]]])).tolist()
        [[[1.0], [1.0], [5.0], [5.0]]]
    """
    for axis in range(1, images.ndim - 1):
        images = jnp.repeat(images, 2, axis)
    return images


def check_images(model: str, images: jax.Array, num_halvings: int, fix: str) -> None:
    """Checks that images have spatial dimensions, whose sides can be halved as often as a model does.

    Args:
        model: The name of the model, for the message.
        images: ``[n, *spatial, channels]``, of which only the shape matters.
        num_halvings: How often the sides are halved.
        fix: What to type for fewer halvings, for the message.

    Raises:
        StudyError: They have not.

    Example:
        >>> check_images("u_net", jnp.ones((1, 28, 28, 1)), 2, "")
    """
    if images.ndim < 3:
        raise StudyError(
            f"models.{model}: images of shape {list(images.shape)} are not [n, *spatial, channels]; give grey images a "
            "last axis of length 1: images[..., None]"
        )
    if any(side % 2**num_halvings for side in images.shape[1:-1]):
        raise StudyError(
            f"models.{model}: images of shape {list(images.shape)} have a side that is no multiple of "
            f"{2**num_halvings}, and sides are halved {num_halvings} time(s); pad the images, or type {fix}"
        )

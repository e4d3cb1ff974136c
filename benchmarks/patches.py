"""3x3 convolutions as matrix products: what each tap sees, as rows, for one kernel product; channels are few.

The first convolution's patches are made once, outside the program. Between the layers, stride 2 lets a tap read one of
four planes (even and odd rows and columns), shifted by one at most; the gradient adds up the same planes.
"""

import jax
import jax.numpy as jnp
import numpy as np

_TAPS = tuple((row, column) for row in range(3) for column in range(3))


def of_images(images: np.ndarray) -> np.ndarray:
    """Returns what the nine taps of a padded 3x3 convolution see of images [n, 8, 8, 1], as rows [n, 9 * 64]."""
    padded = np.pad(images[..., 0], ((0, 0), (1, 1), (1, 1)))
    seen = [padded[:, row : row + 8, column : column + 8].reshape(len(images), 64) for row, column in _TAPS]
    return np.stack(seen, axis=1).reshape(len(images), 9 * 64)


@jax.custom_vjp
def stride_two(maps: jax.Array) -> jax.Array:
    """Returns what the taps of a 3x3 convolution of stride 2 see: [9 * channels, 16 * n] of [channels, 8, 8, n].

    As in flax and XLA ("SAME"), 8 rows are padded by one zero at the end.
    """
    channels, _, _, num = maps.shape
    by_parity = maps.reshape(channels, 4, 2, 4, 2, num)
    seen = []
    for row, column in _TAPS:
        plane = by_parity[:, :, row % 2, :, column % 2]
        plane = _pulled(plane, axis=1) if row == 2 else plane
        plane = _pulled(plane, axis=2) if column == 2 else plane
        seen.append(plane.reshape(channels, 16 * num))
    return jnp.concatenate(seen)


def _pulled(plane: jax.Array, axis: int) -> jax.Array:
    """Each element's successor along an axis, and 0 for the last."""
    rest = jax.lax.slice_in_dim(plane, 1, None, axis=axis)
    return jnp.pad(rest, [(0, number == axis) for number in range(plane.ndim)])


def _pushed(plane: jax.Array, axis: int) -> jax.Array:
    """Each element's predecessor along an axis, and 0 for the first: the transpose of `_pulled`."""
    rest = jax.lax.slice_in_dim(plane, 0, -1, axis=axis)
    return jnp.pad(rest, [(number == axis, 0) for number in range(plane.ndim)])


def _backward(num: int, slope: jax.Array) -> tuple[jax.Array]:
    channels = len(slope) // 9
    taps = slope.reshape(3, 3, channels, 4, 4, num)
    by_row = [(tap[0] + _pushed(tap[2], axis=2), tap[1]) for tap in taps]
    even = jnp.stack([by_row[0][odd] + _pushed(by_row[2][odd], axis=1) for odd in (0, 1)], axis=3)
    odd = jnp.stack(by_row[1], axis=3)
    return (jnp.stack([even, odd], axis=2).reshape(channels, 8, 8, num),)


stride_two.defvjp(lambda maps: (stride_two(maps), maps.shape[-1]), _backward)

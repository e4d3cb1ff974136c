"""The interleaved spiral arms of the course CS231n, to the bit, and the weights its notebook drew next.

It draws points and weights. It trains nothing, and it knows no model beyond the shapes of those weights.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxexp.datasets._arguments import stream_seed, whole_number
from jaxexp.datasets._records import Points

_RADIANS_PER_ARM = 4.0
_ANGLE_NOISE = 0.2
_WEIGHT_SCALE = 0.01

# Where the notebook's stream stands, counted in normals after the points, as its printed losses reveal.
_SKIPPED_NORMALS = 18
_NUM_HIDDEN = 100


class SpiralStream(NamedTuple):
    """The course's points, with the initial weights that it drew from the same stream; biases were 0.

    Attributes:
        inputs: [300, 2] float64 in [-1, 1].
        labels: [300] int32 in 0 .. 2.
        linear_weights: [2, 3] float64, the linear classifier's.
        hidden_weights: [2, 100] float64, the first layer of the two-layer net.
        output_weights: [100, 3] float64, its second layer.

    Example:
        >>> spiral_stream().hidden_weights.shape
        (2, 100)
    """

    inputs: np.ndarray
    labels: np.ndarray
    linear_weights: np.ndarray
    hidden_weights: np.ndarray
    output_weights: np.ndarray


def spiral(*, seed: int = 0, num_classes: int = 3, points_per_class: int = 100) -> Points:
    """Returns points on spiral arms, one arm a class, whose angles are noisy.

    Point i of arm j has radius r = i / (points_per_class - 1) and angle t, evenly spaced over
    4 j .. 4 (j + 1) radians plus 0.2 times a standard normal; it lies at (r sin t, r cos t). Seed 0 and
    the defaults give the points of the course.

    Args:
        seed: The seed of ``numpy.random.RandomState``, from 0 to 2**32 - 1.
        num_classes: The number of arms, at least 1.
        points_per_class: The number of points on each arm, at least 2.

    Returns:
        The points, arm after arm from the centre out: inputs [num_classes * points_per_class, 2] float64
        in [-1, 1], labels int32 in 0 .. num_classes - 1.

    Raises:
        ConfigError: An argument is not a whole number in its range.

    Source:
        Minimal Neural Network Case Study, CS231n, Stanford, https://cs231n.github.io/neural-networks-case-study/

    Example:
        >>> inputs, labels = spiral()
        >>> inputs.shape, np.bincount(labels).tolist()
        ((300, 2), [100, 100, 100])
    """
    num_classes = whole_number("datasets.spiral", "num_classes", num_classes)
    points_per_class = whole_number("datasets.spiral", "points_per_class", points_per_class, low=2)
    random = np.random.RandomState(stream_seed("datasets.spiral", seed))
    inputs, labels = _arms(np, random.standard_normal((num_classes, points_per_class)))
    return Points(inputs, labels)


def spiral_from_key(
    key: jax.Array, *, num_classes: int = 3, points_per_class: int = 100
) -> tuple[jax.Array, np.ndarray]:
    """Returns the points of `spiral` with angles drawn from a JAX key: another spiral for each seed of a study.

    It is a pure function that may be traced, called for example in an experiment's `init`.

    Args:
        key: The random key that the noise of the angles comes from.
        num_classes: The number of arms, at least 1.
        points_per_class: The number of points on each arm, at least 2.

    Returns:
        Inputs [num_classes * points_per_class, 2] float32 in [-1, 1], and labels of the same length, int32 in
        0 .. num_classes - 1, which are the same for every key.

    Raises:
        ConfigError: An argument is not a whole number in its range.

    Source:
        As for `spiral`.

    Example:
        >>> import jax
        >>> inputs, labels = spiral_from_key(jax.random.key(0))
        >>> inputs.shape, labels.shape
        ((300, 2), (300,))
    """
    num_classes = whole_number("datasets.spiral_from_key", "num_classes", num_classes)
    points_per_class = whole_number("datasets.spiral_from_key", "points_per_class", points_per_class, low=2)
    return _arms(jnp, jax.random.normal(key, (num_classes, points_per_class), dtype=jnp.float32))


def spiral_stream(*, seed: int = 0) -> SpiralStream:
    """Returns the spiral of `seed` and the initial weights that follow it in the same random stream.

    After the 300 normals of the points the stream goes on, in this order: 18 normals that are skipped; 6
    that times 0.01 are the linear classifier's weights; 200 and then 300 that times 0.01 are those of the
    two-layer net's first and second layer. So the linear weights lie at offset 18 and the net's at 24.
    With seed 0, gradient descent from them prints the losses of the course.

    Args:
        seed: The seed of ``numpy.random.RandomState``, from 0 to 2**32 - 1.

    Returns:
        Points and weights, all float64 but for the int32 labels.

    Raises:
        ConfigError: `seed` is not a whole number in its range.

    Source:
        Minimal Neural Network Case Study, CS231n, Stanford, https://cs231n.github.io/neural-networks-case-study/

    Example:
        >>> spiral_stream().linear_weights.round(4).tolist()
        [[-0.0006, -0.0011, -0.0072], [-0.0081, 0.0027, -0.0089]]
    """
    random = np.random.RandomState(stream_seed("datasets.spiral_stream", seed))
    points = _arms(np, random.standard_normal((3, 100)))
    random.standard_normal(_SKIPPED_NORMALS)
    shapes = ((2, 3), (2, _NUM_HIDDEN), (_NUM_HIDDEN, 3))
    return SpiralStream(*points, *(_WEIGHT_SCALE * random.standard_normal(shape) for shape in shapes))


def _arms(xp: Any, normals: Any) -> tuple[Any, np.ndarray]:
    # xp is numpy or jax.numpy; the normals, [num_classes, points_per_class], say in which precision to count.
    num_classes, points_per_class = normals.shape
    radius = np.broadcast_to(np.linspace(0.0, 1.0, points_per_class), normals.shape).astype(normals.dtype)
    starts = _RADIANS_PER_ARM * np.arange(num_classes)
    angles = np.linspace(starts, starts + _RADIANS_PER_ARM, points_per_class, axis=1).astype(normals.dtype)
    noisy = angles + _ANGLE_NOISE * normals
    inputs = xp.stack([radius * xp.sin(noisy), radius * xp.cos(noisy)], axis=-1)
    labels = np.repeat(np.arange(num_classes, dtype=np.int32), points_per_class)
    return inputs.reshape(-1, 2), labels

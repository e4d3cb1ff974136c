"""Synthetic 12^3 volumes with three small objects in much background, to segment into four classes.

It draws whole data sets at once; it crops, augments and resamples nothing.
"""

import numpy as np

from jaxexp.datasets._arguments import stream_seed, whole_number
from jaxexp.datasets._records import Split

_SIZE = 12
_PRESENT_SHARE = 0.6
_INTENSITY_STEP = 0.8
_NOISE = 0.25
_SPHERE_RADIUS = (2.5, 3.5)
_CUBE_HALF_SIDE = (1.2, 2.0)
_ROD_RADIUS = (0.8, 0.8)


def volumes(*, num_train: int = 1000, num_test: int = 200, seed: int = 0) -> Split:
    """Returns volumes of 12 x 12 x 12 voxels in which a sphere, a cube and a thin rod may be present.

    Each object is present in 60 % of the volumes, independently of the others, and lies at a random place
    fully inside: a sphere (class 1) of radius 2.5 to 3.5, a cube (class 2) of half-side 1.2 to 2, and a rod
    (class 3) of radius .8 that runs through the whole volume along one of the axes. Where they overlap, the
    higher class is seen. Background (class 0) takes 94 % of the voxels. The intensity of a voxel is .8
    times its class, plus normal noise of standard deviation .25.

    Args:
        num_train: How many volumes to train on, at least 1.
        num_test: How many to test on, at least 1.
        seed: The seed of ``numpy.random.RandomState``, from 0 to 2**32 - 1. Training and test volumes come
            from streams of their own: the number of the ones changes nothing in the others.

    Returns:
        The split: inputs [num, 12, 12, 12, 1] float32, labels [num, 12, 12, 12] int32 in 0 .. 3.

    Raises:
        ConfigError: An argument is not a whole number in its range.

    Source:
        Made for this package after the case in https://github.com/keras-team/keras/issues/9395: three
        imbalanced classes in 3-D images, which the figures above specify in full.

    Example:
        >>> split = volumes(num_train=8, num_test=2)
        >>> split.train_inputs.shape, split.test_labels.shape
        ((8, 12, 12, 12, 1), (2, 12, 12, 12))
    """
    num_train = whole_number("datasets.volumes", "num_train", num_train)
    num_test = whole_number("datasets.volumes", "num_test", num_test)
    seed = stream_seed("datasets.volumes", seed)
    train = _labelled_volumes(np.random.RandomState([seed, 0]), num_train)
    test = _labelled_volumes(np.random.RandomState([seed, 1]), num_test)
    return Split(*train, *test)


def _labelled_volumes(random: np.random.RandomState, num: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((num, _SIZE, _SIZE, _SIZE), dtype=np.int32)
    # The thinner an object, the later it is painted: none is hidden by one larger than itself.
    for label, objects in enumerate((_spheres, _cubes, _rods), start=1):
        inside = objects(random, num)
        present = random.random_sample(num) < _PRESENT_SHARE
        labels[inside & present[:, None, None, None]] = label
    noise = _NOISE * random.standard_normal(labels.shape)
    inputs = (_INTENSITY_STEP * labels + noise).astype(np.float32)
    return inputs[..., np.newaxis], labels


def _spheres(random: np.random.RandomState, num: int) -> np.ndarray:
    offsets, radius = _offsets(random, num, _SPHERE_RADIUS)
    return _squared_distance(offsets) <= radius**2


def _cubes(random: np.random.RandomState, num: int) -> np.ndarray:
    offsets, half_side = _offsets(random, num, _CUBE_HALF_SIDE)
    inside = (offsets <= half_side[..., 0]).astype(np.float64)
    return inside[:, 0, :, None, None] * inside[:, 1, None, :, None] * inside[:, 2, None, None, :] > 0


def _rods(random: np.random.RandomState, num: int) -> np.ndarray:
    offsets, radius = _offsets(random, num, _ROD_RADIUS)
    axis = (3 * random.random_sample(num)).astype(np.int64)
    # Distance from a line along an axis leaves out the offset along that axis.
    offsets[np.arange(num), axis] = 0.0
    return _squared_distance(offsets) <= radius**2


def _offsets(
    random: np.random.RandomState, num: int, radius_range: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    # [num, 3, 12] distances along each axis from a random centre, and [num, 1, 1, 1] radii. Voxel centres
    # are at 0 .. 11, so the volume spans -.5 .. 11.5 and the centres keep a radius away from its faces.
    radius = random.uniform(*radius_range, size=(num, 1))
    centre = radius - 0.5 + (_SIZE - 2 * radius) * random.random_sample((num, 3))
    offsets = np.abs(np.arange(_SIZE) - centre[:, :, None])
    return offsets, radius[:, :, None, None]


def _squared_distance(offsets: np.ndarray) -> np.ndarray:
    x, y, z = (offsets[:, axis] ** 2 for axis in range(3))
    return x[:, :, None, None] + y[:, None, :, None] + z[:, None, None, :]

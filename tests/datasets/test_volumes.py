"""The volumes have the stated frequencies, and each object alone has the geometry of its kind."""

import numpy as np
import pytest

from jaxexp import datasets
from jaxexp.errors import ConfigError


@pytest.fixture(scope="module")
def split():
    return datasets.volumes()


def _alone(labels, label):
    """The coordinates of the object's voxels, for each volume in which it is the only one."""
    others = [other for other in (1, 2, 3) if other != label]
    chosen = [volume for volume in labels if (volume == label).any() and not np.isin(volume, others).any()]
    assert len(chosen) > 50
    return [np.argwhere(volume == label) for volume in chosen]


def test_shapes_and_types(split):
    assert split.train_inputs.shape == (1000, 12, 12, 12, 1)
    assert split.test_labels.shape == (200, 12, 12, 12)
    assert [array.dtype for array in split] == [np.float32, np.int32, np.float32, np.int32]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_background_takes_94_percent_and_each_object_is_in_60(seed):
    labels = datasets.volumes(seed=seed).train_labels
    assert (labels == 0).mean() == pytest.approx(0.94, abs=0.005)
    shares = [(labels == label).mean() for label in (1, 2, 3)]
    assert shares == sorted(shares, reverse=True)
    for label in (1, 2, 3):
        present = (labels == label).any(axis=(1, 2, 3))
        assert present.mean() == pytest.approx(0.6, abs=0.05)


def test_objects_are_present_independently(split):
    present = np.stack([(split.train_labels == label).any(axis=(1, 2, 3)) for label in (1, 2, 3)])
    # A correlation of 1000 pairs has standard error .03; the small hiding of cubes by rods is far below.
    assert np.abs(np.corrcoef(present) - np.eye(3)).max() < 0.12


def test_intensities_are_eight_tenths_a_class_with_noise_of_a_quarter(split):
    for inputs, labels in ((split.train_inputs, split.train_labels), (split.test_inputs, split.test_labels)):
        for label, intensity in enumerate((0.0, 0.8, 1.6, 2.4)):
            voxels = inputs[..., 0][labels == label]
            assert voxels.mean() == pytest.approx(intensity, abs=0.02)
            assert voxels.std() == pytest.approx(0.25, abs=0.01)


def test_spheres_are_balls_of_radius_two_and_a_half_to_three_and_a_half(split):
    sizes = []
    for voxels in _alone(split.train_labels, 1):
        sizes.append(len(voxels))
        reach = np.linalg.norm(voxels - voxels.mean(axis=0), axis=1).max()
        assert reach < 3.5 + 0.5
        # All voxels that lie well within the ball of that volume are in the object: it has no holes.
        radius = (3 * len(voxels) / (4 * np.pi)) ** (1 / 3)
        grid = np.argwhere(np.ones((12, 12, 12)))
        inner = grid[np.linalg.norm(grid - voxels.mean(axis=0), axis=1) < radius - 0.6]
        assert {tuple(voxel) for voxel in inner} <= {tuple(voxel) for voxel in voxels}
    # The mean volume is 4/3 pi times the mean of r^3 over U(2.5, 3.5).
    assert np.mean(sizes) == pytest.approx(4 / 3 * np.pi * (3.5**4 - 2.5**4) / 4, rel=0.05)
    assert min(sizes) > 4 / 3 * np.pi * 2.5**3 * 0.85
    assert max(sizes) < 4 / 3 * np.pi * 3.5**3 * 1.15


def test_cubes_are_full_boxes_of_two_to_four_voxels_a_side(split):
    sizes = []
    for voxels in _alone(split.train_labels, 2):
        sides = np.ptp(voxels, axis=0) + 1
        assert len(voxels) == np.prod(sides)
        assert sides.min() >= 2
        assert sides.max() <= 4
        assert np.ptp(sides) <= 1
        sizes.append(len(voxels))
    assert np.mean(sizes) == pytest.approx(2 * (2**4 - 1.2**4) / 0.8, rel=0.1)


def test_rods_are_thin_and_run_through_the_volume(split):
    axes = []
    for voxels in _alone(split.train_labels, 3):
        sides = np.ptp(voxels, axis=0) + 1
        along = int(np.argmax(sides))
        axes.append(along)
        assert sides[along] == 12
        assert max(np.delete(sides, along)) <= 2
        assert len(voxels) == 12 * len(np.unique(np.delete(voxels, along, axis=1), axis=0))
    assert min(np.bincount(axes, minlength=3)) / len(axes) > 0.2


def test_training_volumes_do_not_depend_on_the_number_of_test_volumes():
    few, many = datasets.volumes(num_train=5, num_test=2), datasets.volumes(num_train=5, num_test=50)
    np.testing.assert_array_equal(few.train_inputs, many.train_inputs)
    other = datasets.volumes(num_train=5, num_test=5, seed=1)
    assert np.abs(few.train_inputs - other.train_inputs).max() > 0.1
    assert np.abs(other.train_inputs - other.test_inputs).max() > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_train": 0}, "datasets.volumes: num_train=0 is out of range"),
        ({"num_test": "3"}, "num_test='3' is not a whole number"),
        ({"seed": -5}, "seed=-5 is out of range; pass an int from 0 to 4294967295"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        datasets.volumes(**options)

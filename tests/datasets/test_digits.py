"""The digits are the 1797 known images, in the stated order, and damage to their file is refused."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from jaxexp import datasets
from jaxexp.datasets._bundle import array_digest, bundle_folder, read_bundle
from jaxexp.errors import StoreError

# Counts of the 1797 test images, from the description of the data set at UCI.
CLASS_COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]

# Written down once from scikit-learn's arrays: a rebuilt bundle that differs must not pass unnoticed.
DIGESTS = {
    "images": "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3",
    "labels": "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0",
}


def test_the_split_has_the_stated_shapes_and_types():
    split = datasets.digits()
    assert split.train_inputs.shape == (1437, 64)
    assert split.test_inputs.shape == (360, 64)
    assert [array.dtype for array in split] == [np.float32, np.int32, np.float32, np.int32]
    counts = np.bincount(split.train_labels) + np.bincount(split.test_labels)
    assert counts.tolist() == CLASS_COUNTS


def test_the_order_is_that_of_the_legacy_permutation():
    split, arrays = datasets.digits(), read_bundle("digits")
    inputs = np.concatenate([split.train_inputs, split.test_inputs])
    labels = np.concatenate([split.train_labels, split.test_labels])
    for position, source in enumerate(np.random.RandomState(0).permutation(1797)):
        np.testing.assert_array_equal(inputs[position] * 16, arrays["images"][source].ravel())
        assert labels[position] == arrays["labels"][source]


def test_images_are_the_same_pixels_in_another_shape():
    flat, images = datasets.digits(), datasets.digits(images=True)
    assert images.train_inputs.shape == (1437, 8, 8, 1)
    np.testing.assert_array_equal(images.test_inputs.reshape(360, 64), flat.test_inputs)


def test_each_call_gives_arrays_of_its_own():
    datasets.digits().train_inputs[:] = 7
    assert datasets.digits().train_inputs.max() == 1


@pytest.mark.parametrize("key", sorted(DIGESTS))
def test_the_bytes_are_the_recorded_ones(key):
    array = read_bundle("digits")[key]
    assert array.dtype == np.uint8
    assert hashlib.sha256(array.tobytes()).hexdigest() == DIGESTS[key]


def test_a_digest_ignores_byte_order_and_memory_layout():
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert array_digest(array.astype(">i4")) == array_digest(array)
    assert array_digest(np.asfortranarray(array)) == array_digest(array)
    assert array_digest(array.T) != array_digest(array)


def _copy(folder):
    for name in ("digits.npz", "digits.json"):
        with (bundle_folder() / name).open("rb") as source, (folder / name).open("wb") as target:
            shutil.copyfileobj(source, target)


def _rewrite(folder, **arrays):
    np.savez_compressed(folder / "digits.npz", **{**read_bundle("digits"), **arrays})


def _flip_a_pixel(folder):
    images = read_bundle("digits")["images"].copy()
    images[900, 4, 4] ^= 1
    _rewrite(folder, images=images)


def _flip_a_compressed_byte(folder):
    path = folder / "digits.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def _pickle_the_labels(folder):
    _rewrite(folder, labels=read_bundle("digits")["labels"].astype(object))


def _drop_the_labels(folder):
    np.savez(folder / "digits.npz", images=read_bundle("digits")["images"])


def _change_the_type(folder):
    _rewrite(folder, images=read_bundle("digits")["images"].astype(np.int16))


def _break_the_side_car(folder):
    (folder / "digits.json").write_text(json.dumps({"arrays": ["images"]}))


DAMAGES = {
    "a pixel": (_flip_a_pixel, "holds 'images' as .*'sha256'"),
    "a compressed byte": (_flip_a_compressed_byte, "cannot be read"),
    "pickled": (_pickle_the_labels, "cannot be read"),
    "an array is gone": (_drop_the_labels, "cannot be read"),
    "another type": (_change_the_type, "holds 'images' as .*'int16'.*, not .*'uint8'"),
    "the side-car": (_break_the_side_car, "cannot be read"),
    "truncated": (lambda folder: (folder / "digits.npz").write_bytes(b"PK\x03\x04"), "cannot be read"),
    "missing": (lambda folder: (folder / "digits.npz").unlink(), "cannot be read"),
    "side-car missing": (lambda folder: (folder / "digits.json").unlink(), "cannot be read"),
}


def test_an_undamaged_copy_is_read(tmp_path):
    _copy(tmp_path)
    assert sorted(read_bundle("digits", tmp_path)) == ["images", "labels"]


@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_damage_is_refused_with_the_file_and_the_fix(tmp_path, name):
    damage, message = DAMAGES[name]
    _copy(tmp_path)
    damage(tmp_path)
    with pytest.raises(StoreError, match=message) as caught:
        read_bundle("digits", tmp_path)
    assert str(tmp_path / "digits.npz") in str(caught.value)
    assert "pip install --force-reinstall" in str(caught.value)

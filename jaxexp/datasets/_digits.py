"""The 8x8 handwritten digits that scikit-learn ships, in one fixed order and split.

It loads what is bundled; it does not augment, standardise or reshuffle.
"""

import numpy as np

from jaxexp.datasets._bundle import read_bundle
from jaxexp.datasets._records import Split

_BRIGHTEST_PIXEL = 16
_TRAIN_SHARE = 0.8


def digits(*, images: bool = False) -> Split:
    """Returns the 1797 8x8 digits, 1437 of them to train on and 360 to test on.

    The order is ``RandomState(0).permutation(1797)``, of which the first 80 % are for training, so every
    study sees the same split.

    Args:
        images: Whether inputs keep their shape, as [num, 8, 8, 1]; flat, as [num, 64], if not.

    Returns:
        The split: inputs float32 in [0, 1] (pixels / 16, a multiple of 1/16), labels int32 in 0 .. 9.

    Raises:
        StoreError: The bundled file is missing or damaged.

    Source:
        E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
        Repository, 1998, https://archive.ics.uci.edu/dataset/80; its test part, as in scikit-learn's `load_digits`.

    Example:
        >>> split = digits()
        >>> split.train_inputs.shape, split.test_inputs.shape, split.train_labels[:5].tolist()
        ((1437, 64), (360, 64), [2, 8, 2, 6, 6])
        >>> digits(images=True).test_inputs.shape
        (360, 8, 8, 1)
    """
    arrays = read_bundle("digits")
    num = len(arrays["labels"])
    order = np.random.RandomState(0).permutation(num)
    pixels = arrays["images"][order].astype(np.float32) / _BRIGHTEST_PIXEL
    inputs = pixels[..., np.newaxis] if images else pixels.reshape(num, -1)
    labels = arrays["labels"][order].astype(np.int32)
    num_train = int(_TRAIN_SHARE * num)
    return Split(inputs[:num_train], labels[:num_train], inputs[num_train:], labels[num_train:])

"""The records in which the datasets come: named tuples of NumPy arrays, hence pytrees as they are.

They hold arrays and nothing else: no loading, no shuffling, no minibatches, no device.
"""

from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Labelled examples for training, and others for testing.

    The first axis of every array counts examples. It is a pytree of arrays, so a study's `data` may
    return it as it is.

    Attributes:
        train_inputs: [num_train, ...] float32.
        train_labels: [num_train] or [num_train, ...] int32: a class for each example, or for each pixel.
        test_inputs: [num_test, ...] float32.
        test_labels: [num_test] or [num_test, ...] int32.

    Example:
        >>> from jaxexp import datasets
        >>> split = datasets.digits()
        >>> {name: array.shape for name, array in split._asdict().items()}
        {'train_inputs': (1437, 64), 'train_labels': (1437,), 'test_inputs': (360, 64), 'test_labels': (360,)}
    """

    train_inputs: np.ndarray
    train_labels: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray


class Points(NamedTuple):
    """Labelled points in a space of few dimensions, with no part held back.

    Attributes:
        inputs: [num_points, num_dimensions] floats; the dataset says which.
        labels: [num_points] int32, a class for each point.

    Example:
        >>> from jaxexp import datasets
        >>> inputs, labels = datasets.spiral()
        >>> inputs.shape, labels.shape
        ((300, 2), (300,))
    """

    inputs: np.ndarray
    labels: np.ndarray


class Sequences(NamedTuple):
    """Sequences of numbers, each with the number that follows it.

    Attributes:
        inputs: [num, length] float32.
        targets: [num] float32.

    Example:
        >>> from jaxexp import datasets
        >>> inputs, targets = datasets.recurrence(5)
        >>> inputs.shape, targets.shape
        ((5, 10), (5,))
    """

    inputs: np.ndarray
    targets: np.ndarray

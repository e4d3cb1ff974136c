"""The five points on a line that no threshold separates. Five numbers and their labels, nothing more."""

import numpy as np

from jaxexp.datasets._records import Points


def five_points() -> Points:
    """Returns the points 0, 0, 2, 2, 9 with labels 0, 0, 1, 1, 0, whose last one is an outlier.

    A line fitted by least squares gets 3 of the 5 right, the best single threshold 4, none all 5.

    Returns:
        Inputs [5, 1] float32 and labels [5] int32.

    Source:
        The minimal case in the forum question how to train a network for accuracy when its loss is another.

    Example:
        >>> five_points().inputs.ravel().tolist(), five_points().labels.tolist()
        ([0.0, 0.0, 2.0, 2.0, 9.0], [0, 0, 1, 1, 0])
    """
    inputs = np.array([[0.0], [0.0], [2.0], [2.0], [9.0]], dtype=np.float32)
    return Points(inputs, np.array([0, 0, 1, 1, 0], dtype=np.int32))

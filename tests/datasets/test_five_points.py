"""The five points have the closed-form least-squares line and the best threshold that the question states."""

from fractions import Fraction

import numpy as np

from jaxexp import datasets


def test_least_squares_and_thresholds_score_as_stated():
    inputs, labels = datasets.five_points()
    assert inputs.shape == (5, 1)
    assert inputs.dtype == np.float32
    assert labels.dtype == np.int32
    slope, intercept = np.polyfit(inputs[:, 0].astype(np.float64), labels, 1)
    np.testing.assert_allclose([slope, intercept], [float(Fraction(-1, 46)), float(Fraction(21, 46))], rtol=1e-12)
    residuals = slope * inputs[:, 0] + intercept - labels
    np.testing.assert_allclose(np.mean(residuals**2), 27 / 115, rtol=1e-12)
    assert np.sum((slope * inputs[:, 0] + intercept > 0.5) == labels) == 3
    cuts = np.linspace(-1, 10, 111)
    right = [max(np.sum((inputs[:, 0] > cut) == labels), np.sum((inputs[:, 0] < cut) == labels)) for cut in cuts]
    assert max(right) == 4

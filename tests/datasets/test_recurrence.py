"""Sequences follow the rule, and have the distribution that one-at-a-time simulation gives, from seed and key alike."""

import functools
import itertools
import math
import random

import jax
import numpy as np
import pytest
from scipy.stats import kstest, uniform

from jaxexp import datasets
from jaxexp.datasets import _recurrence
from jaxexp.errors import ConfigError

WIDE = (10.0, 100.0)


def _from_seed(num, **options):
    return datasets.recurrence(num, seed=3, **options)


def _from_key(num, **options):
    inputs, targets = datasets.recurrence_from_key(jax.random.key(3), num, **options)
    return np.asarray(inputs), np.asarray(targets)


SOURCES = pytest.mark.parametrize("source", [_from_seed, _from_key], ids=["seed", "key"])


def _rule(number):
    return number + 1 if number < 10 else math.sin(number)


@functools.cache
def _simulated(num, length):
    generator, windows = random.Random(1), []
    for _ in range(num):
        number = generator.uniform(0, 10)
        for _ in range(generator.randint(0, 24)):
            number = _rule(number)
        window = [number]
        while len(window) < length + 1:
            window.append(_rule(window[-1]))
        windows.append(window)
    return np.array(windows)


@SOURCES
@pytest.mark.parametrize("length", [1, 10, 60])
def test_every_number_follows_from_the_one_before(source, length):
    inputs, targets = source(300, length=length)
    assert inputs.shape == (300, length)
    assert inputs.dtype == targets.dtype == np.float32
    for row, target in zip(inputs.tolist(), targets.tolist(), strict=True):
        for number, following in zip(row, [*row[1:], target], strict=True):
            assert following == pytest.approx(_rule(number), abs=2e-6)


def test_a_number_that_rounding_lifts_to_the_threshold_is_the_peak():
    starts = np.nextafter(np.arange(1, 11, dtype=np.float32), np.float32(0))
    inputs, _ = _recurrence._follow(np, starts, np.zeros_like(starts), None, 30)
    for row in inputs.tolist():
        for number, following in itertools.pairwise(row):
            assert following == pytest.approx(_rule(number), abs=2e-6)


@SOURCES
def test_sequences_have_the_simulated_distribution(source):
    inputs, targets = source(20_000)
    expected = _simulated(20_000, 10)
    for column in (0, 9):
        assert kstest(inputs[:, column], expected[:, column]).pvalue > 1e-3
    assert kstest(targets, expected[:, 10]).pvalue > 1e-3


@SOURCES
def test_the_sine_is_8_percent_and_a_constant_scores_about_a_tenth_on_it(source):
    inputs, targets = source(40_000)
    is_sine = inputs[:, -1] >= 10
    assert is_sine.mean() == pytest.approx(0.083, abs=0.006)
    assert inputs.max() < 11
    assert targets[is_sine].max() < -0.54
    errors = np.abs(targets[is_sine] - np.median(targets[is_sine]))
    assert np.median(errors) == pytest.approx(0.093, abs=0.012)


@SOURCES
def test_wide_peaks_come_from_their_range_and_the_rule_goes_on_from_them(source):
    inputs, targets = source(3000, peak_range=WIDE)
    previous, following = inputs[:, :-1], inputs[:, 1:]
    ruled = np.where(previous < 10, previous + 1, np.sin(previous))
    np.testing.assert_allclose(following[ruled < 10], ruled[ruled < 10], atol=1e-6)
    peaks = following[ruled >= 10]
    assert len(peaks) > 1000
    assert kstest(peaks, uniform(10, 90).cdf).pvalue > 1e-3
    last = inputs[:, -1]
    np.testing.assert_allclose(targets, np.where(last < 10, last + 1, np.sin(last)), atol=1e-6)
    # A number of 10 or more that opens a sequence is a peak as well, and no larger than the range allows.
    assert inputs.max() < WIDE[1]
    # Over a wide range the sine takes all its values: half of them are further than .7 from 0.
    assert np.median(np.abs(targets[last >= 10])) == pytest.approx(math.sin(math.pi / 4), abs=0.1)


def test_the_keyed_form_may_be_traced_and_vmapped():
    keys = jax.random.split(jax.random.key(0), 3)
    draw = functools.partial(datasets.recurrence_from_key, num=2, peak_range=WIDE)
    with jax.numpy_rank_promotion("raise"):
        inputs, targets = jax.jit(jax.vmap(draw))(keys)
    assert inputs.shape == (3, 2, 10)
    assert targets.shape == (3, 2)
    for lane, key in enumerate(keys):
        # Numbers after a peak are sines of up to 100, where the last bit of the argument counts.
        np.testing.assert_allclose(inputs[lane], draw(key)[0], atol=1e-5)


def test_seeds_differ_and_repeat():
    first, again, other = (datasets.recurrence(50, seed=seed).inputs for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1


@SOURCES
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num": 0}, "num=0 is out of range"),
        ({"num": 5, "length": 0}, "length=0 is out of range"),
        ({"num": 5, "peak_range": (5.0, 20.0)}, r"peak_range=\(5.0, 20.0\) is no range"),
        ({"num": 5, "peak_range": (20.0, 12.0)}, "with 10 <= low < high"),
        ({"num": 5, "peak_range": (10.0, math.nan)}, r"pass for example peak_range=\(10.0, 100.0\)"),
        ({"num": 5, "peak_range": (10.0, math.inf)}, "is no range"),
        ({"num": 5, "peak_range": (10.0,)}, "is no range"),
        ({"num": 5, "peak_range": 100.0}, "peak_range=100.0 is no range"),
    ],
)
def test_bad_arguments_are_refused(source, options, message):
    with pytest.raises(ConfigError, match=message):
        source(**options)

"""The spiral and its stream reproduce what the course printed, by gradient descent in plain NumPy."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.stats

from jaxexp import datasets
from jaxexp.errors import ConfigError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "softmax_table.json").read_text())


def _softmax_error(scores, labels):
    probabilities = np.exp(scores)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    probabilities[np.arange(len(labels)), labels] -= 1
    return loss, probabilities / len(labels)


def _train_linear(stream, num_steps, rate, l2):
    weights, bias, losses = stream.linear_weights.copy(), np.zeros(3), []
    for _ in range(num_steps):
        loss, error = _softmax_error(stream.inputs @ weights + bias, stream.labels)
        losses.append(loss + l2 / 2 * (weights**2).sum())
        weights -= rate * (stream.inputs.T @ error + l2 * weights)
        bias -= rate * error.sum(axis=0)
    return losses, np.mean((stream.inputs @ weights + bias).argmax(axis=1) == stream.labels)


def _train_two_layers(stream, num_steps, rate, l2):
    first, second = stream.hidden_weights.copy(), stream.output_weights.copy()
    first_bias, second_bias = np.zeros(100), np.zeros(3)
    for _ in range(num_steps):
        hidden = np.maximum(0, stream.inputs @ first + first_bias)
        _, error = _softmax_error(hidden @ second + second_bias, stream.labels)
        hidden_error = (error @ second.T) * (hidden > 0)
        second -= rate * (hidden.T @ error + l2 * second)
        first -= rate * (stream.inputs.T @ hidden_error + l2 * first)
        second_bias -= rate * error.sum(axis=0)
        first_bias -= rate * hidden_error.sum(axis=0)
    hidden = np.maximum(0, stream.inputs @ first + first_bias)
    return np.mean((hidden @ second + second_bias).argmax(axis=1) == stream.labels)


def _noise(arms):
    """What is left of the angle once the arm's own is taken off, away from the centre, which has no angle."""
    num_classes, num_points = arms.shape[-3:-1]
    angle = np.arctan2(arms[..., 1:, 0], arms[..., 1:, 1])
    expected = np.stack([np.linspace(4 * arm, 4 * arm + 4, num_points) for arm in range(num_classes)])[:, 1:]
    return (angle - expected + np.pi) % (2 * np.pi) - np.pi


def test_the_linear_classifier_prints_the_golden_table():
    settings = GOLDEN["hyperparameters"]
    losses, accuracy = _train_linear(
        datasets.spiral_stream(), settings["iterations"], settings["learning_rate"], settings["l2"]
    )
    assert len(GOLDEN["rows"]) == 20
    np.testing.assert_allclose(
        [losses[step] for step, _ in GOLDEN["rows"]], [row[1] for row in GOLDEN["rows"]], atol=1e-6
    )
    assert round(accuracy, 2) == GOLDEN["training_accuracy"]


def test_the_two_layer_net_reaches_the_printed_accuracy():
    assert round(_train_two_layers(datasets.spiral_stream(), 10_000, 1.0, 1e-3), 2) == 0.98


def test_other_weights_of_the_stream_would_not_print_the_table():
    stream = datasets.spiral_stream()
    losses, _ = _train_linear(stream._replace(linear_weights=stream.hidden_weights[:, :3]), 1, 1.0, 1e-3)
    assert abs(losses[0] - GOLDEN["rows"][0][1]) > 1e-4


def test_the_stream_is_one_sequence_of_normals():
    stream = datasets.spiral_stream(seed=5)
    normals = np.random.RandomState(5).randn(300 + 18 + 6 + 200 + 300)
    np.testing.assert_allclose(stream.linear_weights.ravel(), normals[318:324] / 100)
    np.testing.assert_allclose(stream.hidden_weights.ravel(), normals[324:524] / 100)
    np.testing.assert_allclose(stream.output_weights.ravel(), normals[524:] / 100)


def test_the_points_of_the_stream_are_those_of_the_spiral():
    for seed in (0, 11):
        points, stream = datasets.spiral(seed=seed), datasets.spiral_stream(seed=seed)
        np.testing.assert_array_equal(points.inputs, stream.inputs)
        np.testing.assert_array_equal(points.labels, stream.labels)


def test_points_lie_on_noisy_arms():
    points = datasets.spiral(seed=3, num_classes=5, points_per_class=400)
    assert points.inputs.shape == (2000, 2)
    assert points.inputs.dtype == np.float64
    assert points.labels.dtype == np.int32
    assert np.bincount(points.labels).tolist() == [400] * 5
    arms = points.inputs.reshape(5, 400, 2)
    radius = np.linspace(0, 1, 400)
    np.testing.assert_allclose(np.linalg.norm(arms, axis=-1), np.tile(radius, (5, 1)), atol=1e-12)
    noise = _noise(arms)
    assert noise.std() == pytest.approx(0.2, rel=0.1)
    assert abs(noise.mean()) < 0.02


def test_seeds_differ_and_repeat():
    first, again, other = (datasets.spiral(seed=seed).inputs for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": None}, "datasets.spiral: seed=None is not a whole number; pass an int from 0 to 4294967295"),
        ({"seed": -1}, "datasets.spiral: seed=-1 is out of range"),
        ({"seed": 2**32}, "seed=4294967296 is out of range"),
        ({"num_classes": 0}, "num_classes=0 is out of range; pass an int at least 1, for example num_classes=1"),
        ({"num_classes": True}, "num_classes=True is not a whole number"),
        ({"points_per_class": 1.5}, "points_per_class=1.5 is not a whole number"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        datasets.spiral(**options)


def test_a_key_gives_arms_of_the_same_geometry_and_may_be_vmapped():
    keys = jax.random.split(jax.random.key(0), 16)
    with jax.numpy_rank_promotion("raise"):
        inputs, labels = jax.jit(jax.vmap(datasets.spiral_from_key, out_axes=(0, None)))(keys)
    assert inputs.shape == (16, 300, 2)
    assert inputs.dtype == np.float32
    assert np.asarray(labels).tolist() == datasets.spiral().labels.tolist()
    np.testing.assert_allclose(inputs[3], datasets.spiral_from_key(keys[3])[0], atol=1e-6)
    angle = _noise(np.asarray(inputs, np.float64).reshape(16, 3, 100, 2))
    assert scipy.stats.kstest(angle.ravel() / 0.2, "norm").pvalue > 1e-3


def test_a_key_gives_float32_under_x64_too():
    with jax.enable_x64(True):
        assert datasets.spiral_from_key(jax.random.key(0))[0].dtype == np.float32


def test_over_seeds_the_printed_accuracy_is_a_low_one():
    accuracies = [_train_linear(datasets.spiral_stream(seed=seed), 200, 1.0, 1e-3)[1] for seed in range(32)]
    assert np.mean(accuracies) > 0.51

"""Evolution strategies against smoothed losses with a known gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from jaxexp import optimizers
from jaxexp.errors import StudyError

PARAMS = {"w": jnp.array([[0.5, -1.0]]), "b": jnp.array(2.0)}


def _linear(params):
    return 3.0 * params["w"][0, 0] - 2.0 * params["w"][0, 1] + 0.5 * params["b"]


def test_raw_scores_estimate_the_gradient_of_a_linear_loss():
    estimate = jax.jit(
        lambda key: optimizers.evolution_strategy_gradient(
            key, _linear, PARAMS, sigma=0.7, population=2_000, shaping=None
        )
    )(jax.random.key(0))
    # The standard error of each entry is at most |a| sqrt(2 / pairs) = .16 for |a| = 3.64 and 1000 pairs.
    np.testing.assert_allclose(estimate["w"], [[3.0, -2.0]], atol=0.6)
    np.testing.assert_allclose(estimate["b"], 0.5, atol=0.6)
    assert jax.tree.structure(estimate) == jax.tree.structure(PARAMS)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), estimate) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), PARAMS
    )


@pytest.mark.parametrize(("position", "sigma"), [(0.0, 0.5), (1.0, 2.0), (-0.6, 1.0)])
def test_the_gradient_of_a_smoothed_step_is_a_normal_density(position, sigma):
    # E[1(x + sigma e > 0)] = Phi(x / sigma), whose derivative is phi(x / sigma) / sigma; jax.grad would give 0.
    def step(x):
        return jnp.where(x > 0, 1.0, 0.0)

    def estimate(key):
        return optimizers.evolution_strategy_gradient(
            key, step, jnp.asarray(position), sigma=sigma, population=1_000, shaping=None
        )

    estimates = jax.vmap(estimate)(jax.random.split(jax.random.key(1), 200))
    standard_error = estimates.std() / np.sqrt(200)
    expected = scipy.stats.norm.pdf(position / sigma) / sigma
    assert abs(estimates.mean() - expected) < 4 * standard_error
    assert standard_error < 0.01 * expected


def test_pairs_cancel_the_even_part_of_a_loss_exactly():
    gradient = optimizers.evolution_strategy_gradient(
        jax.random.key(0), lambda w: jnp.sum(w**2), jnp.zeros(3), sigma=1.0, population=8, shaping=None
    )
    np.testing.assert_allclose(gradient, np.zeros(3), atol=1e-6)


@pytest.mark.parametrize(
    ("shaping", "change"),
    [
        (optimizers.standard_scores, lambda loss: 7.0 * loss - 3.0),
        (optimizers.centered_ranks, lambda loss: jnp.exp(3.0 * loss)),
    ],
)
def test_shaping_makes_the_step_independent_of_the_scale(shaping, change):
    def gradient(loss):
        return optimizers.evolution_strategy_gradient(
            jax.random.key(0), loss, jnp.array([0.3, -0.2]), sigma=0.5, population=16, shaping=shaping
        )

    def loss(w):
        return jnp.sin(w).sum()

    np.testing.assert_allclose(gradient(loss), gradient(lambda w: change(loss(w))), rtol=1e-4)
    raw = optimizers.evolution_strategy_gradient(
        jax.random.key(0), loss, jnp.array([0.3, -0.2]), sigma=0.5, population=16, shaping=None
    )
    assert not np.allclose(gradient(loss), raw, rtol=1e-2)


LOSSES = np.random.RandomState(0).randint(0, 6, 64).astype(np.float32)


def test_standard_scores_are_those_of_scipy():
    np.testing.assert_allclose(optimizers.standard_scores(jnp.asarray(LOSSES)), scipy.stats.zscore(LOSSES), atol=1e-5)


def test_equal_losses_give_no_step_and_infinite_ones_are_not_hidden():
    # 0.1 is no binary fraction: the mean of many differs from it by a rounding error.
    np.testing.assert_array_equal(optimizers.standard_scores(jnp.full(63, 0.1)), np.zeros(63))
    np.testing.assert_array_equal(optimizers.centered_ranks(jnp.full(63, 0.1)), np.zeros(63))
    assert np.isnan(optimizers.standard_scores(jnp.full(4, jnp.inf))).all()
    assert np.isnan(optimizers.standard_scores(jnp.array([1.0, jnp.nan]))).all()


def test_centered_ranks_are_those_of_scipy():
    expected = (scipy.stats.rankdata(LOSSES) - 1) / 63 - 0.5
    np.testing.assert_allclose(optimizers.centered_ranks(jnp.asarray(LOSSES)), expected, atol=1e-6)


def test_sigma_and_key_may_be_traced():
    def gradient(key, sigma):
        return optimizers.evolution_strategy_gradient(key, _linear, PARAMS, sigma=sigma, population=4)

    keys, sigmas = jax.random.split(jax.random.key(0), 3), jnp.array([0.1, 1.0, 3.0])
    lanes = jax.jit(jax.vmap(gradient))(keys, sigmas)
    for lane in range(3):
        alone = gradient(keys[lane], float(sigmas[lane]))
        np.testing.assert_allclose(lanes["w"][lane], alone["w"], rtol=1e-4)
    assert not np.allclose(lanes["w"][0] * 0.1, lanes["w"][1], rtol=1e-2)


def test_the_outlier_is_given_up_at_almost_every_seed():
    # Question 4: five points that no line separates; the best threshold has four right.
    x, y = jnp.array([0.0, 0.0, 2.0, 2.0, 9.0]), jnp.array([0, 0, 1, 1, 0])

    def error(params):
        return 1.0 - ((params[0] * x + params[1] > 0) == y).mean()

    optimizer = optax.sgd(0.5)

    def final(key):
        start_key, step_key = jax.random.split(key)
        params = jax.random.normal(start_key, (2,))

        def step(carry, key):
            params, state = carry
            gradient = optimizers.evolution_strategy_gradient(key, error, params, sigma=3.0, population=64)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(step_key, 500))
        return error(params)

    errors = jax.jit(jax.vmap(final))(jax.random.split(jax.random.key(0), 256))
    assert (errors < 0.21).mean() >= 0.96


@pytest.mark.parametrize("population", [0, 1, 63, -2, 64.0, "64"])
def test_refuses_a_population_without_pairs(population):
    with pytest.raises(StudyError, match="even number >= 2") as error:
        optimizers.evolution_strategy_gradient(jax.random.key(0), _linear, PARAMS, sigma=1.0, population=population)
    assert f"population={population!r}" in str(error.value)


def test_refuses_a_loss_that_is_no_scalar():
    with pytest.raises(StudyError, match=r"shape \[1, 2\].*losses.mean\(\)"):
        optimizers.evolution_strategy_gradient(jax.random.key(0), lambda params: params["w"], PARAMS, sigma=1.0)

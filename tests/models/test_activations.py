"""The library's tanh: as near to the true one as it says, and made of the numbers that its script finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxexp.models import activations, tanh
from scripts import fit_tanh

POINTS = np.concatenate([np.geomspace(1e-30, 1, 100_001), np.linspace(1, 12, 100_001)]).astype(np.float32)


@pytest.mark.parametrize("compiled", [True, False])
def test_tanh_is_off_by_less_than_5e_7_of_itself(compiled):
    function = jax.jit(tanh) if compiled else tanh
    true = np.tanh(POINTS.astype(np.float64))
    got = np.asarray(function(POINTS))
    assert np.max(np.abs(got / true - 1)) < 5e-7
    assert got.max() < 1
    np.testing.assert_array_equal(function(-POINTS), -got)


def test_its_slope_is_that_of_tanh_and_what_is_not_finite_stays_so():
    slopes = jax.jit(jax.vmap(jax.grad(tanh)))(POINTS)
    np.testing.assert_allclose(slopes, 1 - np.tanh(POINTS.astype(np.float64)) ** 2, atol=1e-6, rtol=0)
    np.testing.assert_array_equal(
        np.isnan(tanh(jnp.array([jnp.nan, jnp.inf, -jnp.inf, 0]))), [True, False, False, False]
    )
    assert tanh(jnp.float16(1)).dtype == jnp.float16


def test_its_coefficients_are_those_that_the_script_finds():
    error, above, below = fit_tanh.fitted()
    assert error < 1.4e-7
    # The last digits are those of an iteration in float64: float32 keeps seven.
    np.testing.assert_allclose(activations._NUMERATOR, above / below[-1], rtol=1e-6)
    np.testing.assert_allclose(activations._DENOMINATOR, below / below[-1], rtol=1e-6)
    assert activations._LARGEST == fit_tanh.LARGEST

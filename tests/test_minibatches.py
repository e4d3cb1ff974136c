"""Minibatches: every epoch has each example once, in an order that is as good as uniform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxexp import minibatches
from jaxexp.errors import StudyError


@pytest.mark.parametrize("length", [1, 2, 3, 64, 1000, 2**20 + 3])
def test_a_permutation_has_each_number_once(length):
    order = np.asarray(jax.jit(minibatches.permutation, static_argnums=1)(jax.random.key(1), length))
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(length))


def test_all_24_orders_of_4_are_equally_likely():
    keys = jax.random.split(jax.random.key(0), 24_000)
    orders = np.asarray(jax.vmap(lambda key: minibatches.permutation(key, 4))(keys))
    counts = np.unique(orders @ np.array([1000, 100, 10, 1]), return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_where_random_bits_collide_neighbours_stay_in_no_order():
    """With 2^17 numbers a word has 15 random bits: a single round would leave most ties in rising order."""
    order = np.asarray(jax.jit(minibatches.permutation, static_argnums=1)(jax.random.key(2), 2**17))
    rising = int((np.diff(order) > 0).sum())
    assert abs(rising - 2**16) < 5 * np.sqrt(
        2**17 / 12
    )  # a uniform order's ascents: mean (n - 1)/2, variance (n + 1)/12


def test_an_epoch_visits_each_example_once_then_in_another_order():
    cursor, epochs = minibatches.start(10), []
    draw = jax.jit(minibatches.draw, static_argnums=2)
    for epoch in range(2):
        seen = []
        for position in range(3):
            indices, cursor = draw(jax.random.key(10 * epoch + position), cursor, 3)
            seen += indices.tolist()
        assert len(set(seen)) == 9
        assert set(seen) < set(range(10))
        epochs.append(seen)
    assert epochs[0] != epochs[1]


def test_a_minibatch_larger_than_the_data_is_refused():
    with pytest.raises(StudyError, match="batch_size=11 is more than the 10 examples"):
        minibatches.draw(jax.random.key(0), minibatches.start(10), 11)


def test_under_vmap_each_key_has_its_own_order():
    orders = jax.vmap(lambda key: minibatches.permutation(key, 50))(jax.random.split(jax.random.key(3), 4))
    assert len({tuple(order) for order in orders.tolist()}) == 4
    np.testing.assert_array_equal(jnp.sort(orders), np.tile(np.arange(50), (4, 1)))

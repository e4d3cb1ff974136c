"""The algebra of sweeps against lists of dicts, NumPy's spacings, random rows that their names own, and laziness."""

import itertools
import math
import time
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxexp as jx
from jaxexp import sweep as sweeps
from jaxexp.errors import SweepError
from jaxexp.sweep import ONE, Sweep, rows, size

Rows = list[dict[str, Any]]
numbers = st.integers(-3, 3)


@st.composite
def sweeps_of(draw: st.DrawFn, names: str, depth: int = 2) -> Sweep:
    """A sweep over some of the names, made by any of the functions."""
    kinds = ["grid", "paired", "cases", "one"] + (["crossed", "concatenated"] if depth else [])
    match draw(st.sampled_from(kinds)):
        case "grid":
            chosen = draw(st.sets(st.sampled_from(names), max_size=2))
            return jx.grid(**{n: draw(st.lists(numbers, min_size=1, max_size=3, unique=True)) for n in sorted(chosen)})
        case "paired":
            chosen, length = draw(st.sets(st.sampled_from(names), min_size=1, max_size=2)), draw(st.integers(1, 3))
            column = st.lists(numbers, min_size=length, max_size=length)
            return jx.paired(**{name: draw(column) for name in sorted(chosen)})
        case "cases":
            row = st.dictionaries(st.sampled_from(names), numbers, max_size=2)
            return jx.cases(*draw(st.lists(row, min_size=1, max_size=3).filter(any)))
        case "crossed" if len(names) > 1:
            half = len(names) // 2
            return draw(sweeps_of(names[:half], depth - 1)) * draw(sweeps_of(names[half:], depth - 1))
        case "concatenated":
            return draw(sweeps_of(names, depth - 1)) + draw(sweeps_of(names, depth - 1))
    return ONE


def _cross(left: Rows, right: Rows) -> Rows:
    return [a | b for a in left for b in right]


a_and_b, c_and_d, e_and_f = sweeps_of("ab"), sweeps_of("cd"), sweeps_of("ef")


@given(a_and_b, c_and_d)
def test_a_product_has_every_pair_of_rows_the_right_varying_fastest(left, right):
    assert rows(left * right) == _cross(rows(left), rows(right))


@given(sweeps_of("abc"), sweeps_of("abc"))
def test_a_sum_has_the_rows_of_both_in_order(left, right):
    assert rows(left + right) == rows(left) + rows(right)


@given(sweeps_of("abcd"))
def test_the_length_is_that_of_the_rows(sweep):
    assert size(sweep) == len(sweep) == len(rows(sweep))


@given(a_and_b, c_and_d, e_and_f)
def test_products_associate(a, b, c):
    assert rows((a * b) * c) == rows(a * (b * c))


@given(sweeps_of("abc"), sweeps_of("abc"), sweeps_of("abc"))
def test_sums_associate(a, b, c):
    assert rows((a + b) + c) == rows(a + (b + c))


@given(a_and_b, a_and_b, c_and_d)
def test_products_distribute_over_a_sum_on_the_left(a, b, c):
    assert rows((a + b) * c) == rows(a * c + b * c)


@given(sweeps_of("abcd"))
def test_one_is_the_identity_of_products(sweep):
    assert rows(ONE * sweep) == rows(sweep * ONE) == rows(sweep)
    assert rows(ONE) == [{}]


@given(sweeps_of("abc"), sweeps_of("abc"))
def test_names_are_in_order_of_first_mention(left, right):
    mentioned = [name for part in (left, right) for name in sweeps.names(part)]
    assert sweeps.names(left + right) == tuple(dict.fromkeys(mentioned))
    assert {name for row in rows(left + right) for name in row} == set(mentioned)


@given(sweeps_of("abcd"), st.data())
def test_a_column_at_any_rows_is_that_part_of_the_table(sweep, data):
    every = rows(sweep)
    indices = np.asarray(data.draw(st.lists(st.integers(0, len(every) - 1), max_size=5)), np.int64)
    for name in (*sweeps.names(sweep), "never"):
        wanted = [every[index].get(name, sweeps.MISSING) for index in indices]
        assert sweeps.column(sweep, name, indices).tolist() == wanted


@given(sweeps_of("abcd"))
def test_mapping_changes_every_stated_value_and_nothing_else(sweep):
    changed = sweeps.map_values(sweep, lambda name, value: f"{name}{value}")
    assert rows(changed) == [{name: f"{name}{value}" for name, value in row.items()} for row in rows(sweep)]


@given(a_and_b, c_and_d)
def test_a_sweep_without_a_name_has_the_other_columns(left, right):
    kept = sweeps.without(left * right, "a")
    assert "a" not in sweeps.names(kept)
    for row in rows(kept):
        assert "a" not in row
    if sweeps.names(left) and "a" not in sweeps.names(left):
        assert rows(kept) == rows(left * right)


def test_grid_varies_the_last_axis_fastest_as_itertools_does():
    axes = {"b": (3, 1), "a": (2.0, 5.0, 4.0), "c": ("x", "y")}
    assert [tuple(row.items()) for row in rows(jx.grid(**axes))] == [
        tuple(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
    ]


def test_values_of_numpy_become_plain_ones():
    ((_, values),) = jx.grid(a=np.asarray([1, 2])).columns
    assert [type(value) for value in values] == [int, int]


spans = st.floats(-1e6, 1e6, allow_nan=False).filter(lambda bound: abs(bound) > 1e-6)
nums = st.integers(1, 50)


@given(spans, spans, nums)
def test_linspace_is_that_of_numpy(start, stop, num):
    assert jx.linspace(start, stop, num) == tuple(np.linspace(start, stop, num).tolist())


@given(spans.map(abs), spans.map(abs), nums)
def test_geomspace_is_that_of_numpy_also_below_zero(start, stop, num):
    assert jx.geomspace(start, stop, num) == tuple(np.geomspace(start, stop, num).tolist())
    assert jx.geomspace(-start, -stop, num) == tuple(np.geomspace(-start, -stop, num).tolist())


@given(st.floats(-300, 300), st.floats(-300, 300), nums)
def test_logspace_is_that_of_numpy(start, stop, num):
    assert jx.logspace(start, stop, num) == tuple(np.logspace(start, stop, num).tolist())


def test_spacings_take_the_extremes_of_floating_point():
    assert jx.geomspace(1e-200, 1e-190, 2) == (1e-200, 1e-190)
    assert jx.linspace(0.0, 0.0, 3) == (0.0, 0.0, 0.0)
    assert jx.geomspace(5.0, 7.0, 1) == (5.0,)


distributions = st.sampled_from([jx.uniform(-2, 3), jx.loguniform(1e-4, 1), jx.choice("relu", "tanh", None)])


@given(st.integers(1, 50), st.integers(0, 50), distributions, distributions, st.integers(0, 5))
def test_a_sample_depends_on_its_row_name_and_seed_alone(num_trials, more, wanted, other, sampling_seed):
    few = jx.sampled(num_trials, sampling_seed=sampling_seed, x=wanted)
    many = jx.sampled(num_trials + more, sampling_seed=sampling_seed, y=other, x=wanted)
    assert [row["x"] for row in rows(many)][:num_trials] == [row["x"] for row in rows(few)]


def test_names_and_sampling_seeds_draw_different_samples():
    sweep = jx.sampled(20, x=jx.uniform(0, 1), y=jx.uniform(0, 1))
    assert all(row["x"] != row["y"] for row in rows(sweep))
    again = jx.sampled(20, sampling_seed=1, x=jx.uniform(0, 1))
    assert not {row["x"] for row in rows(sweep)} & {row["x"] for row in rows(again)}


def test_samples_follow_their_distribution():
    sweep = jx.sampled(20_000, u=jx.uniform(-2, 4), v=jx.loguniform(1e-6, 1e2), w=jx.choice("a", "b", "c"))
    table = {name: sweeps.column(sweep, name, np.arange(len(sweep))) for name in sweeps.names(sweep)}
    for name, low, high in (("u", -2, 4), ("v", -6, 2)):
        values = table[name].astype(float)
        values = values if name == "u" else np.log10(values)
        assert low <= values.min() < values.max() < high
        counts, _ = np.histogram(values, 10, (low, high))
        assert abs(counts / 2000 - 1).max() < 5 / math.sqrt(2000)  # five standard deviations of a bin's count
    shares = [np.mean(table["w"] == value) for value in ("a", "b", "c")]
    assert np.abs(np.subtract(shares, 1 / 3)).max() < 5 * math.sqrt(2 / 9 / 20_000)


def test_a_very_wide_loguniform_stays_within_its_bounds():
    values = [row["x"] for row in rows(jx.sampled(200, x=jx.loguniform(1e-200, 1e200)))]
    assert all(1e-200 <= value < 1e200 for value in values)
    assert min(values) < 1e-100 < 1e100 < max(values)


def test_ten_million_rows_are_made_and_measured_in_a_tenth_of_a_second():
    axis = tuple(range(1000))
    began = time.process_time()
    sweep = jx.grid(a=axis, b=axis) * jx.paired(c=range(10), d=range(10))
    assert (len(sweep), sweeps.names(sweep)) == (10**7, ("a", "b", "c", "d"))
    last = sweeps.column(sweep, "b", np.asarray([10**7 - 1]))
    assert time.process_time() - began < 0.1
    assert last.tolist() == [999]


REFUSED = {
    "an empty axis": (lambda: jx.grid(a=()), "a has no value"),
    "a value twice": (lambda: jx.grid(a=(1, 2, 1)), "a has 1 twice"),
    "a value twice in a long axis": (lambda: jx.grid(a=[*range(5000), 17]), "a has 17 twice"),
    "one number": (lambda: jx.grid(a=cast(Any, 0.5)), r"a=0.5 is one value.*write `a=\(0.5,\)`"),
    "one text": (lambda: jx.grid(a="relu"), "a='relu' is one value"),
    "a distribution as axis": (
        lambda: jx.grid(a=cast(Any, jx.uniform(0, 1))),
        r"a=uniform\(0, 1\) is random: .*jx.sampled",
    ),
    "unequal columns": (lambda: jx.paired(a=(1, 2), b=(1,)), "a has 2, b has 1"),
    "an empty column": (lambda: jx.paired(a=(), b=()), "a has no value"),
    "no case": (lambda: jx.cases(), r"cases\(\) got no"),
    "only an empty case": (lambda: jx.cases({}), r"cases\(\) got no"),
    "a name on both sides": (lambda: jx.grid(a=(1,)) * jx.grid(b=(1,), a=(2,)), "a is an axis on both sides"),
    "a name in a part on both sides": (
        lambda: (jx.grid(a=(1,)) + jx.grid(b=(1,))) * jx.grid(b=(2,)),
        "b is an axis on both sides",
    ),
    "no sample": (lambda: jx.sampled(0, a=jx.uniform(0, 1)), r"sampled\(0\) is not possible: ask for 1 to"),
    "samples of nothing": (lambda: jx.sampled(5), r"sampled\(5\)"),
    "a sample of a list": (lambda: jx.sampled(5, a=cast(Any, (1, 2))), "a=.* is no distribution"),
    "uniform in the wrong order": (lambda: jx.uniform(1, 0), r"uniform\(1, 0\) needs finite bounds"),
    "uniform up to infinity": (lambda: jx.uniform(0, math.inf), "needs finite bounds"),
    "loguniform from zero": (lambda: jx.loguniform(0, 1), r"needs finite bounds with 0 < low < high"),
    "a choice of nothing": (lambda: jx.choice(), r"choice\(\) got no value"),
    "geomspace from zero": (lambda: jx.geomspace(0, 1, 3), "never reaches or crosses 0"),
    "geomspace across zero": (lambda: jx.geomspace(-1, 1, 3), "never reaches or crosses 0"),
    "linspace to infinity": (lambda: jx.linspace(0, math.inf, 3), "bounds must be finite"),
    "logspace beyond floats": (lambda: jx.logspace(0, 400, 3), "exponents of 10"),
    "no numbers": (lambda: jx.linspace(0, 1, 0), "asks for 0 values"),
    "half a number": (lambda: jx.linspace(0, 1, 2.5), "asks for 2.5 values"),  # pyright: ignore[reportArgumentType]
    "not a number of numbers": (lambda: jx.geomspace(1, 2, math.nan), "asks for nan values"),  # pyright: ignore
    "endless numbers": (lambda: jx.logspace(1, 2, math.inf), "asks for inf values"),  # pyright: ignore
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sweep_is_refused_with_the_reason(name):
    make, message = REFUSED[name]
    with pytest.raises(SweepError, match=message):
        make()


def test_an_axis_may_be_any_array_and_holds_what_can_be_told_apart():
    assert rows(jx.grid(rate=jnp.asarray([0.5, 2.0]))) == [{"rate": 0.5}, {"rate": 2.0}]
    for make in (jx.grid, jx.paired):
        with pytest.raises(SweepError, match=r"sizes has \[8\] \(.*list.*\): use numbers, strings or tuples"):
            make(sizes=([8], [16]))

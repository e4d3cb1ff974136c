"""Configs: which fields are traced, which values they take, and texts as values."""

import dataclasses
import enum
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxexp as jx
from jaxexp import configs
from jaxexp.configs import Field
from jaxexp.errors import ConfigError


class Norm(enum.Enum):
    BATCH = 1
    LAYER = 2


@jx.config
class Config:
    learning_rate: float = jx.dynamic(0.1, minimum=0)
    momentum: float = jx.dynamic(0.9, minimum=0, maximum=1)
    decay: float = 1e-4
    temperature: float = jx.static(1.0)
    scale: int = jx.dynamic(3)
    nesterov: bool = jx.dynamic(False)
    hidden: int = 32
    optimizer: Literal["sgd", "adam"] = "sgd"
    activation: str = jx.static("relu", choices=("relu", "tanh"))
    norm: Norm = Norm.BATCH
    depth: int | None = None
    sizes: tuple[int, ...] = (8, 8)


FIELDS = configs.fields(Config)
TRACED = ("learning_rate", "momentum", "decay", "scale", "nesterov")


def test_floats_are_traced_and_all_else_is_static_unless_told():
    assert tuple(name for name, field in FIELDS.items() if field.dynamic) == TRACED
    assert jax.tree.leaves(Config()) == [getattr(Config(), name) for name in sorted(TRACED)]


def test_fields_are_in_order_of_declaration_with_all_that_was_said():
    assert list(FIELDS) == [field.name for field in dataclasses.fields(Config())]
    assert FIELDS["momentum"] == Field("momentum", float, True, minimum=0, maximum=1)
    assert FIELDS["optimizer"].choices == ("sgd", "adam")
    assert FIELDS["activation"].choices == ("relu", "tanh")


def test_a_traced_value_compiles_nothing_anew_and_a_static_one_does():
    traces = []

    @jax.jit
    def rate(config):
        traces.append(config.hidden)
        return config.learning_rate * config.hidden

    values = [rate(Config(learning_rate=value, hidden=hidden)) for hidden in (1, 2) for value in (0.5, 0.25, 2.0)]
    assert np.asarray(values).tolist() == [0.5, 0.25, 2.0, 1.0, 0.5, 4.0]
    assert traces == [1, 2]


def test_a_config_maps_over_its_traced_fields():
    many = jax.tree.map(lambda value: jnp.full(3, value), Config(learning_rate=2.0))
    doubled = jax.vmap(lambda config: 2 * config.learning_rate)(many)
    assert doubled.tolist() == [4.0, 4.0, 4.0]


def test_a_config_is_frozen_and_compares_by_value():
    assert Config(hidden=3) == Config(hidden=3) != Config(hidden=4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().hidden = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_a_traced_field_of_a_type_without_numbers_is_refused_with_the_fix():
    with pytest.raises(ConfigError, match=r"'name' of Wrong is dynamic but its type is str: .*`name: ... = jx.static"):

        @jx.config
        class Wrong:
            name: str = jx.dynamic("relu")


def test_what_is_no_config_is_refused():
    with pytest.raises(ConfigError, match=r"5 is no config: write `@jx.config`"):
        configs.fields(5)


@given(st.floats(0, 1), st.sampled_from([float, np.float64, np.float32]))
def test_floats_come_back_as_plain_floats(value, kind):
    checked = configs.check_value(FIELDS["momentum"], kind(value))
    assert (type(checked), checked) == (float, float(kind(value)))


@given(st.integers(0, 10**6))
def test_a_float_field_takes_integers_as_floats(value):
    checked = configs.check_value(FIELDS["learning_rate"], value)
    assert (type(checked), checked) == (float, value)


@given(st.floats())
def test_a_range_takes_its_ends_and_nothing_beyond(value):
    if 0 <= value <= 1:
        assert configs.check_value(FIELDS["momentum"], value) == value
    else:
        with pytest.raises(ConfigError, match=r"momentum=.* takes a float from 0 to 1"):
            configs.check_value(FIELDS["momentum"], value)


GOOD = {
    "hidden": (np.int64(3), 3),
    "nesterov": (np.bool_(True), True),
    "optimizer": ("adam", "adam"),
    "norm": (Norm.LAYER, Norm.LAYER),
    "depth": (None, None),
    "sizes": ((1, 2, 3), (1, 2, 3)),
    "decay": (-1.0, -1.0),
}


@pytest.mark.parametrize("value", ["a\u00a0b", "\u3042 \u00e9"])
def test_a_text_that_can_be_seen_is_kept(value):
    field = configs.Field("name", str, False)
    assert configs.check_value(field, value) == value


def test_a_static_value_of_several_lines_is_kept():
    class Net:
        def __str__(self):
            return "Net(\n)"

    made = Net()
    assert configs.check_value(configs.Field("net", Net, False), made) is made


@pytest.mark.parametrize("name", GOOD)
def test_values_of_the_right_type_are_kept(name):
    given_value, kept = GOOD[name]
    checked = configs.check_value(FIELDS[name], given_value)
    assert (type(checked), checked) == (type(kept), kept)


BAD = [
    ("learning_rate", -0.1, "learning_rate=-0.1 is out of range: learning_rate takes a float of at least 0"),
    ("learning_rate", math.nan, "is not finite"),
    ("decay", math.inf, "decay=inf is not finite"),
    ("decay", "0.1", "decay='0.1' is a str: decay takes a float"),
    ("decay", True, "is a bool"),
    ("decay", None, "is a NoneType"),
    ("hidden", 2.0, "hidden=2.0 is a float: hidden takes an? int"),
    ("hidden", True, "is a bool"),
    ("depth", 1.5, "is a float"),
    ("nesterov", 1, "nesterov=1 is an? int: nesterov takes a bool"),
    ("optimizer", "adm", "optimizer='adm' is not one of its choices; did you mean 'adam'.* one of sgd, adam"),
    ("optimizer", 1, "is an? int"),
    ("activation", "sigmoid", "activation='sigmoid' is not one of its choices.* one of relu, tanh"),
    ("norm", "BATCH", "is a str"),
    ("sizes", [1, 2], "is a list"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_values_that_do_not_fit_are_refused_with_what_the_field_takes(name, value, message):
    with pytest.raises(ConfigError, match=message):
        configs.check_value(FIELDS[name], value)
    with pytest.raises(ConfigError, match=f"{name}="):
        configs.checked(Config(**{name: value}))


def test_the_defaults_fit():
    configs.checked(Config())


def test_values_are_kept_as_their_fields_declare_them():
    made = configs.checked(Config(learning_rate=1, hidden=np.int64(4), nesterov=np.bool_(True)))
    assert [type(made.learning_rate), type(made.hidden), type(made.nesterov)] == [float, int, bool]
    assert made == Config(learning_rate=1.0, hidden=4, nesterov=True)


@jx.config
class _Mixed:
    rate: float = 1.0
    decay: float = 0
    optimizer: Literal["adam", "sgd"] | None = None
    depth: Literal["auto"] | int = "auto"
    norm: Norm = Norm.BATCH


MIXED = configs.fields(_Mixed)


@pytest.mark.parametrize(
    ("sweep", "decays"),
    [
        (jx.cases({"rate": 2.0}, {"decay": 0.5}, {"decay": 0.7}), [0.0, 0.5, 0.7]),
        (jx.grid(rate=(2.0,)) + jx.grid(decay=(0.25, 0.5)), [0.0, 0.25, 0.5]),
    ],
)
def test_an_integer_default_of_a_float_makes_no_integer_of_what_is_swept(sweep, decays):
    experiment = jx.from_train(lambda key, config: {"half": config.decay / 2})
    found = jx.run(jx.Study(experiment=experiment, config=_Mixed(), sweep=sweep))
    np.testing.assert_array_equal(found.half.values.ravel(), np.float32(decays) / 2)
    assert found.decay.values.tolist() == decays
    assert jx.trial(found, _Mixed(rate=2.0)).half.values.ravel().tolist() == [0.0]


def test_a_literal_beside_none_or_numbers_takes_no_other_text():
    assert [configs.parse_value(MIXED["optimizer"], text) for text in ("sgd", "none")] == ["sgd", None]
    assert [configs.parse_value(MIXED["depth"], text) for text in ("auto", "3")] == ["auto", 3]
    for name in ("optimizer", "depth"):
        with pytest.raises(ConfigError, match=f"{name}=adamm cannot be read"):
            configs.parse_value(MIXED[name], "adamm")
        with pytest.raises(ConfigError, match=f"{name}='adamm' is"):
            configs.check_value(MIXED[name], "adamm")
    with pytest.raises(ConfigError, match=r"did you mean 'adam'.; optimizer takes one of adam, sgd, None"):
        configs.parse_value(MIXED["optimizer"], "adamm")


def test_texts_of_static_values_are_read_back():
    for value in Norm:
        for text in (configs.text_of(value), value.name, str(value)):
            assert configs.parse_value(MIXED["norm"], text) is value


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_an_integer_that_would_wrap_in_a_program_is_refused(value):
    with pytest.raises(ConfigError, match=r"scale=.* is no int32: give a smaller number"):
        configs.check_value(FIELDS["scale"], value)
    assert configs.check_value(FIELDS["hidden"], value) == value
    assert configs.check_value(FIELDS["scale"], 2**31 - 1) == 2**31 - 1


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="'learning_rat' in the sweep; did you mean 'learning_rate'"):
        configs.check_name(FIELDS, "learning_rat", "the sweep")
    with pytest.raises(ConfigError, match=r"unknown hyperparameter 'zzz' .*; known: learning_rate, momentum"):
        configs.check_name(FIELDS, "zzz", "the sweep")


def _texts(name: str, values: st.SearchStrategy, text: Any = str) -> st.SearchStrategy:
    return values.map(lambda value: (name, value, text(value)))


written = st.one_of(
    _texts("decay", st.floats(-1e38, 1e38)),
    _texts("hidden", st.integers(-(10**9), 10**9)),
    _texts("nesterov", st.booleans()),
    _texts("nesterov", st.booleans(), lambda value: str(int(value))),
    _texts("optimizer", st.sampled_from(["sgd", "adam"])),
    _texts("activation", st.sampled_from(["relu", "tanh"])),
    _texts("norm", st.sampled_from(Norm), lambda value: value.name),
    _texts("depth", st.none() | st.integers(0, 9)),
)


@given(written)
def test_a_written_value_is_read_back(case):
    name, value, text = case
    read = configs.parse_value(FIELDS[name], text)
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("decay", "fast"),
        ("decay", ""),
        ("decay", "nan"),
        ("hidden", "2.0"),
        ("nesterov", "yes"),
        ("norm", "GROUP"),
        ("optimizer", "adm"),
        ("sizes", "8,8"),
        ("learning_rate", "-1"),
    ],
)
def test_a_text_that_is_no_value_is_refused(name, text):
    with pytest.raises(ConfigError, match=f"{name}="):
        configs.parse_value(FIELDS[name], text)

"""Plans: trials with equal static fields together, and batches that hold every run to do exactly once."""

import dataclasses
import hashlib
import math
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxexp as jx
from jaxexp import plans
from jaxexp.errors import ConfigError, JaxexpError, StudyError, TooManyRunsError
from jaxexp.plans import Plan, Tile


@jx.config
class Config:
    rate: float = 1.0
    width: int = 1
    kind: str = "sum"


def _data(config: Config) -> dict[str, np.ndarray]:
    return {"inputs": np.arange(6.0) if config.kind == "sum" else np.arange(7.0)}


study = jx.Study(
    experiment=jx.Experiment(
        init=lambda key, data, config: jnp.zeros(config.width),
        step=lambda key, state, data, config: (state, {"y": config.rate * jnp.sum(data["inputs"])}),
    ),
    config=Config(),
    sweep=jx.grid(rate=(1.0, 2.0)),
    seeds=3,
    data=_data,
)


@pytest.fixture(scope="module")
def wide() -> Plan:
    """Thirty trials in three groups that take turns, and nine seeds in no order."""
    sweep = jx.grid(rate=tuple(range(10)), width=(1, 2, 3))
    return plans.plan(study.replace(sweep=sweep, seeds=(4, 0, 9, 2, 7, 2**32 - 1, 5, 6, 3)), tile=Tile(1, 1))


def _part(plan: Plan, num_trials: int, num_seeds: int, tile: Tile, done: np.ndarray | None) -> Plan:
    """The plan of its first trials and seeds, in another tile."""
    rows = np.arange(num_trials)
    columns = {name: column[rows] for name, column in plan.trials.columns.items()}
    groups = [dataclasses.replace(g, trials=g.trials[g.trials < num_trials]) for g in plan.groups]
    part = dataclasses.replace(
        plan,
        trials=dataclasses.replace(plan.trials, columns=columns, num_trials=num_trials),
        seeds=plan.seeds[:num_seeds],
        groups=tuple(group for group in groups if len(group.trials)),
    )
    return plans.in_folder(part, tile, None if done is None else done[:num_trials, :num_seeds])


masks = st.none() | st.integers(0, 2**32 - 1).flatmap(
    lambda seed: st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]).map(
        lambda share: np.random.default_rng(seed).random((30, 9)) < share
    )
)
blocks = st.tuples(st.integers(0, 30), st.integers(0, 9)).map(
    lambda corner: (np.arange(30)[:, None] < corner[0]) & (np.arange(9)[None, :] < corner[1])
)
parts = st.tuples(
    st.integers(1, 30), st.integers(1, 9), st.builds(Tile, st.integers(1, 31), st.integers(1, 10)), masks | blocks
)


@settings(max_examples=200)
@given(part=parts, most=st.sampled_from([1, 2, 3, 10, 256]))
def test_batches_hold_every_run_to_do_exactly_once(wide, part, most):
    plan = _part(wide, *part)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plans, "_MAX_BATCHES", most)
        batches = list(plans.batches(plan))
    runs = [
        (int(trial), int(seed)) for batch in batches for tile in batch.tiles for trial in tile[0] for seed in tile[1]
    ]
    assert len(set(runs)) == len(runs)
    assert set(runs) == _to_do(plan)
    assert sum(batch.num_runs for batch in batches) == len(runs)


def test_batches_are_still_made_by_the_rules_that_the_digest_of_plans_stands_for(wide):
    """Where this fails, folders that were begun before would be gone on with by the names of other batches."""
    done = np.arange(30 * 9).reshape(30, 9) % 7 < 2
    plan = plans.in_folder(_part(wide, 30, 9, Tile(2, 2), None), Tile(2, 2), None)
    left = plans.in_folder(plan, Tile(2, 2), done)
    many = plans.in_folder(_part(wide, 30, 9, Tile(1, 1), None), Tile(1, 1), None)
    made = [
        [(batch.name, batch.num_runs, len(batch.tiles)) for batch in plans.batches(one)] for one in (plan, left, many)
    ]
    assert [hashlib.sha256(repr(names).encode()).hexdigest()[:12] for names in made] == [
        "41f1a1d5d7a1", "620ce1d52039", "30f492b9c358",
    ]  # fmt: skip
    assert [one.digest for one in (plan, left, many)] == ["fa20588a294e", "c5d2f92084df", "eff7351741ac"]


def _to_do(plan: Plan) -> set[tuple[int, int]]:
    done = np.zeros((len(plan.trials), len(plan.seeds)), bool) if plan.done is None else plan.done
    return {(int(trial), int(plan.seeds[column])) for trial, column in np.argwhere(~done)}


@settings(max_examples=100)
@given(part=parts)
def test_a_tile_is_of_one_group_and_within_the_shape_and_names_never_clash(wide, part):
    plan = _part(wide, *part)
    batches = list(plans.batches(plan))
    assert len({batch.name for batch in batches}) == len(batches)
    for batch in batches:
        members = set(plan.groups[batch.group].trials.tolist())
        first_trial, first_seed = batch.tiles[0][0][0], batch.tiles[0][1][0]
        column = plan.seeds.tolist().index(first_seed)
        assert batch.name == f"{first_trial * len(plan.seeds) + column:09d}"
        for trials, seeds in batch.tiles:
            assert members.issuperset(trials.tolist())
            assert 1 <= len(trials) <= plan.tile.trials
            assert 1 <= len(seeds) <= plan.tile.seeds
            assert seeds.dtype == np.uint32


@settings(max_examples=50)
@given(part=parts)
def test_batches_are_the_same_every_time(wide, part):
    once, again = (list(plans.batches(_part(wide, *part))) for _ in range(2))
    for one, other in zip(once, again, strict=True):
        assert (one.name, one.group) == (other.name, other.group)
        for first, second in zip(one.tiles, other.tiles, strict=True):
            np.testing.assert_array_equal(first[0], second[0])
            np.testing.assert_array_equal(first[1], second[1])


def test_the_batches_are_few_however_many_the_tiles():
    plan = plans.plan(study.replace(seeds=50_000), tile=Tile(2, 1))
    assert 128 <= len(list(plans.batches(plan))) <= 256


def test_groups_have_equal_static_fields_in_order_of_appearance():
    sweep = jx.grid(width=(2, 1)) * jx.grid(rate=(1.0, 2.0)) + jx.cases({"kind": "mean"}, {"width": 2, "rate": 9.0})
    plan = plans.plan(study.replace(sweep=sweep))
    assert [(dict(group.static), group.trials.tolist()) for group in plan.groups] == [
        ({"width": 2, "kind": "sum"}, [0, 1, 5]),
        ({"width": 1, "kind": "sum"}, [2, 3]),
        ({"width": 1, "kind": "mean"}, [4]),
    ]
    assert [group.config for group in plan.groups] == [
        Config(rate=1.0, width=2),
        Config(rate=1.0, width=1),
        Config(rate=1.0, kind="mean"),
    ]


@jx.config
class Texts:
    """A field whose values may be of several types."""

    v: str | int | tuple[int, ...] | None = jx.static(0)


NOTHING = jx.from_train(lambda key, config: {"y": 0.0})


@pytest.mark.parametrize("values", [(1, "1"), (None, "None"), (None, "null"), ((1,), "(1,)"), ((1,), "[1]")])
def test_static_values_of_one_text_are_refused(values):
    made = jx.Study(experiment=NOTHING, config=Texts(), sweep=jx.grid(v=values))
    with pytest.raises(ConfigError, match=r"are both written .*: no table could tell them apart"):
        plans.plan(made)


@pytest.mark.parametrize(("tile", "why"), [((0, 8), "is empty"), ((100_000, 100_000), "has over 16,777,216 lanes")])
def test_a_tile_that_cannot_be_is_refused(tile, why):
    with pytest.raises(StudyError, match=why):
        plans.check_tile(plans.Tile(*tile))


@pytest.mark.parametrize("text", ["a\0", "\x1b[31mred", "two\nlines", "\u202eleft", "a\u2028b"])
def test_a_text_that_no_table_can_show_is_refused(text):
    made = jx.Study(experiment=NOTHING, config=Texts(), sweep=jx.grid(v=("a", text)))
    with pytest.raises(ConfigError, match="has a character that no table can show"):
        plans.plan(made)


def test_what_is_no_claim_is_refused_before_training():
    made = jx.Study(experiment=NOTHING, config=Texts(), claims=("x",))
    with pytest.raises(StudyError, match=r"claims have 'x', which is no Claim: write `jx\.Claim"):
        plans.plan(made)


def test_groups_with_equal_data_share_one_copy():
    plan = plans.plan(study.replace(sweep=jx.grid(width=(1, 2)) + jx.cases({"kind": "mean"})))
    first, second, third = (group.data for group in plan.groups)
    assert first is second
    assert len(third["inputs"]) == 7


def test_a_trial_that_comes_twice_is_one_trial():
    sweep = jx.grid(rate=(1.0, 2.0)) + jx.cases({"rate": 2.0, "width": 1}, {"rate": 2.0, "width": 2}, {"rate": 1})
    trials = plans.plan(study.replace(sweep=sweep)).trials
    assert len(trials) == 3
    assert {name: column.tolist() for name, column in trials.columns.items()} == {
        "rate": [1.0, 2.0, 2.0],
        "width": [1, 1, 2],
    }


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40))
def test_the_chosen_tile_is_never_wider_than_the_study(num_trials, num_seeds):
    tile = plans.plan(study.replace(sweep=jx.grid(rate=tuple(range(num_trials))), seeds=num_seeds)).tile
    assert 1 <= tile.trials <= num_trials
    assert 1 <= tile.seeds <= num_seeds
    num_tiles = math.ceil(num_trials / tile.trials) * math.ceil(num_seeds / tile.seeds)
    assert num_tiles * tile.trials * tile.seeds <= 2 * num_trials * num_seeds  # at most every other lane is padding


def test_a_tile_without_lanes_is_refused():
    for tile in (Tile(0, 4), Tile(4, 0), Tile(-1, 4)):
        with pytest.raises(StudyError, match=f"tile {tile.trials}x{tile.seeds} is empty"):
            plans.plan(study, tile=tile)


def test_over_a_hundred_thousand_runs_need_a_yes():
    large = study.replace(sweep=jx.grid(rate=tuple(range(1000))), seeds=101)
    with pytest.raises(
        TooManyRunsError, match=r"1,000 trials x 101 seeds = 101,000 runs, more than 100,000: say --yes"
    ):
        plans.plan(large)
    assert plans.plan(large, yes=True).num_runs == 101_000
    assert plans.plan(large.replace(seeds=100)).num_runs == 100_000
    repeated = jx.cases(*({"rate": float(row % 500)} for row in range(1000)))
    assert plans.plan(large.replace(sweep=repeated)).num_runs == 50_500


def test_the_digest_stands_for_trials_seeds_steps_and_tile_and_nothing_else():
    tile = Tile(1, 1)
    digest = plans.plan(study, tile=tile).digest
    assert len(digest) == 12
    same = [
        study.replace(claims=(jx.Claim("so", lambda dataset: dataset.y, jx.above(0)),)),
        study.replace(sweep=jx.cases({"rate": 1}, {"rate": 2.0})),
        study.replace(seeds=(0, 1, 2), evaluate_every=1, log_every=1),
    ]
    assert {plans.plan(other, tile=tile).digest for other in same} == {digest}
    others = [
        study.replace(sweep=jx.grid(rate=(2.0, 1.0))),
        study.replace(sweep=jx.grid(rate=(1.0, 2.0), width=(2,))),
        study.replace(config=Config(width=2)),
        study.replace(seeds=4),
        study.replace(seeds=(2, 1, 0)),
        study.replace(num_steps=2),
        study.replace(num_steps=2, evaluate_every=1),
        study.replace(num_steps=2, log_every=1),
    ]
    digests = [plans.plan(other, tile=tile).digest for other in others] + [plans.plan(study, tile=Tile(2, 1)).digest]
    assert len({digest, *digests}) == len(digests) + 1


def test_the_summary_counts_what_is_left_to_do():
    plan = plans.plan(study.replace(sweep=jx.grid(width=(1, 2), rate=(1.0, 2.0, 3.0)), seeds=4), tile=Tile(2, 4))
    done = np.zeros((6, 4), bool)
    done[:4] = True
    told = plans.summary(plans.in_folder(plan, plan.tile, done))
    assert (told["runs"], told["runs_to_do"], told["programs"], told["batches"]) == (24, 8, 2, 1)
    assert [(group["static"], group["trials"], group["runs"]) for group in told["groups"]] == [
        ({"width": 1}, 3, 0),
        ({"width": 2}, 3, 8),
    ]
    assert told["tile"] == {"trials": 2, "seeds": 4}


WRONG = {
    "no seed": ({"seeds": 0}, "seeds=0 .*: write e.g. `seeds=8`"),
    "an empty list of seeds": ({"seeds": ()}, r"seeds=\(\) has no seed: write `seeds=8`"),
    "a seed twice": ({"seeds": (3, 1, 3)}, "seed 3 is listed twice"),
    "a negative seed": ({"seeds": (-1,)}, "seed -1 is no integer from 0 to 4294967295"),
    "a seed too large": ({"seeds": (2**32,)}, "seed 4294967296 is no integer"),
    "a seed that is no integer": ({"seeds": (0.5,)}, "seed 0.5 is no integer"),
    "no steps": ({"num_steps": 0}, "num_steps=0 is no integer from 1"),
    "too many steps": ({"num_steps": 2**31}, "num_steps=2147483648 is no integer from 1 to"),
    "a fraction of steps": ({"num_steps": 2.5}, "num_steps=2.5 is no integer from 1"),
    "true steps": ({"log_every": True}, "log_every=True is no integer from 1"),
    "negative evaluation": ({"evaluate_every": -1}, "evaluate_every=-1 is no integer from 1"),
    "an unknown axis": ({"sweep": jx.grid(rates=(1.0,))}, "unknown hyperparameter 'rates'.*did you mean 'rate'"),
    "a value of another type": ({"sweep": jx.grid(width=(1.5,))}, r"width=1.5 is a float"),
    "a value that cannot be hashed": ({"config": Config(kind=cast(Any, [1]))}, r"kind=\[1\] is a list"),
    "a config class": ({"config": Config}, r"config=Config is a class: give one of its values, `Config\(\)`"),
    "a function for an experiment": ({"experiment": _data}, "is no Experiment: write `jx.Experiment"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_study_that_does_not_fit_together_is_refused(name):
    changes, message = WRONG[name]
    with pytest.raises((StudyError, ConfigError), match=message):
        plans.plan(study.replace(**changes))


@dataclasses.dataclass(frozen=True)
class _Renamed:
    seed: float = 1.0


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"config": _Renamed()}, "a hyperparameter cannot be called 'seed', which means something else"),
        ({"sweep": {"rate": (1.0,)}}, r"is no sweep: write e.g. `jx.grid"),
        ({"num_steps": 2**31 - 2, "evaluate_every": 1000}, "evaluate_every=1000 ends at step 2,147,484,000, beyond"),
        ({"claims": (jx.Claim("far", len, cast(Any, 0.8)),)}, r"claim 'far' holds in 0.8: write e.g. `jx.above\(0\)`"),
        ({"claims": (jx.Claim("far", len, jx.above(0), statistic=cast(Any, "men")),)}, "did you mean 'mean'"),
        ({"claims": (jx.Claim("far", len, jx.above(0), confidence=95),)}, "confidence=95: write e.g. 0.95"),
        ({"claims": (jx.Claim("far", len, jx.above(0)),) * 2}, "claim 'far' is made twice"),
    ],
)
def test_what_would_fail_only_after_training_is_refused_before(parts, message):
    with pytest.raises(JaxexpError, match=message):
        plans.plan(study.replace(**parts))


def test_counts_may_be_numpy_s():
    made = plans.plan(study.replace(num_steps=np.int64(3), seeds=np.int64(2), evaluate_every=np.int32(2)))
    assert made.digest == plans.plan(study.replace(num_steps=3, seeds=2, evaluate_every=2)).digest
    assert type(made.study.num_steps) is int


def test_a_tile_may_be_any_pair():
    assert plans.plan(study, tile=cast(Any, (2, 3))).tile == Tile(2, 3)
    with pytest.raises(StudyError, match=r"tile=8 is no \(trials, seeds\)"):
        plans.plan(study, tile=cast(Any, 8))


def test_an_accelerator_s_tile_is_as_wide_as_its_memory_allows(monkeypatch):
    def widest(platform: str, num_bytes: int) -> int:
        monkeypatch.setattr(plans.jax, "default_backend", lambda: platform)
        monkeypatch.setattr(plans.devices, "available_bytes", lambda: num_bytes)
        return math.prod(plans.plan(many).tile)

    groups = plans.plan(study).groups
    large = dataclasses.replace(groups[0], signature=groups[0].signature._replace(lane_bytes=2**20))
    monkeypatch.setattr(plans, "_groups", lambda study, trials: (dataclasses.replace(large, trials=np.arange(256)),))
    many = study.replace(seeds=256)
    assert [widest("gpu", 2**33), widest("gpu", 2**30), widest("cpu", 2**33)] == [1024, 128, 4]

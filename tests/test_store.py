"""Run folders: records, plans, chunks and checkpoints read back as they were written, and tables of trials joined."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxexp as jx
from jaxexp import files, plans, store, stored_plans, trees, trials
from jaxexp.errors import StoreError
from jaxexp.plans import Tile
from jaxexp.results import Result
from jaxexp.study import Table
from jaxexp.trials import aligned, union

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@jx.config
class Config:
    rate: float = 1.0
    width: int = 1
    kind: str | None = None
    nesterov: bool = jx.dynamic(False)


SWEEP = jx.grid(rate=(0.1, 0.2), kind=(None, "a/b")) + jx.cases({"width": 3}, {"nesterov": True, "rate": 1 / 3})
STUDY = jx.Study(
    experiment=jx.from_train(lambda key, config: {"y": config.rate}), config=Config(), sweep=SWEEP, seeds=(5, 2, 9)
)


@pytest.fixture
def plan() -> plans.Plan:
    return plans.plan(STUDY, tile=Tile(2, 2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store.create(tmp_path / "run", {"tile": [2, 2], "experiment": "store"})
    return tmp_path / "run"


def test_a_record_is_read_back(folder):
    assert store.exists(folder)
    assert store.record(folder) == {"schema": store.SCHEMA, "tile": [2, 2], "experiment": "store"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"text"', b'{"schema": null}', b"{}", b"\xff\xfe"])
def test_a_damaged_record_is_refused(folder, content):
    (folder / "run.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"run.json is damaged .*: run the same command again"):
        store.record(folder)


def test_a_record_of_the_future_is_refused(folder):
    (folder / "run.json").write_bytes(files.sealed_json({"schema": store.SCHEMA + 1}))
    with pytest.raises(StoreError, match="update jaxexp"):
        store.record(folder)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"holds no run \(it has no run.json\)"):
        jx.load(tmp_path)


@pytest.mark.parametrize("with_done", [False, True])
def test_a_plan_is_read_back(folder, plan, with_done):
    done = np.random.default_rng(0).random((6, 3)) < 0.5 if with_done else None
    plan = plans.in_folder(plan, plan.tile, done)
    programs = {"all": {"program": "p", "data": "d"}}
    stored_plans.add(folder, plan, programs)
    (stored,) = store.plans(folder)
    assert (stored.digest, stored.steps, stored.programs) == (plan.digest, plan.steps, programs)
    np.testing.assert_array_equal(stored.seeds, plan.seeds)
    np.testing.assert_array_equal(stored.done, done)
    assert aligned(stored.trials, plan.trials).tolist() == list(range(6))
    assert stored.trials.columns["rate"].tolist() == [0.1, 0.1, 0.2, 0.2, 1.0, 1 / 3]


def test_plans_are_in_the_order_in_which_they_were_asked_for(folder, plan):
    others = [plans.plan(STUDY.replace(seeds=seeds), tile=Tile(2, 2)) for seeds in range(1, 12)]
    for other in others:
        stored_plans.add(folder, other, {})
    assert [stored.digest for stored in store.plans(folder)] == [other.digest for other in others]


def test_a_damaged_plan_is_refused(folder, plan):
    stored_plans.add(folder, plan, {})
    (path,) = (folder / "plans").iterdir()
    whole = files.read_npz(path)
    for missing in whole:
        path.write_bytes(files.npz_bytes({name: array for name, array in whole.items() if name != missing}))
        with pytest.raises(StoreError, match=r"is no plan of a run"):
            store.plans(folder)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match="is damaged"):
        store.plans(folder)


def _result(first: int = 0) -> Result:
    return Result(
        trial=np.asarray([first, first + 1], np.int32),
        seed=np.asarray([5, 2], np.uint32),
        status=np.asarray([0, 1], np.int8),
        status_step=np.asarray([-1, 7], np.int32),
        step=np.asarray([0, 10], np.int32),
        eval_step=np.asarray([0, 20], np.int32),
        logged={"loss": np.asarray([[1, 2], [np.nan, np.inf]], np.float32)},
        evaluated={"a/b: c": np.asarray([[1, 2], [3, 4]], np.float64)},
        state=(np.arange(6, dtype=np.int32).reshape(2, 3), np.asarray([0.5, 1.5], np.float16)),
    )


def test_a_chunk_is_read_back(folder):
    store.write_chunk(folder, "d" * 12, "000000000", _result(), {})
    (got,) = store.results(folder, "d" * 12)
    assert jax.tree.structure(got) == jax.tree.structure(_result())
    pairs = zip(trees.leaf_names(got), jax.tree.leaves(got), jax.tree.leaves(_result()), strict=True)
    for name, found, wanted in pairs:
        assert (found.dtype, found.shape, found.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes()), name


def test_only_chunks_under_their_final_name_are_committed(folder):
    mine, other = "a" * 12, "b" * 12
    for batch, digest in (("000000004", mine), ("000000000", mine), ("000000002", other)):
        store.write_chunk(folder, digest, batch, _result(int(batch)), {"threads": 1})
    (folder / "chunks" / f"{files.TEMPORARY}1-000000009-{mine}.npz").write_bytes(b"half")
    (folder / "chunks" / "notes.txt").write_text("mine")
    assert store.committed(folder, mine) == {"000000000", "000000004"}
    assert [result.trial[0] for result in store.results(folder, mine)] == [0, 4]


def test_a_damaged_chunk_is_refused_by_its_name(folder):
    digest = "a" * 12
    store.write_chunk(folder, digest, "000000000", _result(), {})
    path = store.chunk_path(folder, digest, "000000000")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match=f"{path.name} is damaged"):
        list(store.results(folder, digest))
    path.write_bytes(whole)
    arrays = files.read_npz(path)
    del arrays["status"]
    path.write_bytes(files.npz_bytes(arrays))
    with pytest.raises(StoreError, match="a chunk lacks 'status'"):
        list(store.results(folder, digest))
    store.chunk_path(folder, digest, "000000001").write_bytes(whole)
    with pytest.raises(StoreError, match="is the chunk of another batch"):
        store.read_chunk(folder, digest, "000000001")


def _checkpoints(folder: Path) -> Iterator[int]:
    return (int(path.stem.split("-")[2]) for path in sorted((folder / "checkpoints").iterdir()))


def test_the_last_two_checkpoints_of_a_batch_are_kept_and_the_newest_whole_one_is_read(folder):
    digest = "a" * 12
    for step in (5, 20, 100):
        store.write_checkpoint(folder, digest, "000000000", step, {"where": np.asarray(step)}, "me")
    store.write_checkpoint(folder, digest, "000000007", 3, {"where": np.asarray(3)}, "me")
    assert sorted(_checkpoints(folder)) == [3, 20, 100]
    (newest,) = (folder / "checkpoints").glob("*000000000-*0100-me.npz")
    newest.write_bytes(newest.read_bytes()[:-1])
    assert [int(found["where"]) for found in store.read_checkpoints(folder, digest, "000000000")] == [20]
    assert not newest.exists()
    for step in (1, 2, 7):  # another's, and nobody's but his are removed
        store.write_checkpoint(folder, digest, "000000000", step, {"where": np.asarray(step)}, "you")
    assert sorted(_checkpoints(folder)) == [2, 3, 7, 20]
    assert [int(found["where"]) for found in store.read_checkpoints(folder, digest, "000000000")] == [20, 7, 2]
    store.remove_checkpoints(folder, digest, "000000000")
    assert list(_checkpoints(folder)) == [3]
    assert list(store.read_checkpoints(folder, digest, "000000000")) == []


# Tables of trials

BASE = {"rate": 1.0, "kind": "x", "width": 1}
row_values = {
    "rate": st.sampled_from([1.0, 2.0]),
    "kind": st.sampled_from(["x", "y"]),
    "width": st.sampled_from([1, 2]),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[Table, list[tuple]]:
    """A table of distinct trials, and its rows with the base filled in."""
    names = draw(st.sets(st.sampled_from(list(BASE))))
    base = BASE | {name: draw(row_values[name]) for name in draw(st.sets(st.sampled_from(list(BASE))))}
    rows = draw(st.lists(st.tuples(*(row_values[name] for name in sorted(names))), min_size=1, max_size=6, unique=True))
    columns = {name: trials._column([row[i] for row in rows]) for i, name in enumerate(sorted(names))}
    filled = [tuple((base | dict(zip(sorted(names), row, strict=True))).values()) for row in rows]
    return Table(columns, base, len(rows)), filled


@given(tables(), tables())
def test_equal_trials_of_two_tables_are_found(one, other):
    (table, rows), (others, other_rows) = one, other
    wanted = [other_rows.index(row) if row in other_rows else -1 for row in rows]
    assert aligned(table, others).tolist() == wanted


@given(st.lists(tables(), min_size=1, max_size=3))
def test_a_union_has_each_trial_once_in_order_of_first_mention(made):
    whole = union([table for table, _ in made])
    wanted = list(dict.fromkeys(row for _, rows in made for row in rows))
    got = [
        tuple(whole.columns[name][i] if name in whole.columns else whole.base[name] for name in BASE)
        for i in range(len(whole))
    ]
    assert got == wanted

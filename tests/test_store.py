"""Files that are whole or absent, archives that are not trusted, and run folders read back as they were written."""

import errno
import io
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import jaxexp as jx
from jaxexp import files, plans, store, stored_plans, trees, trials
from jaxexp.errors import StoreError
from jaxexp.plans import Tile
from jaxexp.results import Result
from jaxexp.study import Table
from jaxexp.trials import aligned, union

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
ABOUT_A_MEGABYTE = 2**20

dtypes = st.one_of(
    arrays_of.boolean_dtypes(),
    arrays_of.integer_dtypes(),
    arrays_of.unsigned_integer_dtypes(),
    arrays_of.floating_dtypes(sizes=(16, 32, 64)),
    arrays_of.unicode_string_dtypes(),
)
arrays = dtypes.flatmap(
    lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
member_names = st.text("abcXYZ019:_-. /é", min_size=1, max_size=12).filter(lambda name: not name.endswith(".npy"))
archives = st.dictionaries(member_names, arrays, max_size=4)


def _read(content: bytes, folder: Path) -> dict[str, np.ndarray]:
    path = folder / "archive.npz"
    path.write_bytes(content)
    return files.read_npz(path)


def _assert_same(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
        assert got[name].tobytes() == array.tobytes()


@in_one_folder
@given(archives)
def test_arrays_come_back_bit_for_bit(tmp_path, wanted):
    _assert_same(_read(files.npz_bytes(wanted), tmp_path), wanted)


@in_one_folder
@given(st.dictionaries(st.sampled_from("abcd"), arrays, max_size=4))
def test_numpy_reads_the_same_archive(tmp_path, wanted):
    with np.load(io.BytesIO(files.npz_bytes(wanted)), allow_pickle=False) as archive:
        _assert_same(dict(archive), wanted)


def test_columns_in_fortran_order_come_back_too(tmp_path):
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(_read(files.npz_bytes({"a": array}), tmp_path)["a"], array)


def test_the_same_arrays_are_the_same_bytes_at_any_time(monkeypatch):
    content = files.npz_bytes({"a": np.arange(3)})
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert files.npz_bytes({"a": np.arange(3)}) == content


def test_python_objects_are_never_written():
    with pytest.raises(StoreError, match="array 'a' holds Python objects"):
        files.npz_bytes({"a": np.asarray([{}], object)})


@in_one_folder
@given(archives.filter(bool), st.data())
def test_a_truncated_archive_is_refused(tmp_path, wanted, data):
    content = files.npz_bytes(wanted)
    with pytest.raises(StoreError, match=r"archive.npz is damaged .*: run the same command again"):
        _read(content[: data.draw(st.integers(0, len(content) - 1))], tmp_path)


@settings(in_one_folder, max_examples=300)
@given(archives.filter(bool), st.integers(0), st.integers(1, 255))
def test_any_flipped_byte_is_refused(tmp_path, wanted, position, mask):
    content = bytearray(files.npz_bytes(wanted))
    content[position % len(content)] ^= mask
    with pytest.raises(StoreError, match="is damaged"):
        _read(bytes(content), tmp_path)


def test_no_flipped_byte_of_the_directory_loses_an_array(tmp_path):
    wanted = {"a": np.zeros(0, bool), "b": np.zeros((3, 4), bool)}
    content = files.npz_bytes(wanted)
    for position in range(content.index(b"PK\x01\x02"), len(content)):
        for mask in (1, 64, 255):
            try:
                got = _read(content[:position] + bytes([content[position] ^ mask]) + content[position + 1 :], tmp_path)
            except StoreError:
                continue
            _assert_same(got, wanted)


def test_a_flipped_byte_of_a_number_is_refused(tmp_path):
    content = files.npz_bytes({"a": np.arange(100.0)})
    for position in range(200, 900, 7):
        damaged = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        with pytest.raises(StoreError):
            _read(damaged, tmp_path)


def _member(header: str, body: bytes = b"", name: str = "a.npy") -> bytes:
    """An archive with one array, whose header is this text."""
    text = header.encode("latin1")
    text += b" " * (-(11 + len(text)) % 64) + b"\n"
    return _zipped(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body, name)


def _zipped(content: bytes, name: str = "a.npy", compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


class _Mine:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch unpickled",)


def _pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.asarray([_Mine()], object), allow_pickle=True)
    return buffer.getvalue()


def _shape(shape: str, descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


HOSTILE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "text": lambda: b"not an archive",
    "pickled objects": _pickled,
    "objects": lambda: _member(_shape("(1,)", "'|O'"), b"\x80\x04N."),
    "objects in a record": lambda: _member(_shape("(1,)", "[('a', '|O')]"), b"12345678"),
    "a terabyte": lambda: _member(_shape("(250000000000,)")),
    "more than all memory": lambda: _member(_shape("(0, 10000000000000000000000)")),
    "a great many times nothing": lambda: _member(_shape("(10000000000000000000000,)", "'|V0'")),
    "a negative side": lambda: _member(_shape("(-1,)"), b"1234"),
    "two negative sides": lambda: _member(_shape("(-1, -1)"), b"1234"),
    "a side that is no number": lambda: _member(_shape("('4',)"), b"1234"),
    "a record of negative shape": lambda: _member(_shape("(1,)", "[('a', '<f4', (-1,))]")),
    "less than it declares": lambda: _member(_shape("(2,)"), b"1234"),
    "more than it declares": lambda: _member(_shape("(1,)"), b"12345678"),
    "an unfinished header": lambda: _member("{'descr': '<f4', 'fortran_order': False, 'shape': ("),
    "a header of brackets": lambda: _member("(" * 300 + ")" * 300),
    "a header of code": lambda: _member("__import__('os').system('touch evaluated')"),
    "a header that is no dictionary": lambda: _member("1 if"),
    "an empty type": lambda: _member("{'descr': (), 'fortran_order': False, 'shape': ()}"),
    "an unknown type": lambda: _member(_shape("(1,)", "'<M8[ns'"), b"12345678"),
    "no array": lambda: _zipped(b"plain text", "a.txt"),
    "an empty member": lambda: _zipped(b""),
    "compressed members": lambda: _zipped(b"\0" * 10**6, compression=zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_before_memory_is_taken_for_it(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    content = HOSTILE[name]()
    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match=r"archive.npz is damaged or no archive of arrays") as refused:
            _read(content, tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < ABOUT_A_MEGABYTE
    assert "seal" not in str(refused.value)  # the seal comes last, when all members are in memory
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.npz"]


def test_a_missing_archive_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"missing.npz"):
        files.read_npz(tmp_path / "missing.npz")


def test_a_written_file_replaces_the_old_one_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "run.json"
    for content in (b"old", b"new"):
        files.write(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch, failing):
    path = tmp_path / "run.json"
    files.write(path, b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*{"fsync": (os, "fsync", full), "rename": (Path, "rename", full)}[failing])
    with pytest.raises(StoreError, match=r"cannot write .*run.json: No space left on device; free space"):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write to .*: .*file is a file; choose another folder"):
        files.make_folder(tmp_path / "file" / "run")
    with pytest.raises(StoreError, match=r"cannot write .*missing.*; .*choose another"):
        files.write(tmp_path / "missing" / "run.json", b"")


UNSAFE = [
    "",
    ".",
    "..",
    "../up",
    "a/b",
    "/a",
    "a\\b",
    "a\0b",
    "a\n",
    "\n",
    ".hidden",
    "-rf",
    "~",
    "a b",
    "é",
    "*",
    "C:",
]


@pytest.mark.parametrize("name", [*UNSAFE, "a" * 300, "a" * 101])
def test_a_name_that_may_lead_elsewhere_is_refused(name):
    with pytest.raises(StoreError, match="cannot name a run: a name has up to 100 letters"):
        files.check_name(name)


@given(st.text(max_size=20) | st.text("ab./\\~-_\0", max_size=8))
def test_a_name_that_is_taken_names_one_folder_here(name):
    try:
        files.check_name(name)
    except StoreError:
        return
    here = Path("/here")
    assert (here / name).parent == here
    assert os.path.normpath(here / name) == f"/here/{name}"
    assert name.isprintable()
    assert len(name.encode()) <= 255


def test_usual_names_are_taken():
    for name in ("default", "wide-sweep_2", "lr=0.1,0.2", "2026-01-01", "a" * 100):
        assert files.check_name(name) == name


# Run folders


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
        _assert_same({name: found}, {name: wanted})


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

"""Files that are whole or absent, archives that are not trusted, and names that lead nowhere else."""

import errno
import io
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from jaxexp import files
from jaxexp.errors import DamagedError, StoreError

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


@pytest.mark.parametrize("read", [files.read_npz, files.read_sealed_json])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch, read, code):
    (tmp_path / "whole").write_bytes(b"whole")

    def refused(path: Path) -> bytes:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(StoreError, match=r"whole cannot be read .*nothing was changed") as caught:
        read(tmp_path / "whole")
    assert not isinstance(caught.value, DamagedError)


def test_a_lock_can_be_shared_by_those_who_may_write_to_the_folder(tmp_path):
    before = os.umask(0o002)
    try:
        with files.locked(tmp_path):
            assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o664
    finally:
        os.umask(before)

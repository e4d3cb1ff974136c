"""Files that are either whole or absent, and npz archives that are read without trusting them.

A file is written under a temporary name, flushed to the disk, and renamed: the final name is the commit.
Knows nothing of what the files mean.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import io
import json
import math
import os
import re
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxexp.errors import DamagedError, StoreError

TEMPORARY = ".tmp-"
REDO = "run the same command again, which puts it aside and does it anew"
_MAX_NAME, _SEAL = 100, 64
_DTYPE = "::dtype="
"""Between an array's name in an archive and its dtype, where that is not NumPy's own."""


def write(path: Path, content: bytes) -> None:
    """Writes a file atomically and durably: temporary name, fsync, rename, fsync of the folder.

    Raises:
        StoreError: If the folder cannot be written or the disk is full; the temporary file is removed.
    """
    temporary = temporary_beside(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        _sync_folder(path.parent)
    except BaseException as problem:
        with contextlib.suppress(OSError):  # of a folder that cannot be written nothing can be removed
            temporary.unlink(missing_ok=True)
        if not isinstance(problem, OSError):
            raise
        raise StoreError(f"cannot write {path}: {problem.strerror}; free space or choose another --out") from problem


def temporary_beside(path: Path) -> Path:
    """Returns a path in the same folder that nobody else has: processes of two machines may have one number."""
    return path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")


def is_temporary(path: Path) -> bool:
    """Returns whether a path is one that `temporary_beside` may have given, and no folder."""
    return re.fullmatch(rf"{re.escape(TEMPORARY)}[0-9a-f]{{32}}", path.name) is not None and not path.is_dir()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, own: bool = False) -> None:
    """Makes a folder and checks that files can be written there.

    Args:
        folder: The folder.
        own: Whether it is a part of a run folder, which no link may lead out of.

    Raises:
        StoreError: If it cannot be made or written, or is a link and must not be.
    """
    if own and folder.is_symlink():
        raise StoreError(f"{folder} is a link, which may lead out of the run: put a folder in its place")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = temporary_beside(folder / "probe")
        probe.touch()
        probe.unlink()
    except OSError as problem:
        above = [folder, *folder.parents]
        file = next((path for path in above if path.exists() and not path.is_dir()), None)
        why = problem.strerror if file is None else f"{file} is a file"
        raise StoreError(f"cannot write to {folder}: {why}; choose another folder with --out") from problem


def check_name(name: str) -> str:
    """Returns a run's or experiment's name if it is safe as the name of one folder.

    Raises:
        StoreError: If it could lead elsewhere: a separator, `..`, a control character, or over 100 characters.

    Example:
        >>> check_name("wide-sweep_2")
        'wide-sweep_2'
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.+=,@-]*", name, re.ASCII) or len(name) > _MAX_NAME:
        raise StoreError(
            f"{name[:120]!r} cannot name a run: a name has up to {_MAX_NAME} letters, digits and `_ - . + = , @`, "
            "begins with a letter or digit and never leads to another folder, e.g. --name wide-sweep"
        )
    return name


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns an npz archive of the arrays: the same bytes for the same arrays, at any time.

    Its last 64 bytes, the archive's comment, are the SHA-256 of all others in hexadecimal digits.

    Raises:
        StoreError: If an array holds Python objects.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise StoreError(f"array {name!r} holds Python objects, which are never stored: make it numbers or text")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            if array.dtype.kind == "V":  # bfloat16 and its like, which NumPy's format does not know
                name = f"{name}{_DTYPE}{array.dtype.name}"
                array = array.view(f"u{array.dtype.itemsize}")
            content = _npy_header(array.dtype, array.shape) + array.tobytes()
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content)  # dated 1980, whenever it is written
        archive.comment = b"0" * _SEAL
    content = memoryview(buffer.getbuffer())[:-_SEAL]
    return bytes(content) + _seal(content)


@functools.lru_cache(maxsize=1024)
def _npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """What NumPy's format puts before the values, in C order; the chunks of a plan share most of theirs."""
    stream = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue()


def _seal(content: memoryview) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of an npz archive, each checked before memory is taken for it.

    Raises:
        DamagedError: If the file is no whole npz archive of plain arrays, or any bit of it has changed.
        StoreError: If it cannot be read.
    """
    try:
        content = memoryview(read(path))
        if bytes(content[-_SEAL:]) != _seal(content[:-_SEAL]):
            raise ValueError("its SHA-256 does not fit")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = {info.filename.removesuffix(".npy"): _read_member(archive, info) for info in archive.infolist()}
            return dict(_with_dtype(*member) for member in found.items())
    except (StoreError, MemoryError):
        raise
    except Exception as problem:  # a damaged header can make NumPy's parser raise anything
        raise DamagedError(f"{path} is damaged or no archive of arrays ({problem}): {REDO}") from problem


def read(path: Path) -> bytes:
    """Returns the content of a plain file of a run folder.

    Raises:
        OSError: If it is no plain file in its own folder (a link may lead anywhere).
        StoreError: If it may be whole, and cannot be read.
    """
    try:
        if path.is_file() and not path.is_symlink():
            return path.read_bytes()
    except OSError as problem:
        if problem.errno in (errno.ENOENT, errno.ENAMETOOLONG):  # it has been removed just now, or never was there
            raise
        raise StoreError(
            f"{path} cannot be read ({problem.strerror}), and nothing was changed: see who may read it, or try again"
        ) from problem
    raise OSError(f"{path} is no plain file")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ValueError(f"{info.filename} is compressed, which is never written here")
    content = archive.read(info)
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(stream)
    if dtype.hasobject or any(side < 0 for side in shape):
        raise ValueError(f"{info.filename} declares {dtype} {shape}")
    declared = int(dtype.itemsize) * int(np.prod([int(side) for side in shape], dtype=object))
    if declared != len(content) - stream.tell():
        raise ValueError(f"{info.filename} declares {declared} bytes and has {len(content) - stream.tell()}")
    flat = np.frombuffer(content, dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C").copy()


def _with_dtype(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """A member's name and its array, of the dtype that the name may end in."""
    name, separator, dtype = name.partition(_DTYPE)
    return name, array.view(np.dtype(dtype)) if separator else array


def sealed_json(value: Mapping[str, Any]) -> bytes:
    """Returns a JSON document whose last entry, `sha256`, is the digest of all others."""
    return json.dumps({**value, "sha256": _digest(value)}, indent=1).encode()


def read_sealed_json(path: Path) -> dict[str, Any]:
    """Returns the document that `sealed_json` made, without its digest.

    Raises:
        DamagedError: If it is not what was written.
        StoreError: If it cannot be read.
    """
    try:
        content = read(path)
        found = json.loads(content)
        seal = found.pop("sha256")
        if seal != _digest(found) or content != sealed_json(found):
            raise ValueError("its SHA-256 does not fit")
    except StoreError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise DamagedError(f"{path} is damaged ({problem!r}): {REDO}") from problem
    return found


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder's lock, so that one process at a time changes what it is about; ends with the process.

    Where the file system has no locks, nothing is held.
    """
    try:
        descriptor = os.open(folder / "lock", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
    except PermissionError as problem:
        raise StoreError(
            f"{folder / 'lock'} cannot be opened ({problem.strerror}): who made it may let others write, chmod g+w"
        ) from problem
    except OSError as problem:
        raise StoreError(f"{folder / 'lock'} is no plain file ({problem.strerror}): remove it") from problem
    with os.fdopen(descriptor, "ab") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def text_array(value: Any) -> np.ndarray:
    """Returns a JSON document as an array of bytes, so that it can lie in an npz archive."""
    return np.frombuffer(json.dumps(value, sort_keys=True).encode(), np.uint8)


def array_text(array: np.ndarray) -> Any:
    """Returns the JSON document that `text_array` made an array of."""
    return json.loads(array.tobytes().decode())


def json_text(value: Any) -> str:
    """Returns a value as a JSON document; numbers that JSON lacks become null, paths text."""
    return json.dumps(_jsonable(value), indent=1) + "\n"


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(part) for key, part in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [_jsonable(part) for part in value]
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)

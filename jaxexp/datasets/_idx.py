"""Reading of IDX files, the format in which MNIST and its relatives are distributed, plain or gzipped.

It reads one file into one array. It finds, downloads and caches nothing, scales no pixels, and refuses a
file whose size is not the one that its header declares, before it takes memory for the content.
"""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from jaxexp.errors import StoreError

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_Readable = IO[bytes] | gzip.GzipFile
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 1 << 20

# NumPy's own limit is 64; IDX files have 1 for labels and 3 or 4 for images.
_MOST_DIMENSIONS = 32


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Returns the array that an IDX file holds, in its own shape and type and in native byte order.

    Args:
        path: The file, plain or gzipped; its content says which, not its name.

    Returns:
        An array of uint8, int8, int16, int32, float32 or float64, not scaled; for MNIST's images
        [60000, 28, 28] uint8.

    Raises:
        StoreError: The file cannot be opened, is no IDX file, is truncated or damaged, or its size is not
            the one that its header declares.

    Source:
        Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits, "the IDX file format".

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "labels-idx1-ubyte"
        ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 1, 9]))
        ...     read_idx(path)
        array([7, 1, 9], dtype=uint8)
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if file.peek(2)[:2] != _GZIP_MAGIC:
                return _read_array(path, file, num_bytes=os.fstat(file.fileno()).st_size)
            with gzip.open(file) as content:
                return _read_array(path, content, num_bytes=None)
    except StoreError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise _refusal(path, f"cannot be read ({type(error).__name__}: {error})") from error


def _read_array(path: Path, file: _Readable, num_bytes: int | None) -> np.ndarray:
    dtype, shape = _read_header(path, file)
    declared = math.prod(shape) * dtype.itemsize
    header = 4 + 4 * len(shape)
    if num_bytes is not None and num_bytes - header != declared:
        raise _size_refusal(path, dtype, shape, f"holds {num_bytes - header}")
    # A gzipped file does not say how much it holds, so memory grows with what really comes out of it.
    content = bytearray()
    while len(content) <= declared and (chunk := file.read(min(_CHUNK_BYTES, declared + 1 - len(content)))):
        content += chunk
    if len(content) != declared:
        found = f"holds {len(content)}" if len(content) < declared else "holds more"
        raise _size_refusal(path, dtype, shape, found)
    return np.frombuffer(content, dtype=dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def _read_header(path: Path, file: _Readable) -> tuple[np.dtype, tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or magic[3] > _MOST_DIMENSIONS:
        raise _refusal(path, f"is no IDX file: it starts with the bytes {magic.hex(' ') or '(none)'}")
    num_dimensions = magic[3]
    sizes = file.read(4 * num_dimensions)
    if len(sizes) < 4 * num_dimensions:
        raise _refusal(path, f"ends within its header, which declares {num_dimensions} dimensions")
    return np.dtype(_TYPES[magic[2]]), struct.unpack(f">{num_dimensions}I", sizes)


def _size_refusal(path: Path, dtype: np.dtype, shape: tuple[int, ...], found: str) -> StoreError:
    declared = math.prod(shape) * dtype.itemsize
    return _refusal(path, f"declares {shape} {dtype.name}, {declared} bytes, but {found}")


def _refusal(path: Path, fault: str) -> StoreError:
    return StoreError(f"{path} {fault}; fetch an IDX file, plain or .gz, again and pass its path to datasets.read_idx")

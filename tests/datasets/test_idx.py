"""IDX files are read back as written, and nothing else is taken for one, however it is damaged."""

import gzip
import struct
import tracemalloc

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxexp import datasets
from jaxexp.errors import StoreError

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}

ARRAYS = st.sampled_from(sorted(CODES)).flatmap(
    lambda name: hnp.arrays(np.dtype(name), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)


def _idx_bytes(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[array.dtype.name], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("idx")


@settings(deadline=None, max_examples=60)
@given(array=ARRAYS, zipped=st.booleans())
def test_an_array_is_read_as_it_was_written(folder, array, zipped):
    path = folder / "some-file"
    path.write_bytes(gzip.compress(_idx_bytes(array)) if zipped else _idx_bytes(array))
    read = datasets.read_idx(str(path))
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    assert read.flags.writeable
    np.testing.assert_array_equal(read, array)


@settings(deadline=None, max_examples=60)
@given(array=ARRAYS, cut=st.integers(1, 40), zipped=st.booleans(), longer=st.booleans())
def test_a_file_of_another_size_is_refused(folder, array, cut, zipped, longer):
    path, content = folder / "cut", _idx_bytes(array)
    content = content + bytes(cut) if longer else content[:-cut]
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(StoreError, match="cut"):
        datasets.read_idx(path)


@settings(deadline=None, max_examples=100)
@given(
    content=st.binary(max_size=60),
    zipped=st.sampled_from([b"", b"\x1f\x8b", b"\x1f\x8b\x08\0\0\0\0\0\0\0", b"\0\0\x08"]),
)
def test_arbitrary_bytes_give_an_array_or_a_store_error(folder, content, zipped):
    path = folder / "noise"
    path.write_bytes(zipped + content)
    try:
        array = datasets.read_idx(path)
    except StoreError:
        return
    assert array.nbytes <= 60


@pytest.mark.parametrize("zipped", [False, True])
def test_a_header_that_declares_too_much_takes_no_memory(tmp_path, zipped):
    path = tmp_path / "bomb"
    content = struct.pack(">BBBB3I", 0, 0, 0x0E, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(100)
    path.write_bytes(gzip.compress(content) if zipped else content)
    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match=r"float64, \d+ bytes, but holds 100"):
            datasets.read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_zipped_file_that_holds_too_much_is_not_unpacked_further(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(_idx_bytes(np.zeros(10, np.uint8)) + bytes(64 << 20), compresslevel=1))
    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match=r"declares \(10,\) uint8, 10 bytes, but holds more"):
            datasets.read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_damage_inside_a_zipped_file_is_seen(tmp_path):
    path = tmp_path / "damaged.gz"
    content = bytearray(gzip.compress(_idx_bytes(np.arange(1000, dtype=np.int32))))
    content[-6] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(StoreError, match="cannot be read"):
        datasets.read_idx(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is no IDX file: it starts with the bytes \(none\)"),
        (b"\x89PNG\r\n", "is no IDX file: it starts with the bytes 89 50 4e 47"),
        (b"\0\0\x0a\1\0\0\0\0", "is no IDX file"),
        (b"\0\0\x08\xff" + bytes(2000), "is no IDX file"),
        (b"\0\0\x08\3\0\0\0\1", "ends within its header, which declares 3 dimensions"),
        (b"\0\0\x08\1\0\0\0\2\7", r"declares \(2,\) uint8, 2 bytes, but holds 1; fetch"),
    ],
)
def test_a_refusal_says_what_was_found(tmp_path, content, message):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=message):
        datasets.read_idx(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(StoreError, match="cannot be read"):
            datasets.read_idx(path)


def test_mnist_shaped_images_are_read(tmp_path):
    images = np.random.RandomState(0).randint(0, 256, size=(300, 28, 28)).astype(np.uint8)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(_idx_bytes(images)))
    np.testing.assert_array_equal(datasets.read_idx(path), images)

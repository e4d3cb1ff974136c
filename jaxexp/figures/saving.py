"""Figures as files: drawn in memory, and written whole or not at all."""

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxexp import figures, files

_MAX_NAME = 80


def save(dataset: Any, drawings: Sequence[Callable[[Any], Any]], folder: Path) -> list[Path]:
    """Draws figures and saves each as `<function's name>.png`; learning curves where there is none to draw.

    Args:
        dataset: Results.
        drawings: Functions of the dataset that return a matplotlib figure.
        folder: Where to; made where it is missing.

    Returns:
        The files.

    Raises:
        StoreError: If the folder cannot be written.
    """
    files.make_folder(folder, own=True)
    saved = []
    for draw in drawings or (figures.learning_curves,):
        path = folder / f"{draw.__name__}.png"
        _write(draw(dataset), path)
        saved.append(path)
    return saved


def save_kind(dataset: Any, kind: str, metric: str | None, folder: Path) -> Path:
    """Draws one of `figures.KINDS` and saves it as `<kind>.png`, or `<kind>-<metric>.png`.

    Args:
        dataset: Results.
        kind: Which.
        metric: Of which metric; the first of evaluation where None.
        folder: Where to; made where it is missing.

    Raises:
        StudyError: If there is no such metric, or nothing of this kind to draw.
        StoreError: If the folder cannot be written.
    """
    figure = figures.KINDS[kind](dataset, metric)
    files.make_folder(folder, own=True)
    path = folder / f"{kind}{'' if metric is None else f'-{_file_name(metric)}'}.png"
    _write(figure, path)
    return path


def _file_name(metric: str) -> str:
    """A metric's name as a part of a file's: where it has to be changed, a few digits tell it from others."""
    plain = re.sub(r"[^\w.-]", "_", metric)[:_MAX_NAME]
    return plain if plain == metric else f"{plain}-{hashlib.sha256(metric.encode()).hexdigest()[:8]}"


def _write(figure: Any, path: Path) -> None:
    """Writes a picture whole or not at all, in place of whatever had its name: never through a link."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=130, format="png")
    files.write(path, picture.getvalue())

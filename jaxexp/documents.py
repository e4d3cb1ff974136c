"""Where a JSON document goes: to standard output, which `--json` keeps for it alone."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TextIO

_kept: list[TextIO] = []


@contextlib.contextmanager
def alone(wanted: bool) -> Iterator[None]:
    """Sends what is printed meanwhile, by an experiment say, to standard error, where that is wanted."""
    if not wanted:
        yield
        return
    _kept.append(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _kept.pop()


def write(text: str) -> None:
    """Writes a document to standard output, where that is open."""
    stream = _kept[-1] if _kept else sys.stdout
    if stream is not None:
        stream.write(text)

"""Being asked to stop, by Ctrl-C, SIGTERM or a terminal that closes: one line, no traceback, exit code 130, 143 or 129.

While it trains, `foreground` listens itself and ends the segment first. At any other moment the process ends at once: a
run folder survives that, and an exception may not be raised anywhere: libraries swallow it in callbacks, or abort.
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_temporary: set[Path] = set()


def code(number: int) -> int:
    """Returns the exit code of a process that a signal ended, as shells give it."""
    return 128 + number


def listen(as_json: bool = False) -> dict[signal.Signals, Any]:
    """Lets the signals end the process at once; returns the handlers before (none outside the main thread).

    Args:
        as_json: Whether to say so in a JSON document on standard output as well.
    """

    def on_signal(number: int, _frame: Any) -> NoReturn:
        told = f"stopped at once; what was committed is kept. The same again:\n  {command()}"
        _say(2, f"\n{told}\n")
        if as_json:
            _say(1, json.dumps({"error": told, "exit": code(number)}) + "\n")
        for folder in _temporary:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(code(number))

    return _set(on_signal)


@contextlib.contextmanager
def listening(as_json: bool) -> Iterator[None]:
    """Listens while what is inside goes on."""
    before = listen(as_json)
    try:
        yield
    finally:
        _reset(before)


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Yields a new folder that is removed afterwards, also where a signal ends the process."""
    with tempfile.TemporaryDirectory(prefix=prefix) as made:
        _temporary.add(Path(made))
        try:
            yield Path(made)
        finally:
            _temporary.discard(Path(made))


@contextlib.contextmanager
def heard(told: str) -> Iterator[list[int]]:
    """Yields a list in which signals are put that come while what is inside goes on, for it to look at.

    Args:
        told: What the user is told when the first comes.

    Raises:
        KeyboardInterrupt: If Ctrl-C is pressed again.
    """
    numbers: list[int] = []

    def on_signal(number: int, _frame: Any) -> None:
        if numbers and number == signal.SIGINT:
            raise KeyboardInterrupt
        numbers.append(number)
        _say(2, f"\n{told}\n")

    before = _set(on_signal)
    try:
        yield numbers
    finally:
        _reset(before)


def _say(descriptor: int, text: str) -> None:
    """Writes past Python's buffers, which may be in use; nobody may be reading any more."""
    with contextlib.suppress(OSError):
        os.write(descriptor, text.encode())


def silence(descriptor: int) -> None:
    """Sends what is still written to a descriptor that nobody reads any more to nowhere: Python flushes at its end.

    Source: the note on SIGPIPE in the documentation of Python's `signal`.
    """
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _set(on_signal: Callable[[int, Any], Any]) -> dict[signal.Signals, Any]:
    """Sets the signals' handler and returns those before; outside the main thread, which alone may, none.

    SIGHUP stays ignored where it is: `nohup` wants it so.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    wanted = [number for number in NUMBERS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, on_signal) for number in wanted}


def _reset(before: Mapping[signal.Signals, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


def command(fresh: bool = True) -> str:
    """Returns the command line that started this process, to be typed again.

    Args:
        fresh: Whether `--fresh` stays in it: once a folder was begun, it would put aside what is to be gone on with.
    """
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        words = ["python", "-m", program.parent.name]
    elif program.suffix == ".py":
        words = ["python", "-m", f"{program.parent.name}.{program.stem}"]
    else:
        words = [program.name]
    return shlex.join([*words, *(word for word in sys.argv[1:] if fresh or word != "--fresh")])

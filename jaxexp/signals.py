"""Being asked to stop, by Ctrl-C, SIGTERM or a terminal that closes: one line, no traceback, exit code 130, 143 or 129.

While it trains, `foreground` listens itself and ends the segment first. At any other moment the process ends at once: a
run folder survives that, and an exception may not be raised anywhere: libraries swallow it in callbacks, or abort.
Python calls handlers in the main thread, which hears nothing while it is in compiled code; another thread then ends it.
"""

import contextlib
import json
import math
import os
import select
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_AT_ONCE_SECONDS, _IN_ORDER_SECONDS = 1.0, 8.0
"""How long the main thread may take to end at once, and to end in order: SIGTERM is to be obeyed within 10 s."""

_SHOW_CURSOR = "\x1b[?25h"
"""What a live line has hidden."""

_temporary: set[Path] = set()


def code(number: int) -> int:
    """Returns the exit code of a process that a signal ended, as shells give it."""
    return 128 + number


def listen(fresh: bool = True) -> Callable[[], None]:
    """Lets the signals end the process at once; returns what undoes it. Outside the main thread it does nothing.

    Args:
        fresh: Whether the command to be typed again starts over as this one did.
    """

    def on_signal(number: int, _frame: Any) -> NoReturn:
        _end(number, fresh)

    return _set(on_signal, lambda number: _AT_ONCE_SECONDS, fresh)


def _end(number: int, fresh: bool = True) -> NoReturn:
    """Ends the process, whatever it is doing, and says so; with --json in a document as well."""
    told = f"stopped at once; what was committed is kept. The same again:\n  {command(fresh)}"
    _say(2, f"{_SHOW_CURSOR * os.isatty(2)}\n{told}\n")
    if "--json" in sys.argv:
        _say(1, json.dumps({"error": told, "exit": code(number)}) + "\n")
    for folder in _temporary:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(code(number))


@contextlib.contextmanager
def listening(fresh: bool = True) -> Iterator[None]:
    """Listens while what is inside goes on."""
    undo = listen(fresh)
    try:
        yield
    finally:
        undo()


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

    The process is ended at once by another Ctrl-C, and where it does not end in time after any other signal.

    Args:
        told: What the user is told when the first comes.
    """
    numbers: list[int] = []
    met: list[int] = []

    def on_signal(number: int, _frame: Any) -> None:
        if numbers and number == signal.SIGINT:
            _end(number, fresh=False)  # no exception: JAX would wait for the end of what it computes
        numbers.append(number)
        _say(2, f"\n{told}\n")

    def seconds(number: int) -> float:
        met.append(number)
        if number != signal.SIGINT:
            return _IN_ORDER_SECONDS
        return _AT_ONCE_SECONDS if len(met) > 1 else math.inf

    undo = _set(on_signal, seconds, fresh=False)
    try:
        yield numbers
    finally:
        undo()


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


def _set(
    on_signal: Callable[[int, Any], Any], seconds: Callable[[int], float], fresh: bool = True
) -> Callable[[], None]:
    """Sets the signals' handler and returns what undoes it; outside the main thread, which alone may, nothing is done.

    SIGHUP stays ignored where it is: `nohup` wants it so.

    Args:
        on_signal: The handler.
        seconds: Says of each signal how long the process may go on after it.
        fresh: Whether the command to be typed again starts over as this one did.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    wanted = [number for number in NUMBERS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in wanted}
    to_read, to_write = os.pipe()
    os.set_blocking(to_write, False)
    descriptor = signal.set_wakeup_fd(to_write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(to_read, seconds, fresh), name="jaxexp-signals", daemon=True).start()

    def undo() -> None:
        signal.set_wakeup_fd(descriptor)
        os.close(to_write)
        for number, handler in before.items():
            signal.signal(number, handler)

    return undo


def _watch(descriptor: int, seconds: Callable[[int], float], fresh: bool) -> None:
    """Ends the process when a signal's time is over; until nobody writes their numbers to the pipe any more.

    Source: `signal.set_wakeup_fd` in Python's documentation.
    """
    until, number = math.inf, 0
    while True:
        left = None if until == math.inf else max(0.0, until - time.monotonic())
        if not select.select([descriptor], [], [], left)[0]:
            _end(number, fresh)
        content = os.read(descriptor, 64)
        if not content:
            os.close(descriptor)
            return
        for came in filter(NUMBERS.__contains__, content):
            until, number = min((until, number), (time.monotonic() + seconds(came), came))


def command(fresh: bool = True) -> str:
    """Returns the command line that started this process, to be typed again.

    Args:
        fresh: Whether `--fresh` stays in it: once a folder was begun, it would put aside what is to be gone on with.
    """
    module = getattr(sys.modules["__main__"], "__spec__", None)
    if module is not None:
        words = ["python", "-m", module.name.removesuffix(".__main__")]
    elif sys.argv[0].endswith(".py"):
        words = ["python", sys.argv[0]]
    else:
        words = [Path(sys.argv[0]).name]
    return shlex.join([*words, *(word for word in sys.argv[1:] if fresh or word != "--fresh")])

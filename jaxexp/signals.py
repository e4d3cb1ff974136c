"""Being asked to stop, by Ctrl-C or SIGTERM: one line, no traceback, exit code 130 or 143.

While it trains, `foreground` listens itself and ends the segment first. At any other moment the process ends at once: a
run folder survives that, and an exception may not be raised anywhere: libraries swallow it in callbacks, or abort.
"""

import contextlib
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

INTERRUPTED, TERMINATED = 130, 143
_TOLD = "stopped at once; what was committed is kept"


def listen(as_json: bool = False) -> dict[signal.Signals, Any]:
    """Lets both signals end the process at once; returns the handlers before (none outside the main thread).

    Args:
        as_json: Whether to say so in a JSON document on standard output as well.
    """

    def on_signal(number: int, _frame: Any) -> NoReturn:
        code = TERMINATED if number == signal.SIGTERM else INTERRUPTED
        os.write(2, f"\n{_TOLD}\n".encode())
        if as_json:
            os.write(1, json.dumps({"error": _TOLD, "exit": code}).encode())
        os._exit(code)

    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}


@contextlib.contextmanager
def listening(as_json: bool) -> Iterator[None]:
    """Listens while what is inside goes on."""
    before = listen(as_json)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def command() -> str:
    """Returns the command line that started this process, to be typed again."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        words = ["python", "-m", program.parent.name]
    elif program.suffix == ".py":
        words = ["python", "-m", f"{program.parent.name}.{program.stem}"]
    else:
        words = [program.name]
    return shlex.join([*words, *sys.argv[1:]])

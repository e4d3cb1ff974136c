"""CPU seconds of worker processes that outlive a repeat: no `wait` has told them to the process that is measured.

Linux only, by `/proc`. What has ended and was waited for is in its parent's own times.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


def logged(run: Callable[[], np.ndarray], log: str, every_seconds: float | None = None) -> Callable[[], np.ndarray]:
    """Returns `run` that also adds a line to `log` with the CPU seconds that descendants took during it.

    Args:
        run: What is measured. None of this process's own children may end in it: they are in its own times then.
        log: A path.
        every_seconds: How often to look, where workers end during `run` and their parent ignores that, so that nothing
            adds up their times; what they take after the last look is lost. Where None, only before and after.
    """

    def measured() -> np.ndarray:
        before = cpu_seconds()
        seen = dict(before)
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(seen, done, every_seconds))
        watcher.start()
        try:
            result = run()
        finally:
            done.set()
            watcher.join()
        with Path(log).open("a") as file:
            file.write(f"{sum(seen.values()) - sum(before.values())}\n")
        return result

    return measured


def _watch(seen: dict[int, float], done: threading.Event, every_seconds: float | None) -> None:
    while not done.wait(every_seconds):
        seen |= cpu_seconds()
    seen |= cpu_seconds()


def cpu_seconds() -> dict[int, float]:
    """Returns, for each living descendant, its CPU seconds and those of the processes that it has waited for."""
    parents, seconds = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        number = int(entry.parent.name)
        parents[number] = int(fields[1])
        seconds[number] = sum(map(int, fields[11:15])) * _TICK_SECONDS
    return {number: seconds[number] for number in parents if _descends(number, parents)}


def _descends(number: int, parents: dict[int, int]) -> bool:
    while number in parents:
        number = parents[number]
        if number == os.getpid():
            return True
    return False

"""CPU seconds of worker processes that outlive a repeat: no `wait` has told them to their parent.

Linux only, by `/proc`. What has ended and was waited for is in its parent's own times.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


def logged(run: Callable[[], np.ndarray], log: str) -> Callable[[], np.ndarray]:
    """Returns `run` that also adds a line to `log` with the CPU seconds that living descendants took during it."""

    def measured() -> np.ndarray:
        before = cpu_seconds()
        result = run()
        with Path(log).open("a") as file:
            file.write(f"{cpu_seconds() - before}\n")
        return result

    return measured


def cpu_seconds() -> float:
    """Returns the CPU seconds of all living descendants and of those that they have waited for."""
    parents, seconds = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        number = int(entry.parent.name)
        parents[number] = int(fields[1])
        seconds[number] = sum(map(int, fields[11:15])) * _TICK_SECONDS
    return sum(seconds[number] for number in parents if _descends(number, parents))


def _descends(number: int, parents: dict[int, int]) -> bool:
    while number in parents:
        number = parents[number]
        if number == os.getpid():
            return True
    return False

"""Measures contenders side by side: each in processes of its own, all prepared first, then one repeat after another.

What differs between contenders (virtual environment, cores, threads) is so kept apart, and what changes with time, as
heat or other work, meets all of them alike. Compiling and importing are over before a repeat begins.
"""

import contextlib
import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from benchmarks import task as tasks
from benchmarks.task import Task
from jaxexp import devices, signals

ROOT = Path(__file__).resolve().parents[1]
CAREFUL_LOOP = "careful loop"


class Contender(NamedTuple):
    """Who trains a task, and how.

    Attributes:
        name: The row's name.
        function: `module:function`, as `benchmarks.contend` takes it.
        num_runs: Runs of the task to train, about; all where None. Few are enough for who is slow.
        options: Keyword arguments of the function.
        cores: One process for each, pinned to it, which share the seeds; one process, not pinned, where empty.
        environment: Environment variables.
        python: The interpreter; this one where None.
        prefix: Words before the command, e.g. to give it a network of its own.
        most_repeats: Repeats at most.
        note: What a reader must know of the row.
    """

    name: str
    function: str
    num_runs: int | None = None
    options: Mapping[str, Any] = {}
    cores: tuple[int, ...] = ()
    environment: Mapping[str, str] = {}
    python: str | None = None
    prefix: tuple[str, ...] = ()
    most_repeats: int = 100
    note: str = ""


class Measured(NamedTuple):
    """A contender's processes and what they answered, one list of answers a repeat."""

    contender: Contender
    task: Task
    processes: list["Process"]
    seconds: list[float]
    answers: list[list[dict[str, Any]]]


class Process:
    """A running `benchmarks.contend`."""

    def __init__(self, contender: Contender, path: Path, core: int | None, cache: Path):
        command = [*contender.prefix, contender.python or sys.executable, "-m", "benchmarks.contend"]
        command += [contender.function, str(path), "--options", json.dumps(dict(contender.options))]
        command += [] if core is None else ["--core", str(core)]
        inherited = {name: value for name, value in os.environ.items() if name != "NPROC"}
        own = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        environment = {**inherited, **own, **contender.environment}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, bufsize=0)
        self._input, self._output = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)

    def tell(self) -> None:
        """Tells the contender to train once."""
        with contextlib.suppress(BrokenPipeError):
            self._input.write(b"go\n")

    def heard(self, limit_seconds: float) -> dict[str, Any]:
        """Returns the next answer; `missing` says why there is none."""
        if not select.select([self._output], [], [], limit_seconds)[0]:
            return {"missing": f"no answer within {limit_seconds:.0f} s"}
        line = self._output.readline()
        return json.loads(line) if line else {"missing": f"ended with exit code {self._process.wait()}"}

    def close(self) -> None:
        """Ends the process."""
        self._input.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()


def rows(
    task: Task,
    contenders: Sequence[Contender],
    *,
    repeats: int = 3,
    limit_seconds: float = 900.0,
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Returns one row a contender: medians over repeats, and ratios to the contender named `careful loop`.

    Args:
        task: What all of them train, or part of it.
        contenders: Who trains it.
        repeats: How often each trains it.
        limit_seconds: How long to wait for an answer.
        say: Told what is going on.
    """
    with _started(task, contenders, limit_seconds, say) as (running, made):
        for repeat in range(repeats):
            for measured in running:
                if repeat < measured.contender.most_repeats and measured.contender.name not in made:
                    _repeat(measured, made, limit_seconds)
                    say(f"{task.workload} {measured.contender.name}: {measured.seconds[-1:]}")
    made |= {measured.contender.name: _row(measured) for measured in running if measured.contender.name not in made}
    found = [made[contender.name] for contender in contenders]
    base = made.get(CAREFUL_LOOP, {})
    for row in found:
        for rate, ratio in (("trials_per_second", "ratio_to_careful_loop"), ("trials_per_cpu_second", "cpu_ratio")):
            own, other = row[rate], base.get(rate)
            row[ratio] = own / other if own and other else None
    return found


@contextlib.contextmanager
def _started(
    task: Task, contenders: Sequence[Contender], limit_seconds: float, say: Callable[[str], None]
) -> Iterator[tuple[list[Measured], dict[str, dict[str, Any]]]]:
    """Starts all contenders, one after the other, and gives those that are ready, and rows of those that are not."""
    running: list[Measured] = []
    absent: dict[str, dict[str, Any]] = {}
    with signals.temporary_folder("jaxexp-benchmark-") as folder, contextlib.ExitStack() as stack:
        for number, contender in enumerate(contenders):
            part = task if contender.num_runs is None else task.at_most(contender.num_runs)
            measured = Measured(contender, part, [], [], [])
            for share, core in enumerate(contender.cores or (None,)):
                path = folder / f"{number}-{share}.npz"
                tasks.save(part.part(seeds=slice(share, None, len(contender.cores) or 1)), path)
                process = Process(contender, path, core, folder / "cache")
                stack.callback(process.close)
                measured.processes.append(process)
            ready = [process.heard(limit_seconds) for process in measured.processes]
            say(f"{task.workload} {contender.name}: {ready[0]}")
            missing = [answer["missing"] for answer in ready if "missing" in answer]
            if missing:
                absent[contender.name] = _absent(measured, missing[0])
            else:
                running.append(measured)
        yield running, absent


def _repeat(measured: Measured, made: dict[str, dict[str, Any]], limit_seconds: float) -> None:
    began = time.perf_counter()
    for process in measured.processes:
        process.tell()
    answers = [process.heard(limit_seconds) for process in measured.processes]
    missing = [answer["missing"] for answer in answers if "missing" in answer]
    if missing:
        made[measured.contender.name] = _absent(measured, missing[0])
        return
    measured.seconds.append(time.perf_counter() - began)
    measured.answers.append(answers)


def _absent(measured: Measured, why: str) -> dict[str, Any]:
    return _blank(measured) | {"note": f"not measured: {why}"}


def _blank(measured: Measured) -> dict[str, Any]:
    return {
        "workload": measured.task.workload,
        "contender": measured.contender.name,
        "trials_per_second": None,
        "trials_per_cpu_second": None,
        "num_runs": 0,
        "num_steps": measured.task.num_steps,
        "processes": len(measured.processes),
        "seconds": [],
        "cpu_seconds": [],
        "median_loss": None,
        "peak_bytes": None,
        "note": measured.contender.note,
    }


def _row(measured: Measured) -> dict[str, Any]:
    num_runs = sum(answer["num_runs"] for answer in measured.answers[0])
    cpu = [sum(answer["cpu_seconds"] for answer in answers) for answers in measured.answers]
    return _blank(measured) | {
        "trials_per_second": num_runs / statistics.median(measured.seconds),
        "trials_per_cpu_second": num_runs / max(statistics.median(cpu), 1e-9),
        "num_runs": num_runs,
        "seconds": measured.seconds,
        "cpu_seconds": cpu,
        "median_loss": measured.answers[0][0]["median_loss"],
        "peak_bytes": max(sum(answer["peak_bytes"] for answer in answers) for answers in measured.answers),
    }


def device() -> str:
    """Returns the name of what this machine computes with, e.g. `cpu: AMD EPYC, family 25, model 17, 2 cores`."""
    return f"cpu: {devices.processor_name()}, {len(os.sched_getaffinity(0))} cores"


def document(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what `--json` prints: the device and the rows."""
    return {"device": device(), "rows": [dict(row) for row in found]}


def markdown(found: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows as a Markdown table."""
    lines = ["| workload | contender | trials/s | x careful loop | trials/CPU s | x careful loop | runs | note |"]
    lines.append("|" + " --- |" * 8)
    for row in found:
        rates = [row["trials_per_second"], row["ratio_to_careful_loop"], row["trials_per_cpu_second"], row["cpu_ratio"]]
        cells = [row["workload"], row["contender"], *map(_three_digits, rates), f"{row['num_runs']:,}", row["note"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _three_digits(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

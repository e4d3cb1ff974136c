"""What grows with the number of runs: `python -m benchmarks.scaling [TRIALSxSEEDS ...] [--workers 1 2] [--json]`.

Seconds to plan, train, report, load and table, the store's share of training, and memory, of `benchmarks/many_runs.py`
for 10^2 to 10^6 runs. Each row is made by processes of its own; the program is in the persistent compile cache before.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import measurement

ROOT = Path(__file__).resolve().parents[1]
FILE = Path(__file__).with_name("many_runs.py")
SIZES = ("100x1", "1000x1", "10000x1", "100000x1", "1000000x1", "10000x100")
_SAMPLE_SECONDS = 0.02


def measured(sizes: Sequence[str] = SIZES, workers: Sequence[int] = (1, 2)) -> list[dict[str, Any]]:
    """Returns one row a size and number of workers.

    Args:
        sizes: Trials x seeds, e.g. `10000x100`; trials are a multiple of 10.
        workers: Processes at most: jaxexp starts more than one only where the work is long enough.
    """
    rows = []
    for size in sizes:
        trials, seeds = map(int, size.split("x"))
        with tempfile.TemporaryDirectory(prefix="jaxexp-scaling-") as folder:
            _child("warm", folder, trials, seeds, 1)
            rows += [_row(Path(folder), trials, seeds, num_workers) for num_workers in workers]
    return rows


def _row(folder: Path, trials: int, seeds: int, num_workers: int) -> dict[str, Any]:
    run = folder / f"workers-{num_workers}"
    trained, peak = _child("train", str(run), trials, seeds, num_workers)
    loaded, _ = _child("load", str(run), trials, seeds, 1)
    began = time.perf_counter()
    command = [sys.executable, "-m", "jaxexp", "table", str(run), "--limit", "10"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    row = {"trials": trials, "seeds": seeds, "num_runs": trials * seeds, "workers": num_workers, **trained, **loaded}
    return row | {"table_seconds": time.perf_counter() - began, "peak_bytes": peak, "stored_bytes": size}


def _child(verb: str, folder: str, trials: int, seeds: int, num_workers: int) -> tuple[dict[str, Any], int]:
    """What a process of its own measured, and the most memory that it and its children had at any moment."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--child", verb, folder, str(trials), str(seeds)]
    process = subprocess.Popen([*command, str(num_workers)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            peak[0] = max(peak[0], sum(map(_resident_bytes, _family(process.pid))))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    output, _ = process.communicate()
    ended.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"benchmarks.scaling: {' '.join(command)} ended with exit code {process.returncode}")
    return json.loads(output.splitlines()[-1]), peak[0]


def _family(pid: int) -> Iterator[int]:
    """A process and all of its descendants.

    Source: proc(5) for `children`.
    """
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                yield from _family(int(child))


def _resident_bytes(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _measure(verb: str, folder: str, trials: int, seeds: int, num_workers: int) -> dict[str, Any]:
    """What a child process does: the verb is `warm`, `train` or `load`."""
    if verb == "load":
        import jaxexp as jx

        began = time.perf_counter()
        jx.load(folder)
        return {"load_seconds": time.perf_counter() - began}
    from benchmarks import many_runs
    from jaxexp import catalog, jobs, launch, overrides, report, worker

    words = [f"learning_rate=geomspace(1e-3,1,{trials // many_runs.NUM_MOMENTA})", f"seeds={seeds}"]
    loaded = catalog.load(str(FILE))
    study = overrides.apply(loaded.study, words, None)
    source = jobs.Source(loaded.name, loaded.text, FILE.parent)
    order = launch.Order(str(FILE), False, words, None)
    began = time.perf_counter()
    job = jobs.prepare(study, Path(folder) / "warm" if verb == "warm" else Path(folder), yes=True, source=source)
    prepared, cpu = time.perf_counter(), time.process_time()
    with contextlib.closing(launch.spread(job, order, num_workers)) as events, _timed_store() as storing:
        for _ in events:
            if verb == "warm":
                return {}
    trained, cpu = time.perf_counter(), time.process_time() - cpu
    report.write(Path(folder), study, worker.collect(job))
    return {
        "plan_seconds": prepared - began,
        "train_seconds": trained - prepared,
        # Of the process that trains and is asked here; its workers store likewise, at the same time. The wall time has
        # what the device trains meanwhile, on the same core where workers are pinned: the CPU time has not.
        "store_seconds": sum(wall for wall, _ in storing),
        "store_share": sum(wall for wall, _ in storing) / (trained - prepared),
        "store_cpu_share": sum(own for _, own in storing) / cpu,
        "report_seconds": time.perf_counter() - trained,
    }


@contextlib.contextmanager
def _timed_store() -> Iterator[list[tuple[float, float]]]:
    """Notes how long each chunk took to write, in this process: wall seconds, and CPU seconds of the writing thread."""
    from jaxexp import store

    seconds, write_chunk = list[tuple[float, float]](), store.write_chunk

    def timed(*arguments: Any) -> Any:
        began, cpu = time.perf_counter(), time.thread_time()
        try:
            return write_chunk(*arguments)
        finally:
            seconds.append((time.perf_counter() - began, time.thread_time() - cpu))

    store.write_chunk = timed
    try:
        yield seconds
    finally:
        store.write_chunk = write_chunk


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as a Markdown table."""
    units = ("plan", "train", "report", "load", "table")
    heads = ["trials", "seeds", "workers", *(f"{unit} s" for unit in units)]
    heads += ["store", "of CPU time", "peak MB", "stored MB"]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for row in rows:
        cells = [f"{row['trials']:,}", str(row["seeds"]), str(row["workers"])]
        cells += [f"{row[f'{unit}_seconds']:.2f}" for unit in units]
        cells += [f"{row[name]:.1%}" for name in ("store_share", "store_cpu_share")]
        cells += [f"{row[name] / 1e6:,.1f}" for name in ("peak_bytes", "stored_bytes")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures what the command line asks for and prints a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=SIZES, help="trials x seeds, e.g. 10000x100")
    parser.add_argument("--workers", nargs="+", type=int, default=(1, 2))
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        verb, folder, *numbers = given.child
        sys.stdout.write(json.dumps(_measure(verb, folder, *map(int, numbers))) + "\n")
        return
    document = measurement.document(measured(given.sizes, given.workers))
    text = json.dumps(document, indent=1)
    sys.stdout.write((text if given.json else f"{document['device']}\n\n{markdown(document['rows'])}") + "\n")


if __name__ == "__main__":
    main()

"""How long the first result takes: warm beside a process that only imports, cold beside one compilation.

`python -m benchmarks.starts [W1 ...] [--json]`; each figure is the median of several fresh processes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = {path.stem[:2].upper(): path for path in sorted((ROOT / "benchmarks").glob("w?_*.py"))}

IMPORTS = "import runpy; runpy.run_path({path!r}, run_name='imported')"
FIRST = """
import sys, time
from pathlib import Path
from jaxexp import catalog, worker
loaded = catalog.load({path!r})
job = worker.prepare(loaded.study, Path({folder!r}), source=worker.Source(loaded.name, loaded.text, Path(".")))
next(event for event in worker.work(job) if isinstance(event, worker.Committed))
"""
COMPILATION = """
import time
from jaxexp import catalog, engine, plans
plan = plans.plan(catalog.load({path!r}).study)
lowered = engine.lower(plan, 0)
began = time.perf_counter()
lowered.compile()
print(time.perf_counter() - began)
"""


def main() -> None:
    """Measures the workloads that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="*", choices=[*FILES, []], help="all where none is given")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = [measured(name, given.repeats) for name in given.workloads or FILES]
    if given.json:
        print(json.dumps({"rows": rows}, indent=1))
        return
    print(
        "| workload | imports alone, s | first result warm, s | more | cold, s | one compilation, s | cold - imports |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        numbers = " | ".join(f"{value:.2f}" for name, value in row.items() if name != "workload")
        print(f"| {row['workload']} | {numbers} |")


def measured(name: str, repeats: int) -> dict[str, float | str]:
    """Returns the medians of a workload, in seconds of wall time."""
    path = str(FILES[name])
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        _seconds(FIRST.format(path=path, folder=str(Path(folder) / "first")), cache)
        imports, warm, cold, compilation = [], [], [], []
        for number in range(repeats):
            run = str(Path(folder) / f"run-{number}")
            imports.append(_seconds(IMPORTS.format(path=path), cache)[0])
            warm.append(_seconds(FIRST.format(path=path, folder=run), cache)[0])
            cold.append(_seconds(FIRST.format(path=path, folder=f"{run}-cold"), cache.with_name(f"cold-{number}"))[0])
            told = _seconds(COMPILATION.format(path=path), None)[1]
            compilation.append(float(told))
    found = [statistics.median(values) for values in (imports, warm, cold, compilation)]
    return {
        "workload": name,
        "imports": found[0],
        "warm": found[1],
        "warm_more": found[1] - found[0],
        "cold": found[2],
        "compilation": found[3],
        "cold_more": found[2] - found[0],
    }


def _seconds(code: str, cache: Path | None) -> tuple[float, str]:
    """Wall seconds of a fresh process on one core, and what it printed; without a compile cache where None."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment |= {"JAX_ENABLE_COMPILATION_CACHE": "0"} if cache is None else {"XDG_CACHE_HOME": str(cache)}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return time.perf_counter() - began, done.stdout.strip()


if __name__ == "__main__":
    main()

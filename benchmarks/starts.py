"""How long the first result takes: warm beside a process that only imports, cold beside one compilation.

`python -m benchmarks.starts [W1 ...] [--json]`; each figure is the median of several fresh processes. Metrics are on
the host after the first segment; a result is a batch that is committed, so its training is included. What one
compilation takes is told with and without tracing: `jax.jit(f).lower(...).compile()`, and `.compile()` alone.
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

IMPORTS = "import os, runpy; runpy.run_path({path!r}, run_name='imported'); os._exit(0)"
FIRST = """
import os
from pathlib import Path
from jaxexp import catalog, jobs, worker
loaded = catalog.load({path!r})
job = jobs.prepare(loaded.study, Path({folder!r}), source=jobs.Source(loaded.name, loaded.text, Path(".")))
next(event for event in worker.work(job) if isinstance(event, worker.{event}))
os._exit(0)
"""
COMPILATION = """
import time
from jaxexp import catalog, engine, plans
plan = plans.plan(catalog.load({path!r}).study)
began = time.perf_counter()
lowered = engine.lower(plan, 0)
traced = time.perf_counter()
lowered.compile()
print(time.perf_counter() - began, time.perf_counter() - traced)
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
    print("| workload | " + " | ".join(name.replace("_", " ") + ", s" for name in list(rows[0])[1:]) + " |")
    print("|---" * len(rows[0]) + "|")
    for row in rows:
        print(f"| {row['workload']} | " + " | ".join(f"{row[name]:.2f}" for name in list(row)[1:]) + " |")


def measured(name: str, repeats: int) -> dict[str, float | str]:
    """Returns the medians of a workload, in seconds of wall time."""
    path = str(FILES[name])
    imports, segment, warm, cold, traced, compiled = ([] for _ in range(6))
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        told = {"path": path, "event": "Committed"}
        _seconds(FIRST.format(**told, folder=str(Path(folder) / "first")), cache)
        for number in range(repeats):
            run = str(Path(folder) / f"run-{number}")
            imports.append(_seconds(IMPORTS.format(path=path), cache)[0])
            segment.append(_seconds(FIRST.format(**told | {"event": "Segment"}, folder=f"{run}-segment"), cache)[0])
            warm.append(_seconds(FIRST.format(**told, folder=run), cache)[0])
            cold.append(_seconds(FIRST.format(**told, folder=f"{run}-cold"), cache.with_name(f"cold-{number}"))[0])
            both = _seconds(COMPILATION.format(path=path), None)[1].split()
            traced.append(float(both[0]))
            compiled.append(float(both[1]))
    import_seconds = statistics.median(imports)
    return {
        "workload": name,
        "imports_alone": import_seconds,
        "first_metrics_warm, more": statistics.median(segment) - import_seconds,
        "first_result_warm, more": statistics.median(warm) - import_seconds,
        "first_result_cold, more": statistics.median(cold) - import_seconds,
        "trace and compile": statistics.median(traced),
        "compile alone": statistics.median(compiled),
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

"""C and other frameworks beside the careful loop on W1 and W3: `python -m benchmarks.peers [optuna ...] [--json]`.

All train runs of the same task: `benchmarks.workloads` writes its points, initial values and minibatch tables to an npz
file that needs NumPy alone (scikit-learn, which takes neither, says how it differs). Each runs in processes of its own,
warmed up, interleaved; rates are medians. Slow ones train few runs: `trials` says how many.

A peer has pinned requirements, `requirements/NAME.txt`, and its own virtual environment: `--environments FOLDER` looks
for FOLDER/NAME, `--install` makes what is missing there, `--python NAME=PATH` names an interpreter. Otherwise this
interpreter is tried; what it lacks gives a row that says so.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import measurement, workloads
from benchmarks.measurement import CAREFUL_LOOP, Contender

WORKLOADS = ("W1", "W3")
LOOP_RUNS = {"W1": 64, "W3": 32}
REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements"

_LOOPBACK = ("unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
_NO_CACHE = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
_OWN = "own initial values and order of examples; W3 in 986 steps"
_ACTORS = {"workers": True, "loopback": True}
_IMPORTABLE = {"PYTHONPATH": str(measurement.ROOT)}


class Peer(NamedTuple):
    """One way to train the sweep.

    Attributes:
        venv: The name on the command line, of the requirements and of the virtual environment.
        contender: How it is measured, without what depends on the workload.
        num_runs: Runs that it trains, for each workload.
        workers: Whether it has worker processes that live on between repeats.
        loopback: Whether it needs a network namespace of its own.
    """

    venv: str
    contender: Contender
    num_runs: Mapping[str, int]
    workers: bool = False
    loopback: bool = False


def _peer(venv: str, name: str, function: str, w1: int, w3: int, note: str = "", **more: Any) -> Peer:
    own = {part: more.pop(part) for part in ("workers", "loopback") if part in more}
    contender = Contender(name, f"benchmarks.peers.{function}", note=note, **more)
    return Peer(venv, contender, {"W1": w1, "W3": w3}, **own)


PEERS = (
    _peer("c", "C by hand, one thread", "compiled_c:sweep", 1024, 256, "16 floats a register"),
    _peer("optuna", "Optuna, in memory", "optuna_study:sweep", 64, 32, "GridSampler, compiled objective"),
    _peer("optuna", "Optuna, SQLite", "optuna_study:sweep", 32, 32, "as in memory", options={"sqlite": True}),
    _peer("torch", "torch.func vmap(grad)", "torch_nets:vmapped", 64, 32, "32 runs at once", options={"width": 32}),
    _peer("torch", "PyTorch eager loop", "torch_nets:eager", 2, 2),
    _peer("hydra", "Hydra, basic launcher", "hydra_jobs:sweep", 32, 32, "multirun in one process, compiled objective"),
    _peer("joblib", "joblib, 2 jobs", "joblib_loop:sweep", 64, 64, "each has compiled before", workers=True),
    _peer("sklearn", "scikit-learn GridSearchCV, 2 jobs", "sklearn_grid:sweep", 8, 8, _OWN, workers=True),
    _peer(
        "process", "a fresh process a trial", "fresh_process:sweep", 2, 2, "compiles each time", environment=_NO_CACHE
    ),
    _peer("process", "a fresh process a trial, kept programs", "fresh_process:sweep", 2, 2, "JAX's persistent cache"),
    _peer("ray", "Ray Tune, 2 at a time", "ray_tune:sweep", 8, 8, "reused actors", environment=_IMPORTABLE, **_ACTORS),
)
NAMES = tuple(dict.fromkeys(peer.venv for peer in PEERS))


def rows(
    names: Sequence[str] = NAMES,
    *,
    pythons: Mapping[str, str] = {},
    chosen: Sequence[str] = WORKLOADS,
    repeats: int = 3,
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Returns a row for the careful loop and for each peer, in each workload.

    Args:
        names: Of `NAMES`.
        pythons: The interpreter of each name; this one where there is none.
        chosen: Workloads, W1 or W3.
        repeats: How often each trains its runs.
        say: Told what is going on.
    """
    found = []
    for workload in chosen:
        with tempfile.TemporaryDirectory(prefix="jaxexp-peers-") as folder:
            logs = {peer.contender.name: Path(folder) / str(number) for number, peer in enumerate(PEERS)}
            contenders = [Contender(CAREFUL_LOOP, "benchmarks.natural:careful_loop", LOOP_RUNS[workload])]
            for peer in PEERS:
                if peer.venv in names:
                    contenders.append(_contender(peer, workload, pythons, logs[peer.contender.name]))
            made = measurement.rows(workloads.task(workload), contenders, repeats=repeats, say=say)
            found += [_finished(row, logs.get(row["contender"])) for row in made]
    return _with_ratios(found)


def _contender(peer: Peer, workload: str, pythons: Mapping[str, str], log: Path) -> Contender:
    options = {**peer.contender.options, **({"log": str(log)} if peer.workers else {})}
    prefix = _LOOPBACK if peer.loopback and _has_namespaces() else ()
    python = pythons.get(peer.venv)
    return peer.contender._replace(num_runs=peer.num_runs[workload], options=options, prefix=prefix, python=python)


def _has_namespaces() -> bool:
    try:
        return not subprocess.run([*_LOOPBACK, "true"], capture_output=True, check=False).returncode
    except FileNotFoundError:
        return False


def _finished(row: dict[str, Any], log: Path | None) -> dict[str, Any]:
    """The row with its device, and the CPU seconds of workers that still live."""
    row = {**row, "trials": row["num_runs"], "device": measurement.device()}
    if row["note"].startswith("not measured: No module named"):
        row["note"] += "; `--environments FOLDER --install` installs it"
    if log and log.exists() and row["seconds"]:
        extra = [float(line) for line in log.read_text().splitlines()]
        row["cpu_seconds"] = [own + workers for own, workers in zip(row["cpu_seconds"], extra, strict=True)]
        row["trials_per_cpu_second"] = row["trials"] / statistics.median(row["cpu_seconds"])
    return row


def _with_ratios(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    loops = {row["workload"]: row["trials_per_cpu_second"] for row in found if row["contender"] == CAREFUL_LOOP}
    for row in found:
        own, loop = row["trials_per_cpu_second"], loops[row["workload"]]
        row["cpu_ratio"] = own / loop if own and loop else None
    return found


def interpreters(names: Sequence[str], folder: Path | None, given: Mapping[str, str], install: bool) -> dict[str, str]:
    """Returns the interpreter of each name that has one: given, or FOLDER/NAME/bin/python, made there if `install`."""
    pythons = dict(given)
    for name in names:
        if folder is None or name in pythons or name in ("c", "process"):  # these two need what is here
            continue
        python = folder.absolute() / name / "bin" / "python"
        if install and not python.exists():
            _install(name, python)
        if python.exists():
            pythons[name] = str(python)
    return pythons


def _install(name: str, python: Path) -> None:
    environment = python.parents[1]
    command = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS / f"{name}.txt")]
    try:
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run(command, check=True)
    except BaseException:
        shutil.rmtree(environment, ignore_errors=True)  # half an environment would be taken for a whole one
        raise


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures the peers that the command line names and prints their rows."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all where none")
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="both where not given")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH", help="a peer's interpreter")
    parser.add_argument("--environments", type=Path, metavar="FOLDER", help="where FOLDER/NAME/bin/python are")
    parser.add_argument("--install", action="store_true", help="make the virtual environments that FOLDER lacks")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    pythons = dict(text.partition("=")[::2] for text in given.python)
    if unknown := {*given.names, *pythons} - set(NAMES):
        parser.error(f"no peer is called {', '.join(sorted(unknown))}: they are {', '.join(NAMES)}")
    if absent := [path for path in pythons.values() if not shutil.which(path)]:
        parser.error(f"no such interpreter: {', '.join(absent)}")
    if given.install and not given.environments:
        parser.error("--install needs --environments FOLDER, where to install")
    names = given.names or NAMES
    pythons = interpreters(names, given.environments, pythons, given.install)
    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    found = rows(names, pythons=pythons, chosen=given.workload or WORKLOADS, repeats=given.repeats, say=say)
    print(json.dumps(measurement.document(found), indent=1) if given.json else measurement.markdown(found))


if __name__ == "__main__":
    main()

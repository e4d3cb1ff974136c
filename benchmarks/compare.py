"""jaxexp beside hand-written JAX on W1 to W4: `python -m benchmarks.compare [W1 ...] [--quick] [--json]`.

Trials per wall second and per CPU second, medians of interleaved repeats, and their ratios to the careful loop; what
is compiled is compiled before a repeat begins. `--quick` (and `jaxexp bench`) measures the rows that matter on W1 and
W3 in under 3 minutes. Other frameworks are in `benchmarks.peers`.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import measurement, workloads
from benchmarks.measurement import CAREFUL_LOOP, Contender
from jaxexp import documents, signals

LOOP_RUNS = {"W1": 128, "W2": 64, "W3": 64, "W4": 3}
"""Runs of the careful loop: a second or so of work, spread over the sweep; each costs the same."""

LONG_SEEDS = {"W1": 1024, "W2": 256, "W3": 320, "W4": 128}
"""Seeds with which the sweep is about a minute of work for one core, so that two workers pay."""

NATURAL_SEEDS = {"W2": 64}
"""Seeds with which the sweep of the flax module is long enough for its tile to be timed, where that matters."""

QUICK_SEEDS = {"W1": 192, "W3": 64}
_ONE_THREAD = {"NPROC": "1"}


def contenders(workload: str) -> list[Contender]:
    """Returns all contenders of a workload, the project's own and those of hand-written JAX."""
    long = {"num_seeds": LONG_SEEDS[workload]}
    natural = {"num_seeds": NATURAL_SEEDS[workload]} if workload in NATURAL_SEEDS else {}
    two = tuple(sorted(os.sched_getaffinity(0))[:2])
    hand = Contender("hand-written JAX", "benchmarks.handwritten:sweep", cores=two[:1], environment=_ONE_THREAD)
    vectors = {**_ONE_THREAD, "XLA_FLAGS": "--xla_cpu_prefer_vector_width=512"}
    return [
        *_loops(workload, naive_repeats=3),
        hand,
        hand._replace(name="hand-written JAX, 512-bit vectors", environment=vectors, note=vectors["XLA_FLAGS"]),
        hand._replace(name="hand-written JAX, 2 processes", cores=two, environment=vectors, note=vectors["XLA_FLAGS"]),
        _jaxexp("jaxexp, flax model, 1 worker", num_workers=1, natural=True, **natural),
        _jaxexp("jaxexp, 1 worker", num_workers=1, **long),
        _jaxexp("jaxexp, 2 workers", num_workers=2, **long),
    ]


def quick(workload: str) -> list[Contender]:
    """Returns the contenders that `jaxexp bench` measures."""
    num_workers = min(2, len(os.sched_getaffinity(0)))
    return [*_loops(workload), _jaxexp("jaxexp", num_workers=num_workers, num_seeds=QUICK_SEEDS[workload])]


def _loops(workload: str, naive_repeats: int = 1) -> list[Contender]:
    """The loop, and naive vmap, which takes long: once where there is little time."""
    note = "the whole sweep in one vmap"
    return [
        Contender(CAREFUL_LOOP, "benchmarks.natural:careful_loop", num_runs=LOOP_RUNS[workload]),
        Contender("naive vmap", "benchmarks.natural:naive_vmap", most_repeats=naive_repeats, note=note),
    ]


def _jaxexp(name: str, **options: Any) -> Contender:
    note = f"with {options['num_seeds']} seeds: work for longer" if "num_seeds" in options else ""
    return Contender(name, "benchmarks.jaxexp_run:spread", options=options, note=note)


def measured(
    names: Sequence[str] = ("W1", "W3"),
    *,
    chosen: Callable[[str], list[Contender]] = quick,
    only: Sequence[str] = (),
    repeats: int = 3,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Returns the device and the rows of some workloads: what `jaxexp bench --json` prints.

    Args:
        names: Workloads.
        chosen: The contenders of a workload: `quick` or `contenders`.
        only: Names of contenders to measure; all where empty.
        repeats: How often each trains.
        say: Told what is going on.
    """
    found = []
    for name in names:
        wanted = [contender for contender in chosen(name) if not only or contender.name in only]
        found += measurement.rows(workloads.task(name), wanted, repeats=repeats, say=say)
    return measurement.document(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what the command line asks for and prints a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="*", help="of W1, W2, W3, W4; all (with --quick W1 and W3) where none")
    parser.add_argument("--quick", action="store_true", help="the rows of `jaxexp bench`")
    parser.add_argument("--only", action="append", default=[], help="a contender's name; may be repeated")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    given = parser.parse_args(arguments)
    names = given.workloads or (list(QUICK_SEEDS) if given.quick else list(workloads.FILES))
    unknown = set(names) - set(QUICK_SEEDS if given.quick else workloads.FILES)
    if unknown:
        parser.error(f"unknown here: {', '.join(sorted(unknown))}")
    chosen = quick if given.quick else contenders
    with documents.alone(given.json), signals.listening():
        report(measured(names, chosen=chosen, only=given.only, repeats=given.repeats, say=to_stderr), given.json)


def to_stderr(text: str) -> None:
    """Says what is going on."""
    sys.stderr.write(f"{text}\n")


def report(document: dict[str, Any], as_json: bool) -> None:
    """Prints rows as JSON, or as a Markdown table below the device's name."""
    text = (
        json.dumps(document, indent=1)
        if as_json
        else f"{document['device']}\n\n{measurement.markdown(document['rows'])}"
    )
    documents.write(f"{text}\n")


if __name__ == "__main__":
    main()

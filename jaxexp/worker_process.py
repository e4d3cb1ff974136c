"""One worker process: takes names of batches from standard input, trains and commits them, and reports.

Pinned to one core before JAX is imported. Each line is one JSON document; what the experiment prints goes to standard
error. It stops after a segment, with the batch in flight checkpointed, when its starter closes the pipe or is gone.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxexp import signals

if TYPE_CHECKING:
    from jaxexp.plans import Batch

STOP = ""

_starter = sys.stdout
"""Where the starter listens."""


def main() -> None:
    """Serves the starter of this process until it says stop.

    The first line on standard input is the order: the experiment file's `path`, `full`, `words`, `samples`, the
    `folder`, its `plan`'s digest, the `core` to be pinned to (or null), and the `digests` of the starter's programs
    and data.
    """
    for number in signals.NUMBERS:  # which may reach the whole group: the starter decides
        signal.signal(number, signal.SIG_IGN)
    global _starter
    _starter = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    order = json.loads(sys.stdin.readline())
    if order["core"] is not None:
        os.sched_setaffinity(0, {order["core"]})
    asked: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    _serve(order, asked)


def _listen(asked: queue.Queue[str]) -> None:
    for line in sys.stdin:
        asked.put(line.strip())
    asked.put(STOP)


def _serve(order: dict[str, Any], asked: queue.Queue[str]) -> None:
    from jaxexp import catalog, engine, jobs, overrides, plans, store, worker
    from jaxexp.errors import JaxexpError, OutOfMemoryError

    folder = Path(order["folder"])
    try:
        study = overrides.chosen(catalog.load(order["path"]), order["full"], order["words"], order["samples"])
        job = jobs.reopen(study, folder, order["plan"])._replace(digests=order["digests"])
    except JaxexpError as problem:  # the file may have changed, or be gone, since its starter read it
        _say({"error": f"another process cannot join in: {problem}"})
        return
    known = {batch.name: batch for batch in plans.batches(job.plan)}

    def batches() -> Iterator["Batch | None"]:
        while True:
            if asked.empty():
                yield None
            if (name := asked.get()) == STOP or STOP in asked.queue:
                return
            if store.chunk_path(folder, job.plan.digest, name).is_file():  # another process was here in the meantime
                _say({"committed": name})
            else:
                yield known[name]

    with engine.compiler(job.plan, job.lowered, ()) as program:
        _say({"ready": os.getpid()})
        events = worker.train(job, program, batches())
        try:
            with contextlib.closing(events):
                for event in events:
                    _tell(event)
                    if STOP in asked.queue:
                        break
        except OutOfMemoryError as problem:
            _say({"out_of_memory": str(problem)})
        except JaxexpError as problem:
            _say({"error": str(problem)})


def _tell(event: Any) -> None:
    """Says that a segment has ended or a batch is committed."""
    if hasattr(event, "step"):
        told = {field: getattr(event, field) for field in ("tile", "num_tiles", "step", "num_steps", "seconds")}
        _say({"batch": event.batch.name, **told})
    else:
        _say({"committed": event.batch.name})


def _say(document: dict[str, Any]) -> None:
    try:
        _starter.write(json.dumps(document) + "\n")
        _starter.flush()
    except BrokenPipeError:  # the starter is gone: standard input ends as well
        signals.silence(_starter.fileno())


if __name__ == "__main__":
    main()

"""One worker process: takes names of batches from standard input, trains and commits them, and reports.

Pinned to one core before JAX is imported. Each line is one JSON document. It stops after a segment, with the
batch in flight checkpointed, when its starter closes the pipe or is gone.
"""

import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any

STOP = ""


def main() -> None:
    """Serves the starter of this process until it says stop.

    The first line on standard input is the order: the experiment file's `path`, `full`, `words`, `samples`, the
    `folder`, and the `core` to be pinned to (or null).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the starter decides
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
    from jaxexp import catalog, engine, overrides, plans, store, worker

    loaded = catalog.load(order["path"])
    study = overrides.apply(loaded.full if order["full"] else loaded.study, order["words"], order["samples"])
    folder = Path(order["folder"])
    job = worker.reopen(study, folder)
    batches = {batch.name: batch for batch in plans.batches(job.plan)}
    made: dict[int, engine.Compiled] = {}
    _say({"ready": os.getpid()})
    while (name := asked.get()) != STOP:
        batch = batches[name]
        if store.chunk_path(folder, job.plan.digest, name).is_file():  # another process was here in the meantime
            _say({"committed": name})
            continue
        if batch.group not in made:
            made |= dict(engine.compiled(job.plan, job.lowered, [batch.group]))
        events = worker.one_batch(job, made[batch.group], batch)
        for event in events:
            if isinstance(event, worker.Committed):
                _say({"committed": name})
            else:
                told = {"tile": event.tile, "num_tiles": event.num_tiles, "step": event.step}
                _say({"batch": name, **told, "seconds": event.seconds})
            if not asked.empty() and asked.queue[0] == STOP:
                break
        events.close()


def _say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

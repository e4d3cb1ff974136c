"""Spreads a job over pinned worker processes, one for each core, once it is long enough to pay for them.

The calling process trains until the others are ready, then hands its batch in flight over by a checkpoint. A worker
that dies is started again and its batch redone, three times at most.
"""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Generator
from typing import IO, Any, NamedTuple, cast

import jax

from jaxexp import devices, worker
from jaxexp.engine import Segment
from jaxexp.errors import JaxexpError
from jaxexp.plans import Batch
from jaxexp.worker import Committed, Job

_WORTH_SECONDS = 15.0
"""Work that must be left, by one process, before more are started: starting takes some seconds of each core."""

_MEASURE_SECONDS = 2.0
_MAX_DEATHS = 3


class Order(NamedTuple):
    """How another process finds the study: the arguments of the command line."""

    path: str
    full: bool
    words: list[str]
    samples: int | None


class _Hand:
    """A worker process, and the batch that it has."""

    def __init__(self, order: Order, job: Job, core: int | None):
        devices.use_compile_cache()
        self.core, self.batch = core, cast(Batch | None, None)
        self.ready, self.ended, self._rest = False, False, b""
        command = [sys.executable, "-m", "jaxexp.worker_process"]
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(jax.config.values["jax_compilation_cache_dir"])}
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.output, self._input = cast(IO[bytes], self.process.stdout), cast(IO[bytes], self.process.stdin)
        self.tell(json.dumps({**order._asdict(), "folder": str(job.folder), "core": core}))

    def tell(self, line: str) -> None:
        """Writes a line to the worker; one that is gone is noticed when its output ends."""
        try:
            self._input.write(line.encode() + b"\n")
            self._input.flush()
        except BrokenPipeError:
            return

    def heard(self) -> list[dict[str, Any]]:
        """Returns what the worker has said since; waits for something, and notices the end."""
        # Not readline: lines that it would have read ahead are invisible to a selector.
        content = os.read(self.output.fileno(), 2**16)
        self.ended = not content
        *lines, self._rest = (self._rest + content).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Tells the worker to end, by closing the pipe that it listens to."""
        with contextlib.suppress(BrokenPipeError):
            self._input.close()

    def give(self, batch: Batch) -> None:
        """Gives the worker a batch."""
        self.batch = batch
        self.tell(batch.name)


def spread(job: Job, order: Order, num_workers: int) -> Generator[Segment | Committed]:
    """Yields the events of a job, as `worker.work` does, from as many processes as are worth it.

    Args:
        job: What `worker.prepare` gave, with a folder.
        order: How other processes find the study.
        num_workers: Processes at most; with 1 the calling process does everything.
    """
    done: set[str] = set()
    hands: list[_Hand] = []
    work = worker.work(job)
    began, runs_done = time.monotonic(), 0.0
    total = sum(batch.num_runs for batch in job.pending)
    try:
        for event in work:
            if isinstance(event, Committed):
                done.add(event.batch.name)
            yield event
            if not hands and num_workers > 1 and len(job.pending) - len(done) > 1:
                runs_done = _runs(job, done, event)
                elapsed = time.monotonic() - began
                if elapsed > _MEASURE_SECONDS and elapsed * (total - runs_done) / max(runs_done, 1e-9) > _WORTH_SECONDS:
                    hands = [_Hand(order, job, core) for core in sorted(os.sched_getaffinity(0))[:num_workers]]
            if hands and _all_ready(hands):
                break
        work.close()  # checkpoints the batch in flight, from which a worker goes on
        if hands:
            yield from _shared(job, order, hands, [batch for batch in job.pending if batch.name not in done])
    finally:
        work.close()
        _end(hands)


def _runs(job: Job, done: set[str], event: Segment | Committed) -> float:
    """Runs that are done, the batch in flight counted in part."""
    whole = sum(batch.num_runs for batch in job.pending if batch.name in done)
    if isinstance(event, Committed):
        return whole
    part = (event.tile + event.num_tiles * event.step / job.plan.study.num_steps) / len(event.batch.tiles)
    return whole + event.batch.num_runs * part


def _all_ready(hands: list[_Hand]) -> bool:
    with selectors.DefaultSelector() as selector:
        for hand in hands:
            if not hand.ready:
                selector.register(hand.output, selectors.EVENT_READ, hand)
        for key, _ in selector.select(timeout=0) if selector.get_map() else ():
            key.data.ready = any("ready" in said for said in key.data.heard())
            if key.data.ended:
                raise JaxexpError("a worker process ended before it began; run with --workers 1 to see why")
    return all(hand.ready for hand in hands)


def _shared(job: Job, order: Order, hands: list[_Hand], pending: list[Batch]) -> Generator[Segment | Committed]:
    """Hands batches out until all are committed."""
    by_name = {batch.name: batch for batch in pending}
    deaths: dict[str, int] = {}
    groups: dict[int, int] = {}
    with selectors.DefaultSelector() as selector:
        for number, hand in enumerate(hands):
            selector.register(hand.output, selectors.EVENT_READ, number)
            _next(hand, number, pending, groups)
        while any(hand.batch for hand in hands) or pending:
            for key, _ in selector.select():
                number, hand = key.data, hands[key.data]
                for said in hand.heard():
                    if "batch" in said:
                        yield Segment(by_name[said.pop("batch")], **said)
                    elif "committed" in said:
                        hand.batch = None
                        yield Committed(by_name[said["committed"]], None)
                if hand.ended:
                    selector.unregister(hand.output)
                    hands[number] = _replaced(hand, order, job, deaths, pending)
                    selector.register(hands[number].output, selectors.EVENT_READ, number)
                _next(hands[number], number, pending, groups)


def _next(hand: _Hand, number: int, pending: list[Batch], groups: dict[int, int]) -> None:
    """Gives a worker its next batch: of a group that it has compiled, else of one that nobody has."""
    if hand.batch is not None or not pending:
        return
    others = {group for worker_number, group in groups.items() if worker_number != number}
    own = [batch for batch in pending if batch.group == groups.get(number)]
    free = [batch for batch in pending if batch.group not in others]
    chosen = (own or free or pending)[0]
    pending.remove(chosen)
    groups[number] = chosen.group
    hand.give(chosen)


def _replaced(hand: _Hand, order: Order, job: Job, deaths: dict[str, int], pending: list[Batch]) -> _Hand:
    code = hand.process.wait()
    deaths[""] = deaths.get("", 0) + 1
    if deaths[""] > _MAX_DEATHS * 4:
        raise JaxexpError(f"worker processes keep ending (exit {code}); run with --workers 1 to see why")
    hand.close()
    hand.output.close()
    if hand.batch is not None:
        name = hand.batch.name
        deaths[name] = deaths.get(name, 0) + 1
        if deaths[name] >= _MAX_DEATHS:
            raise JaxexpError(
                f"batch {name} ended its worker {_MAX_DEATHS} times (exit {code}); run with --workers 1 to see why. "
                "What was committed is kept"
            )
        pending.insert(0, hand.batch)
    return _Hand(order, job, hand.core)


def _end(hands: list[_Hand]) -> None:
    """Stops the workers after their segment; their batches in flight are checkpointed."""
    for hand in hands:
        hand.close()
    for hand in hands:
        try:
            hand.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            hand.process.kill()
        hand.output.close()

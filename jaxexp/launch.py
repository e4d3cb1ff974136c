"""Spreads a job over pinned processes, one for each core, once it is long enough to pay for them.

The calling process is one of them and trains as well; the others join when they are ready. A worker that dies is
started again and its batches redone, three times at most.
"""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import jax

from jaxexp import claims, devices, plans, worker
from jaxexp.engine import Segment
from jaxexp.errors import JaxexpError, OutOfMemoryError
from jaxexp.jobs import Job
from jaxexp.plans import Batch
from jaxexp.worker import Committed

_WORTH_SECONDS = 6.0
"""Work that must be left, by one process, before more are started: each needs about 2 s to be ready."""

_SURELY_SECONDS = 150.0
"""Work, by the plan's guess, for which they are started at once: the guess is right within a factor of about 6."""

_MEASURE_SECONDS, _WAIT_SECONDS = 0.3, 0.2
_MAX_DEATHS = 3
_SELF = -1
_STARTING = "starting"


class Order(NamedTuple):
    """How another process finds the study: the arguments of the command line."""

    path: str
    full: bool
    words: list[str]
    samples: int | None


class _Hand:
    """A worker process, and the batches that it has: the one in training, the next, and one not committed yet."""

    def __init__(self, order: Order, job: Job, core: int | None):
        devices.use_compile_cache()
        self.core, self.batches = core, cast(list[Batch], [])
        self.ready, self.ended, self._rest = False, False, b""
        command = [sys.executable, "-m", "jaxexp.worker_process"]
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(jax.config.values["jax_compilation_cache_dir"])}
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.output, self._input = cast(IO[bytes], self.process.stdout), cast(IO[bytes], self.process.stdin)
        told = {"folder": str(job.folder), "plan": job.plan.digest, "core": core, "digests": job.digests}
        self.tell(json.dumps({**order._asdict(), **told}))

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
        """Gives the worker a batch, to be trained when it has done those before."""
        self.batches.append(batch)
        self.tell(batch.name)


def spread(job: Job, order: Order, num_workers: int) -> Generator[Segment | Committed | None]:
    """Yields the events of a job, as `worker.work` does, from as many processes as are worth it.

    None stands for a moment of waiting, while other processes have all that is left.

    Args:
        job: What `jobs.prepare` gave, with a folder.
        order: How other processes find the study.
        num_workers: Processes at most; with 1 the calling process does everything.
    """
    crew = _Crew(job, order, sorted(os.sched_getaffinity(0))[:num_workers])
    began, runs_done = 0.0, 0.0
    try:
        if _estimate(job) > _SURELY_SECONDS:
            crew.hire()
        while crew.pending or crew.busy():
            work = worker.work(job, crew.own_batches())
            with contextlib.closing(work):
                for event in work:
                    if isinstance(event, Committed):
                        crew.done(event.batch)
                    yield event
                    yield from crew.heard(0)
                    if began and isinstance(event, Segment):  # not the first, in whose time the program was compiled
                        runs_done += event.num_runs(job.plan.study.num_steps)
                    began = began or time.monotonic()
                    if not crew.hands and crew.pending and _worth(time.monotonic() - began, runs_done, crew.pending):
                        crew.hire()
            yield from crew.done_elsewhere()
            yield from crew.heard(None)
            if crew.pending and not crew.busy():
                time.sleep(_WAIT_SECONDS)
                yield None
    finally:
        crew.end()


def _estimate(job: Job) -> float:
    """Seconds of work that one core has with what is pending, by the plan's rough guess."""
    left = sum(batch.num_runs for batch in job.pending)
    return plans.summary(job.plan)["seconds"] * left / max(1, job.plan.num_runs) if left else 0.0


def _worth(seconds: float, runs_done: float, pending: list[Batch]) -> bool:
    """Whether so much is left, by what was done in how many seconds, that more processes pay."""
    left = sum(batch.num_runs for batch in pending)
    return seconds > _MEASURE_SECONDS and seconds * left / max(runs_done, 1e-9) > _WORTH_SECONDS


class _Crew:
    """The calling process and its worker processes, and what there is to train."""

    def __init__(self, job: Job, order: Order, cores: list[int]):
        self.job, self.order, self.cores = job, order, cores
        ordered = sorted(job.pending, key=lambda batch: batch.group)
        self.queue = claims.Queue(job.folder, job.plan.digest, ordered)
        self.hands: list[_Hand] = []
        self.groups: dict[int, int] = {}
        self.deaths: dict[str, int] = {}
        self.suspects: set[str] = set()
        self.selector = selectors.DefaultSelector()
        self.known = {batch.name: batch for batch in ordered}

    @property
    def pending(self) -> list[Batch]:
        """The batches that nobody has done, as far as is known, and none of the crew has taken."""
        return self.queue.pending

    def own_batches(self) -> Iterator[Batch]:
        """Yields the batches that the calling process trains, each chosen when the one before is trained."""
        while (batch := self._taken(_SELF)) is not None:
            yield batch

    def done(self, batch: Batch) -> None:
        """Takes note of a batch that is committed."""
        self.suspects.discard(batch.name)
        self.queue.done(batch)

    def done_elsewhere(self) -> Iterator[Committed]:
        """Yields the batches that processes of others have committed, as it turned out."""
        while self.queue.elsewhere:
            batch = self.queue.elsewhere.pop()
            self.suspects.discard(batch.name)
            yield Committed(batch, None, own=False)

    def _taken(self, number: int) -> Batch | None:
        """Takes a free batch: of a group that the process has compiled, else of one that nobody has."""
        others = {group for process, group in self.groups.items() if process != number}
        own = self.groups.get(number)
        chosen = self.queue.take(lambda batch: 0 if batch.group == own else 1 + (batch.group in others))
        if chosen is not None:
            self.groups[number] = chosen.group
        return chosen

    def hire(self) -> None:
        """Starts a process for each core but the first, on which the calling process stays."""
        if len(self.cores) < 2:
            return
        _pin(self.cores[0])
        self.hands = [_Hand(self.order, self.job, core) for core in self.cores[1:]]
        for number, hand in enumerate(self.hands):
            self.selector.register(hand.output, selectors.EVENT_READ, number)

    def busy(self) -> bool:
        """Returns whether a worker has a batch."""
        return any(hand.batches for hand in self.hands)

    def heard(self, timeout: float | None) -> Iterator[Segment | Committed | None]:
        """Yields what the workers have told, and gives them work; waits for something where `timeout` is None.

        None stands for a moment in which none has told anything: the caller may have been asked to stop.
        """
        while self.busy() or (self.hands and timeout is not None):
            ready = self.selector.select(_WAIT_SECONDS if timeout is None else timeout)
            for key, _ in ready:
                yield from self._events(key.data)
            if timeout is not None or (ready and self.pending):
                return
            if not ready:
                yield None

    def _events(self, number: int) -> Iterator[Segment | Committed]:
        hand = self.hands[number]
        for said in hand.heard():
            if "out_of_memory" in said:
                raise OutOfMemoryError(said["out_of_memory"])
            if "error" in said:
                raise JaxexpError(said["error"])
            if "batch" in said:
                yield Segment(self.known[said.pop("batch")], **said)
            elif "committed" in said:
                batch = self.known[said["committed"]]
                hand.batches.remove(batch)
                self.done(batch)
                yield Committed(batch, None)
            hand.ready = True
        if hand.ended:
            self.selector.unregister(hand.output)
            yield from self._bury(hand)
            self.hands[number] = _Hand(self.order, self.job, hand.core)
            self.selector.register(self.hands[number].output, selectors.EVENT_READ, number)
        elif hand.ready:
            # One more than is in training, but at the end, when others would wait for a batch in a queue; and while one
            # may have ended its worker none, so that it is known which and the one before is committed.
            ahead = 2 if len(self.pending) > 2 * len(self.hands) and not self.suspects else 1
            while len(hand.batches) < ahead and (batch := self._taken(number)) is not None:
                hand.give(batch)

    def _bury(self, hand: _Hand) -> Iterator[Committed]:
        """Takes a dead worker's batches back, or gives up; yields those that it had committed and not told of."""
        code = hand.process.wait()
        hand.close()
        hand.output.close()
        for batch in filter(self.queue.committed, list(hand.batches)):
            hand.batches.remove(batch)
            self.done(batch)
            yield Committed(batch, None)
        named = [batch.name for batch in hand.batches[:1]]
        for name in ("", *named) if hand.ready else ("", _STARTING):
            self.deaths[name] = self.deaths.get(name, 0) + 1
        if self.deaths.get(_STARTING, 0) >= _MAX_DEATHS or self.deaths[""] > _MAX_DEATHS * 4:
            raise JaxexpError(f"worker processes keep ending (exit {code}); run with --workers 1 to see why")
        if any(self.deaths[name] >= _MAX_DEATHS for name in named):
            raise JaxexpError(
                f"batch {named[0]} ended its worker {_MAX_DEATHS} times (exit {code}); what was committed is kept, run "
                "with --workers 1 to see why"
            )
        self.suspects.update(batch.name for batch in hand.batches)
        for batch in reversed(hand.batches):
            self.queue.back(batch)

    def end(self) -> None:
        """Stops the workers after their segment; their batches in flight are checkpointed."""
        for hand in self.hands:
            hand.close()
        for hand in self.hands:
            try:
                hand.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                hand.process.kill()
            hand.output.close()
        self.selector.close()
        self.queue.close()
        if self.hands:
            _pin(*self.cores)


def _pin(*cores: int) -> None:
    """Keeps all threads of this process on these cores."""
    for thread in Path("/proc/self/task").glob("*"):
        with contextlib.suppress(ProcessLookupError):  # a thread may have ended
            os.sched_setaffinity(int(thread.name), cores)

"""Who trains which batch: claims in a run folder, by which processes and machines divide the work.

A claim is a file with its owner and a count that the owner raises. No clocks are compared: who wants a claimed batch
watches the count and takes the claim over when it has stood still for a lease, by his own clock; at once where the
owner was a process of this machine that is gone. That a claim is taken from an owner who only slept costs work and
no result: both write the same bytes under the same name.
"""

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxexp import files, store
from jaxexp.errors import StoreError
from jaxexp.plans import Batch

LEASE_SECONDS, BEAT_SECONDS = 30.0, 5.0
SILENT_SECONDS = 10 * LEASE_SECONDS
"""After so long without a sign of life a claim is nobody's for those who look at a folder from outside."""


class Claims:
    """The claims of one process on the batches of a plan; a thread raises their counts until `close`.

    Args:
        folder: The run folder.
        digest: The plan's.
    """

    def __init__(self, folder: Path, digest: str):
        self._folder, self._digest = folder / "claims", digest
        self._owner, self._id, self._count = _process(), uuid.uuid4().hex, 0
        self._held: set[str] = set()
        self._watched: dict[str, tuple[bytes, float]] = {}
        self._lock, self._ended = threading.Lock(), threading.Event()
        files.make_folder(self._folder)
        self._thread = threading.Thread(target=self._beat, name="jaxexp-claims", daemon=True)
        self._thread.start()

    def take(self, batch: str) -> bool:
        """Returns whether the batch is this process's now; false where another has it."""
        path = self._path(batch)
        with self._lock:
            if not self._made(path) and not (self._gone(batch) and self._removed(batch) and self._made(path)):
                return False
            self._held.add(batch)
            return True

    def release(self, batch: str) -> None:
        """Gives a batch back, once it is committed or will not be."""
        with self._lock:
            self._held.discard(batch)
            if _content(self._path(batch)).get("id") == self._id:
                with contextlib.suppress(OSError):  # it is a dead owner's soon, which anybody may take
                    self._path(batch).unlink()

    def close(self) -> None:
        """Gives everything back."""
        self._ended.set()
        self._thread.join()
        for batch in list(self._held):
            self.release(batch)

    def _path(self, batch: str) -> Path:
        return self._folder / f"{batch}-{self._digest}.json"

    def _text(self) -> bytes:
        return json.dumps({"id": self._id, "count": self._count, **self._owner}).encode()

    def _made(self, path: Path) -> bool:
        """Whether a claim could be made where there was none: of several who try, one can."""
        made = False
        try:
            with path.open("xb") as file:
                made = True
                file.write(self._text())
        except FileExistsError:
            return False
        except OSError as problem:
            if made:
                path.unlink(missing_ok=True)
            raise StoreError(f"cannot write {path}: {problem.strerror}; what was committed is kept") from problem
        return True

    def _gone(self, batch: str) -> bool:
        """Whether the owner of a claim is dead, or has let it stand still for a lease."""
        content, now = _bytes(self._path(batch)), time.monotonic()
        before = self._watched.get(batch)
        if before is None or before[0] != content:
            self._watched[batch] = (content, now)
            return _dead(_parsed(content))
        return now - before[1] > LEASE_SECONDS or _dead(_parsed(content))

    def _removed(self, batch: str) -> bool:
        """Whether the claim that was watched is gone now; one that others have made meanwhile is put back."""
        path, aside = self._path(batch), self._folder / f"{files.TEMPORARY}{self._id}"
        if path.is_dir() and not path.is_symlink():
            raise StoreError(f"{path} is a folder, and none of a claim's: remove it")
        try:
            path.rename(aside)
        except FileNotFoundError:
            return False
        except OSError as problem:
            raise StoreError(f"cannot take {path} over: {problem.strerror}; what was committed is kept") from problem
        watched = _bytes(aside) == self._watched[batch][0]
        if not watched:
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink()
        return watched

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with self._lock, contextlib.suppress(OSError):  # a claim that cannot be renewed may be taken: no harm
                self._count += 1
                for batch in self._held:
                    path = self._path(batch)
                    if _content(path).get("id") == self._id:
                        self._renew(path)

    def _renew(self, path: Path) -> None:
        """Puts a claim with the raised count in the place of the one before."""
        fresh = self._folder / f"{files.TEMPORARY}{self._id}"
        try:
            fresh.write_bytes(self._text())
            fresh.rename(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise


class Queue:
    """The batches of a plan that are left to do, which other processes may be doing as well.

    Attributes:
        pending: Those that neither this process has taken nor, as far as it knows, another has done.
        elsewhere: Those that others have committed, as it turned out; for the caller to take note of and clear.

    Args:
        folder: The run folder; None where results stay in memory and nobody else can help.
        digest: The plan's.
        batches: Those that are not done.
    """

    def __init__(self, folder: Path | None, digest: str, batches: Sequence[Batch]):
        self.pending, self.elsewhere = list(batches), list[Batch]()
        self._folder, self._digest = folder, digest
        self._claims = Claims(folder, digest) if folder else None

    def take(self, preference: Callable[[Batch], Any] = lambda batch: 0) -> Batch | None:
        """Returns the free batch of the lowest `preference`, first come first served; None where none is free now."""
        for batch in sorted(self.pending, key=preference):
            free = self._claims is None or self._claims.take(batch.name)
            if self.committed(batch):  # looked for after the claim: it may have been committed just before
                self.done(batch)
                self.elsewhere.append(batch)
                self.pending.remove(batch)
            elif free:
                self.pending.remove(batch)
                return batch
        return None

    def back(self, batch: Batch) -> None:
        """Takes back a batch that this process had begun, to be begun again."""
        self.done(batch)
        self.pending.insert(0, batch)

    def done(self, batch: Batch) -> None:
        """Ends the claim on a batch."""
        if self._claims is not None:
            self._claims.release(batch.name)

    def close(self) -> None:
        """Ends all claims."""
        if self._claims is not None:
            self._claims.close()

    def committed(self, batch: Batch) -> bool:
        """Returns whether the folder has a batch, whoever trained it."""
        return self._folder is not None and store.chunk_path(self._folder, self._digest, batch.name).is_file()


def held(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yields the claims of a run folder, `BATCH-DIGEST`, and whether its owner is dead or long silent."""
    now = clock(folder / "claims")
    for path in sorted((folder / "claims").glob("[0-9]*.json")):
        if path.is_dir() and not path.is_symlink():
            continue  # none of a claim's
        yield path.stem, _dead(_content(path)) or now - _written(path) > SILENT_SECONDS


def clock(folder: Path) -> float:
    """Returns the time in seconds by the clock that dates a folder's files; by one's own where it cannot be written."""
    probe = files.temporary_beside(folder / "probe")
    with contextlib.suppress(OSError):
        probe.touch(exist_ok=False)
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)
    return time.time()


def _written(path: Path) -> float:
    """When an owner last raised its count."""
    with contextlib.suppress(OSError):
        return path.lstat().st_mtime
    return float("inf")


def _process() -> dict[str, Any]:
    """What names this process among all of this machine, and the machine among others."""
    return {"machine": _machine(), "process": os.getpid(), "began": _began(os.getpid())}


def _machine() -> str:
    """A name for this boot of this machine and this set of process numbers.

    Source: random(4) for `boot_id`, namespaces(7) for the set of process numbers.
    """
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + str(Path("/proc/self/ns/pid").readlink())
    return ""


def _began(process: int) -> str:
    """When a process began, in ticks since the machine did; nothing where there is no such process.

    Source: proc(5), field 22 of `stat`.
    """
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        return "" if fields[0] == "Z" else fields[19]  # a zombie is a process that has ended
    return ""


def _dead(owner: dict[str, Any]) -> bool:
    machine, process = owner.get("machine"), owner.get("process")
    if not machine or machine != _machine() or not isinstance(process, int):
        return False
    return _began(process) != owner.get("began")


def _bytes(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return files.read(path)
    return b""


def _parsed(content: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(content)
        return found if isinstance(found, dict) else {}
    return {}


def _content(path: Path) -> dict[str, Any]:
    return _parsed(_bytes(path))

"""Walks the README as a newcomer would: each command pasted as it stands, in a fresh clone.

`python scripts/newcomer.py` takes from README.md, in order: the commands after `$` in its console blocks; the Python
block that a sentence says to save, which is saved; and the commands about that file in the text beneath. Each is
printed with its exit code and time; at the first one that fails, its output too, and the exit code is 1. `make` uses
the package index, and the whole takes minutes: `--skip REGEX` leaves commands out, `--keep` keeps the clone.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
NAME = "jaxexp"
"""What the clone is called: the README says `cd jaxexp`."""

REPOSITORY = "<this repository>"
SECONDS = 1800.0

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SAVE = re.compile(r"Save this as `([^`\s]+)`")
_SPAN = re.compile(r"`(jaxexp [^`]+)`")


class Step(NamedTuple):
    """One thing that a newcomer does: a command to type or, with a path, a text to save there."""

    text: str
    path: str = ""


class Outcome(NamedTuple):
    """What became of a command."""

    command: str
    code: int
    seconds: float
    output: str


def steps(readme: str) -> list[Step]:
    """Returns what a README says to type and to save, in order; nothing twice.

    Args:
        readme: Its text.

    Returns:
        The commands of its console blocks; the Python block below `Save this as PATH`; the commands in its text that
        are about that file.
    """
    found: list[Step] = []
    end, saved = 0, ""
    for fence in _FENCE.finditer(readme):
        found += _inline(readme[end : fence.start()], saved)
        language, content = fence.groups()
        told = _SAVE.search(readme, end, fence.start())
        if language == "python" and told:
            saved = told.group(1)
            found.append(Step(content, saved))
            found += _inline(readme[end : fence.start()], saved)
        elif language == "console":
            found += [Step(command) for command in _commands(content)]
        end = fence.end()
    return list(dict.fromkeys([*found, *_inline(readme[end:], saved)]))


def _commands(console: str) -> Iterator[str]:
    """The commands of a console block, with the lines that go on after a backslash."""
    for line in re.sub(r"\\\n>?\s*", "", console).splitlines():
        if line.startswith("$ "):
            yield re.sub(r"\s+#.*", "", line.removeprefix("$ ")).strip()


def _inline(text: str, saved: str) -> list[Step]:
    """The commands in a text that are about the saved file."""
    name = Path(saved).stem
    return [Step(span) for span in _SPAN.findall(text) if saved and name in span.split()]


def walk(todo: Sequence[Step], folder: Path, environment: Mapping[str, str], source: Path) -> Iterator[Outcome]:
    """Yields what became of each command, up to the first one that fails; saves what is to be saved.

    Args:
        todo: What `steps` gave.
        folder: Where to begin; commands may change to another.
        environment: Variables beside those of this process.
        source: What is cloned where a command says `<this repository>`; its last name is that of the clone.
    """
    for step in todo:
        if step.path:
            (folder / step.path).parent.mkdir(parents=True, exist_ok=True)
            (folder / step.path).write_text(step.text)
            continue
        command = step.text.replace(REPOSITORY, shlex.quote(str(source)))
        outcome, folder = _typed(command, folder, environment)
        yield outcome._replace(command=step.text)
        if outcome.code:
            return


def _typed(command: str, folder: Path, environment: Mapping[str, str]) -> tuple[Outcome, Path]:
    """What became of one command, and the folder in which the next one is typed."""
    began = time.monotonic()
    with tempfile.NamedTemporaryFile("r") as place:
        script = f"{command}\ncode=$?\npwd > {shlex.quote(place.name)}\nexit $code\n"
        try:
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=SECONDS,
            )
            code, output = done.returncode, done.stdout
        except subprocess.TimeoutExpired:
            code, output = 124, f"not done after {SECONDS:.0f} s"
        after = place.read().strip()
    return Outcome(command, code, time.monotonic() - began, output), Path(after or folder)


def _show(outcome: Outcome) -> None:
    sys.stdout.write(f"exit {outcome.code:<3} {outcome.seconds:7.1f} s  $ {outcome.command}\n")
    if outcome.code:
        sys.stdout.write("\n".join(outcome.output.splitlines()[-30:]) + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Walks the README of this checkout in a fresh clone of it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=ROOT, help="the checkout; what is not committed is not cloned")
    parser.add_argument("--skip", metavar="REGEX", help="leave out the commands in which this is found")
    parser.add_argument("--keep", action="store_true", help="keep the clone, and say where it is")
    given = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="newcomer-"))
    source = folder / "from" / NAME  # git names the clone by the last part of what it is given
    source.parent.mkdir()
    source.symlink_to(given.source.resolve())
    todo = steps((source / "README.md").read_text())
    chosen = [step for step in todo if step.path or not (given.skip and re.search(given.skip, step.text))]
    outcomes = []
    try:
        path = f"{folder / NAME / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        for outcome in walk(chosen, folder, {"PATH": path}, source):
            outcomes.append(outcome)
            _show(outcome)
    finally:
        if given.keep:
            sys.stdout.write(f"kept     {folder}\n")
        else:
            subprocess.run(["rm", "-rf", str(folder)], check=False)
    failed = not outcomes or any(outcome.code for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    sys.stdout.write(f"{len(outcomes)} commands, {seconds:.0f} s: {'failed' if failed else 'all succeeded'}\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

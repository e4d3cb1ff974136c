"""Verbs that look after run folders: `status`, `doctor` and `gc`."""

from pathlib import Path
from typing import Annotated

import typer

from jaxexp import catalog
from jaxexp.commands.options import (
    FAILED,
    Json,
    Label,
    Out,
    RunName,
    errors,
)
from jaxexp.errors import StudyError


def status(name: RunName, out: Out = Path("results"), label: Label = None, as_json: Json = False) -> None:
    """Say how many runs of a folder are done, running, diverged or missing; also while it is being written."""
    with errors(as_json):
        folder = catalog.run_folder(name, out, label)
        from jaxexp import display, upkeep

        about = upkeep.state(folder)
        if as_json:
            display.json_document(about)
        else:
            display.state(about)


def doctor(
    name: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run folder or an experiment to check.")] = None,
    out: Out = Path("results"),
    label: Label = None,
    as_json: Json = False,
) -> None:
    """Say what this machine is and, of a run, whether each file is what was written. Exit code 1 where one is not."""
    with errors(as_json):
        from jaxexp import devices, display, upkeep

        devices.check()
        try:
            devices.check_settings()
        except StudyError as problem:  # files can be checked all the same
            display.err.print(f"nothing can be trained: {problem}", markup=False)
        about = upkeep.machine()
        if name is not None:
            folder = catalog.run_folder(name, out, label)
            about |= {"folder": folder, **upkeep.checked(folder)}
        if as_json:
            display.json_document(about)
        else:
            display.facts({key: value for key, value in about.items() if key != "damaged"})
            for found in about.get("damaged", ()):
                display.out.print(found["problem"], markup=False)
        if about.get("damaged"):
            raise typer.Exit(FAILED)


def gc(
    name: RunName,
    out: Out = Path("results"),
    label: Label = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what may be in use: say it where no other machine works on the run.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Name the files; remove nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove what processes that ended early have left in a run folder: temporary files, claims, old checkpoints."""
    with errors(as_json):
        folder = catalog.run_folder(name, out, label)
        from jaxexp import display, upkeep

        found = list(upkeep.stale(folder, everything))
        upkeep.remove(() if dry_run else found)
        if as_json:
            display.json_document({"folder": folder, "files": found, "removed": not dry_run})
        else:
            display.out.print(*found, sep="\n", markup=False)
            told = "would be removed" if dry_run else "removed"
            display.out.print(f"{len(found)} files {told}", markup=False)

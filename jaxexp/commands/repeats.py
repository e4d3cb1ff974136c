"""Verbs that train again: `replay` and `reproduce`."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from jaxexp import catalog
from jaxexp.commands.options import (
    REFUTED,
    Json,
    Label,
    Out,
    Quiet,
    RunName,
    Words,
    Workers,
    errors,
)
from jaxexp.errors import Interrupted


def replay(
    name: RunName,
    trial: Annotated[int, typer.Option(help="The trial's number, as `jx.load` counts them.")],
    seed: Annotated[int, typer.Option(help="The seed.")],
    out: Out = Path("results"),
    label: Label = None,
    as_json: Json = False,
) -> None:
    """Train one run of a folder again, with the same bits; where it diverged, name the first step and what did."""
    with errors(as_json):
        folder = catalog.run_folder(name, out, label or "default")
        from jaxexp import display
        from jaxexp import replay as replays

        found = replays.replay(folder, trial, seed)
        if as_json:
            display.json_document({"folder": folder, "trial": trial, "seed": seed, **found._asdict()})
        else:
            display.replayed(trial, seed, found)
        if found.differing:
            raise typer.Exit(REFUTED)


def reproduce(
    name: RunName,
    words: Words = None,
    out: Out = Path("results"),
    label: Label = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="The first so many seeds alone.")] = None,
    workers: Workers = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a recorded study again and judge it: identical, within tolerance, equivalent, or different (exit code 3).

    A run's folder or a reference is not changed, but for a record of this below reproductions/.
    """
    with errors(as_json):
        folder = catalog.run_folder(name, out, label or ("reference" if _has(out / name / "reference") else "default"))
        from jaxexp import display, foreground, recorded, store, worker
        from jaxexp import reproduce as reproductions

        order = recorded.order(store.record(folder), seeds, words or [])
        with tempfile.TemporaryDirectory(prefix="jaxexp-reproduce-") as temporary:
            study, job = reproductions.again(folder, order, Path(temporary) / "run")
            if not quiet:
                display.err.print(f"{folder}: {job.plan.num_runs:,} runs to train again", markup=False)
            try:
                job, _ = foreground.train(job, order, workers, quiet)
            except Interrupted as stop:
                raise type(stop)(
                    "interrupted; a reproduction keeps nothing of what it trained: start it again"
                ) from stop
            found = reproductions.judge(folder, study, worker.collect(job))
        path = reproductions.keep(folder, found)
        if as_json:
            display.json_document({"folder": folder, **reproductions.document(found), "record": path})
        else:
            display.reproduced(found)
            display.out.print(f"record  {path}", markup=False)
        if found.verdict == reproductions.DIFFERENT:
            raise typer.Exit(REFUTED)


def _has(folder: Path) -> bool:
    return (folder / "run.json").is_file()

"""Verbs that train again: `replay` and `reproduce`."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaxexp import catalog, signals
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

if TYPE_CHECKING:
    from jaxexp.quantities import Trained


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
        folder = catalog.run_folder(name, out, label)
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
    keep: Annotated[
        Path | None,
        typer.Option(help="A run folder to train in, which stays and is gone on with; a temporary one where none."),
    ] = None,
    workers: Workers = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train all that a folder was asked for again, and judge each claim and each metric's last value.

    The verdict is the worst of these, and the exit code 3 where it is different, else 0:
    identical: the same bits at every seed, and of a metric at every recorded step;
    within tolerance: as near as rounding explains;
    equivalent: means shown to differ by less than half a standard deviation over the seeds;
    undecided: too few seeds to show a difference or equivalence;
    different: means, or how many seeds are finite, differ by more than chance; or any bit where nothing has changed.

    A run's folder or a reference is not changed, but for a record of this below reproductions/.
    """
    with errors(as_json):
        label = "reference" if label is None and _has(out / name / "reference") else label
        folder = catalog.run_folder(name, out, label)
        from jaxexp import display
        from jaxexp import reproduce as reproductions

        with contextlib.ExitStack() as stack:
            again = keep or stack.enter_context(signals.temporary_folder("jaxexp-reproduce-")) / "run"
            try:
                trained = _trained_again(folder, again, seeds, words or [], workers, quiet)
            except Interrupted as stop:
                if keep:
                    raise
                told = "interrupted; nothing that it trained is kept (--keep FOLDER does that): start it again"
                raise Interrupted(told, stop.number) from stop
            found = reproductions.judge(folder, trained)
        path = reproductions.keep(folder, found)
        if as_json:
            display.json_document({"folder": folder, **reproductions.document(found), "record": path})
        else:
            display.reproduced(found)
            for line in (*(f"not judged  {told}" for told in found.not_judged), *found.warnings):
                display.out.print(line, markup=False)
            display.out.print(f"record  {path}", markup=False)
        if found.verdict == reproductions.DIFFERENT:
            raise typer.Exit(REFUTED)


def _trained_again(
    folder: Path, again: Path, seeds: int | None, words: list[str], workers: int | None, quiet: bool
) -> "list[Trained]":
    """Trains each plan of a folder again, all in one other folder; returns them with their results."""
    from jaxexp import display, foreground, quantities, recorded, reproduce, worker

    everything, trained = recorded.asked(folder, seeds, words), []
    for number, asked in enumerate(everything, 1):
        with display.tracing(quiet):
            job = reproduce.begun(folder, asked, again, trained)
        left = job.plan.num_runs - job.num_done
        if not quiet:
            part = f"plan {number} of {len(everything)}, " if len(everything) > 1 else ""
            display.err.print(f"{folder}: {part}{left:,} runs to train again", markup=False)
        # Without a command line that says the study, no other process can find it.
        order, most = (asked.order, workers) if asked.order else (recorded.order(folder), 1)
        job = foreground.train(job, order, most, quiet).job
        trained.append(quantities.Trained(asked, job, worker.collect(job), left))
    return trained


def _has(folder: Path) -> bool:
    return (folder / "run.json").is_file()

"""Verbs that show a run to people, and judge it: `report`, `plot` and `check`."""

import contextlib
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxexp import catalog, signals
from jaxexp.commands.options import REFUTED, By, Json, Label, Out, RunName, errors
from jaxexp.errors import JaxexpError, StoreError, StudyError, suggestion

if TYPE_CHECKING:
    from jaxexp.importance import Shares
    from jaxexp.study import Study

_SECONDS, _IDLE_SECONDS = 5, 60

Shown = Annotated[str | None, typer.Option("--metric", help="What to show; the first of evaluation where not said.")]
Kind = Annotated[
    str | None,
    typer.Option(
        "--kind",
        help="curves, sensitivity, heatmap, parallel or differences; the figures of the experiment where not said.",
    ),
]
Live = Annotated[
    bool,
    typer.Option("--live", help="Write the page every few seconds until all runs are done, or Ctrl-C."),
]


def report(
    name: RunName,
    out: Out = Path("results"),
    label: Label = None,
    metric: Shown = None,
    by: By = None,
    live: Live = False,
    as_json: Json = False,
) -> None:
    """Write a run as one page, report.html: question, verdicts, figures, table, method, and how to make it again."""
    with errors(as_json):
        folder = catalog.run_folder(name, out, label)
        from jaxexp import display

        _check_results(folder)
        code = 0
        if live:
            path, left, code = _followed(folder, metric, by)
        else:
            path, left = _written(folder, metric, by, None)
        if as_json:
            display.json_document({"report": path, "bytes": path.stat().st_size, "not_run": left})
        else:
            display.out.print(f"report  {path}", markup=False)
        if code:
            raise typer.Exit(code)


def _followed(folder: Path, metric: str | None, by: str | None) -> tuple[Path, int, int]:
    """Writes the page every few seconds: until all runs are done, nobody trains any more, or a signal comes.

    Returns it, the runs that are left, and the exit code: Ctrl-C is how a user ends it.
    """
    from jaxexp import claims, display

    idle_since = time.monotonic()
    with signals.heard("stopping; the run goes on") as asked:
        while True:
            path, left = _written(folder, metric, by, _SECONDS)
            if any(not dead for _, dead in claims.held(folder)):
                idle_since = time.monotonic()
            idle = time.monotonic() - idle_since > _IDLE_SECONDS
            if not left or idle or asked:
                break
            display.err.print(f"{path}: {left:,} runs to go; Ctrl-C ends this, not the run", markup=False)
            until = time.monotonic() + _SECONDS
            while time.monotonic() < until and not asked:
                time.sleep(0.1)
        if left:
            path, left = _written(folder, metric, by, None)  # a page that nobody writes again is not read again
    if idle:
        display.err.print(f"nobody has trained for {_IDLE_SECONDS} s: the page is as the run stands", markup=False)
    ended = [signals.code(number) for number in asked if number != signal.SIGINT]
    return path, left, ended[0] if ended else 0


def _written(folder: Path, metric: str | None, by: str | None, refresh: int | None) -> tuple[Path, int]:
    """Writes the page as the run is now, to be read again every few seconds or not; returns it and the runs left."""
    from jaxexp import results, stages, tables, worker
    from jaxexp.figures import levels
    from jaxexp.pages import page

    dataset = worker.load(folder)
    shares = _shares(dataset, levels.known_metric(dataset, metric)) if tables.metrics(dataset) else None
    left = int((results.status_at(dataset) == results.NOT_RUN).sum())
    study, notes = _study(folder)
    notes += filter(None, [stages.note(folder)])
    subject = page.subject(folder, dataset, study=study, notes=notes, metric=metric, by=by, shares=shares)
    return page.write(folder, subject, refresh if left else None), left


def _shares(dataset: Any, metric: str) -> "Shares | None":
    """Which hyperparameters matter; None where nothing is swept, or what it takes is not installed."""
    from jaxexp import importance

    with contextlib.suppress(StudyError):
        return importance.shares(dataset, metric)
    return None


def _study(folder: Path) -> "tuple[Study | None, list[str]]":
    """The study that a folder records, if its file is at hand; and what a reader has to know of that."""
    from jaxexp import matching, recorded, store

    try:
        study = recorded.study(folder)
        changed = matching.changed_texts(store.record(folder), recorded.source(folder).texts())
        note = "The experiment file or a module of it has changed since: verdicts and figures are by it as it is."
        return study, [note] * bool(changed)
    except JaxexpError as problem:
        return None, [
            f"The study is not at hand, so that claims are not judged and its own figures not drawn: {problem}"
        ]


def _check_results(folder: Path) -> None:
    if not any((folder / "plans").glob("[0-9]*.npz")):
        experiment = folder.resolve().parent.name
        raise StoreError(
            f"{folder} has no results: a reference keeps its record, its verdicts and what they rest on; train it with "
            f"`jaxexp run {experiment} --full`, then `jaxexp report {experiment} --name full`"
        )


def plot(
    name: RunName,
    out: Out = Path("results"),
    label: Label = None,
    kind: Kind = None,
    metric: Shown = None,
    as_json: Json = False,
) -> None:
    """Draw a run's figures: those of its experiment, or one of a kind that any results have."""
    with errors(as_json):
        folder = catalog.run_folder(name, out, label)
        from jaxexp import display, figures, stages

        _check_results(folder)
        if kind is not None and kind not in figures.KINDS:
            raise StudyError(f"--kind {kind} is no kind of figure{suggestion(kind, figures.KINDS)}")
        saved = _plotted(folder, kind or ("curves" if metric else None), metric)
        if as_json:
            display.json_document({"figures": saved})
        else:
            display.out.print(*saved, sep="\n", markup=False)
            if note := stages.note(folder):
                display.err.print(note, markup=False)


def _plotted(folder: Path, kind: str | None, metric: str | None) -> list[Path]:
    from jaxexp import display, worker
    from jaxexp.figures import saving

    dataset = worker.load(folder)
    if kind is not None:
        return [saving.save_kind(dataset, kind, metric, folder / "figures")]
    study, notes = _study(folder)
    for note in notes:
        display.err.print(note, markup=False)
    return saving.save(dataset, study.figures if study else (), folder / "figures")


def check(name: RunName, out: Out = Path("results"), label: Label = None, as_json: Json = False) -> None:
    """Judge the claims of a run's experiment: holds, refuted or not shown. Exit code 3 where one is refuted.

    A claim whose estimate fails is not shown, and an error after all verdicts: exit code 2.
    """
    with errors(as_json):
        folder = catalog.run_folder(name, out, label)
        from jaxexp import display, recorded, report, results, statistics, worker

        dataset = results.whole_seeds(worker.load(folder))
        try:
            found = statistics.check(recorded.study(folder), dataset)
        except statistics.ClaimsError as problem:
            if not as_json:
                display.verdicts(problem.verdicts)
            raise
        if as_json:
            display.json_document(report.plain(found))
        else:
            display.verdicts(found)
        if any(verdict.verdict == statistics.REFUTED for verdict in found):
            raise typer.Exit(REFUTED)

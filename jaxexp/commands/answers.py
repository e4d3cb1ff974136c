"""Verbs that show what a run found: `table`, `plot` and `check`."""

from pathlib import Path
from typing import Annotated

import typer

from jaxexp import catalog
from jaxexp.commands.options import (
    REFUTED,
    At,
    By,
    Json,
    Label,
    Limit,
    Metric,
    Out,
    RunName,
    errors,
)


def table(
    name: RunName,
    out: Out = Path("results"),
    label: Label = None,
    metric: Metric = None,
    at: At = None,
    by: By = None,
    limit: Limit = 30,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Print a run's results: one row a trial, mean and 95 % interval over seeds."""
    with errors(as_json):
        folder = catalog.run_folder(name, out, label or "default")
        from jaxexp import display, tables, worker

        dataset = worker.load(folder)
        shown = [metric] if metric else tables.headline(dataset)
        rows = tables.sorted_rows(tables.rows(dataset, shown=shown, at=at), by)
        if as_json:
            display.json_document(rows)
        elif as_csv:
            typer.echo(tables.to_csv(rows), nl=False)
        else:
            display.table(*tables.cells(rows[:limit]), total=len(rows))


def check(name: RunName, out: Out = Path("results"), label: Label = None, as_json: Json = False) -> None:
    """Judge the claims of a run's experiment: holds, refuted or not shown. Exit code 3 where one is refuted."""
    with errors(as_json):
        folder = catalog.run_folder(name, out, label or "default")
        from jaxexp import display, recorded, report, statistics, store, worker
        from jaxexp import study as studies

        made = recorded.study(store.record(folder))  # `compare --until` may have given some trials more seeds
        found = statistics.check(made, worker.load(folder).sel(seed=studies.seeds(made)))
        if as_json:
            display.json_document(report.plain(found))
        else:
            display.verdicts(found)
        if any(verdict.verdict == statistics.REFUTED for verdict in found):
            raise typer.Exit(REFUTED)

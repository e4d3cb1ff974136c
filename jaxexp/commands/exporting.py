"""Verbs that give results away: `table` as text, and `export` to other tools."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jaxexp import catalog
from jaxexp.commands.options import (
    At,
    By,
    Json,
    Label,
    Metric,
    Out,
    RunName,
    errors,
)
from jaxexp.errors import StudyError

_SHOWN = 30
"""Rows that are shown on a terminal where nothing else is said."""


def table(
    name: RunName,
    out: Out = Path("results"),
    label: Label = None,
    metric: Metric = None,
    at: At = None,
    by: By = None,
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD", help="One row for each value of this hyperparameter, averaged over the others; repeatable."
        ),
    ] = None,
    statistic: Annotated[str, typer.Option(metavar="mean|median", help="What is taken over seeds.")] = "mean",
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"Rows to show; {_SHOWN} of them, or all as CSV, Markdown or JSON.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    as_json: Json = False,
) -> None:
    """Print a run's results: one row a trial (or a group), mean or median and 95 % interval over seeds."""
    with errors(as_json):
        if as_csv + as_markdown + as_json > 1:
            raise StudyError("--csv, --markdown and --json are three formats: choose one")
        folder = catalog.run_folder(name, out, label)
        from jaxexp import display, stages, tables, worker

        dataset = worker.load(folder)
        fields = [field for text in group_by or () for field in text.split(",") if field]
        shown = [metric] if metric else tables.headline(dataset)
        found = tables.columns(dataset, shown=shown, at=at, group_by=fields, statistic=statistic)
        total = len(found["n"])
        on_terminal = not (as_csv or as_markdown or as_json)
        rows = tables.as_rows(tables.ordered(found, by, limit or (_SHOWN if on_terminal else total)))
        if as_json:
            display.json_document(rows)
        elif as_csv:
            typer.echo(tables.to_csv(rows), nl=False)
        elif as_markdown:
            typer.echo(tables.to_markdown(*tables.cells(rows)), nl=False)
        else:
            display.table(*tables.cells(rows), total, f"--limit {total}")
            if by is not None and not fields:
                _print_judged_apart(dataset, by, at)
            if note := stages.note(folder):
                display.out.print(note, markup=False)


def _print_judged_apart(dataset: Any, by: str, at: int | None) -> None:
    """Below a table that is sorted by a metric: what the best has at seeds that did not choose it."""
    from jaxexp import comparisons, display, tables

    name, _, step = by.removeprefix("-").partition(" @")
    if name not in tables.metrics(dataset) or min(dataset.sizes["trial"], dataset.sizes["seed"]) < 2:
        return
    try:
        trial, estimate, _ = comparisons.judged_apart(dataset, name, by.startswith("-"), int(step) if step else at)
    except StudyError:  # of a run that is not done, or diverges: no two seeds that every trial has
        return
    if not estimate.n:
        return
    words = ", ".join(f"{varied}={dataset[varied].values[trial]}" for varied in tables.varied(dataset))
    display.out.print(
        f"the first row is the best by its own seeds, which flatters it; by every other seed the best is trial {trial}"
        f" ({words}), and has at the seeds between them {comparisons.interval(estimate)}",
        markup=False,
    )


def export(
    name: RunName,
    to: Annotated[str, typer.Option(metavar="csv|parquet|zarr|tensorboard", help="The format.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write; zarr and tensorboard are folders.")],
    label: Label = None,
    long: Annotated[bool, typer.Option("--long", help="CSV and Parquet: one row a number, not one a run.")] = False,
    top: Annotated[
        int | None, typer.Option(min=1, help="The best runs alone; all, or with tensorboard 10, where it is not said.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="The metric whose last value says which runs are best, where there are several.")
    ] = None,
    smallest: Annotated[bool, typer.Option("--smallest", help="The smallest is the best, not the largest.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write over an earlier export.")] = False,
    as_json: Json = False,
) -> None:
    """Write a run's results for other tools: CSV, Parquet, Zarr or TensorBoard."""
    with errors(as_json):
        folder = catalog.run_folder(name, Path("results"), label)
        from jaxexp import display, worker
        from jaxexp import export as exports

        num_runs = exports.write(
            worker.load(folder), out, to, long=long, top=top, metric=metric, smallest=smallest, overwrite=yes
        )
        if as_json:
            display.json_document({"folder": folder, "to": to, "path": out, "runs": num_runs})
        else:
            display.out.print(f"{to}  {out}  ({num_runs:,} runs)", markup=False)

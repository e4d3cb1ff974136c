"""Verbs that plan and train: `list`, `show`, `plan`, `run` and `bench`."""

import importlib
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxexp import catalog, signals, sizes
from jaxexp.commands.options import (
    AllowMixed,
    DryRun,
    Fresh,
    Full,
    Json,
    Label,
    Name,
    Out,
    Quiet,
    Samples,
    Shard,
    TileOption,
    Words,
    Workers,
    Yes,
    errors,
)
from jaxexp.errors import StoreError, StudyError

if TYPE_CHECKING:
    from jaxexp.foreground import Done
    from jaxexp.report import Report


def list_experiments(as_json: Json = False) -> None:
    """List the experiments of this folder, each with its question."""
    found = catalog.entries()
    if as_json:
        typer.echo(json.dumps([{"name": e.name, "question": e.question, "path": str(e.path)} for e in found], indent=1))
        return
    if not found:
        typer.echo(
            f"no {catalog.FOLDER}/*.py here: copy the 40-line example of the README into {catalog.FOLDER}/mine.py"
        )
    width = max((len(entry.name) for entry in found), default=0)
    for entry in found:
        typer.echo(f"{entry.name:<{width}}  {entry.question}")


def show(name: Name, as_json: Json = False) -> None:
    """Show an experiment: its question, hyperparameters, sweep and claims."""
    with errors(as_json):
        loaded = catalog.load(name)
        from jaxexp import configs, display, study, sweep

        fields = configs.fields(loaded.study.config)
        about = {
            "name": loaded.name,
            "path": str(loaded.path),
            "question": catalog.question(loaded.path),
            "hyperparameters": [
                {
                    "name": field.name,
                    "default": getattr(loaded.study.config, field.name),
                    "kind": "dynamic" if field.dynamic else "static",
                    "swept": field.name in sweep.names(loaded.study.sweep),
                }
                for field in fields.values()
            ],
            "trials": sweep.size(loaded.study.sweep),
            "seeds": len(study.seeds(loaded.study)),
            "num_steps": loaded.study.num_steps,
            "evaluate_every": study.evaluate_every(loaded.study),
            "claims": [claim.statement for claim in loaded.study.claims],
            "full": loaded.full is not None,
        }
        if as_json:
            display.json_document(about)
        else:
            display.experiment(about)


def plan(
    name: Name,
    words: Words = None,
    full: Full = False,
    samples: Samples = None,
    tile: TileOption = None,
    yes: Yes = False,
    exact_memory: Annotated[
        bool, typer.Option("--exact-memory", help="Compile two narrow programs a group: memory to about 5 %.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print groups, tiles, programs, memory and time of a study; train nothing."""
    with errors(as_json):
        sizes.check_words(words or [], yes, samples)
        from jaxexp import overrides

        study = overrides.chosen(catalog.load(name), full, words or [], samples)
        _print_plan(study, tile, yes, as_json, exact_memory)


def run(
    name: Name,
    words: Words = None,
    out: Out = Path("results"),
    label: Label = None,
    full: Full = False,
    samples: Samples = None,
    tile: TileOption = None,
    workers: Workers = None,
    shard: Shard = None,
    fresh: Fresh = False,
    allow_mixed: AllowMixed = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a study. The same command again goes on where it stopped; more seeds or trials train the difference."""
    with errors(as_json):
        sizes.check_words(words or [], yes, samples)
        from jaxexp import files, overrides

        loaded = name if isinstance(name, catalog.Loaded) else catalog.load(name)
        study = overrides.chosen(loaded, full, words or [], samples)
        label = ("full" if full else "default") if label is None else label
        folder = out / files.check_name(loaded.name) / files.check_name(label)
        if dry_run:
            _print_plan(study, tile, yes, as_json)
            return
        from jaxexp import display, foreground, jobs, launch, plans

        source = jobs.Source(
            loaded.name, loaded.text, loaded.path.resolve().parent, full, catalog.given(loaded.path),
            tuple(words or ()), samples,
        )  # fmt: skip
        with display.tracing(quiet):
            job = jobs.prepare(
                study, folder, tile=_tile(tile), fresh=fresh, yes=yes, source=source, shard=_shard(shard),
                allow_mixed=allow_mixed,
            )  # fmt: skip
        for path in job.quarantined:
            display.err.print(f"damaged, put aside and done anew: {path}", markup=False)
        if not quiet:
            kept = f", {job.num_done:,} of them already there" if job.num_done else ""
            display.err.print(f"{loaded.name}: {job.plan.num_runs:,} runs in {len(job.plan.groups)} programs{kept}")
            display.many_programs(plans.summary(job.plan), display.err)
        order = launch.Order(str(loaded.path), full, words or [], samples)
        done = foreground.train(job, order, workers, quiet)
        left = jobs.num_left(done.job)
        if left and not shard:
            raise StoreError(f"{left:,} runs are gone from {folder} meanwhile: the same command again trains them")
        if left:
            told = f"part {shard} is done, {done.num_runs:,} runs computed; {left:,} runs are left to the others"
            display.err.print(f"{told}: jaxexp status {folder}")
            if as_json:
                about = {"folder": folder, "runs": done.job.plan.num_runs, "computed": done.num_runs, "left": left}
                display.json_document({**about, "seconds": done.seconds})
            return
        with signals.listening(fresh=False):
            _report(done, folder, study, as_json)


def _report(done: "Done", folder: Path, study: Any, as_json: bool) -> None:
    from jaxexp import display, report, statistics, tables, worker
    from jaxexp.results import NOT_FINITE

    dataset, plan = worker.collect(done.job), done.job.plan
    try:
        made = report.write(folder, study, dataset)
    except statistics.ClaimsError as problem:
        if not as_json:  # what was trained is shown, and the error is the last that is said
            num_diverged = int((dataset["status"].values == NOT_FINITE).sum())
            rows = tables.rows(dataset, shown=tables.headline(dataset))
            _print_report(folder, report.Report(rows, problem.verdicts, [], num_diverged), done)
        raise
    finally:
        worker.check_folder(done.job)  # what was written, or could not be, is another's
    if as_json:
        document = {
            "folder": folder, "runs": plan.num_runs, "computed": done.num_runs, "diverged": made.num_diverged,
            "seconds": done.seconds, "programs": len(plan.groups), "figures": made.figures, "table": made.rows,
            "claims": report.plain(made.verdicts),
        }  # fmt: skip
        display.json_document(document)
        return
    _print_report(folder, made, done)


def _print_report(folder: Path, made: "Report", done: "Done") -> None:
    from jaxexp import display, tables

    total = len(made.rows)
    display.table(*tables.cells(made.rows[:30]), total, f"jaxexp table {shlex.quote(str(folder))} --limit {total}")
    others = done.job.plan.num_runs - done.job.num_done - done.num_runs
    told = f"{done.num_runs:,} runs computed in {display.duration(done.seconds)}"
    told += f", {others:,} by other processes" if others else ""
    display.out.print(f"{told}, {made.num_diverged} diverged")
    display.verdicts(made.verdicts)
    for path in made.figures:
        display.out.print(f"figure  {path}", markup=False)
    display.out.print(f"run     {folder}", markup=False)


def bench(as_json: Json = False, quiet: Quiet = False) -> None:
    """Measure jaxexp beside a careful loop and naive vmap on two workloads; under 3 minutes on a quiet machine."""
    with errors(as_json):
        if not Path("benchmarks", "compare.py").is_file():
            raise StudyError("there is no benchmarks/compare.py here: run this in a checkout of jaxexp")
        sys.path.insert(0, str(Path.cwd()))
        compare = importlib.import_module("benchmarks.compare")
        compare.report(compare.measured(say=(lambda text: None) if quiet else compare.to_stderr), as_json)


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts) or not 0 < int(parts[0]) <= int(parts[1]):
        raise StudyError(f"--shard {text} cannot be read: write I/N with I from 1 to N, e.g. --shard 1/4")
    return int(parts[0]), int(parts[1])


def _tile(text: str | None) -> Any:
    if text is None:
        return None
    from jaxexp import plans

    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise StudyError(f"--tile {text} cannot be read: write trials x seeds, e.g. --tile 8x8")
    return plans.check_tile(plans.Tile(*map(int, parts)))


def _print_plan(study: Any, tile: str | None, yes: bool, as_json: bool, exact_memory: bool = False) -> None:
    from jaxexp import display, memory, plans

    with display.tracing():
        planned = plans.plan(study, tile=_tile(tile), yes=yes)
        summary = plans.summary(planned)
        for index, group in enumerate(summary["groups"] if exact_memory else ()):
            group["tile_bytes"] = memory.predicted(planned, index).total
    if as_json:
        display.json_document(summary)
    else:
        display.plan(summary)

"""The command line: `jaxexp VERB ...` and `python -m experiments.NAME ...`. Reads words, calls the verbs, prints.

Nothing heavy is imported before a verb needs it: `--help` and `list` answer at once.
"""

import contextlib
import importlib
import inspect
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer

from jaxexp import __version__, catalog, sizes
from jaxexp.errors import Interrupted, JaxexpError, StudyError, Terminated

if TYPE_CHECKING:
    from jaxexp.worker import Job

FAILED, USAGE, REFUTED, INTERRUPTED, TERMINATED = 1, 2, 3, 130, 143

app = typer.Typer(
    name="jaxexp",
    help="Train one experiment over thousands of (hyperparameters x seeds) as a few compiled programs.",
    epilog="Examples: jaxexp run velocity_init seeds=64  |  jaxexp plan velocity_init learning_rate=geomspace(0.1,1,5)",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="An experiment's name, or the path of its file.")]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[key=value ...]",
        help="hidden=32 sets; learning_rate=0.1,0.01 or =geomspace(1e-4,1,5) (linspace, logspace, range) makes an "
        "axis; =loguniform(1e-4,1) (uniform, choice) draws, with --samples; seeds=64 or 0:64; num_steps=500.",
    ),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or an experiment's name.")]
Out = Annotated[Path, typer.Option(help="Folder that run folders are made in.")]
Label = Annotated[str | None, typer.Option("--name", help="The run's name: its folder is OUT/EXPERIMENT/NAME.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start over; an existing run is kept beside, as NAME.old-1.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan; train and write nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Go on with more than 100,000 runs.")]
Full = Annotated[bool, typer.Option("--full", help="The study's full size: the published seeds and steps.")]
Samples = Annotated[int | None, typer.Option(help="Trials to draw where a key has a distribution.")]
TileOption = Annotated[str | None, typer.Option("--tile", help="Trials x seeds trained together, e.g. 8x8.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes at most; one for each CPU core where the work is long enough.")
]
Shard = Annotated[str | None, typer.Option(metavar="I/N", help="Train the I-th of N parts of the batches alone.")]
AllowMixed = Annotated[
    bool, typer.Option("--allow-mixed", help="Go on with a run of another machine or JAX, whose bits may differ.")
]
Metric = Annotated[str | None, typer.Option(help="Show this metric alone.")]
At = Annotated[int | None, typer.Option(help="Show the evaluation after this many steps.")]
By = Annotated[str | None, typer.Option(help="Sort by this column; -COLUMN for descending.")]
Limit = Annotated[int, typer.Option(min=1, help="Rows to show.")]


@contextlib.contextmanager
def _errors(as_json: bool) -> Iterator[None]:
    """Turns errors into one message and an exit code."""
    try:
        yield
    except Interrupted as stop:
        _fail(str(stop), TERMINATED if isinstance(stop, Terminated) else INTERRUPTED, as_json, "")
    except KeyboardInterrupt:
        _fail("interrupted at once; what was committed is kept", INTERRUPTED, as_json, "")
    except JaxexpError as problem:
        _fail(str(problem), USAGE, as_json, "error: ")


def _fail(message: str, code: int, as_json: bool, prefix: str) -> NoReturn:
    sys.stderr.write(f"{prefix}{message}\n")
    if as_json:
        from jaxexp import display

        display.json_document({"error": message, "exit": code})
    raise typer.Exit(code)


@app.callback(invoke_without_command=True)
def _start(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        typer.echo(f"jaxexp {__version__}")
        raise typer.Exit


@app.command("list")
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


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Show an experiment: its question, hyperparameters, sweep and claims."""
    with _errors(as_json):
        loaded = catalog.load(name)
        from jaxexp import configs, display, study, sweep

        listed = {entry.name: entry.question for entry in catalog.entries(loaded.path.parent)}
        fields = configs.fields(loaded.study.config)
        about = {
            "name": loaded.name,
            "path": str(loaded.path),
            "question": listed[loaded.name],
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


@app.command()
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
    with _errors(as_json):
        sizes.check_words(words or [], yes)
        from jaxexp import overrides

        study = overrides.chosen(catalog.load(name), full, words or [], samples)
        _print_plan(study, tile, yes, as_json, exact_memory)


@app.command()
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
    with _errors(as_json):
        sizes.check_words(words or [], yes)
        from jaxexp import files, overrides

        loaded = name if isinstance(name, catalog.Loaded) else catalog.load(name)
        study = overrides.chosen(loaded, full, words or [], samples)
        folder = out / files.check_name(loaded.name) / files.check_name(label or ("full" if full else "default"))
        if dry_run:
            _print_plan(study, tile, yes, as_json)
            return
        from jaxexp import display, foreground, launch, worker

        given = "" if loaded.path.parent == Path(catalog.FOLDER) or loaded.path.is_absolute() else str(loaded.path)
        source = worker.Source(
            loaded.name, loaded.text, loaded.path.resolve().parent, full, given, tuple(words or ()), samples
        )  # fmt: skip
        job = worker.prepare(
            study, folder, tile=_tile(tile), fresh=fresh, yes=yes, source=source, shard=_shard(shard),
            allow_mixed=allow_mixed,
        )  # fmt: skip
        for path in job.quarantined:
            display.err.print(f"damaged, put aside and done anew: {path}", markup=False)
        if not quiet:
            kept = f", {job.num_done:,} of them already there" if job.num_done else ""
            display.err.print(f"{loaded.name}: {job.plan.num_runs:,} runs in {len(job.plan.groups)} programs{kept}")
        order = launch.Order(str(loaded.path), full, words or [], samples)
        job, seconds = foreground.train(job, order, workers, quiet)
        left = worker.num_left(job)
        if left:
            display.err.print(f"part {shard} is done; {left:,} runs are left to the others: jaxexp status {folder}")
            if as_json:
                display.json_document({"folder": folder, "runs": job.plan.num_runs, "left": left, "seconds": seconds})
            return
        with foreground.terminable(folder):
            _report(job, folder, study, seconds, as_json)


def _report(job: "Job", folder: Path, study: Any, seconds: float, as_json: bool) -> None:
    from jaxexp import display, report, tables, worker

    made = report.write(folder, study, worker.collect(job))
    computed = job.plan.num_runs - job.num_done
    if as_json:
        document = {
            "folder": folder, "runs": job.plan.num_runs, "computed": computed, "diverged": made.num_diverged,
            "seconds": seconds, "programs": len(job.plan.groups), "figures": made.figures, "table": made.rows,
            "claims": report.plain(made.verdicts),
        }  # fmt: skip
        display.json_document(document)
        return
    display.table(*tables.cells(made.rows[:30]), total=len(made.rows))
    display.out.print(f"{computed:,} runs computed in {display.duration(seconds)}, {made.num_diverged} diverged")
    display.verdicts(made.verdicts)
    for path in made.figures:
        display.out.print(f"figure  {path}", markup=False)
    display.out.print(f"run     {folder}", markup=False)


@app.command()
def status(name: RunName, out: Out = Path("results"), label: Label = None, as_json: Json = False) -> None:
    """Say how many runs of a folder are done, running, diverged or missing; also while it is being written."""
    with _errors(as_json):
        folder = catalog.run_folder(name, out, label or "default")
        from jaxexp import display, upkeep

        about = upkeep.state(folder)
        if as_json:
            display.json_document(about)
        else:
            display.state(about)


@app.command()
def doctor(
    name: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run folder or an experiment to check.")] = None,
    out: Out = Path("results"),
    label: Label = None,
    as_json: Json = False,
) -> None:
    """Say what this machine is and, of a run, whether each file is what was written. Exit code 1 where one is not."""
    with _errors(as_json):
        from jaxexp import display, upkeep

        about = upkeep.machine()
        if name is not None:
            about |= {"folder": (folder := catalog.run_folder(name, out, label or "default"))}
            about |= {"damaged": upkeep.damaged(folder)}
        if as_json:
            display.json_document(about)
        else:
            display.facts({key: value for key, value in about.items() if key != "damaged"})
            for found in about.get("damaged", ()):
                display.out.print(found["problem"], markup=False)
        if about.get("damaged"):
            raise typer.Exit(FAILED)


@app.command()
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
    with _errors(as_json):
        folder = catalog.run_folder(name, out, label or "default")
        from jaxexp import display, upkeep

        found = list(upkeep.stale(folder, everything))
        for path in () if dry_run else found:
            path.unlink(missing_ok=True)
        if as_json:
            display.json_document({"folder": folder, "files": found, "removed": not dry_run})
        else:
            display.out.print(*found, sep="\n", markup=False)
            told = "would be removed" if dry_run else "removed"
            display.out.print(f"{len(found)} files {told}", markup=False)


@app.command()
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
    with _errors(as_json):
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


@app.command()
def plot(name: RunName, out: Out = Path("results"), label: Label = None, as_json: Json = False) -> None:
    """Draw a run's figures again: those of its experiment, or learning curves."""
    with _errors(as_json):
        folder = catalog.run_folder(name, out, label or "default")
        from jaxexp import display, figures, recorded, store, worker

        record = store.record(folder)
        known = {entry.name for entry in catalog.entries()}
        drawings = recorded.study(record).figures if record["experiment"] in known else ()
        saved = figures.save(worker.load(folder), drawings, folder / "figures")
        if as_json:
            display.json_document({"figures": saved})
        else:
            display.out.print(*saved, sep="\n", markup=False)


@app.command()
def check(name: RunName, out: Out = Path("results"), label: Label = None, as_json: Json = False) -> None:
    """Judge the claims of a run's experiment: holds, refuted or not shown. Exit code 3 where one is refuted."""
    with _errors(as_json):
        folder = catalog.run_folder(name, out, label or "default")
        from jaxexp import display, recorded, report, statistics, store, worker

        found = statistics.check(recorded.study(store.record(folder)), worker.load(folder))
        if as_json:
            display.json_document(report.plain(found))
        else:
            display.verdicts(found)
        if any(verdict.verdict == statistics.REFUTED for verdict in found):
            raise typer.Exit(REFUTED)


@app.command()
def replay(
    name: RunName,
    trial: Annotated[int, typer.Option(help="The trial's number, as `jx.load` counts them.")],
    seed: Annotated[int, typer.Option(help="The seed.")],
    out: Out = Path("results"),
    label: Label = None,
    as_json: Json = False,
) -> None:
    """Train one run of a folder again, with the same bits; where it diverged, name the first step and what did."""
    with _errors(as_json):
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


@app.command()
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
    with _errors(as_json):
        folder = catalog.run_folder(name, out, label or ("reference" if _has(out / name / "reference") else "default"))
        from jaxexp import display, foreground, recorded, store, worker
        from jaxexp import reproduce as reproductions

        order = recorded.order(store.record(folder), seeds, words or [])
        with tempfile.TemporaryDirectory(prefix="jaxexp-reproduce-") as temporary:
            study, job = reproductions.again(folder, order, Path(temporary) / "run")
            if not quiet:
                display.err.print(f"{folder}: {job.plan.num_runs:,} runs to train again", markup=False)
            job, _ = foreground.train(job, order, workers, quiet)
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


@app.command()
def bench(as_json: Json = False, quiet: Quiet = False) -> None:
    """Measure jaxexp beside a careful loop and naive vmap on two workloads; under 3 minutes on a quiet machine."""
    with _errors(as_json):
        if not Path("benchmarks", "compare.py").is_file():
            raise StudyError("there is no benchmarks/compare.py here: run this in a checkout of jaxexp")
        sys.path.insert(0, str(Path.cwd()))
        compare = importlib.import_module("benchmarks.compare")
        compare.report(compare.measured(say=(lambda text: None) if quiet else compare.to_stderr), as_json)


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or not 0 < int(parts[0]) <= int(parts[1]):
        raise StudyError(f"--shard {text} cannot be read: write I/N with I from 1 to N, e.g. --shard 1/4")
    return int(parts[0]), int(parts[1])


def _tile(text: str | None) -> Any:
    if text is None:
        return None
    from jaxexp import plans

    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise StudyError(f"--tile {text} cannot be read: write trials x seeds, e.g. --tile 8x8")
    return plans.check_tile(plans.Tile(*map(int, parts)))


def _print_plan(study: Any, tile: str | None, yes: bool, as_json: bool, exact_memory: bool = False) -> None:
    from jaxexp import display, memory, plans

    planned = plans.plan(study, tile=_tile(tile), yes=yes)
    summary = plans.summary(planned)
    for index, group in enumerate(summary["groups"] if exact_memory else ()):
        group["tile_bytes"] = memory.predicted(planned, index).total
    if as_json:
        display.json_document(summary)
    else:
        display.plan(summary)


def main(study: Any = None, *, full: Any = None) -> None:
    """Runs the command line; with a study, that of its experiment file (`python -m experiments.NAME`).

    Args:
        study: The study of the file that calls this.
        full: The same study at full size, for `--full`.
    """
    if study is None:
        app()
        return
    module = sys.modules["__main__"]
    path = Path(module.__file__ or "study.py")
    loaded = catalog.Loaded(path.stem, study, full, path.read_text(), path)
    single = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)

    def bound(**given: Any) -> None:
        run(cast(Any, loaded), **given)  # the command `run`, its experiment already given

    signature = inspect.signature(run)
    others = [parameter for name, parameter in signature.parameters.items() if name != "name"]
    bound.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
    bound.__annotations__ = {name: hint for name, hint in run.__annotations__.items() if name != "name"}
    single.command(help=(module.__doc__ or "Train this study.").split("\n")[0])(bound)
    single()

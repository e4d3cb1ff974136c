"""Arguments and options that several verbs have, exit codes, and errors as one message.

Nothing heavy is imported: `--help` and `list` answer at once.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from jaxexp import documents, signals
from jaxexp.errors import Interrupted, JaxexpError

if TYPE_CHECKING:
    from jaxexp.statistics import Verdict

FAILED, USAGE, REFUTED = 1, 2, 3

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
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
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
ScoreMetric = Annotated[str | None, typer.Option(help="The metric; that which a table shows first where none is said.")]
ScoreAt = Annotated[int | None, typer.Option(help="After this many steps; the last where nothing is said.")]
At = Annotated[int | None, typer.Option(help="Show the evaluation after this many steps.")]
By = Annotated[str | None, typer.Option(help="Sort by this column; -COLUMN for descending.")]


@contextlib.contextmanager
def errors(as_json: bool) -> Iterator[None]:
    """Turns errors, and being asked to stop, into one message and an exit code."""
    with documents.alone(as_json):
        try:
            with signals.listening():
                yield
        except Interrupted as stop:
            _fail(str(stop), signals.code(stop.number), as_json, "")
        except JaxexpError as problem:
            verdicts = getattr(problem, "verdicts", ())  # of a ClaimsError, whose module is heavy
            _fail(str(problem), USAGE, as_json, "error: ", verdicts)


def _fail(message: str, code: int, as_json: bool, prefix: str, verdicts: "Sequence[Verdict]" = ()) -> NoReturn:
    say_error(message, prefix)
    if as_json:
        json_error(message, code, verdicts)
    raise typer.Exit(code)


def say_error(message: str, prefix: str = "error: ") -> None:
    """Writes a message to standard error, where anybody reads it."""
    try:
        sys.stderr.write(f"{prefix}{message}\n")
    except (OSError, AttributeError):  # nobody does, or it is closed
        signals.silence(2)


def json_error(message: str, code: int, verdicts: "Sequence[Verdict]" = ()) -> None:
    """Prints the JSON document that stands for an error, with the verdicts where it is one of them that failed."""
    from jaxexp import display

    document: dict[str, Any] = {"error": message, "exit": code}
    if verdicts:
        from jaxexp import report

        document["claims"] = report.plain(verdicts)
    display.json_document(document)

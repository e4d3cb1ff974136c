"""The command line: `jaxexp VERB ...` and `python -m experiments.NAME ...`. Gives each verb its word.

Nothing heavy is imported before a verb needs it: `--help` and `list` answer at once.
"""

import errno
import inspect
import io
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from jaxexp import __version__, catalog, signals
from jaxexp.commands import comparing, explaining, exporting, folders, options, repeats, reporting, training

app = typer.Typer(
    name="jaxexp",
    help="Train one experiment over thousands of (hyperparameters x seeds) as a few compiled programs.",
    epilog="Examples: jaxexp run velocity_init seeds=64  |  jaxexp plan mine 'learning_rate=geomspace(0.1,1,5)'",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_VERBS = (
    *(training.plan, training.run, folders.status, exporting.table, reporting.plot, reporting.report, reporting.check),
    *(comparing.compare, explaining.importance, exporting.export),
    *(repeats.replay, repeats.reproduce, folders.doctor, folders.gc, training.bench),
)
app.command("list")(training.list_experiments)
app.command()(training.show)
for verb in _VERBS:
    app.command()(verb)


@app.callback(invoke_without_command=True)
def _start(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        typer.echo(f"jaxexp {__version__}")
        raise typer.Exit


def main(study: Any = None, *, full: Any = None) -> None:
    """Runs the command line; with a study, that of its experiment file (`python -m experiments.NAME`).

    Args:
        study: The study of the file that calls this.
        full: The same study at full size, for `--full`.
    """
    signals.listen()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack a sign of a table
    if study is None:
        _end_with(app)
    module = sys.modules["__main__"]
    path = Path(module.__file__ or "study.py")
    loaded = catalog.Loaded(path.stem, study, full, catalog.text_of(path), path)
    single = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)

    def bound(**given: Any) -> None:
        training.run(cast(Any, loaded), **given)  # the command `run`, its experiment already given

    signature = inspect.signature(training.run)
    others = [parameter for name, parameter in signature.parameters.items() if name != "name"]
    bound.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
    bound.__annotations__ = {name: hint for name, hint in training.run.__annotations__.items() if name != "name"}
    single.command(help=(module.__doc__ or "Train this study.").split("\n")[0])(bound)
    _end_with(single)


def _hint(problem: Any) -> str:
    """What to type where an unknown option may be meant for a hyperparameter or a count."""
    if type(problem).__name__ != "NoSuchOption" or "words" not in {given.name for given in problem.ctx.command.params}:
        return ""
    name = problem.option_name.strip("-").replace("-", "_")
    return f"hyperparameters, seeds and steps are set without dashes: {name}=..., e.g. seeds=64"


_NOT_PARSED: Any = typer.BadParameter.__bases__
"""What is raised where a line cannot be parsed; its other names differ between versions of typer."""


def _end_with(program: typer.Typer) -> NoReturn:
    """Ends the process with a program's exit code; what cannot be parsed or printed is told in one message."""
    try:
        code = program(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except _NOT_PARSED as problem:
        problem.show()
        hint = _hint(problem)
        if hint:
            options.say_error(hint, "")
        code = problem.exit_code
        if "--json" in sys.argv:
            options.json_error(f"{problem.format_message()}\n{hint}".strip(), code)
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EPIPE):
            raise
        signals.silence(1)
        code = options.USAGE if problem.errno == errno.ENOSPC else options.FAILED
        if problem.errno == errno.ENOSPC:
            options.say_error(f"standard output cannot be written: {problem.strerror}")
    sys.exit(code)

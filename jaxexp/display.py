"""What the command line shows: plans, tables, verdicts and progress.

Results go to standard output, all else to standard error, so that `--json` and pipes stay clean.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from jaxexp import documents, files, signals, store
from jaxexp.engine import Segment
from jaxexp.jobs import Job
from jaxexp.worker import Committed

_LINE_SECONDS = 10.0
_MANY_PROGRAMS = 8
"""So many programs of one study are worth a word on the field that they come of."""

out = Console(highlight=False, soft_wrap=True)


class _Beside:
    """Standard error, for what is said beside the results: where it cannot be written any more, the work goes on."""

    def write(self, text: str) -> int:
        """Writes a text, or falls silent."""
        self._tried(lambda: sys.stderr.write(text))
        return len(text)

    def flush(self) -> None:
        """Writes what is left, or falls silent."""
        self._tried(lambda: sys.stderr.flush())

    def __getattr__(self, name: str) -> Any:
        """Everything else is as standard error has it."""
        return getattr(sys.stderr, name)

    def _tried(self, action: Callable[[], Any]) -> None:
        if sys.stderr is not None:
            try:
                action()
            except OSError:
                signals.silence(2)


err = Console(file=cast(IO[str], _Beside()), highlight=False, soft_wrap=True)


def json_document(value: Any) -> None:
    """Prints one JSON document on standard output; numbers that JSON lacks become null."""
    documents.write(files.json_text(value))


def table(titles: Sequence[str], lines: Sequence[Sequence[str]], total: int | None = None, all_by: str = "") -> None:
    """Prints a table, and says how many of its `total` rows are left out, and, where it is given, what shows all."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        made.add_column(_plain(title.replace("_", " ")), overflow="fold")
    for line in lines:
        made.add_row(*map(_plain, line))
    # A table is as wide as its content: a pipe has no width, and nothing may be cut off there.
    wide = Console(highlight=False, width=None if out.is_terminal else 400)
    wide.print(made)
    if total is not None and total > len(lines):
        out.print(f"... and {total - len(lines)} more rows{all_by and f': {all_by} shows all'}", markup=False)


def _plain(text: str) -> Text:
    """A text as it stands: no markup, and nothing in it moves a terminal's cursor or changes its colours."""
    return Text("".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text))


def plan(summary: Mapping[str, Any]) -> None:
    """Prints a plan: runs, tile, programs, and one line a group."""
    tile = summary["tile"]
    out.print(
        f"{summary['runs']:,} runs ({summary['trials']:,} trials x {summary['seeds']:,} seeds) of "
        f"{summary['num_steps']:,} steps; {summary['runs_to_do']:,} to do",
        f"{summary['programs']} groups, one training program each; tile {tile['trials']} trials x {tile['seeds']} "
        f"seeds; {summary['batches']} batches; about {duration(summary['seconds'])} on one core (a rough guess)",
        sep="\n",
    )
    many_programs(summary, out)
    lines = [
        [
            ", ".join(f"{name}={value}" for name, value in group["static"].items()) or "all",
            f"{group['trials']:,}",
            f"{group['runs']:,}",
            f"{group['tiles']:,}",
            f"{group['tile_bytes'] / 2**20:.1f} MiB",
            duration(group["seconds"]),
        ]
        for group in summary["groups"]
    ]
    table(["group", "trials", "runs to do", "tiles", "memory", "time"], lines[:50], len(lines))


def many_programs(summary: Mapping[str, Any], console: Console) -> None:
    """Names the field of numbers that makes a study compile many programs, and what to do."""
    if summary["programs"] <= _MANY_PROGRAMS:
        return
    most = max(summary["static"], key=lambda name: summary["static"][name])
    if all(isinstance(group["static"][most], (int, float)) for group in summary["groups"]):
        console.print(
            f"{most} is static, and each of its {summary['static'][most]} values compiles a program: if it may be "
            f"traced, declare it with jx.dynamic(...), and all {most} share one",
            markup=False,
        )


def experiment(about: Mapping[str, Any]) -> None:
    """Prints what an experiment is: its question, hyperparameters, sizes and claims."""
    out.print(f"{about['name']}: {about['question']}", markup=False)
    out.print(f"file    {about['path']}", markup=False)
    sizes = f"{about['trials']:,} trials x {about['seeds']:,} seeds, {about['num_steps']:,} steps"
    out.print(f"study   {sizes}, evaluated every {about['evaluate_every']:,}" + ("; --full is larger" * about["full"]))
    lines = [
        [field["name"], str(field["default"]), field["kind"], "swept" if field["swept"] else ""]
        for field in about["hyperparameters"]
    ]
    table(["hyperparameter", "default", "kind", ""], lines)
    for claim in about["claims"]:
        out.print(f"claim   {claim}", markup=False)


def state(about: Mapping[str, Any]) -> None:
    """Prints how far a run is."""
    shown = dict(about)
    left = shown.pop("eta_seconds")
    diverged = shown.pop("first_not_finite")
    shown["running"] = f"{len(shown['running'])} batches"
    shown["bytes"] = f"{shown['bytes']:,}"
    shown |= {"time left": duration(left)} if left is not None else {}
    facts(shown)
    for run in diverged:
        out.print(f"not finite: trial {run['trial']}, seed {run['seed']}, from step {run['step']} on", markup=False)


def facts(about: Mapping[str, Any]) -> None:
    """Prints names and values, one a line; of a mapping its own names and values; numbers of bytes in MiB."""
    rows = []
    for key, value in about.items():
        if isinstance(value, Mapping):
            text = ", ".join(f"{name} {part}" for name, part in value.items())
        else:
            text = f"{value / 2**20:,.1f} MiB" if key.endswith("_bytes") else str(value)
        rows.append([key.removesuffix("_bytes").replace("_", " "), text])
    table(["", ""], rows)


def replayed(trial: int, seed: int, found: Any) -> None:
    """Prints what was seen of a run that was trained again."""
    told = ", ".join(f"{name}={value}" for name, value in found.hyperparameters.items())
    out.print(f"trial {trial}, seed {seed}: {told}", markup=False)
    table(["metric", "last value"], [[name, f"{value:.6g}"] for name, value in found.metrics.items()])
    if found.differing:
        out.print(f"not what the folder has, bit by bit: {', '.join(found.differing)}", markup=False)
    else:
        out.print("identical to the folder, bit by bit")
    if found.not_finite_step is not None:
        what = ", ".join(found.not_finite_metrics) or "a metric"
        out.print(f"not finite from step {found.not_finite_step} on: {what}", markup=False)
    if found.parameter_step is not None:
        what = ", ".join(found.parameters)
        out.print(f"first not finite in the state, after {found.parameter_step} steps: {what}", markup=False)


def reproduced(found: Any) -> None:
    """Prints a reproduction: what has changed, and the verdict on each quantity."""
    for line in found.changed:
        out.print(f"changed  {line}", markup=False)
    lines = [
        [
            judged.verdict,
            judged.quantity,
            f"{judged.difference:.3g}",
            f"{judged.comparison.mean:.3g} [{judged.comparison.low:.3g}, {judged.comparison.high:.3g}]",
            f"{judged.margin:.3g}",
            str(judged.comparison.n),
            f"{judged.comparison.power:.2f}",
        ]
        for judged in found.judged
    ]
    titles = ["verdict", "quantity", "largest difference", "of means, 90 %", "margin", "n", "power"]
    table(titles, lines[:60], len(lines))
    out.print(f"{found.verdict}: {found.num_runs:,} runs trained again", markup=False)


def verdicts(found: Sequence[Any]) -> None:
    """Prints the verdict of each claim with its estimate, interval and n."""
    marks = {"holds": "green", "refuted": "red", "not shown": "yellow"}
    for claim in found:
        e = claim.estimate
        told = (
            f"{claim.statistic} " * (claim.statistic != "mean")
            + f"{e.mean:.4g} {between(e)}, n = {e.n}"
            + (f", {e.excluded} excluded" * bool(e.excluded))
            + f", p = {claim.p:.2g}"
        )
        out.print(f"[{marks[claim.verdict]}]{claim.verdict:>9}[/]  {_escaped(claim.statement)}  ({_escaped(told)})")
        if claim.reason:
            out.print(f"           {_escaped(claim.reason)}")
    if not found:
        out.print(
            "the study claims nothing: give it `claims=(jx.Claim(statement, estimate, jx.above(0)),)`", markup=False
        )
    if len(found) > 1:
        out.print(f"p is adjusted for {len(found)} claims (Holm)")


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def between(estimate: Any) -> str:
    """Returns an interval in brackets, or that there is none: where its ends are infinite.

    Example:
        >>> from jaxexp.statistics import mean_interval
        >>> between(mean_interval([1.0])), between(mean_interval([1.0, 1.5, 2.0]))
        ('[no interval]', '[0.2579, 2.742]')
    """
    if estimate.low == -float("inf") and estimate.high == float("inf"):
        return "[no interval]"
    return f"[{estimate.low:.4g}, {estimate.high:.4g}]"


def duration(seconds: float) -> str:
    """Returns seconds as people say them.

    Example:
        >>> duration(3.21), duration(75), duration(7300)
        ('3.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


@contextlib.contextmanager
def tracing(quiet: bool = False) -> Iterator[None]:
    """Says that programs are made, before there are runs to count: live on a terminal, else once where it is long."""
    doing = "tracing the experiment's functions, once for each combination of static fields"
    if err.is_terminal and not quiet:
        with err.status(doing, refresh_per_second=4):
            yield
        return
    late = threading.Timer(_LINE_SECONDS, lambda: err.print(f"{doing} ...", markup=False))
    late.daemon = True
    if not quiet:
        late.start()
    try:
        yield
    finally:
        late.cancel()


class Meter:
    """Progress of a job: one live line a group on a terminal, else a plain line now and then."""

    def __init__(self, job: Job, quiet: bool):
        self._job, self._quiet = job, quiet
        self._live = err.is_terminal and not quiet
        self._began = self._printed = time.monotonic()
        self._done = dict.fromkeys(range(len(job.plan.groups)), 0)
        self._total = dict.fromkeys(self._done, 0)
        for batch in job.pending:
            self._total[batch.group] += batch.num_runs
        self._group_began: dict[int, float] = {}
        self._within: dict[int, dict[str, float]] = {group: {} for group in self._done}
        self._before = dict.fromkeys(self._done, 0.0)
        self._checkpointed = store.checkpointed(job.folder) if job.folder else set()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(24), MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"), console=err, disable=not self._live,
        )  # fmt: skip
        self._tasks: dict[int, Any] = {}

    def __enter__(self) -> "Meter":
        """Starts the display."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the display."""
        self._bar.stop()

    def show(self, event: Segment | Committed) -> None:
        """Shows where the job stands after an event."""
        group, now = event.batch.group, time.monotonic()
        self._group_began.setdefault(group, now - (event.seconds if isinstance(event, Segment) else 0))
        if isinstance(event, Committed):
            self._done[group] += event.batch.num_runs
            self._within[group].pop(event.batch.name, None)
        else:
            tiles, steps = len(event.batch.tiles), self._job.plan.study.num_steps
            within = event.batch.num_runs * (event.tile + event.num_tiles * event.step / steps) / tiles
            if event.batch.name in self._checkpointed:  # what it had done before this display says nothing of the rate
                self._checkpointed.remove(event.batch.name)
                self._before[group] += within - event.num_runs(steps)
            self._within[group][event.batch.name] = within
        ran = self._done[group] + sum(self._within[group].values())
        rate = (ran - self._before[group]) / max(now - self._group_began[group], 1e-9)
        left = (self._total[group] - ran) / rate if rate else float("inf")
        step = event.step if isinstance(event, Segment) else self._job.plan.study.num_steps
        note = f"step {step:,}  {rate:,.1f} runs/s  ETA {duration(left) if left < 1e8 else 'unknown'}"
        if self._live:
            if group not in self._tasks:
                self._tasks[group] = self._bar.add_task(self._label(group), total=self._total[group], note=note)
            self._bar.update(self._tasks[group], completed=int(ran), note=note)
        elif not self._quiet and (now - self._printed > _LINE_SECONDS or self._done[group] == self._total[group]):
            self._printed = now
            err.print(f"{self._label(group)}: {int(ran)}/{self._total[group]} runs  {note}", markup=False)

    def _label(self, group: int) -> str:
        static = self._job.plan.groups[group].static
        return ", ".join(f"{name}={value}" for name, value in static.items()) or "all trials"

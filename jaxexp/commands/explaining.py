"""The verb that asks which hyperparameters make a difference: `importance`."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxexp import catalog
from jaxexp.commands.options import Json, Label, Out, RunName, ScoreAt, ScoreMetric, errors
from jaxexp.errors import JaxexpError

if TYPE_CHECKING:
    from jaxexp.importance import Shares

_MAX_VALUES = 20
"""Hyperparameters with more values are not listed value by value."""

Larger = Annotated[
    bool | None,
    typer.Option("--larger/--smaller", help="Which is better; by the metric's name where nothing is said."),
]


def importance(
    name: RunName,
    out: Out = Path("results"),
    label: Label = None,
    metric: ScoreMetric = None,
    at: ScoreAt = None,
    larger: Larger = None,
    as_json: Json = False,
) -> None:
    """Say which hyperparameters of a run matter, what is lost near the best trial, and where the sweep ends too soon.

    Shares of the variance between trials, less what seeds add to it: in closed form on a full grid, else by optuna's
    fANOVA.
    """
    with errors(as_json):
        folder = catalog.run_folder(name, out, label)
        from jaxexp import comparisons, display, tables, worker
        from jaxexp import importance as importances
        from jaxexp.figures import levels

        dataset = worker.load(folder)
        metric = metric or tables.first_metric(dataset)
        larger = not levels.smaller_is_better(metric) if larger is None else larger
        found = importances.shares(dataset, metric, at)
        averages = {swept: importances.marginal(dataset, swept, metric, at) for swept in tables.varied(dataset)}
        near = importances.sensitivity(dataset, metric, larger, at)
        edges = importances.at_edge(dataset, metric, larger, at, _limits(folder))
        if as_json:
            document = {
                "folder": folder, "metric": metric, "larger_is_better": larger,
                "shares": {**found._asdict(), "pairs": [[*pair, share] for pair, share in found.pairs.items()]},
                "marginals": {
                    swept: [{"value": value, **estimate._asdict()} for value, estimate in by_value.items()]
                    for swept, by_value in averages.items()
                },
                "sensitivity": [{**step._asdict(), "lost": step.lost._asdict()} for step in near],
                "edges": edges,
            }  # fmt: skip
            display.json_document(document)
            return
        _print_shares(found, metric)
        lines = [
            [f"{swept}={_short(value)}", comparisons.interval(estimate), str(estimate.excluded)]
            for swept, by_value in averages.items()
            for value, estimate in by_value.items()
            if len(by_value) <= _MAX_VALUES
        ]
        display.table(["averaged over the others", f"{metric}, 95 %", "not finite"], lines[:60], len(lines))
        steps = [
            [f"{step.name}={_short(step.best)}", _short(step.value), comparisons.interval(step.lost)] for step in near
        ]
        display.table([f"best ({'largest' if larger else 'smallest'} {metric})", "instead", "lost, 95 %"], steps)
        for told in edges.values():
            display.out.print(told, markup=False)


def _limits(folder: Path) -> dict[str, tuple[float | None, float | None]]:
    """The least and the greatest value of each hyperparameter; none where the experiment is not at hand."""
    from jaxexp import configs, recorded

    with contextlib.suppress(JaxexpError):
        known = configs.fields(recorded.study(folder).config)
        return {name: (field.minimum, field.maximum) for name, field in known.items()}
    return {}


def _print_shares(found: "Shares", metric: str) -> None:
    from jaxexp import display

    display.out.print(f"{metric}: {found.method}", markup=False)
    for told in (*found.left_out, *[f"{found.num_diverged} runs diverged and are left out"] * bool(found.num_diverged)):
        display.out.print(told, markup=False)
    both = {" x ".join(pair): share for pair, share in found.pairs.items()}
    listed = sorted({**found.main, **both}.items(), key=lambda entry: -entry[1])
    lines = [[name, f"{share:.3f}"] for name, share in [*listed, ("all else", found.rest)]]
    display.table(["hyperparameter", "share of variance"], lines[:60], len(lines))
    if found.noise:
        display.out.print(f"seeds alone explain {found.noise:.1%} of the spread of the trials' means", markup=False)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

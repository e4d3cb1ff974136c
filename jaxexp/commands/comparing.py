"""The verb that asks whether two arms, or two runs, differ: `compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from jaxexp import catalog
from jaxexp.commands.options import (
    AllowMixed,
    Json,
    Label,
    Out,
    Quiet,
    RunName,
    ScoreAt,
    ScoreMetric,
    Workers,
    Yes,
    errors,
)
from jaxexp.errors import StudyError

if TYPE_CHECKING:
    from jaxexp.comparisons import Contrast

_NUM_FIRST = 10
"""Seeds of the first stage, at least: fewer tell the spread too badly."""

_WIDER = 1.5
"""All pairs' spread over the first stage's from which on it is told: the first stage was too calm, or not normal."""


class _Wish(NamedTuple):
    """What `--until` asks for, and how it may train."""

    width: float
    budget: int
    workers: int | None
    yes: bool
    allow_mixed: bool
    quiet: bool


def compare(
    name: RunName,
    others: Annotated[
        list[str],
        typer.Argument(
            metavar="A B | RUN2",
            help="Two arms of the run, each as words (velocity_init=zeros, or learning_rate=0.1,momentum=0.9); or "
            "another run.",
        ),
    ],
    out: Out = Path("results"),
    label: Label = None,
    metric: ScoreMetric = None,
    at: ScoreAt = None,
    margin: Annotated[
        float | None, typer.Option(help="Also test for equivalence: a difference below this counts as none.")
    ] = None,
    until: Annotated[
        float | None,
        typer.Option(
            metavar="WIDTH",
            help="Train more seeds of the two arms alone, in the run's folder, until the difference is known to "
            "+- WIDTH at 95 %: first the seeds that the folder was made for, at least 10, whose spread says how many "
            "are needed, then the others. The folder keeps which were first (stages.json): their spread alone makes "
            "the interval, now and in later comparisons of these arms. A single look is wrong in 5 % of cases; each "
            "further one, with a narrower WIDTH, may be wrong as well.",
        ),
    ] = None,
    budget: Annotated[int, typer.Option(min=10, help="Seeds at most, with --until.")] = 4096,
    workers: Workers = None,
    yes: Yes = False,
    allow_mixed: AllowMixed = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare two arms of a run, or the trials that two runs share, paired by seed.

    Trials of an arm are paired with those of the other that differ in nothing but what the words name, and averaged
    within a seed.
    """
    with errors(as_json):
        _check_width("--margin", margin)
        _check_width("--until", until)
        folder = catalog.run_folder(name, out, label)
        if len(others) == 1 and "=" in others[0] and not Path(others[0]).is_dir():
            raise StudyError(f"{others[0]} is one arm, and compare takes two: name the other one as well")
        if len(others) == 1 and until is None:
            other = catalog.run_folder(others[0], out, label)
            _compare_runs(folder, other, metric, at, margin, as_json)
        elif len(others) == 2:
            wish = None if until is None else _Wish(until, budget, workers, yes, allow_mixed, quiet)
            _compare_arms(folder, others[0], others[1], metric, at, margin, wish, as_json)
        else:
            raise StudyError(
                "compare takes two arms, `jaxexp compare RUN velocity_init=zeros velocity_init=ones`, or another run, "
                "`jaxexp compare RUN1 RUN2` (without --until)"
            )


def _check_width(option: str, value: float | None) -> None:
    """Refuses what is no width, or one that float32, which metrics have, cannot tell from 0."""
    if value is not None and not 1e-37 < value < float("inf"):
        raise StudyError(f"{option} {value} is no width above 0 that a metric can have: write e.g. {option} 0.01")


def _compare_runs(
    first: Path, second: Path, metric: str | None, at: int | None, margin: float | None, as_json: bool
) -> None:
    from jaxexp import comparisons, display, store, tables, worker

    experiments = [str(store.record(folder)["experiment"]) for folder in (first, second)]
    if experiments[0] != experiments[1]:
        raise StudyError(
            f"{first} and {second} are of the experiments {experiments[0]} and {experiments[1]}, in which a seed means "
            "different weights and data: compare runs of one experiment, e.g. of changed code with "
            f"`jaxexp run {experiments[0]} --name changed`"
        )
    datasets = worker.load(first), worker.load(second)
    chosen, metric = metric is not None, metric or tables.first_metric(datasets[0])
    found = comparisons.compare_runs(*datasets, metric, at, margin=margin)
    if as_json:
        trials = [{**_document(contrast), "sentence": None} for contrast in found]
        display.json_document({"first": first, "second": second, "trials": trials})
        return
    display.out.print(f"{metric} after {found[0].at} steps: {first} minus {second}", markup=False)
    _print_others(datasets[0], metric, chosen)
    lines = [
        [
            contrast.first,
            comparisons.interval(contrast.difference),
            str(contrast.difference.n),
            f"{contrast.first_mean.mean:.4g}",
            f"{contrast.second_mean.mean:.4g}",
            f"{contrast.p_adjusted:.2g}",
            f"{contrast.first_diverged}, {contrast.second_diverged}",
        ]
        for contrast in found
    ]
    titles = ["trial", "difference, 95 %", "pairs", "first", "second", "p (Holm)", "diverged"]
    display.table(titles, lines[:60], len(lines))
    different = sum(contrast.p_adjusted < comparisons.LEVEL for contrast in found)
    told = "" if margin is None else f", {sum(bool(c.equivalent) for c in found)} are equivalent within {margin:.3g}"
    display.out.print(f"{different} of {len(found)} shared trials differ at 5 %{told}")


def _compare_arms(
    folder: Path,
    first: str,
    second: str,
    metric: str | None,
    at: int | None,
    margin: float | None,
    wish: _Wish | None,
    as_json: bool,
) -> None:
    from jaxexp import comparisons, display, tables, worker
    from jaxexp.comparisons import arms

    dataset, words = worker.load(folder), (first, second)
    chosen, metric = metric is not None, metric or tables.first_metric(dataset)
    if wish is not None:
        at = comparisons.step_of(dataset, metric, at)
        dataset = _trained(folder, dataset, words, metric, at, wish)
    found = _judged(folder, dataset, words, metric, at, margin)
    if as_json:
        display.json_document({"folder": folder, **_document(found)})
        return
    _print_others(dataset, metric, chosen)
    _print(found, int((~comparisons.were_run(dataset, arms.matched(dataset, *words), at)).sum()))
    _print_stage(folder, dataset, words, found)
    if wish is not None:
        half = (found.difference.high - found.difference.low) / 2
        met = "reached" if half <= wish.width else "not reached"
        known = f"known to +- {half:.3g}" if half < float("inf") else "not known to any width"
        display.out.print(f"{met}: the difference is {known}, asked for +- {wish.width:.3g}")


def _print_others(dataset: Any, metric: str, chosen: bool) -> None:
    """Says which metric is compared where nobody chose one of several, and how to choose."""
    from jaxexp import display, tables

    others = [name for name in tables.metrics(dataset) if name != metric]
    if others and not chosen:
        told = ", ".join(others[:5]) + ", ..." * (len(others) > 5)
        display.out.print(f"metric {metric}, the first, for none was named; choose with --metric: {told}", markup=False)


def _print_stage(folder: Path, dataset: Any, words: tuple[str, str], found: "Contrast") -> None:
    """Says by which seeds the interval was made where the folder keeps a first stage, and how often one has looked."""
    import numpy as np

    from jaxexp import display, stages
    from jaxexp.comparisons import arms

    stage = stages.of_arms(folder, dataset, arms.matched(dataset, *words))
    if stage is None:
        return
    begun, later = _parted(dataset, words, found.metric, found.at, stage.seeds)
    if found.num_first is None:
        display.out.print(
            f"{len(stage.seeds) - len(begun)} of {len(stage.seeds)} seeds of the first stage of --until were not run: "
            f"the interval is no two-stage one, but that of the pairs that are there; go on with --until "
            f"{stage.widths[-1]:g}"
        )
        return
    pairs = int(np.isfinite(begun).sum())
    used = f", {pairs} of which are pairs" if pairs < len(begun) else ""
    display.out.print(
        f"the interval is by the spread of the first {len(begun)} seeds{used}, by which it was decided to go on"
    )
    if _has_spread(begun):
        first, every = np.nanstd(begun, ddof=1), np.nanstd(np.concatenate([begun, later]), ddof=1)
        if every > _WIDER * first:
            display.out.print(
                f"the spread of all {found.difference.n} pairs is {every:.3g}, of the first {pairs} it was {first:.3g}"
                ": the interval covers in 95 % of cases for normal differences, and may be far too narrow for others"
            )
    if len(stage.widths) > 1:
        display.out.print(
            f"look {len(stage.widths)}: each is wrong in 5 % of cases, so that one of them is wrong in more than 5 %"
        )


def _print(found: "Contrast", num_not_run: int) -> None:
    from jaxexp import comparisons, display

    lines = [
        [found.first, comparisons.interval(found.first_mean), str(found.first_diverged)],
        [found.second, comparisons.interval(found.second_mean), str(found.second_diverged)],
    ]
    display.table(["arm", f"{found.metric} after {found.at} steps, 95 %", "diverged"], lines)
    lost = f", {found.difference.excluded} seeds are none, for a run that diverged" * bool(found.difference.excluded)
    lost += f", {num_not_run} seeds were not run for both" * bool(num_not_run)
    trials = f"; {found.num_trials} trials of each arm, averaged within a seed" * (found.num_trials > 1)
    alone = f"; {found.num_alone} trials that match have no counterpart" * bool(found.num_alone)
    facts = {
        "pairs": f"{found.difference.n}{lost}{trials}{alone}",
        "difference": f"{comparisons.interval(found.difference)}, p = {found.p_different:.2g}",
        "first is higher": f"{comparisons.interval(found.improvement)} of seeds",
    }
    if found.margin is not None:
        facts["equivalent"] = f"{'yes' if found.equivalent else 'not shown'}, within {found.margin:.3g}"
    display.facts(facts)
    display.out.print(comparisons.sentence(found), markup=False)


def _document(found: "Contrast") -> dict[str, Any]:
    from jaxexp import comparisons

    plain = {key: value._asdict() if hasattr(value, "_asdict") else value for key, value in found._asdict().items()}
    return {**plain, "sentence": comparisons.sentence(found)}


def _trained(folder: Path, dataset: Any, words: tuple[str, str], metric: str, at: int, wish: _Wish) -> Any:
    """Trains seeds of two arms in two stages, for Stein's procedure, and returns the folder's results.

    The first stage are the seeds that the folder was made for, however many there are by now, or what the folder has
    kept as the first stage of these arms: the same command again, after an interruption or not, comes to the same
    number. Where all its differences are equal it is doubled, until two differ or the budget is used up.
    """
    from jaxexp import recorded, stages
    from jaxexp import study as studies
    from jaxexp.comparisons import arms

    kept = stages.of_arms(folder, dataset, arms.matched(dataset, *words))
    made_for = [int(seed) for seed in studies.seeds(recorded.study(folder))]
    beginning = kept.seeds if kept else stages.with_more(made_for, _NUM_FIRST)
    while True:
        stages.keep(folder, dataset, arms.matched(dataset, *words), beginning, wish.width)
        dataset = _train(folder, dataset, words, beginning, wish)
        begun, _ = _parted(dataset, words, metric, at, beginning)
        _check_pairs(folder, words, begun)
        if _has_spread(begun) or len(beginning) >= wish.budget:
            break
        beginning = stages.with_more(beginning, min(2 * len(beginning), wish.budget))
        _tell(wish, f"no two differences of the first stage differ: going on to {len(beginning):,} seeds in it")
    num_seeds = _num_seeds(begun, wish)
    return _train(folder, dataset, words, stages.with_more(beginning, num_seeds), wish)


def _judged(
    folder: Path, dataset: Any, words: tuple[str, str], metric: str, at: int | None, margin: float | None
) -> "Contrast":
    """What the seeds say of two arms: by the first stage that the folder keeps, if all of one was run."""
    import numpy as np

    from jaxexp import comparisons, stages
    from jaxexp.comparisons import arms

    found = comparisons.compare(dataset, *words, metric, at, margin=margin)
    kept = stages.of_arms(folder, dataset, arms.matched(dataset, *words))
    if kept is None:
        return found
    begun, later = _parted(dataset, words, metric, found.at, kept.seeds)
    if len(begun) < len(kept.seeds):
        return found
    return comparisons.staged(found, np.concatenate([begun, later]), len(begun))


def _parted(dataset: Any, words: tuple[str, str], metric: str, at: int, first: list[int]) -> tuple[Any, Any]:
    """First arm minus second at the seeds that were run, those of the first stage and the others; NaN is no pair."""
    import numpy as np

    from jaxexp import comparisons
    from jaxexp.comparisons import arms

    pairs = arms.matched(dataset, *words)
    one, other = comparisons.paired_scores(dataset, pairs, metric, at)
    ran, is_first = comparisons.were_run(dataset, pairs, at), np.isin(dataset["seed"].values, first)
    return (one - other)[ran & is_first], (one - other)[ran & ~is_first]


def _check_pairs(folder: Path, words: tuple[str, str], differences: Any) -> None:
    """Refuses a first stage without any pair: runs that diverged at every seed of it do so at the next ones as well."""
    import numpy as np

    if not np.isfinite(differences).any():
        raise StudyError(
            f"{words[0]} and {words[1]} have no pair to go on with, for a run diverged at each of the first "
            f"{len(differences)} seeds: name the arms more narrowly, by trials that do not diverge (`jaxexp table "
            f"{folder}`)"
        )


def _has_spread(differences: Any) -> bool:
    import numpy as np

    return len(np.unique(differences[np.isfinite(differences)])) > 1


def _tell(wish: _Wish, text: str) -> None:
    from jaxexp import display

    if not wish.quiet:
        display.err.print(text, markup=False)


def _num_seeds(differences: Any, wish: _Wish) -> int:
    """The seeds that are needed in all, by the differences of the first stage, or what the budget allows."""
    import numpy as np

    from jaxexp import statistics

    if not _has_spread(differences):
        _tell(wish, f"no two of {len(differences):,} differences differ, and the budget is {wish.budget:,} seeds")
        return len(differences)
    spread = f"standard deviation {np.nanstd(differences, ddof=1):.3g} over the first {len(differences)} seeds"
    try:
        needed = statistics.seeds_needed(differences, wish.width)
    except StudyError as problem:  # more than anybody trains: the budget decides
        _tell(wish, f"{spread}: {problem}; going on to the budget of {wish.budget:,} seeds")
        return max(len(differences), wish.budget)
    allowed = max(len(differences), min(needed, wish.budget))
    told = f", and the budget is {wish.budget:,}: going on to {allowed:,}" * (allowed < needed)
    _tell(wish, f"{spread}: +- {wish.width:.3g} needs {needed:,} seeds in all{told}")
    return allowed


def _train(folder: Path, dataset: Any, words: tuple[str, str], seeds: list[int], wish: _Wish) -> Any:
    """Trains the seeds of the arms' trials that are not there yet, and returns the folder's results."""
    import numpy as np

    from jaxexp import display, foreground, jobs, overrides, recorded, stages, worker
    from jaxexp.comparisons import arms
    from jaxexp.results import NOT_RUN, status_at

    trials = sorted({trial for pair in arms.matched(dataset, *words) for trial in pair})
    there = dataset["seed"].values[(status_at(dataset)[trials] != NOT_RUN).all(0)]
    left = np.setdiff1d(seeds, there)
    if not left.size:
        return dataset
    orders = stages.orders(folder, dataset, trials, seeds)
    if not wish.quiet:
        display.err.print(
            f"{len(trials)} trials x {left.size:,} seeds that are not there: up to {len(trials) * left.size:,} runs"
        )
    for order in orders:
        study = overrides.chosen(catalog.load(order.path), order.full, order.words, order.samples)
        with display.tracing(wish.quiet):
            job = jobs.prepare(
                study, folder, yes=wish.yes, source=recorded.source(folder), allow_mixed=wish.allow_mixed
            )
        foreground.train(job, order, wish.workers, wish.quiet)
    return worker.load(folder)

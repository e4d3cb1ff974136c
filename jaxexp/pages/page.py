"""A run as one page: question, verdicts, figures, table, method and the commands that make it again, in one file.

The page has no script, loads nothing and says so in its policy; all text of a run is escaped. Large sweeps are
aggregated. Trains nothing, and judges claims only where it is given the study.
"""

import ast
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxexp import figures, files, statistics, store, tables
from jaxexp.errors import JaxexpError, StudyError
from jaxexp.figures import levels
from jaxexp.pages import elements, provenance, vector
from jaxexp.pages.elements import Markup
from jaxexp.results import NOT_FINITE, NOT_RUN, whole_seeds
from jaxexp.statistics import ClaimsError, Verdict
from jaxexp.stored_plans import StoredPlan
from jaxexp.study import Claim, Study

NAME = "report.html"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_MAX_ROWS, _MAX_METRICS, _MAX_SHOWN, _MAX_DRAWINGS = 30, 8, 12, 8
_MARKS = {
    statistics.HOLDS: ("holds", "\N{CHECK MARK}"),
    statistics.REFUTED: ("refuted", "\N{MULTIPLICATION SIGN}"),
    statistics.NOT_SHOWN: ("open", "?"),
}
_DRAWN = {
    "curves": ("Learning curves", "Means over seeds against steps; bands are 95 % intervals."),
    "sensitivity": (
        "Sensitivity",
        "The last value against each numeric hyperparameter; all others are fixed along a line, unless a panel says "
        "how many trials a point is the mean of.",
    ),
    "heatmap": ("Two hyperparameters", "The last value, as mean over seeds, where two hyperparameters are crossed."),
    "differences": (
        "Paired differences",
        "Each circle is one seed, which draws weights and minibatches from the same random numbers in both trials.",
    ),
    "parallel": ("Parallel coordinates", "A line is a trial: its hyperparameters, and at the right what came out."),
}


class Subject(NamedTuple):
    """What a page is about.

    Attributes:
        folder: The run folder, as commands name it.
        record: What `run.json` says.
        plans: What the folder was asked for.
        dataset: Its results.
        study: Its study; None where the experiment file is not at hand, so that claims are not judged.
        notes: What a reader has to know first, a sentence each.
        metric: The metric that figures show and the table is sorted by; the first of evaluation where None.
        by: The table's column to sort by, `-COLUMN` for descending; by the metric, best first, where None.
        shares: What part of the variance between trials is whose, as `importance.shares` says; None where unknown.
    """

    folder: str
    record: Mapping[str, Any]
    plans: Sequence[StoredPlan]
    dataset: Any
    study: Study | None = None
    notes: Sequence[str] = ()
    metric: str | None = None
    by: str | None = None
    shares: Any = None


def subject(folder: Path, dataset: Any, **known: Any) -> Subject:
    """Returns what the page of a run folder is about.

    Args:
        folder: The run folder.
        dataset: Its results.
        known: What else is known, by the attributes of `Subject`.

    Raises:
        StoreError: If the folder's record or one of its plans is damaged.
    """
    return Subject(folder.as_posix(), store.record(folder), store.plans(folder), dataset, **known)


def write(folder: Path, subject: Subject, refresh: int | None = None) -> Path:
    """Writes the page of a run into its folder, and returns the file.

    Args:
        folder: The run folder.
        subject: What the page is about.
        refresh: After how many seconds a browser reads the page again; never where None.

    Raises:
        StoreError: If the folder cannot be written.
        StudyError: If there is no metric or column of the name that was asked for.
    """
    files.write(folder / NAME, document(subject, refresh).encode())
    return folder / NAME


def document(subject: Subject, refresh: int | None = None) -> str:
    """Returns the page of a run as HTML.

    Args:
        subject: What the page is about.
        refresh: After how many seconds a browser reads the page again; never where None.

    Raises:
        StudyError: If there is no metric or column of the name that was asked for.
    """
    record, there = subject.record, bool(tables.metrics(subject.dataset))
    question, rest = _question(record)
    judged, problem = _judged(subject)
    metric = levels.known_metric(subject.dataset, subject.metric) if there else ""
    parts = {
        "verdicts": ("Verdicts", _verdicts(subject, judged, problem)),
        "figures": ("Figures", _figures(subject, metric) if there else ""),
        "table": ("Table", _table(subject, metric) if there else ""),
        "importance": ("Importance", _importance(subject.shares)),
        "method": ("Method", provenance.method(record, subject.dataset, rest)),
        "plan": ("Plan", provenance.plan(record, subject.plans)),
        "diverged": ("Runs that are not finite", provenance.diverged(subject.folder, subject.dataset)),
        "commands": ("The same again", provenance.commands(subject.folder, record, subject.plans, subject.dataset)),
        "environment": ("Environment", provenance.environment(record)),
    }
    parts = {name: part for name, part in parts.items() if part[1]}
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, (title, _) in parts.items())
    sections = (f'<section id="{name}"><h2>{title}</h2>{part}</section>' for name, (title, part) in parts.items())
    told = [f"The run goes on; this page is read again every {refresh} seconds."] if refresh else []
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n{_head(question, refresh)}</head>\n<body>\n<header>'
        f'<p class="kicker">{elements.text(record["experiment"])} &middot; run <code>{elements.text(subject.folder)}'
        f"</code></p><h1>{elements.text(question)}</h1>{elements.paragraphs([*subject.notes, *told], 'note')}"
        f'{_chips(judged)}{_at_a_glance(subject)}<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f"<main>{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def _head(title: str, refresh: int | None) -> str:
    """What a browser is told: a policy that forbids scripts and everything from elsewhere, the title, the style."""
    style = files.read(Path(__file__).with_name("page.css")).decode()
    again = f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else ""
    return (
        '<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n{again}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{elements.text(title)}</title>\n<style>\n{style}</style>\n"
    )


def _question(record: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The first line of the experiment's docstring, and the paragraphs of the rest."""
    try:
        text = ast.get_docstring(ast.parse(str(record.get("source") or ""))) or ""
    except (SyntaxError, ValueError):
        text = ""
    first, _, rest = text.partition("\n")
    parts = re.split(r"\n\n|\n(?=(?:Sources?|Answer|References?|Note)\b[^\n]*:)", rest)
    return first.strip() or str(record["experiment"]), [part.strip() for part in parts if part.strip()]


def _judged(subject: Subject) -> tuple[list[Verdict], str]:
    """The verdicts of the study's claims, and why there are none or a claim cannot be judged."""
    if subject.study is None:
        return [], "Claims are not judged: the study of this run is not at hand."
    try:
        return statistics.check(subject.study, whole_seeds(subject.dataset)), ""
    except ClaimsError as problem:
        return problem.verdicts, f"Not every claim can be judged: {problem}"
    except Exception as problem:  # an estimate is anyone's code, and half of a run may be missing
        kind = "" if isinstance(problem, JaxexpError) else f"{type(problem).__name__}: "
        return [], f"Claims cannot be judged: {kind}{problem}"


def _chips(judged: Sequence[Verdict]) -> str:
    counts = Counter(verdict.verdict for verdict in judged)
    chips = "".join(f"<li>{_chip(name, f'{counts[name]} {name}')}</li>" for name in _MARKS if counts[name])
    return f'<ul class="chips" aria-label="Verdicts of the claims">{chips}</ul>' if chips else ""


def _chip(verdict: str, text: str) -> str:
    kind, mark = _MARKS[verdict]
    return f'<span class="chip {kind}"><span aria-hidden="true">{mark}</span> {elements.text(text)}</span>'


def _at_a_glance(subject: Subject) -> str:
    status, sizes = subject.dataset["status"].values, subject.dataset.sizes
    facts = {
        "trials": sizes["trial"],
        "seeds": sizes["seed"],
        "runs": status.size,
        "not finite": (status == NOT_FINITE).sum(),
        "not run": (status == NOT_RUN).sum(),
        "steps": subject.dataset.attrs.get("num_steps", 0),
    }
    return '<dl class="facts">' + "".join(f"<div><dt>{k}</dt><dd>{v:,}</dd></div>" for k, v in facts.items()) + "</dl>"


def _verdicts(subject: Subject, judged: Sequence[Verdict], problem: str) -> str:
    if not judged:
        return elements.paragraphs([problem or "The study makes no claim."])
    claims = subject.study.claims if subject.study else ()
    confidences = sorted({claim.confidence for claim in claims})
    lines = [_judgement(found, claim) for found, claim in zip(judged, claims, strict=True)]
    if len(confidences) == 1:
        lines = [line[:-1] for line in lines]
    titles = ["claim", "verdict", "estimate and interval", "has to be", "p", "n", *["level"] * (len(confidences) > 1)]
    level = f"{1 - confidences[-1]:.3g}" if len(confidences) == 1 else "1 - level"
    caption = (
        "A claim holds where its whole interval lies where it has to be, is refuted where none of it does, and in both "
        f"cases p, adjusted for the number of claims, is at most {level}. Seeds are the "
        "replicates (n); where one is left out, for it is not finite, neither is said."
    )
    kinds = {0: "sentence", 2: "short", 3: "short", 4: "number", 5: "number", 6: "number"}
    return elements.table(caption, titles, lines, kinds) + elements.paragraphs([problem])


def _judgement(found: Verdict, claim: Claim) -> list[Any]:
    """The cells of a claim: the level comes last."""
    estimate, holds = found.estimate, claim.holds
    mean, low, high, least, most = _digits(*estimate[:3], holds.low, holds.high)
    between = f"between {least} and {most}" if np.isfinite([holds.low, holds.high]).all() else ""
    return [
        f"{found.statement} ({found.reason})" if found.reason else found.statement,
        Markup(_chip(found.verdict, found.verdict)),
        f"{found.statistic} {mean} " + (f"[{low}, {high}]" if np.isfinite(estimate[1:3]).any() else "(no interval)"),
        between or (f"above {least}" if np.isfinite(holds.low) else f"below {most}"),
        f"{found.p:.2g}" if found.p >= 1e-4 else "< .0001",
        f"{estimate.n:,}" + (f", {estimate.excluded:,} left out" if estimate.excluded else ""),
        f"{100 * claim.confidence:.3g} %",
    ]


def _digits(*numbers: float) -> list[str]:
    """Numbers to four digits, or to as many more, up to seven, as it takes to tell those that differ apart."""
    for digits in range(4, 8):
        told = [f"{number:.{digits}g}" for number in numbers]
        if len(set(told)) == len(set(numbers)):
            break
    return told


def _figures(subject: Subject, metric: str) -> str:
    drawings: list[tuple[str, str, Callable[[], Any]]] = [
        (draw.__name__, (draw.__doc__ or "").strip().split("\n")[0], lambda draw=draw: draw(subject.dataset))
        for draw in (subject.study.figures if subject.study else ())[:_MAX_DRAWINGS]
    ]
    for kind, (title, caption) in _DRAWN.items():
        asked = subject.metric if kind == "curves" else metric
        drawings.append((title, caption, lambda kind=kind, asked=asked: figures.KINDS[kind](subject.dataset, asked)))
    shown, left_out = [], []
    for number, (title, caption, draw) in enumerate(drawings):
        try:
            drawn, width = vector.markup(draw(), f"figure-{number}")
        except StudyError as problem:
            left_out.append(f"{title}: {problem}.")
            continue
        except Exception as problem:  # a study's figures are anyone's code, and half of a run may be missing
            left_out.append(f"{title} cannot be drawn: {type(problem).__name__}: {problem}")
            continue
        shown.append(_figure(title, caption, drawn, width))
    listed = elements.items(left_out, "quiet")
    return "".join(shown) + (f"<h3>Not drawn</h3>{listed}" if listed else "")


def _figure(title: str, caption: str, drawn: str, width: float) -> str:
    sized = drawn[:4] + f' style="min-width:{0.62 * width:.0f}px;max-width:{1.05 * width:.0f}px"' + drawn[4:]
    name = title.replace("_", " ")
    return (
        f"<h3>{elements.text(name[:1].upper() + name[1:])}</h3><figure>"
        f'<div class="scroll card" tabindex="0" role="region" aria-label="{elements.text(name)}, figure">{sized}</div>'
        f"<figcaption>{elements.text(caption)}</figcaption></figure>"
    )


def _table(subject: Subject, metric: str) -> str:
    """The best trials, or those that come first by a column."""
    headline, total = tables.headline(subject.dataset), subject.dataset.sizes["trial"]
    shown = list(dict.fromkeys([metric, *headline]))[:_MAX_METRICS]
    evaluated = subject.dataset[metric].dims[-1] == "eval_step"
    at = int(subject.dataset["eval_step"].values[-1]) if evaluated else None
    made = {"trial": subject.dataset["trial"].values, **tables.columns(subject.dataset, shown=shown, at=at)}
    by = subject.by or (metric if levels.smaller_is_better(metric) else f"-{metric}")
    titles, lines = tables.cells(tables.as_rows(tables.ordered(made, by, _MAX_ROWS)))
    kinds = {column: "number" for column, title in enumerate(titles) if column and levels.is_numeric(made[title])}
    told = f"{total:,} trials" if total <= _MAX_ROWS else f"The first {len(lines)} of {total:,} trials"
    order = "largest first" if by.startswith("-") else "smallest first"
    if made["diverged"].any() and tables.is_metric(made, by):
        order += ", those with diverged runs last"
    caption = f"{told}, by {by.removeprefix('-')}, {order}: mean and 95 % interval over seeds (n); @ is the step."
    more = []
    if total > len(lines):
        more += [f"All {total:,} rows: `jaxexp table {shlex.quote(subject.folder)} --limit {total}`."]
    if total > 1 and subject.by is None and subject.dataset.sizes["seed"] > 1:
        column = f"{'' if metric in headline else f'--metric {shlex.quote(metric)} '}--by {shlex.quote(by)}"
        more += [
            "The first row is the best by its own seeds, which flatters it: "
            f"`jaxexp table {shlex.quote(subject.folder)} {column}` judges the best by other seeds."
        ]
    if len({*headline, metric}) > len(shown):
        more += [f"{len({*headline, metric}) - len(shown)} more metrics are in the folder's summary.csv."]
    titles = [title.replace("_", " ") for title in titles]
    return elements.table(caption, titles, lines, kinds) + elements.paragraphs(more, "quiet")


def _importance(shares: Any) -> str:
    if shares is None:
        return ""
    named = [*shares.main.items(), *((_pair(pair), share) for pair, share in shares.pairs.items())]
    kept = sorted(named, key=lambda entry: -entry[1])[:_MAX_SHOWN]
    rest = max(0.0, shares.rest + sum(share for _, share in named) - sum(share for _, share in kept))
    lines = [[name, f"{100 * share:.1f} %", Markup(_bar(share))] for name, share in [*kept, ("all else", rest)]]
    caption = f"Shares of the variance between {shares.num_trials:,} trials; {shares.method}."
    seeds = f"{100 * shares.noise:.2g} % of the spread of the trials' means is what seeds alone explain."
    table = elements.table(caption, ["hyperparameter", "share", "as a bar"], lines, {1: "number"})
    return table + elements.paragraphs(
        [seeds * bool(shares.noise), *(f"Left out: {told}." for told in shares.left_out)], "quiet"
    )


def _pair(pair: Any) -> str:
    return pair if isinstance(pair, str) else " and ".join(map(str, pair))


def _bar(share: float) -> str:
    return f'<span class="track"><span class="bar" style="width:{min(1, max(0, share)):.1%}"></span></span>'

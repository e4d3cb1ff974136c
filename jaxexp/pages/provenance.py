"""How a run was made, as parts of a page: method, plan, what went wrong, environment, and the commands that repeat it.

Reads what the run folder recorded; all of its text is escaped.
"""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxexp import configs
from jaxexp.figures import levels
from jaxexp.pages import elements
from jaxexp.results import NOT_FINITE, OK, seeds_told
from jaxexp.stored_plans import StoredPlan

_MAX_SHOWN, _MAX_SOURCE = 12, 60_000
_PROGRAM = ("group", "trials", "program", "data")


def method(record: Mapping[str, Any], dataset: Any, rest: Sequence[str] = ()) -> str:
    """Returns what was trained: the words of the experiment file, hyperparameters, seeds and steps.

    Args:
        record: The run folder's.
        dataset: Its results.
        rest: The paragraphs of the experiment's docstring after its first line.
    """
    kinds = record.get("fields") or {}
    order = {name: place for place, name in enumerate(kinds)}
    names = [name for name, value in dataset.coords.items() if value.dims in ((), ("trial",)) and name != "trial"]
    lines = [
        [name, _values(dataset[name].values), kinds.get(name, ""), "swept" if dataset[name].values.ndim else "fixed"]
        for name in sorted(names, key=lambda name: (dataset[name].values.ndim == 0, order.get(name, 0)))
    ]
    counts, steps = seeds_told(dataset), dataset.attrs
    seeds = f"{counts} seeds ({_seeds_word(dataset['seed'].values)[0]}) for each of "
    told = (
        f"{seeds}{dataset.sizes['trial']:,} trials, {steps.get('num_steps', 0):,} steps, evaluated every "
        f"{steps.get('evaluate_every', 0):,}, logged every {steps.get('log_every', 0):,}. A seed has the same initial "
        "weights and minibatches in every trial."
    )
    if "to" in counts:
        told += (
            " Where trials have more seeds than others because `jaxexp compare --until` looked at the first ones, only "
            "what `jaxexp compare` says of them allows for that."
        )
    table = elements.table("Hyperparameters.", ["name", "values", "kind", "in the sweep"], lines, {1: "long"})
    source = str(record.get("source") or "")
    code = elements.commands([source[:_MAX_SOURCE] + ("\n..." if len(source) > _MAX_SOURCE else "")])
    return (
        elements.paragraphs([*rest, told]) + table
        + (f"<details><summary>The experiment file, as it was run</summary>{code}</details>" if source else "")
    )  # fmt: skip


def _values(values: np.ndarray) -> str:
    if not values.ndim:
        return levels.short(values.item())
    distinct = list(dict.fromkeys(values.tolist()))
    if len(distinct) <= _MAX_SHOWN:
        return ", ".join(map(levels.short, distinct))
    if levels.is_numeric(values):
        return f"{len(distinct):,} values from {levels.short(values.min())} to {levels.short(values.max())}"
    return f"{', '.join(map(levels.short, distinct[:_MAX_SHOWN]))} and {len(distinct) - _MAX_SHOWN:,} more"


def plan(record: Mapping[str, Any], plans: Sequence[StoredPlan]) -> str:
    """Returns what the folder was asked for, its tile and its programs; nothing where there is no plan.

    Args:
        record: The run folder's.
        plans: Its plans, in order.
    """
    if not plans:
        return ""
    asked = [
        [number, f"{len(one.trials):,}", f"{len(one.seeds):,}", f"{one.steps[0]:,}", len(one.programs)]
        for number, one in enumerate(plans[-_MAX_SHOWN:], max(1, len(plans) - _MAX_SHOWN + 1))
    ]
    tile, latest = plans[-1].tile, plans[-1]
    told = f"Trials with equal static fields share one program, which trains {tile.trials} trials x {tile.seeds} seeds "
    titles = ["plan", "trials", "seeds", "steps", "programs"]
    counts = _group_sizes(latest, record.get("fields") or {})
    groups = [
        [name, f"{counts[name]:,}" if counts[name] else "", digests["program"][:12], digests["data"][:12]]
        for name, digests in list(latest.programs.items())[:_MAX_SHOWN]
    ]
    more = len(latest.programs) - len(groups)
    return (
        elements.paragraphs([f"{told}at once (the tile): the tile decides the last bits, and is kept."])
        + elements.table("What was asked for, in order.", titles, asked, dict.fromkeys(range(1, 5), "number"))
        + elements.table("Programs of the latest plan, by digest.", _PROGRAM, groups, {0: "long", 1: "number"})
        + elements.paragraphs([f"{more:,} more programs are not shown."] if more else [], "quiet")
    )


def _group_sizes(plan: StoredPlan, kinds: Mapping[str, str]) -> Counter[str]:
    """How many trials each group has, by the text of its static fields."""
    static = sorted(name for name, kind in kinds.items() if kind == "static")
    columns = [
        [f"{name}={configs.text_of(value)}" for value in np.asarray(plan.trials.columns[name]).tolist()]
        if name in plan.trials.columns
        else [f"{name}={configs.text_of(plan.trials.base.get(name))}"] * len(plan.trials)
        for name in static
    ]
    return Counter(map(", ".join, zip(*columns, strict=True))) if static else Counter({"all": len(plan.trials)})


def diverged(folder: str, dataset: Any) -> str:
    """Returns how many runs are not finite, the first of them, and the command that looks into one.

    Args:
        folder: The run folder, as commands name it.
        dataset: Its results.
    """
    status = dataset["status"].values
    lost = np.argwhere(status == NOT_FINITE)
    if not len(lost):
        return elements.paragraphs([f"None of {(status == OK).sum():,} runs that are done."])
    first = lost[:_MAX_SHOWN]
    labels = levels.labels(dataset, [int(trial) for trial, _ in first])
    lines = [
        [int(trial), int(dataset["seed"].values[seed]), int(dataset["status_step"].values[trial, seed]), label]
        for (trial, seed), label in zip(first, labels, strict=True)
    ]
    told = (
        f"{len(lost):,} of {status.size:,} runs, in {len(np.unique(lost[:, 0])):,} trials, stopped being finite: they "
    )
    trial, seed = lines[0][:2]
    again = f"jaxexp replay {shlex.quote(folder)} --trial {trial} --seed {seed}"
    kinds = {1: "number", 2: "number", 3: "long"}
    caption = f"The first {len(lines)} of them." if len(lost) > len(lines) else "All of them."
    return (
        elements.paragraphs([f"{told}are counted in every figure and scored in none."])
        + elements.table(caption, ["trial", "seed", "first step", "hyperparameters"], lines, kinds)
        + elements.commands([again])
    )


def _seeds_word(seeds: np.ndarray) -> tuple[str, str]:
    """What the seeds are, to a reader and to the command line."""
    low, high, count = int(seeds.min()), int(seeds.max()), len(seeds)
    if high - low + 1 == count:
        return f"{low} to {high}" if count > 1 else f"{low}", f"seeds={low}:{high + 1}" if low else f"seeds={count}"
    return f"{count:,} between {low} and {high}", f"seeds={','.join(map(str, seeds.tolist()))}"


def commands(folder: str, record: Mapping[str, Any], plans: Sequence[StoredPlan], dataset: Any) -> str:
    """Returns the commands that train the run again, with its words, seeds, steps, size and tile.

    Args:
        folder: The run folder, as commands name it.
        record: The folder's.
        plans: Its plans, in order.
        dataset: Its results.
    """
    steps, first = dataset.attrs.get("num_steps"), plans[0].steps[0] if plans else None
    kept = [word for word in record.get("words") or () if word.partition("=")[0].strip() != "seeds"]
    if steps and steps != first:
        kept = [word for word in kept if word.partition("=")[0].strip() != "num_steps"] + [f"num_steps={steps}"]
    samples, tile = record.get("samples"), record.get("tile") or ()
    seeds = plans[0].seeds if _uneven(plans, dataset) else dataset["seed"].values
    words = ["jaxexp", "run", record.get("path") or record["experiment"], *kept, _seeds_word(seeds)[1]]
    words += ["--full"] * bool(record.get("full")) + (["--samples", str(samples)] if samples is not None else [])
    words += ["--tile", "x".join(map(str, tile)), "--name", "again"]
    commit, quoted = (record.get("git") or {}).get("commit"), shlex.quote(folder)
    lines = [f"git checkout {shlex.quote(str(commit))}"] * bool(commit)
    lines += [shlex.join(map(str, words)), f"jaxexp reproduce {quoted}", f"jaxexp table {quoted}"]
    told = "The first lines train it again, under the name `again`; `reproduce` trains and compares. In Python: "
    added = "Trials" * _grew(plans, dataset) or "Seeds of some trials" * _uneven(plans, dataset)
    later = f"{added} that were asked for later are not in these words: see the plans." if added else ""
    return elements.paragraphs([f"{told}jx.load({folder!r}).", later]) + elements.commands(lines)


def _grew(plans: Sequence[StoredPlan], dataset: Any) -> bool:
    return bool(plans) and len(plans[0].trials) < dataset.sizes["trial"]


def _uneven(plans: Sequence[StoredPlan], dataset: Any) -> bool:
    """Whether a plan has seeds that the first has not, for some of the trials alone."""
    some = [plan for plan in plans[1:] if len(plan.trials) < dataset.sizes["trial"]]
    return any(not np.isin(plan.seeds, plans[0].seeds).all() for plan in some)


def environment(record: Mapping[str, Any]) -> str:
    """Returns what the bits of a run can depend on: commit, device, versions and settings.

    Args:
        record: The run folder's.
    """
    git = record.get("git") or {}
    changed = ", with changes that are not committed" if git.get("dirty") else ""
    lines = [["git commit", f"{git.get('commit') or 'unknown'}{changed}"]]
    for name in ("device", "versions", "compiler_options", "threads", "xla_flags", "x64"):
        value = record.get(name)
        pairs = value.items() if isinstance(value, Mapping) else [("", value)]
        lines += [[f"{name.replace('_', ' ')} {key}".strip(), "none" if v in (None, "") else v] for key, v in pairs]
    return elements.table("Where the run was begun; each chunk keeps its own.", ["what", "value"], lines, {1: "long"})

"""The study that a run folder records, made again from the experiment file as it is now and the folder's own tables."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxexp import catalog, configs, earlier, overrides, plans, store
from jaxexp import study as studies
from jaxexp.errors import StoreError, StudyError
from jaxexp.jobs import Source
from jaxexp.launch import Order
from jaxexp.plans import Plan
from jaxexp.results import dataset
from jaxexp.stored_plans import StoredPlan
from jaxexp.study import Study
from jaxexp.trials import aligned


def order(folder: Path, seeds: int | None = None, words: Sequence[str] = ()) -> Order:
    """Returns what made a folder first, as the command line would say it.

    Args:
        folder: The run folder, or the reference.
        seeds: How many of the recorded seeds, the first ones; all where None.
        words: Fields to be set otherwise than recorded, for those who want to see that it is noticed.

    Raises:
        StudyError: If its experiment cannot be found.
        StoreError: If there are fewer seeds.
    """
    record = store.record(folder)
    path = str(_path(folder, record))
    full, samples = bool(record.get("full")), record.get("samples")
    said = _merged(record.get("words") or (), words)
    if seeds is not None:
        every = studies.seeds(overrides.chosen(catalog.load(path), full, said, samples))
        _check_seeds(folder, seeds, len(every))
        first = every[:seeds]
        listed = ",".join(map(str, first)) if len(first) > 1 else f"{first[0]}:{first[0] + 1}"  # 5 would mean how many
        said = _merged(said, [f"seeds={listed}"])
    return Order(path, full, said, samples)


def _check_seeds(folder: Path, wanted: int, there: int) -> None:
    """Checks that there are as many seeds as are wanted."""
    if wanted > there:
        raise StoreError(
            f"{folder} has {there} seeds, of which {wanted} are wanted: leave --seeds out for all, or train more first "
            f"by `jaxexp run`, e.g. with seeds={wanted}"
        )


def _path(folder: Path, record: Mapping[str, Any]) -> Path:
    """The experiment file: in a folder that the run lies in, or here; that with the recorded text, else the nearest."""
    path, source = record.get("path") or Path(catalog.FOLDER, f"{record['experiment']}.py"), record.get("source")
    if source == "":
        raise StudyError(f"{folder} was made by Python code that called jaxexp: no experiment file is recorded")
    above = [start / path for start in (*folder.resolve().parents, Path()) if not Path(path).is_absolute()]
    # What lies in the folder itself may be anyone's, and is not run.
    there = [one for one in above if one.is_file() and folder.resolve() not in one.resolve().parents]
    if there:
        return next((one for one in there if _has(one, source)), there[0])
    raise StudyError(
        f"there is no {path} here, nor in a folder that {folder} lies in: give this command where the run was "
        "started; if the file is gone, its text is in the run's run.json, as `source`"
    )


def _has(path: Path, text: str | None) -> bool:
    """Whether a file has a text."""
    with contextlib.suppress(OSError, ValueError, SyntaxError):
        return catalog.text_of(path) == text
    return False


def _merged(words: Sequence[str], later: Sequence[str]) -> list[str]:
    """Words of which the later count where both say the same field."""
    names = {word.partition("=")[0].strip() for word in later}
    return [*(word for word in words if word.partition("=")[0].strip() not in names), *later]


def study(folder: Path) -> Study:
    """Returns the study that made a folder first, of its experiment file as it is now.

    Args:
        folder: The run folder, or the reference.

    Raises:
        StudyError: If its experiment cannot be loaded.
    """
    return _chosen(order(folder))


def source(folder: Path, wanted: Order | None = None) -> Source:
    """Returns where the study of a folder comes from, as the file is now.

    Args:
        folder: The run folder, or the reference.
        wanted: What is asked of that file; what made the folder first where None.
    """
    asked = wanted or order(folder)
    path = Path(asked.path)
    text, above = catalog.text_of(path), path.resolve().parent
    return Source(path.stem, text, above, asked.full, catalog.given(path), tuple(asked.words), asked.samples)


class Asked(NamedTuple):
    """One of the questions that a folder was asked: a study of its experiment file as it is now.

    Attributes:
        study: The study.
        order: How worker processes find it; None where no command line says its trials.
        stored: The plan that the folder keeps of it; None in a reference, which keeps none.
    """

    study: Study
    order: Order | None
    stored: StoredPlan | None


def asked(folder: Path, seeds: int | None = None, words: Sequence[str] = ()) -> list[Asked]:
    """Returns all that a folder was asked to train, in the order in which it was: each plan, or what a reference says.

    Args:
        folder: The run folder, or the reference.
        seeds: How many of each plan's seeds, the first ones; all where None.
        words: Fields to be set otherwise than recorded.

    Raises:
        StudyError: If its experiment cannot be found or loaded.
        StoreError: If the experiment has other hyperparameters now; if no plan has so many seeds.
    """
    known = store.plans(folder)
    if not known:
        wanted = order(folder, seeds, words)
        return [Asked(_chosen(wanted), wanted, None)]
    if seeds is not None:
        _check_seeds(folder, seeds, max(len(stored.seeds) for stored in known))
    return [_asked(folder, stored, seeds, words) for stored in known]


def _asked(folder: Path, stored: StoredPlan, num_seeds: int | None, words: Sequence[str]) -> Asked:
    said = order(folder, words=_count_words(stored, stored.seeds))
    if _same_trials(_chosen(said), stored):
        wanted = order(folder, words=_merged(_count_words(stored, stored.seeds[:num_seeds]), words))
        return Asked(_chosen(wanted), wanted, stored)
    made = planned(folder, stored)
    made = made.replace(seeds=tuple(map(int, stored.seeds[:num_seeds])))
    return Asked(overrides.apply(made, words), None, stored)


def _count_words(stored: StoredPlan, seeds: np.ndarray) -> list[str]:
    """A plan's seeds and steps as words."""
    first, last = int(seeds[0]), int(seeds[-1])
    in_a_row = len(seeds) == last - first + 1 and bool((np.diff(seeds.astype(np.int64)) == 1).all())
    listed = f"{first}:{last + 1}" if in_a_row else ",".join(map(str, seeds.tolist()))
    counts = zip(("num_steps", "evaluate_every", "log_every"), stored.steps, strict=True)
    return [f"seeds={listed}", *(f"{name}={count}" for name, count in counts)]


def _same_trials(made: Study, stored: StoredPlan) -> bool:
    """Whether a study has the trials of a plan, in their order."""
    trials = studies.table(studies.check(made))
    return np.array_equal(aligned(trials, stored.trials), np.arange(len(stored.trials)))


def _chosen(wanted: Order) -> Study:
    return overrides.chosen(catalog.load(wanted.path), wanted.full, wanted.words, wanted.samples)


def planned(folder: Path, stored: StoredPlan, rows: Sequence[int] | None = None) -> Study:
    """Returns the study of a folder's plan, of the experiment file as it is now and the plan's own table.

    Args:
        folder: The run folder.
        stored: The plan.
        rows: The trials of its table that are wanted; all where None.

    Raises:
        StoreError: If the experiment has other hyperparameters now.
    """
    made = study(folder)
    known = configs.fields(made.config)
    lost = (stored.trials.base.keys() | stored.trials.columns.keys()) ^ known.keys()
    if lost:
        raise StoreError(f"{folder} was trained with other hyperparameters: {', '.join(sorted(lost))} changed")
    return earlier.study_of(made, stored, rows)


def run_plan(folder: Path, stored: StoredPlan, row: int, seed: int) -> Plan:
    """Returns a plan, in the folder's tile, of one of its runs.

    Args:
        folder: The run folder.
        stored: The plan that has the run.
        row: The trial's row in the plan's table.
        seed: The seed.

    Raises:
        StoreError: If the experiment has other hyperparameters now.
    """
    wanted = planned(folder, stored, [row]).replace(seeds=(seed,))
    return plans.plan(wanted, tile=stored.tile, yes=True)


def results(folder: Path, stored: StoredPlan) -> Any:
    """Returns the dataset of a plan of a folder: its runs, by whichever plan of the same steps they were trained.

    Args:
        folder: The run folder.
        stored: The plan.

    Raises:
        StoreError: If a file of the folder is damaged.
    """
    same = [other for other in store.plans(folder) if other.steps == stored.steps]
    return dataset(stored.trials, stored.seeds, earlier.results(folder, same, stored.trials, stored.seeds), {})

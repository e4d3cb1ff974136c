"""What is derived from a run folder's results: the summary, the verdicts and the figures, written anew at will."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxexp import files, statistics, tables
from jaxexp.errors import StudyError
from jaxexp.figures import saving
from jaxexp.results import NOT_FINITE
from jaxexp.statistics import ClaimsError, Verdict
from jaxexp.study import Study


class Report(NamedTuple):
    """What a reader is shown of a run.

    Attributes:
        rows: The headline table, one dict a trial.
        verdicts: Of the study's claims.
        figures: The files of the study's figures.
        num_diverged: Runs that stopped being finite.
    """

    rows: list[dict[str, Any]]
    verdicts: list[Verdict]
    figures: list[Path]
    num_diverged: int


def write(folder: Path, study: Study, dataset: Any) -> Report:
    """Writes `summary.csv`, `claims.json`, `claims.npz` (values by seed) and `figures/`, and returns them.

    Args:
        folder: The run folder.
        study: The study.
        dataset: Its results.

    Raises:
        StoreError: If the folder cannot be written.
        ClaimsError: If a claim's estimate gives anything but one number a seed, or fails; all else is written.
    """
    files.write(folder / "summary.csv", tables.to_csv(tables.rows(dataset)).encode())
    failed = None
    try:
        verdicts = statistics.check(study, dataset)
    except ClaimsError as problem:
        failed, verdicts = problem, problem.verdicts
    files.write(folder / "claims.json", files.json_text(plain(verdicts)).encode())
    kept = {}
    for number, claim in enumerate(study.claims):
        with contextlib.suppress(StudyError):  # it is told by `failed`
            kept[f"{number:02d}"] = statistics.per_seed(claim, dataset)
    arrays = {name: values.values for name, values in kept.items()}
    arrays |= {f"{name}:seed": values["seed"].values for name, values in kept.items()}
    statements = files.text_array([claim.statement for claim in study.claims])
    arrays |= {"statements": statements, "num_steps": np.asarray(study.num_steps)}
    files.write(folder / "claims.npz", files.npz_bytes(arrays))
    try:
        saved = saving.save(dataset, study.figures, folder / "figures")
    except Exception:  # a figure is anyone's code, and may fail for what the claim failed for
        if failed is None:
            raise
    if failed is not None:
        raise failed
    rows = tables.rows(dataset, shown=tables.headline(dataset))
    return Report(rows, verdicts, saved, int((dataset["status"].values == NOT_FINITE).sum()))


def plain(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Returns verdicts as plain values, for JSON."""
    return [{**verdict._asdict(), "estimate": verdict.estimate._asdict()} for verdict in verdicts]

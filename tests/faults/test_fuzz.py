"""Files of a run folder whose seals fit and whose contents are wrong: a verb goes on or says one sentence."""

import contextlib
import json
import os
import random
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from changes import CASES, ENGINES, FIGURES, KINDS, TEXTS, Change, cases, file_cases, json_changes, npz_cases
from typer.testing import CliRunner, Result

from jaxexp import catalog, claims, cli, files, jobs, store, worker
from jaxexp.engine import Segment

WALKS = '''"""Where do walks of two kinds end?"""

import jax
import jax.numpy as jnp

import jaxexp as jx


@jx.config
class Config:
    """A walk's stride and kind."""

    rate: float = 0.5
    kind: str = "plain"


def init(key, data, config):
    return {"x": jnp.zeros(2)}


def step(key, state, data, config):
    x = state["x"] + config.rate * jax.random.normal(key, (2,))
    return {"x": jnp.abs(x) if config.kind == "high" else x}, {"mean": x.mean()}


def evaluate(state, data, config):
    return {"largest": state["x"].max()}


study = jx.Study(
    experiment=jx.Experiment(init, step, evaluate),
    config=Config(),
    sweep=jx.grid(rate=(0.25, 0.5), kind=("plain", "high")),
    seeds=3,
    num_steps=20,
    evaluate_every=10,
    claims=(jx.Claim("walks go up", lambda found: found["largest"][0, :, -1], jx.above(0.0)),),
)
'''
SECONDS = 20
"""What a verb may take; one that hangs, on a pipe that nobody writes, is stopped."""

READING = (["status", "walks"], ["table", "walks"], ["doctor", "walks"], ["gc", "walks", "--dry-run"])
TRAINING = ["run", "walks", "--quiet"]


def said(words: list[str]) -> Result:
    """What a verb says, in this process."""

    def late(*_given: Any) -> None:
        raise TimeoutError(f"{words} hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a metric of another dtype NumPy says that it is cast
            return CliRunner().invoke(cli.app, words)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refusals(*verbs: list[str]) -> Iterator[str]:
    """What is not as it should be in what some verbs say."""
    for words in verbs:
        found = said(words)
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            yield f"{' '.join(words)}: {found.exception!r:.200}"
        elif found.exit_code not in (0, 1, 2, 3):
            yield f"{' '.join(words)}: exit code {found.exit_code}"
        elif found.exit_code == 2 and not found.stderr.startswith("error: "):
            yield f"{' '.join(words)}: {found.stderr:.200}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with a folder of two plans and all that is derived, in which a batch was cut off and another claimed."""
    place = tmp_path_factory.mktemp("place")
    (place / "experiments").mkdir()
    (place / "experiments" / "walks.py").write_text(WALKS)
    with contextlib.chdir(place):
        assert said([*TRAINING, "--tile", "2x2"]).exit_code == 0
        assert said([*TRAINING, "seeds=4"]).exit_code == 0
        assert said(["report", "walks"]).exit_code == 0
        assert said(["reproduce", "walks", "--quiet"]).exit_code == 0
        folder = Path("results", "walks", "default")
        cut = sorted((folder / "chunks").glob("*.npz"))[0]
        cut.unlink()
        study = catalog.load("walks").study
        job = jobs.prepare(study, folder)
        work = worker.work(job)
        assert isinstance(next(work), Segment)
        work.close()
        claimed = {"id": "x", "count": 3, "machine": "another", "process": 7, "began": "9"}
        (folder / "claims" / f"{cut.stem}.json").write_text(json.dumps(claimed))
    return place


def mirrored(place: Path, tmp_path: Path) -> Path:
    """A copy of a place, without the claim, which a verb that trains would wait for."""
    shutil.rmtree(tmp_path / "place", ignore_errors=True)
    folder = Path(shutil.copytree(place, tmp_path / "place")) / "results" / "walks" / "default"
    (tmp_path / "place" / "outside").write_bytes(b"mine")
    for path in (folder / "claims").iterdir():
        path.unlink()
    return folder


READERS = (["report", "walks"], ["check", "walks"], ["reproduce", "walks", "--quiet"])


def tried(made: Path, tmp_path: Path, chosen: list[tuple[str, Change]], verbs: tuple[list[str], ...]) -> list[str]:
    """What was said wrongly of each change, and which of them made a file outside of the run."""
    wrong = []
    for label, change in chosen:
        folder = mirrored(made, tmp_path)
        with contextlib.chdir(tmp_path / "place"):
            with contextlib.suppress(IsADirectoryError):
                change(folder)
            wrong += [f"{label}: {said}" for said in refusals(*verbs)]
            wrong += [f"{label}: the canary was made"] * Path("canary").exists()
            wrong += [f"{label}: a file outside was written"] * (Path("outside").read_bytes() != b"mine")
            assert not Path("../x").exists()
    return wrong


def verbs_of(kind: str) -> tuple[list[str], ...]:
    return (*READING, TRAINING, *(READERS if kind in ("claims", "derived files") else ()), ["status", "walks"])


@pytest.mark.parametrize("kind", CASES)
def test_a_file_that_says_something_else_is_refused_or_contained(made, tmp_path, kind):
    chosen = random.Random(kind).sample(cases(made, kind), 8)
    assert tried(made, tmp_path, chosen, verbs_of(kind)) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_many_changes_of_every_file_are_refused_or_contained(made, tmp_path, kind):
    """With FUZZ_CASES=1000 all of them: about ten minutes of one core."""
    every = cases(made, kind)
    chosen = random.Random(f"many {kind}").sample(every, min(len(every), int(os.environ.get("FUZZ_CASES", "16"))))
    assert tried(made, tmp_path, chosen, verbs_of(kind)) == []


SEALED = ("run.json", "plans", "chunks", "checkpoints", "claims.npz")
"""What carries its SHA-256; all else is written anew at will, or read by people alone."""


def contents(folder: Path, *kinds: str) -> dict[str, bytes]:
    """The files of a run folder that are of some kinds, by name; of any where none is given."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path: str(path.relative_to(folder)) for path in paths}
    return {name: path.read_bytes() for path, name in names.items() if not kinds or name.split("/")[0] in kinds}


@pytest.mark.slow
def test_of_300_damaged_files_of_every_kind_each_is_noticed_put_aside_and_done_again(made, tmp_path):
    draw, kept = random.Random(3), ("chunks", "summary.csv", "claims.json", "claims.npz", "figures")
    folder = mirrored(made, tmp_path)
    before = {name: content for name, content in contents(folder).items() if content}
    asked = (TRAINING, [*TRAINING, "seeds=4"], TRAINING)
    with contextlib.chdir(tmp_path / "place"):
        assert [said(words).exit_code for words in asked] == [0, 0, 0]
    finished, kinds = contents(folder, *kept), sorted({name.split("/")[0] for name in before})
    assert set(kinds) >= {*SEALED, "summary.csv", "claims.json", "figures", "report.html", "reproductions"}
    for _ in range(30):  # ten at a time, of which one plan at most: the tile is nowhere else
        folder, damaged = mirrored(made, tmp_path), {}
        while len(damaged) < 10:
            kind = draw.choice(kinds)
            left = [name for name in before if name.split("/")[0] == kind and name not in damaged]
            if not left or (kind == "plans" and any(name.startswith(kind) for name in damaged)):
                continue
            name = draw.choice(left)
            content = bytearray(before[name])
            if draw.random() < 0.5:
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            else:
                del content[draw.randrange(len(content)) :]
            (folder / name).write_bytes(content)
            assert [path for path, _ in store.damaged(folder)] == [folder / name] * (kind in SEALED)
            (folder / name).write_bytes(before[name])
            damaged[name] = content
        for name, content in damaged.items():
            (folder / name).write_bytes(content)
        sealed = {folder / name for name in damaged if name.split("/")[0] in SEALED}
        assert {path for path, _ in store.damaged(folder)} == sealed
        with contextlib.chdir(tmp_path / "place"):
            again = [said(words) for words in asked]
        assert [one.exit_code for one in again] == [0, 0, 0], (list(damaged), [one.stderr for one in again])
        assert contents(folder, *kept) == finished, list(damaged)
        assert len(contents(folder, "quarantine")) == len(sealed)
        assert list(store.damaged(folder)) == []


@pytest.mark.parametrize("label", sorted(ENGINES))
def test_a_checkpoint_that_does_not_fit_the_program_is_refused(made, tmp_path, label):
    every = dict(npz_cases(made / "results" / "walks" / "default", "checkpoints/*.npz"))
    assert tried(made, tmp_path, [(label, every[label])], (TRAINING,)) == []


@pytest.mark.parametrize("label", sorted(FIGURES))
def test_a_figure_is_written_anew_and_not_through_what_has_its_name(made, tmp_path, label):
    every = dict(file_cases(made, ["figures/learning_curves.png"]))
    assert tried(made, tmp_path, [(label, every[label])], (TRAINING,)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("trial", 10**9), ("trial", -1), ("seed", -1), ("seed", 10**9), ("status", 7), ("step", -1), ("eval_step", 1e300)],
)
def test_a_chunk_of_runs_that_nobody_asked_for_is_put_aside_and_done_anew(made, tmp_path, name, value):
    folder = mirrored(made, tmp_path)
    path = sorted((folder / "chunks").glob("*.npz"))[0]
    whole, arrays = path.read_bytes(), files.read_npz(path)
    arrays[name] = np.full(arrays[name].shape, value, type(value))
    path.write_bytes(files.npz_bytes(arrays))
    with contextlib.chdir(tmp_path / "place"):
        refused = said(["table", "walks"])
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
        assert [found for found, _ in store.damaged(folder)] == [path]
        assert said(TRAINING).exit_code == 0
    assert path.read_bytes() == whole
    assert len(list((folder / "quarantine").iterdir())) == 1


CLAIM = {"id": "x", "count": 3, "machine": "another", "process": 7, "began": "9"}


def claims_of_others() -> dict[str, Change]:
    """A claim on the batch that is left, by its content or what it is; some are of this machine."""

    def change(content: bytes | None, kind: Callable[[Path], Any] | None = None) -> Change:
        def made(folder: Path) -> None:
            left = {store.batch_of(path) for path in (folder / "checkpoints").glob("*.npz")} or {"none"}
            path = folder / "claims" / f"{left.pop()}.json"
            path.write_bytes(content) if content is not None else kind(path) if kind else None

        return made

    here = {**CLAIM, **claims._process()}
    found = {f"claim: {label}": change(json.dumps(said).encode()) for label, said in json_changes(CLAIM)}
    found |= {f"claim here: {label}": change(json.dumps(said).encode()) for label, said in json_changes(here)}
    found |= {f"claim: {label}": change(content) for label, content in TEXTS.items()}
    return found | {f"claim is {label}": change(None, kind) for label, kind in KINDS.items()}


OTHERS = claims_of_others()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["claim:", "claim here:", "claim is"])
def test_whatever_a_claim_says_it_stands_still_and_its_batch_is_taken_over(made, tmp_path, kind, monkeypatch):
    """With FUZZ_CASES=100 all of them."""
    monkeypatch.setattr(claims, "LEASE_SECONDS", 0.2)
    every = sorted(label for label in OTHERS if label.startswith(kind))
    for label in random.Random(kind).sample(every, min(len(every), int(os.environ.get("FUZZ_CASES", "8")))):
        verbs = (READING[0], READING[3], TRAINING, *READING)
        assert tried(made, tmp_path, [(label, OTHERS[label])], verbs) == []
        with contextlib.chdir(tmp_path / "place"):
            left = json.loads(said(["status", "walks", "--json"]).stdout)["not_run"]
            assert left == 0 or (label == "claim is a folder" and "is a folder" in said(TRAINING).stderr), label

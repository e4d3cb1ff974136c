"""Exports read back equal what `jx.load` gives; and nothing that is no export is written over."""

import csv
import io
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typer
import xarray
from pandas.testing import assert_frame_equal
from typer.testing import CliRunner

import jaxexp as jx
from jaxexp import export, worker
from jaxexp.commands import exporting
from jaxexp.errors import StoreError, StudyError


@jx.config
class Config:
    rate: float = jx.dynamic(0.1)
    start: str = jx.static("zeros")
    wide: bool = jx.static(False)


def init(key, data, config):
    return jax.random.normal(key, ()) * (0.0 if config.start == "zeros" else 1.0)


def step(key, state, data, config):
    state = (1 - config.rate) * state + 0.1 * jax.random.normal(key, ())
    return state, {"loss": jnp.where(config.rate > 1, jnp.inf, state**2)}


def evaluate(state, data, config):
    return {"score": state, "bounded": jnp.where(jnp.isfinite(state), jnp.clip(state, 0, 1), 0.5)}


STUDY = jx.Study(
    experiment=jx.Experiment(init, step, evaluate),
    config=Config(),
    sweep=jx.grid(start=("zeros", "ones, or more"), rate=(0.1, 0.25, 1.5)),
    seeds=(3, 1, 7),
    num_steps=6,
    evaluate_every=3,
    log_every=2,
)
app = typer.Typer()
app.command("export")(exporting.export)
app.command("table")(exporting.table)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("runs") / "walk"
    jx.run(STUDY, made)
    return made


@pytest.fixture(scope="module")
def dataset(folder):
    loaded = worker.load(folder)
    assert set(np.unique(loaded["status"])) == {0, 1}
    return loaded


def expected_row(dataset: xarray.Dataset, trial: int, seed: int) -> dict:
    """What a frame says of a run, read off the dataset label by label."""
    run = dataset.isel(trial=trial, seed=seed)
    ok = int(run["status"]) == 0
    return {
        "trial": trial,
        "rate": run["rate"].item(),
        "start": run["start"].item(),
        "wide": False,
        "seed": run["seed"].item(),
        "status": run["status"].item(),
        "status_step": run["status_step"].item(),
        "score": run["score"].sel(eval_step=6).item() if ok else np.nan,
        "bounded": run["bounded"].sel(eval_step=6).item() if ok else np.nan,
        "loss": run["loss"].isel(step=-1).item() if ok else np.nan,
    }


def expected_rows(dataset: xarray.Dataset) -> list[dict]:
    shape = dataset["status"].shape
    return [expected_row(dataset, trial, seed) for trial in range(shape[0]) for seed in range(shape[1])]


def assert_rows(found: list[dict], expected: list[dict]) -> None:
    assert len(found) == len(expected)
    for row, known in zip(found, expected, strict=True):
        assert row.keys() == known.keys()
        for name, value in known.items():
            assert row[name] == value or (value != value and row[name] != row[name]), name


def test_a_frame_has_a_row_a_run_and_scores_no_run_that_is_not_ok(dataset):
    frame = export.to_pandas(dataset)
    assert_rows(frame.to_dict("records"), expected_rows(dataset))
    assert np.isfinite(dataset["bounded"].values[dataset["status"].values == 1]).all()
    assert frame.loc[frame["status"] == 1, "bounded"].isna().all()
    assert str(frame["score"].dtype) == "float32"


def test_a_long_frame_has_every_number_that_was_recorded(dataset):
    frame = export.to_long(dataset)
    assert len(frame) == 18 * (3 + 3 + 3)
    assert list(frame.columns[-3:]) == ["metric", "step", "value"]
    for row in frame.to_dict("records"):
        values = dataset[row["metric"]].sel(trial=row["trial"], seed=row["seed"])
        assert np.array_equal(values.sel({values.dims[0]: row["step"]}).item(), row["value"], equal_nan=True)
        assert row["start"] == dataset["start"].values[row["trial"]]


def test_runs_that_were_not_done_have_no_numbers(dataset):
    less = dataset.copy(deep=True)
    less["status"][0, 1] = 3
    assert len(export.to_pandas(less)) == 18
    frame = export.to_long(less)
    assert len(frame) == 17 * 9
    assert not ((frame["trial"] == 0) & (frame["seed"] == dataset["seed"].values[1])).any()


def parsed(text: str) -> Callable[[str], Any]:
    return {
        "trial": int, "seed": int, "status": int, "status_step": int, "start": str, "wide": lambda word: word == "True",
    }.get(text, lambda word: float(word or "nan"))  # fmt: skip


def read_csv(path: Path) -> list[dict]:
    rows = csv.DictReader(io.StringIO(path.read_text()))
    return [{name: parsed(name)(word) for name, word in row.items()} for row in rows]


def test_csv_reads_back_equal(dataset, tmp_path):
    path = tmp_path / "new" / "runs.csv"
    assert export.write(dataset, path, "csv") == 18
    expected = expected_rows(dataset)
    rows = read_csv(path)
    for row in rows:  # the shortest decimals that are the number in its own precision
        row |= {name: float(np.float32(row[name])) for name in ("score", "bounded", "loss")}
    assert_rows(rows, expected)


@pytest.mark.parametrize("long", [False, True])
def test_parquet_reads_back_equal(dataset, tmp_path, long):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "runs.parquet"
    export.write(dataset, path, "parquet", long=long)
    table = parquet.read_table(path, page_checksum_verification=True)
    frame = export.to_long(dataset) if long else export.to_pandas(dataset)
    assert_frame_equal(table.to_pandas(), frame)
    if not long:  # null, which no mean of a database takes in
        assert table["bounded"].null_count == (dataset["status"] == 1).sum() > 0
    assert json.loads(table.schema.metadata[b"jaxexp"]) == dataset.attrs


def test_zarr_reads_back_identical_with_a_checksum_for_each_chunk(dataset, tmp_path):
    pytest.importorskip("zarr")
    path = tmp_path / "runs.zarr"
    assert export.write(dataset, path, "zarr") == 18
    with xarray.open_dataset(path, engine="zarr", consolidated=False) as found:
        xarray.testing.assert_identical(found.load(), dataset)
    arrays = [json.loads(file.read_text()) for file in path.glob("*/zarr.json")]
    assert len(arrays) == len(dataset.variables)
    assert {array["zarr_format"] for array in arrays} == {3}
    assert {array["codecs"][-1]["name"] for array in arrays} == {"crc32c"}


def test_a_changed_byte_of_zarr_is_noticed(dataset, tmp_path):
    pytest.importorskip("zarr")
    path = tmp_path / "runs.zarr"
    export.write(dataset, path, "zarr")
    chunk = path / "score" / "c" / "0" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[-6] ^= 1
    chunk.write_bytes(content)
    with (
        xarray.open_dataset(path, engine="zarr", consolidated=False) as found,
        pytest.raises(ValueError, match="checksum"),
    ):
        found.load()


def events(path: Path) -> list:
    """The events of a TensorBoard file; its records are a length, a checksum, the content and a checksum."""
    event = pytest.importorskip("tensorboardX.proto.event_pb2").Event
    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        found.append(event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return found


def test_tensorboard_gets_the_best_runs_with_scalars_and_hyperparameters(dataset, tmp_path):
    pytest.importorskip("tensorboardX")
    path = tmp_path / "board"
    assert export.write(dataset, path, "tensorboard", top=2, metric="loss", smallest=True) == 2
    losses = dataset["loss"].isel(step=-1).where(dataset["status"] == 0).stack(run=("trial", "seed")).dropna("run")
    best = losses.sortby(losses).run.values[:2]
    assert sorted(folder.name for folder in path.iterdir()) == sorted(f"trial-{t}-seed-{s}" for t, s in best)
    for trial, seed in best:
        (file,) = (path / f"trial-{trial}-seed-{seed}").iterdir()
        found = [(event.step, value) for event in events(file) for value in event.summary.value]
        for metric in ("score", "bounded", "loss"):
            numbers = {step: value.simple_value for step, value in found if value.tag == metric}
            run = dataset[metric].sel(trial=trial, seed=seed)
            assert numbers == dict(zip(run[run.dims[0]].values.tolist(), run.values.tolist(), strict=True))
        tags = [value.tag for _, value in found]
        assert {"_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"} <= set(tags)
        (started,) = (value for _, value in found if value.tag == "_hparams_/session_start_info")
        content = started.metadata.plugin_data.content
        assert dataset["start"].values[trial].encode() in content
        assert struct.pack("<d", dataset["rate"].values[trial]) in content


def test_the_best_runs_are_ok_and_ranked(dataset):
    scores = dataset["score"].isel(eval_step=-1).where(dataset["status"] == 0).values.ravel()
    ranked = export.best(dataset, 100, "score")
    assert len(ranked) == (dataset["status"] == 0).sum()
    assert (np.diff(scores[ranked]) <= 0).all()
    assert scores[ranked[0]] == np.nanmax(scores)
    assert export.best(dataset, 1, "score", smallest=True)[0] == np.nanargmin(scores)
    with pytest.raises(StudyError, match="did you mean 'score'"):
        export.best(dataset, 1, "scor")
    with pytest.raises(StudyError, match="one of bounded, score"):
        export.best(dataset, 1)
    assert export.best(dataset.drop_vars("bounded"), 1)[0] == ranked[0]
    lost = dataset.copy(deep=True)
    lost["status"][:] = 1
    with pytest.raises(StudyError, match="no run is ok"):
        export.best(lost, 1, "score")


def test_the_top_runs_of_a_csv_come_best_first(dataset, tmp_path):
    export.write(dataset, tmp_path / "runs.csv", "csv", top=3, metric="score")
    found = [np.float32(row["score"]) for row in read_csv(tmp_path / "runs.csv")]
    scores = dataset["score"].isel(eval_step=-1).values[dataset["status"].values == 0]
    assert found == sorted(scores, reverse=True)[:3]


def exported(folder: Path, *words: str):
    return CliRunner().invoke(app, ["export", str(folder), *words])


def test_the_verb_writes_once_and_again_only_where_told(folder, tmp_path):
    path = tmp_path / "runs.csv"
    words = ["--to", "csv", "--out", str(path)]
    done = exported(folder, *words, "--json")
    assert json.loads(done.stdout) == {"folder": str(folder), "to": "csv", "path": str(path), "runs": 18}
    before = path.read_bytes()
    refused = exported(folder, *words)
    assert (refused.exit_code, path.read_bytes()) == (2, before)
    assert "is there already: choose another --out, or say --yes" in refused.stderr
    assert exported(folder, *words, "--yes", "--top", "2", "--metric", "score").exit_code == 0
    assert len(read_csv(path)) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["runs.csv"]


MISTAKES = {
    "format": (["--to", "cvs"], "there is no format 'cvs'; did you mean 'csv'?"),
    "long": (["--to", "zarr", "--long"], "--long is of frames"),
    "zarr": (["--to", "zarr", "--top", "3"], "zarr holds all runs"),
    "metric": (["--to", "csv", "--metric", "score"], "say how many with --top"),
    "unknown metric": (["--to", "csv", "--top", "3", "--metric", "scor"], "did you mean 'score'?"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_message_and_writes_nothing(folder, tmp_path, mistake):
    words, message = MISTAKES[mistake]
    done = exported(folder, *words, "--out", str(tmp_path / "x"))
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_standard_output_is_no_file(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = exported(folder, "--to", "csv", "--out", "-")
    assert (done.exit_code, done.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert "--out is the name of a file or folder, and never standard output, which `jaxexp table` has" in done.stderr


def test_nothing_that_no_export_left_is_ever_replaced(folder, dataset, tmp_path):
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter.tex").write_text("1")
    for to in export.FORMATS:
        with pytest.raises(StoreError, match=r"no .* export, so that it is kept"):
            export.write(dataset, precious, to, overwrite=True)
    link = tmp_path / "link"
    link.symlink_to(precious / "chapter.tex")
    with pytest.raises(StoreError, match="so that it is kept"):
        export.write(dataset, link, "csv", overwrite=True)
    assert (precious / "chapter.tex").read_text() == "1"
    before = sorted(folder.rglob("*"))
    for path in (folder, folder / "run.json", folder / "chunks" / "runs.csv"):
        with pytest.raises(StoreError, match="in the run folder"):
            export.write(dataset, path, "csv", overwrite=True)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(("to", "package"), [("parquet", "pyarrow"), ("zarr", "zarr"), ("tensorboard", "tensorboardX")])
def test_a_missing_package_is_named_with_what_to_type(dataset, tmp_path, monkeypatch, to, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(StoreError, match=rf"{package} cannot be imported .* pip install 'jaxexp\[export\]'"):
        export.write(dataset, tmp_path / "x", to, metric="score" if to == "tensorboard" else None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", ["zarr", "tensorboard"])
def test_an_export_is_replaced_by_a_newer_one_whole(dataset, tmp_path, to):
    pytest.importorskip({"zarr": "zarr", "tensorboard": "tensorboardX"}[to])
    path = tmp_path / "x"
    metric = "score" if to == "tensorboard" else None
    export.write(dataset, path, to, metric=metric)
    old = {file.relative_to(path) for file in path.rglob("*")}
    less = dataset.isel(trial=[0])
    export.write(less, path, to, metric=metric, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["x"]
    if to == "tensorboard":
        assert len(list(path.iterdir())) == 3 < len(old)
    else:
        with xarray.open_dataset(path, engine="zarr", consolidated=False) as found:
            assert found.sizes["trial"] == 1

"""Results for other tools: a pandas frame, CSV, Parquet, Zarr and TensorBoard. Trains nothing and prints nothing.

What is written is there whole or not at all, and never inside of a run folder. The packages of the extra `export` are
imported where they are needed.
"""

import importlib
import io
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxexp import files, store, tables
from jaxexp.errors import StoreError, StudyError, suggestion
from jaxexp.results import NOT_RUN, OK

FORMATS = ("csv", "parquet", "zarr", "tensorboard")
TOP = 10
"""The runs that TensorBoard gets where nothing else is said: it shows few well."""

_DIMS = ("trial", "seed", "step", "eval_step")
_ROWS = "a frame's rows"
"""The dim of a frame: no hyperparameter can have this name."""


def to_pandas(dataset: Any) -> Any:
    """Returns one row a run: trial, hyperparameters, seed, status, status_step and each metric's last value.

    Args:
        dataset: Results, as `jx.run` and `jx.load` give them.

    Returns:
        A `pandas.DataFrame` [trials x seeds]. A run that is not ok (status 0) has NaN for every metric, so that a mean
        of the frame scores none.

    Example:
        >>> import jaxexp as jx
        >>> @jx.config
        ... class Config:
        ...     x: float = 0.0
        >>> square = jx.from_train(lambda key, config: {"y": config.x**2})
        >>> study = jx.Study(experiment=square, config=Config(), sweep=jx.grid(x=(1.0, 2.0)), seeds=1)
        >>> frame = to_pandas(jx.run(study))
        >>> list(frame), frame["y"].tolist()
        (['trial', 'x', 'seed', 'status', 'status_step', 'y'], [1.0, 4.0])
    """
    return _by_run(dataset, _every_run(dataset))


def to_long(dataset: Any) -> Any:
    """Returns one row a number: run as in `to_pandas`, metric, step and value, as it was recorded.

    Runs that have not been done have no row. Those that are not ok have, with the values up to where they diverged and
    after: `status` tells them apart.

    Args:
        dataset: Results.

    Returns:
        A `pandas.DataFrame` with the columns of `to_pandas`, less the metrics, and `metric`, `step` and `value`.

    Example:
        >>> import jaxexp as jx
        >>> @jx.config
        ... class Config:
        ...     x: float = 0.0
        >>> square = jx.from_train(lambda key, config: {"y": config.x**2})
        >>> study = jx.Study(experiment=square, config=Config(), sweep=jx.grid(x=(1.0, 2.0)), seeds=1)
        >>> frame = to_long(jx.run(study))
        >>> frame[["x", "metric", "step", "value"]].values.tolist()
        [[1.0, 'y', 0, 1.0], [2.0, 'y', 0, 4.0]]
    """
    return _by_number(dataset, _every_run(dataset))


def _every_run(dataset: Any) -> np.ndarray:
    return np.arange(dataset["status"].size)


def _by_run(dataset: Any, runs: np.ndarray) -> Any:
    made = _columns(dataset, runs)
    for name in tables.metrics(dataset):
        values = _numbers(dataset, name, runs)
        if values.shape[1]:
            made[name] = np.where(made["status"] == OK, values[:, -1], np.nan).astype(values.dtype)
    return _frame(made)


def _by_number(dataset: Any, runs: np.ndarray) -> Any:
    runs = runs[dataset["status"].values.ravel()[runs] != NOT_RUN]
    parts = []
    for name in tables.metrics(dataset):
        steps, values = dataset[dataset[name].dims[-1]].values, _numbers(dataset, name, runs)
        columns = _columns(dataset, np.repeat(runs, len(steps)))
        columns |= {"metric": np.repeat([name], values.size), "step": np.tile(steps, len(runs))}
        parts.append({**columns, "value": values.ravel()})
    return _frame({title: np.concatenate([part[title] for part in parts]) for title in (parts[0] if parts else ())})


def _numbers(dataset: Any, name: str, runs: np.ndarray) -> np.ndarray:
    """A metric's values [run, step], in a dtype that other tools have."""
    values = dataset[name].values
    return values.reshape(-1, values.shape[-1])[runs].astype(np.result_type(values, np.float32), copy=False)


def _columns(dataset: Any, runs: np.ndarray) -> dict[str, np.ndarray]:
    """What runs are told apart by; runs are numbered trial by trial."""
    trial, seed = np.divmod(runs, dataset.sizes["seed"])
    made = {"trial": dataset["trial"].values[trial]}
    for name in _hyperparameters(dataset):
        values = dataset[name].values
        made[name] = values[trial] if values.ndim else np.repeat(values, len(runs))
    made["seed"] = dataset["seed"].values[seed]
    return made | {name: dataset[name].values.ravel()[runs] for name in ("status", "status_step")}


def _hyperparameters(dataset: Any) -> list[str]:
    """All of them, those that do not vary as well."""
    return [name for name, value in dataset.coords.items() if name not in _DIMS and value.dims in ((), ("trial",))]


def _frame(columns: dict[str, np.ndarray]) -> Any:
    import xarray  # which brings pandas with it; both take long to import

    return (
        xarray.Dataset({title: (_ROWS, values) for title, values in columns.items()})
        .to_dataframe()
        .reset_index(drop=True)
    )


def best(dataset: Any, top: int, metric: str | None = None, smallest: bool = False) -> np.ndarray:
    """Returns the runs whose metric is largest at the end, the best first; those that are not ok are none of them.

    Args:
        dataset: Results.
        top: How many runs.
        metric: Its name; where None, the one metric of evaluation, or of the step where nothing is evaluated.
        smallest: Whether the smallest is the best.

    Returns:
        Numbers of runs, trial x num_seeds + position of the seed, int64 [at most top].

    Raises:
        StudyError: If there is no such metric, several and none named, or not one run to choose.

    Example:
        >>> import jaxexp as jx
        >>> @jx.config
        ... class Config:
        ...     x: float = 0.0
        >>> square = jx.from_train(lambda key, config: {"y": config.x**2})
        >>> dataset = jx.run(jx.Study(experiment=square, config=Config(), sweep=jx.grid(x=(1.0, 3.0, 2.0)), seeds=1))
        >>> best(dataset, 2).tolist()
        [1, 2]
    """
    names = tables.metrics(dataset)
    if metric is None:
        shown = tables.headline(dataset)
        if len(shown) != 1:
            raise StudyError(f"the best by which metric? say it with --metric, one of {', '.join(shown)}")
        metric = shown[0]
    if metric not in names:
        raise StudyError(f"there is no metric {metric!r}{suggestion(metric, names)}")
    last = dataset[metric].values[..., -1].ravel().astype(np.float64)
    (scored,) = np.nonzero((dataset["status"].values.ravel() == OK) & np.isfinite(last))
    if not len(scored):
        raise StudyError(f"no run is ok and has a finite {metric} at the end: `jaxexp status` says what became of them")
    return scored[np.argsort(last[scored] if smallest else -last[scored], kind="stable")][:top]


def write(
    dataset: Any,
    path: Path,
    to: str,
    *,
    long: bool = False,
    top: int | None = None,
    metric: str | None = None,
    smallest: bool = False,
    overwrite: bool = False,
) -> int:
    """Writes results in another format, whole or not at all; returns how many runs they are.

    *csv*, *parquet*: the frame of `to_pandas`, or of `to_long`. *zarr*: the dataset itself, in format 3, each chunk
    with its crc32c. *tensorboard*: a folder a run with its scalars by step and its hyperparameters.

    Args:
        dataset: Results.
        path: The file; with zarr and TensorBoard a folder.
        to: One of `FORMATS`.
        long: Whether CSV and Parquet have a row a number.
        top: The best runs alone, as `best` chooses them; all where None, with TensorBoard the best `TOP`.
        metric: By which they are chosen.
        smallest: Whether its smallest is the best.
        overwrite: Whether what an export left there may be replaced.

    Raises:
        StudyError: If there is no such format or metric, or the options do not go together.
        StoreError: If a package is missing, something is there already, or it cannot be written.
    """
    _check_options(to, long, top, metric, smallest)
    _check_place(path, to, overwrite)
    if to == "tensorboard" and top is None:
        top = TOP
    runs = _every_run(dataset) if top is None else best(dataset, top, metric, smallest)
    files.make_folder(path.parent)
    if to in ("csv", "parquet"):
        frame = _by_number(dataset, runs) if long else _by_run(dataset, runs)
        files.write(path, _csv(frame) if to == "csv" else _parquet(frame, dataset.attrs))
        return len(runs)
    temporary = files.temporary_beside(path)
    try:
        if to == "zarr":
            _zarr(dataset, temporary)
        else:
            _tensorboard(dataset, temporary, runs)
        _move(temporary, path)
    except OSError as problem:
        if isinstance(problem, StoreError):
            raise
        raise StoreError(f"cannot write {path}: {problem}; free space or choose another --out") from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(runs)


def _check_options(to: str, long: bool, top: int | None, metric: str | None, smallest: bool) -> None:
    if to not in FORMATS:
        raise StudyError(f"there is no format {to!r}{suggestion(to, FORMATS)}")
    if long and to not in ("csv", "parquet"):
        raise StudyError(f"--long is of frames, and {to} is none: leave it out, or take --to csv or --to parquet")
    if to == "zarr" and (top or metric or smallest):
        raise StudyError("zarr holds all runs, as an array [trial, seed]: leave --top, --metric and --smallest out")
    if top is None and to != "tensorboard" and (metric or smallest):
        raise StudyError("--metric and --smallest say which runs are the best: say how many with --top, e.g. --top 10")


def _check_place(path: Path, to: str, overwrite: bool) -> None:
    """Refuses to write into a run folder, over what is there already, and over anything that no export left."""
    if str(path) == "-":
        raise StoreError("--out is the name of a file or folder, and never standard output, which `jaxexp table` has")
    inside = [folder for folder in (path, *path.absolute().parents) if _is_run(folder)]
    if inside:
        raise StoreError(f"{path} is in the run folder {inside[0]}, which holds the run alone: choose another --out")
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise StoreError(f"{path} is there already: choose another --out, or say --yes to write over it")
    if not _is_export(path, to):
        raise StoreError(f"{path} is there already and no {to} export, so that it is kept: choose another --out")


def _is_run(folder: Path) -> bool:
    return store.exists(folder) and ((folder / "chunks").is_dir() or (folder / "claims.json").is_file())


def _is_export(path: Path, to: str) -> bool:
    if path.is_symlink() or to in ("csv", "parquet"):
        return path.is_file() and not path.is_symlink()
    if to == "zarr":
        return (path / "zarr.json").is_file()
    found = [file for file in path.rglob("*") if not file.is_dir()]
    return path.is_dir() and all(file.name.startswith("events.out.tfevents.") for file in found)


def _move(made: Path, path: Path) -> None:
    """Puts a folder in its place; what was there is removed once the new one is there."""
    old = made.with_name(f"{made.name}.old")
    if path.exists():
        path.rename(old)
    made.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _package(name: str) -> Any:
    """A package of the extra `export`.

    Raises:
        StoreError: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        raise StoreError(
            f"{name.partition('.')[0]} cannot be imported ({problem}), and this format needs it: type "
            "pip install 'jaxexp[export]', or take --to csv"
        ) from problem


def _csv(frame: Any) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()


def _parquet(frame: Any, attributes: dict[str, Any]) -> bytes:
    """Parquet, with a checksum for each page and the dataset's attributes as JSON in the schema's `jaxexp`."""
    arrow, parquet = _package("pyarrow"), _package("pyarrow.parquet")
    table = arrow.Table.from_pandas(frame, preserve_index=False)
    about = {**(table.schema.metadata or {}), b"jaxexp": json.dumps(attributes).encode()}
    buffer = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata(about), buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def _zarr(dataset: Any, folder: Path) -> None:
    """The dataset in zarr's format 3; reading a chunk whose bits have changed fails by its crc32c.

    Metadata are not consolidated, which format 3 does not know: open it with `consolidated=False`.

    Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/crc32c/index.html
    """
    _package("zarr")
    codecs = _package("zarr.codecs")
    metrics = {name: dataset[name] for name in tables.metrics(dataset)}
    plain = dataset.assign({n: found.astype(np.result_type(found.dtype, np.float32)) for n, found in metrics.items()})
    texts = {name: found for name, found in dataset.coords.items() if found.dtype.kind == "U"}
    plain = plain.assign_coords({name: found.astype(object) for name, found in texts.items()})  # of any length
    kept = (codecs.ZstdCodec(level=3), codecs.Crc32cCodec())
    encoding = {name: {"compressors": kept} for name in plain.variables}
    plain.to_zarr(folder, mode="w-", zarr_format=3, consolidated=False, encoding=encoding)


def _tensorboard(dataset: Any, folder: Path, runs: Sequence[int] | np.ndarray) -> None:
    """A folder a run, `trial-T-seed-S`: each metric by step, its last value, and the hyperparameters."""
    tensorboard, summary = _package("tensorboardX"), _package("tensorboardX.summary")
    frame = _by_run(dataset, np.asarray(runs))
    names = tables.metrics(dataset)
    for run, row in zip(runs, frame.to_dict("records"), strict=True):
        of_run = np.asarray([run])
        with tensorboard.SummaryWriter(str(folder / f"trial-{row['trial']}-seed-{row['seed']}")) as writer:
            told = {name: row[name] for name in _hyperparameters(dataset)}
            for part in summary.hparams(told, {name: row[name] for name in names if name in row}):
                writer.file_writer.add_summary(part)
            for name in names:
                steps = dataset[dataset[name].dims[-1]].values
                for step, value in zip(steps.tolist(), _numbers(dataset, name, of_run)[0].tolist(), strict=True):
                    if np.isfinite(value):
                        writer.add_scalar(name, value, step)

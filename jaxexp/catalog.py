"""Finds experiment files and run folders by name or path, and loads the study in a file.

Listing reads the files' first lines and imports nothing.
"""

import ast
import contextlib
import difflib
import gc
import importlib.abc
import importlib.util
import os
import sys
import sysconfig
import tokenize
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from jaxexp.errors import JaxexpError, StoreError, StudyError, suggestion

FOLDER = "experiments"
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class Entry(NamedTuple):
    """An experiment file: its name and its question (the first line of its docstring)."""

    name: str
    question: str
    path: Path


class Loaded(NamedTuple):
    """An experiment file after import: its study, its full-size study if it has one, and its text."""

    name: str
    study: Any
    full: Any
    text: str
    path: Path


def entries(folder: Path | None = None) -> list[Entry]:
    """Returns the experiment files of a folder (`experiments` below the current one), by name."""
    folder = Path(FOLDER) if folder is None else folder
    found = []
    for path in sorted(folder.glob("*.py")):
        if path.stem.startswith("_"):
            continue
        found.append(Entry(path.stem, question(path), path))
    return found


def question(path: Path) -> str:
    """Returns what an experiment file asks: the first line of its docstring."""
    try:
        text = ast.get_docstring(ast.parse(text_of(path))) or ""
    except (SyntaxError, ValueError, OSError) as problem:
        text = f"(cannot be read: {problem})"
    return text.strip().split("\n")[0]


def text_of(path: Path) -> str:
    """Returns the text of a Python file, in the encoding that it declares."""
    with tokenize.open(path) as file:
        return file.read()


def path_of(name: str) -> Path:
    """Returns the file of an experiment given by name or by path.

    Raises:
        StudyError: If there is no such file; near names are suggested.
    """
    given = Path(name)
    if given.suffix == ".py" and given.is_file():
        return given
    known = {entry.name: entry.path for entry in entries()}
    if name in known:
        return known[name]
    where = f"; there is no folder {FOLDER}/ here" if not known else suggestion(name, known)
    raise StudyError(f"there is no experiment {name!r}{where} (an experiment is a name below {FOLDER}/ or a .py file)")


def given(path: Path) -> str:
    """Returns how a record says where an experiment file is, from here; nothing where its name says it."""
    found = Path(os.path.relpath(path))
    return "" if found.parent == Path(FOLDER) else str(found)


def load(name: str) -> Loaded:
    """Returns the study of an experiment file, imported.

    Raises:
        StudyError: If the file cannot be imported or has no `study`.
    """
    from jaxexp.study import Study  # the file will import it; who only lists has no use for it

    path = path_of(name)
    module_name = f"{FOLDER}.{path.stem}"
    project, here, beside = roots(path.resolve().parent)
    for root in (here, project):  # the later comes first
        if str(root) not in sys.path:
            sys.path.insert(0, str(root))
    if str(beside) not in sys.path:
        sys.path.append(str(beside))
    try:
        text = text_of(path)
        loader = _TextLoader(path, text)
        spec = importlib.util.spec_from_file_location(module_name, path, loader=loader)
        module = importlib.util.module_from_spec(cast(Any, spec))
        sys.modules[module_name] = module  # dataclasses look their module up while they are made
        with _for_good():
            loader.exec_module(module)
    except JaxexpError:
        raise
    except (Exception, SystemExit) as problem:
        where = traceback.extract_tb(problem.__traceback__)[-1]
        told = f"{path} cannot be imported: {type(problem).__name__}: {problem}"
        # A syntax error says its own place; that of the traceback is the importer's.
        told += "" if isinstance(problem, SyntaxError) else f" (line {where.lineno} of {where.filename})"
        raise StudyError(told) from problem
    if not hasattr(module, "study"):
        raise StudyError(f"{path} has no study: end it with `study = jx.Study(...)`")
    for name in ("study", "full"):
        found = getattr(module, name, None)
        if found is not None and not isinstance(found, Study):
            raise StudyError(f"{path}: {name} is {found!r:.80}, no Study: write `{name} = jx.Study(...)`")
    return Loaded(path.stem, module.study, getattr(module, "full", None), text, path)


class _TextLoader(importlib.abc.ExecutionLoader):
    """Imports the text of a file, which is what is recorded, and no bytecode that was kept of another."""

    def __init__(self, path: Path, text: str):
        self._path, self._text = path, text

    def get_filename(self, fullname: str) -> str:
        return str(self._path)

    def get_source(self, fullname: str) -> str:
        return self._text


def roots(folder: Path) -> tuple[Path, Path, Path]:
    """Returns the folders in which an experiment finds modules of its own: its project, the current one, its file's.

    Args:
        folder: Its file's, resolved.
    """
    return folder.parent if folder.name == FOLDER else folder, Path.cwd(), folder


def modules(name: str, folder: Path) -> dict[str, str]:
    """Returns the texts of the modules of an experiment's project that are loaded, beside its own, by their names.

    Args:
        name: The experiment's.
        folder: Its file's, resolved. No module is where there is none.
    """
    own, found = roots(folder), dict[str, str]()
    others = tuple(f"{sysconfig.get_path(kind)}{os.sep}" for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
    for known, module in sorted(sys.modules.items()):
        origin = str(vars(module).get("__file__") or "") if isinstance(module, types.ModuleType) else ""
        if known.partition(".")[0] in ("jaxexp", "__main__") or known == f"{FOLDER}.{name}" or not origin:
            continue
        if origin.startswith(others) or any(part in origin for part in _INSTALLED):
            continue  # by the text alone: a path for each of thousands of modules takes a tenth of a second
        file = Path(origin)
        if file.suffix == ".py" and any(root in file.parents for root in own):
            with contextlib.suppress(OSError, ValueError, SyntaxError):
                found[known] = text_of(file)
    return found


@contextlib.contextmanager
def _for_good() -> Iterator[None]:
    """Keeps the garbage collector from what is imported here, now and later: it would look at all JAX time and again.

    That is a fifth of what the imports take, and an eighth of tracing and lowering after them.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def run_folder(name: str, out: Path, run_name: str | None) -> Path:
    """Returns the run folder that a name means: a folder with a run, or an experiment's run below `out`.

    Args:
        name: A path, or an experiment's name.
        out: The folder of all runs.
        run_name: Which of the experiment's runs; its `default` one where None.

    Raises:
        StoreError: If there is none, or `name` is a path and `run_name` is given as well.
    """
    given = Path(name)
    if _is_run(given):
        if run_name is not None:
            raise StoreError(
                f"{given} is a run, and --name {run_name} would choose one of an experiment's: leave --name out, or "
                "give the experiment's name"
            )
        return given
    below = out / name / ("default" if run_name is None else run_name)
    if _is_run(below):
        return below
    there = sorted(path.parent for path in out.glob("*/*/run.json"))
    known = f"; there are {', '.join(map(str, there[:8]))}" if there else ""
    near = difflib.get_close_matches(name, {path.parent.name for path in there} - {name}, n=1)
    if near:
        raise StoreError(f"there is no run at {given} or {below}; did you mean {near[0]!r}?")
    raise StoreError(f"there is no run at {given} or {below}{known}: start one with `jaxexp run EXPERIMENT`")


def _is_run(folder: Path) -> bool:
    try:
        return (folder / "run.json").is_file()
    except OSError as problem:
        raise StoreError(f"{folder} cannot be read: {problem.strerror}; see who may read it") from problem

"""Imports go strictly down, and the rules of the house that can be read off the source."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxexp"

FLOORS = (
    {"errors", "documents", "signals"},
    {"devices", "trees", "sizes", "gradients", "losses", "models", "optimizers", "datasets"},
    {"configs"},
    {"minibatches"},
    {"experiment"},
    {"sweep"},
    {"study"},
    {"signature", "trials"},
    {"plans"},
    {"program", "results", "files", "contents"},
    {"stored_plans"},
    {"statistics", "tables", "estimates", "engine", "store"},
    {"catalog", "checkpoints", "claims", "earlier", "extension", "figures", "matching", "memory", "timing"},
    {"jobs", "report"},
    {"worker", "comparisons", "export"},
    {"importance", "launch", "overrides", "pages"},
    {"recorded"},
    {"quantities"},
    {"replay", "reproduce", "stages"},
    {"display", "upkeep"},
    {"foreground"},
    {"commands", "worker_process"},
    {"cli"},
    {"__init__", "__main__"},
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}

HEAVY = {"xarray", "matplotlib", "scipy", "optuna"}
"""What takes so long to import that the one function that needs it does so."""

DELAYING = {"commands", "catalog", "worker_process", "__init__", "__main__"}
"""Modules that answer before JAX is imported, or that must pin their process before."""

PRINTING = {"commands", "display", "documents", "foreground", "launch", "signals", "worker_process"}


class Import(NamedTuple):
    """One import: the module that is imported, as `jaxexp.store` or `numpy`, and whether a function does it."""

    module: str
    delayed: bool
    line: int


def _name(path: Path) -> str:
    """The module or package of `jaxexp` that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _imports(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text())
    inner = {node for function in ast.walk(tree) if _is_function(function) for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node in inner, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT / f"{whole.replace('.', '/')}.py").exists() or (
                    ROOT / whole.replace(".", "/")
                ).is_dir()
                yield Import(whole if is_module else str(node.module), node in inner, node.lineno)


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _own(module: str) -> str | None:
    """The part of `jaxexp` that an imported module belongs to, if any."""
    parts = module.split(".")
    return None if parts[0] != "jaxexp" else parts[1] if len(parts) > 1 else "__init__"


def test_every_module_has_a_floor():
    assert {_name(path) for path in _sources()} == FLOOR.keys()


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_strictly_down(path):
    name = _name(path)
    for imported in _imports(path):
        own = _own(imported.module)
        if own is None or (own == name and path.parent != PACKAGE):  # siblings of one package: see below
            continue
        if own == "__init__":
            assert name == "cli", f"{path}:{imported.line} imports the whole of jaxexp"  # its version, for --version
            continue
        assert FLOOR[own] < FLOOR[name], f"{path}:{imported.line} imports {own}, which is not below {name}"


@pytest.mark.parametrize("package", [path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()])
def test_the_modules_of_a_package_import_each_other_without_circles(package):
    graph = {}
    for path in (PACKAGE / package).glob("*.py"):
        mine = f"jaxexp.{package}" + ("" if path.stem == "__init__" else f".{path.stem}")
        graph[mine] = {imported.module for imported in _imports(path) if _own(imported.module) == package}
    assert len(tuple(graphlib.TopologicalSorter(graph).static_order())) == len(graph)


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_heavy_packages_are_imported_late(path):
    for imported in _imports(path):
        if imported.delayed and _name(path) not in DELAYING:
            assert imported.module.split(".")[0] in HEAVY, f"{path}:{imported.line} imports {imported.module} late"
        if not imported.delayed:
            assert imported.module.split(".")[0] not in HEAVY, f"{path}:{imported.line} imports {imported.module} early"


def test_only_declared_dependencies_are_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = (*project["dependencies"], *project["optional-dependencies"]["search"])
    declared = {re.split(r"[^\w-]", dependency)[0] for dependency in wanted}
    for path in (*_sources(), *(ROOT / "experiments").glob("*.py")):
        for imported in _imports(path):
            top = imported.module.split(".")[0]
            assert top in declared | sys.stdlib_module_names | {"jaxexp"}, f"{path}:{imported.line} imports {top}"


def test_experiments_import_the_framework_and_never_each_other():
    for path in (ROOT / "experiments").glob("*.py"):
        for imported in _imports(path):
            assert not imported.module.startswith("experiments"), f"{path}:{imported.line}"
            own = _own(imported.module)
            assert own in (None, "__init__") or imported.delayed, f"{path}:{imported.line} reaches into {own}"


def test_the_command_line_starts_without_jax():
    heavy = "sys.modules.keys() & {'jax', 'xarray', 'matplotlib', 'scipy', 'optax', 'flax'}"
    told = subprocess.run(
        [sys.executable, "-c", f"import sys, jaxexp.cli; print({heavy})"], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "set()"


# What the source must not hold


def _calls(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id, node.lineno


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_library_neither_asserts_nor_evaluates_text_nor_prints(path):
    tree = ast.parse(path.read_text())
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    forbidden = {"eval", "exec", "compile", "input", "breakpoint"} | (set() if _name(path) in PRINTING else {"print"})
    assert not [(name, line) for name, line in _calls(path) if name in forbidden]
    modules = {imported.module.split(".")[0] for imported in _imports(path)}
    assert not modules & {"pickle", "shelve", "marshal", "urllib", "http", "socket", "requests", "logging"}


@pytest.mark.parametrize("name", ["engine", "program", "plans", "results", "signature", "study", "sweep", "trees"])
def test_what_computes_knows_neither_disk_nor_terminal(name):
    path = PACKAGE / f"{name}.py"
    modules = {imported.module for imported in _imports(path)}
    assert not modules & {"os", "sys", "io", "pathlib", "shutil", "subprocess", "jaxexp.files", "jaxexp.store", "rich"}
    assert "open" not in {called for called, _ in _calls(path)}


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_are_of_readable_length(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            code = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            assert (node.end_lineno or 0) - code[0].lineno < 60, f"{node.name} at line {node.lineno}"

"""Experiment files: what is no study is refused, and they are imported without the garbage collector."""

import gc
import sys
import types
from pathlib import Path

import pytest

from jaxexp import catalog
from jaxexp.errors import StudyError

STUDY = """import jaxexp as jx

@jx.config
class Config:
    x: float = 1.0

study = jx.Study(experiment=jx.from_train(lambda key, config: {"y": config.x}), config=Config())
"""


@pytest.fixture(autouse=True)
def _thawed():
    gc.unfreeze()  # what tests before have frozen
    yield
    gc.unfreeze()


def test_the_collector_rests_while_a_file_is_imported_and_leaves_what_is_there_alone(tmp_path):
    path = tmp_path / "resting.py"
    path.write_text(f"import gc\n{STUDY}enabled = gc.isenabled()\n")
    before = gc.get_freeze_count()
    catalog.load(str(path))
    assert sys.modules["experiments.resting"].enabled is False
    assert gc.isenabled()
    assert gc.get_freeze_count() > before + 10_000


def test_a_file_that_fails_does_not_leave_the_collector_off(tmp_path):
    path = tmp_path / "failing.py"
    path.write_text("1 / 0\n")
    with pytest.raises(StudyError, match="ZeroDivisionError"):
        catalog.load(str(path))
    assert gc.isenabled()


def test_who_had_the_collector_off_has_it_off(tmp_path):
    path = tmp_path / "off.py"
    path.write_text(STUDY)
    gc.disable()
    try:
        catalog.load(str(path))
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("place", "own"),
    [
        ("helper.py", True),
        ("experiments/helper.py", True),
        ("deep/er/helper.py", True),
        ("helper.so", False),
        (".venv/lib/site-packages/helper.py", False),
        ("lib/dist-packages/helper.py", False),
        ("../elsewhere/helper.py", False),
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_modules_are_those_of_the_project_that_nobody_installed(tmp_path, monkeypatch, place, own, kind):
    """A module's `__file__` is text, but whoever makes a module may give a path."""
    project = tmp_path / "project"
    path = (project / place).resolve()
    path.parent.mkdir(parents=True)
    path.write_text("SIDE = 4")
    module = types.ModuleType("helper_of_a_test")
    module.__file__ = kind(path)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found = catalog.modules("walks", project / "experiments")
    assert found.get(module.__name__) == ("SIDE = 4" if own else None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("study = 3\n", "study is 3, no Study"),
        (f"{STUDY}full = 'big'\n", "full is 'big', no Study"),
        ("x = 1\n", "has no study"),
        ("study = (\n", r"SyntaxError: '\(' was never closed \(odd.py, line 1\)"),
        ("raise SystemExit(7)\n", r"SystemExit: 7 \(line 1 of .*odd.py\)"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path, text, told):
    path = tmp_path / "odd.py"
    path.write_text(text)
    with pytest.raises(StudyError, match=told):
        catalog.load(str(path))

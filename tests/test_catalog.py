"""Experiment files are imported without the garbage collector, which is as it was afterwards."""

import gc

import pytest

from jaxexp import catalog
from jaxexp.errors import StudyError


@pytest.fixture(autouse=True)
def _thawed():
    yield
    gc.unfreeze()


def test_the_collector_rests_while_a_file_is_imported_and_leaves_what_is_there_alone(tmp_path):
    path = tmp_path / "resting.py"
    path.write_text("import gc\nstudy = gc.isenabled()\n")
    before = gc.get_freeze_count()
    assert catalog.load(str(path)).study is False
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
    path.write_text("study = 1\n")
    gc.disable()
    try:
        catalog.load(str(path))
        assert not gc.isenabled()
    finally:
        gc.enable()

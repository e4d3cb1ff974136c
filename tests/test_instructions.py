"""The planner and the store do no more work than they did: instructions, counted, beside those that are kept."""

import json
import platform

import pytest

from benchmarks import instructions


def test_the_counter_counts():
    few = instructions.counted(lambda: sum(range(10)))
    many = instructions.counted(lambda: sum(number for number in range(1000)))
    assert 0 < few < 20
    assert 3000 < many < 20000


def test_the_planner_and_the_store_have_not_drifted():
    kept = json.loads(instructions.KEPT.read_text())
    if not platform.python_version().startswith(kept["python"]):
        pytest.skip(f"the counts are those of Python {kept['python']}")
    found = instructions.counts()
    assert found.keys() == kept["instructions"].keys()
    for task, count in found.items():
        assert 0.8 < count / kept["instructions"][task] < 1.1, f"{task}: python -m benchmarks.instructions --write"

"""The figures of docs/statistics.md are those that scripts/coverage.py simulates, and they say what the page says."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("coverage_script", ROOT / "scripts" / "coverage.py")
assert _spec is not None
assert _spec.loader is not None
coverage = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(coverage)


def shown(name: str) -> str:
    """The table that stands between a pair of markers of the page."""
    found = re.search(f"<!-- {name}: .*?-->\n(.*?)\n<!-- end of {name} -->", coverage.DOCUMENT.read_text(), re.DOTALL)
    assert found is not None, name
    return found.group(1)


def rows(name: str) -> dict[tuple[str, ...], list[str]]:
    """The rows of a table: cells by the first one, or the first two where these are words."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown(name).splitlines()[2:]]
    return {tuple(line[:2]): line[2:] for line in lines}


@pytest.mark.slow
@pytest.mark.parametrize("name", coverage.TABLES)
def test_the_page_has_the_figures_that_the_command_prints(name):
    assert coverage.TABLES[name]() == shown(name)


@pytest.mark.parametrize(
    ("name", "distribution", "num_seeds"),
    [("mean, t", "normal", 5), ("IQM, t", "lognormal", 20), ("share, Clopper-Pearson", "1 in .9", 10)],
)
def test_a_figure_of_the_page_is_simulated_again(name, distribution, num_seeds):
    (case,) = [case for case in coverage.CASES if (case.name, case.distribution) == (name, distribution)]
    printed = rows("coverage")[name, distribution][coverage.NUM_SEEDS.index(num_seeds)]
    assert coverage.percent(coverage.coverage(case, num_seeds)) == printed


def test_t_intervals_cover_normal_values_as_they_say():
    figures = [float(figure) for figure in rows("coverage")["mean, t", "normal"]]
    assert len(figures) == 5
    assert all(93 <= figure <= 97 for figure in figures)


def test_intervals_that_promise_their_level_whatever_the_distribution_keep_it():
    """Of 2000 repeats at 95 %, 93.5 % or less come once in a thousand."""
    exact = {key: figures for key, figures in rows("coverage").items() if "order" in key[0] or "Clopper" in key[0]}
    assert len(exact) == 5
    assert all(float(figure) > 93.5 for figures in exact.values() for figure in figures)


def test_choosing_on_the_judging_seeds_flatters_and_the_split_does_not():
    same, split = coverage.flattery(False, 400), coverage.flattery(True, 400)
    assert same[0] > 0.3
    assert same[1] < 0.75
    assert abs(split[0]) < 0.05
    assert split[1] > 0.93


def test_two_stages_cover_and_stopping_where_it_looks_narrow_does_not():
    naive, two, greedy = (coverage.stopping(way, 3, 0.5, 1000)[0] for way in coverage.WAYS)
    assert 0.93 < two < 0.97
    assert naive < 0.93
    assert greedy < 0.8

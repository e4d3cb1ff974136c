"""The timing of tiles: who wins, when it is done, and where the answer is kept."""

import json
from pathlib import Path

import jax
import pytest
import tiny_studies

from jaxexp import jobs, plans, timing
from jaxexp.plans import Plan, Tile


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timing, "_WORTH_SECONDS", 0.0)
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "cache"))
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def planned() -> Plan:
    return plans.plan(tiny_studies.study("mlp", (0.03, 0.1, 0.3), 4))


def told(monkeypatch: pytest.MonkeyPatch, seconds: dict[Tile, float]) -> list[Tile]:
    """Makes the timing find these seconds; returns the list of tiles that it was asked about."""
    asked: list[Tile] = []
    monkeypatch.setattr(timing, "_seconds", lambda plan, *rest: asked.append(plan.tile) or {plan.tile: 1.0, **seconds})
    return asked


def test_times_the_tile_beside_others(tmp_path: Path):
    plan = planned()
    found = timing.fastest(plan)
    (kept,) = (tmp_path / "cache" / "tiles").glob("*.json")
    seconds = json.loads(kept.read_text())["seconds_a_step"]
    assert list(seconds) == ["3x4", "3x2", "1x1"]
    assert all(0 < value < 10 for value in seconds.values())
    assert seconds[f"{found.tile.trials}x{found.tile.seeds}"] <= 1.01 * min(seconds.values()) / timing._GAIN
    assert found.num_runs == plan.num_runs
    assert found.digest != plan.digest or found.tile == plan.tile


@pytest.mark.parametrize(
    ("tile", "others"),
    [
        ((2, 1), [(1, 1), (2, 2)]),
        ((1, 2), [(1, 1), (2, 2)]),
        ((3, 4), [(3, 2), (1, 1)]),
        ((3, 2), [(2, 2), (3, 4), (1, 1)]),
        ((2, 4), [(2, 2), (1, 1)]),  # four trials there are not
    ],
)
def test_the_others_are_half_twice_and_one_lane_as_far_as_there_are_runs(tile, others):
    found = timing._others(plans.in_folder(planned(), Tile(*tile), None), 0)
    assert found == [Tile(*other) for other in others]


def test_takes_the_fastest_and_remembers_it(monkeypatch: pytest.MonkeyPatch):
    asked = told(monkeypatch, {Tile(3, 2): 0.9, Tile(1, 1): 0.5})
    assert timing.fastest(planned()).tile == timing.fastest(planned()).tile == Tile(1, 1)
    assert asked == [Tile(3, 4)]


def test_what_is_fastest_for_many_seeds_is_not_taken_for_few(monkeypatch: pytest.MonkeyPatch):
    asked = told(monkeypatch, {Tile(2, 2): 0.5})
    for num_seeds in (4, 1):
        made = plans.plan(tiny_studies.study("mlp", (0.03, 0.1, 0.3), num_seeds))
        timing.fastest(plans.in_folder(made, Tile(2, 1), None))
    assert asked == [Tile(2, 1)] * 2


def test_stays_with_the_planned_tile_where_little_is_gained(monkeypatch: pytest.MonkeyPatch):
    told(monkeypatch, {Tile(1, 1): 0.98})
    assert timing.fastest(planned()).tile == Tile(3, 4)


def test_short_work_is_not_timed(monkeypatch: pytest.MonkeyPatch):
    asked = told(monkeypatch, {Tile(1, 1): 0.1})
    monkeypatch.setattr(timing, "_WORTH_SECONDS", 20.0)
    assert timing.fastest(planned()).tile == Tile(3, 4)
    assert asked == []


def test_a_damaged_answer_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = told(monkeypatch, {Tile(1, 1): 0.5})
    timing.fastest(planned())
    (kept,) = (tmp_path / "cache" / "tiles").glob("*.json")
    for text in ("", "{", '{"tile": [0, 1]}', '{"tile": ["a", 1]}', "[]"):
        kept.write_text(text)
        assert timing.fastest(planned()).tile == Tile(1, 1)
    assert len(asked) == 6


def test_a_folder_keeps_its_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told(monkeypatch, {Tile(1, 1): 0.5})
    study, folder = planned().study, tmp_path / "run"
    assert jobs.prepare(study, folder, tile=Tile(2, 2)).plan.tile == Tile(2, 2)
    assert jobs.prepare(study, folder).plan.tile == Tile(2, 2)
    assert jobs.prepare(study, tmp_path / "other").plan.tile == Tile(1, 1)

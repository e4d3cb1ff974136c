"""Verdicts on repeats, by simulation and by planted faults: how often they are wrong and what they find."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_studies

import jaxexp as jx
from jaxexp import reproduce, worker
from jaxexp.plans import Tile
from jaxexp.reproduce import DIFFERENT, EQUIVALENT, IDENTICAL, UNDECIDED, WITHIN
from jaxexp.study import Study


def verdicts(old: np.ndarray, new: np.ndarray, num_steps: int = 1000) -> list[str]:
    """Of quantities [q, n], trained on another machine."""
    pairs = {str(number): pair for number, pair in enumerate(zip(old, new, strict=True))}
    return [found.verdict for found in reproduce.compared(pairs, num_steps)]


@pytest.mark.parametrize(("num_seeds", "correlation"), [(8, 0.0), (32, 0.0), (32, 0.9)])
def test_of_1000_null_reproductions_at_most_five_percent_come_out_different(num_seeds, correlation):
    draw, alarms = np.random.default_rng(num_seeds), 0
    for _ in range(1000):
        common, first, second = draw.normal(size=(3, 10, num_seeds))
        old, new = (correlation**0.5 * common + (1 - correlation) ** 0.5 * own for own in (first, second))
        alarms += DIFFERENT in verdicts(old.astype(np.float32), new.astype(np.float32))
    assert alarms <= 50


@pytest.mark.parametrize(("shift", "correlation", "power"), [(1.0, 0.0, 0.6), (1.0, 0.9, 0.99), (0.5, 0.9, 0.99)])
def test_a_shift_of_one_quantity_of_ten_is_found_with_this_power(shift, correlation, power):
    draw, found = np.random.default_rng(1), 0
    for _ in range(200):
        common, first, second = draw.normal(size=(3, 10, 32))
        old, new = (correlation**0.5 * common + (1 - correlation) ** 0.5 * own for own in (first, second))
        new[4] += shift
        found += verdicts(old, new)[4] == DIFFERENT
    assert found / 200 >= power


def test_the_four_verdicts_and_the_fifth():
    old = np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32)
    assert verdicts(old, old) == [IDENTICAL]
    assert verdicts(old, old * np.float32(1 + 3e-7)) == [WITHIN]
    assert verdicts(old, old + np.random.default_rng(1).normal(0, 0.3, (1, 64)).astype(np.float32)) == [EQUIVALENT]
    assert verdicts(old, old + np.float32(0.03)) == [EQUIVALENT]  # every seed a little, but next to nothing
    assert verdicts(old, old + np.float32(0.3)) == [DIFFERENT]
    assert verdicts(old[:, :4], old[:, 4:8]) == [UNDECIDED]
    lost = old.copy()
    lost[0, :20] = np.nan
    assert verdicts(old, lost) == [DIFFERENT]


def test_where_nothing_has_changed_any_other_bit_is_a_difference():
    old = np.ones(4, np.float32)
    (found,) = reproduce.compared({"x": (old, np.nextafter(old, np.float32(2)))}, 1000, same_machine=True)
    assert found.verdict == DIFFERENT


def test_seeds_that_diverge_by_chance_raise_the_alarm_at_the_level_too():
    draw, alarms = np.random.default_rng(5), 0
    for _ in range(200):
        both = draw.normal(size=(2, 30, 32)).astype(np.float32)
        both[draw.random(both.shape) < 0.5] = np.nan
        alarms += DIFFERENT in verdicts(*both)
    assert alarms <= 10  # 5 % of 200


def test_no_number_of_steps_excuses_a_tenth_and_no_infinity_its_opposite():
    old = np.random.default_rng(0).normal(5, 1, size=(1, 64)).astype(np.float32)
    assert verdicts(old, old * np.float32(1.1), 10**7) == [DIFFERENT]
    ends = np.full((1, 64), np.inf, np.float32)
    assert verdicts(ends, -ends) != [WITHIN]


def root_of_loss(study: Study) -> jx.Experiment:
    """A study's experiment whose steps minimize another loss, while it measures what it measured."""
    case = tiny_studies.CASES["mlp"]
    wrong = jx.supervised(
        model=case.model,
        loss=lambda outputs, labels: jnp.sqrt(tiny_studies.cross_entropy(outputs, labels)),
        optimizer=case.optimizer,
        batch_size=case.batch_size,
    )
    return study.experiment._replace(step=wrong.step)


BASE = tiny_studies.study("mlp", (0.03, 0.1), 32).replace(num_steps=60, evaluate_every=60)
FAULTS = {
    "learning rate x 1.1": BASE.replace(sweep=jx.grid(learning_rate=(0.033, 0.11))),
    "wrong loss": BASE.replace(experiment=root_of_loss(BASE)),
    "seeds shifted": BASE.replace(seeds=tuple(range(1, 33))),
    "other data": BASE.replace(
        data=lambda config: tuple(
            array + 0.05 * array if number == 0 else array
            for number, array in enumerate(BASE.data(config))  # type: ignore[misc]
        )
    ),
}
POWER = 0.95
"""The share of draws of 16 of the 32 seeds that find a fault, at least."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_on_another_machine_too(fault):
    """Shifted seeds on the same only: they are the same distribution, which no other machine can tell from chance."""
    before, after = (worker.run(study, tile=Tile(2, 16)) for study in (BASE, FAULTS[fault]))
    names = [name for name in before.data_vars if "eval_step" in before[name].dims]
    pairs = {
        f"{name} {trial}": (before[name].values[trial, :, -1], after[name].values[trial, :, -1])
        for name in names
        for trial in range(2)
    }

    def found(seeds: Any) -> bool:
        some = {name: (old[seeds], new[seeds]) for name, (old, new) in pairs.items()}
        judged = reproduce.compared(some, BASE.num_steps, same_machine=fault == "seeds shifted")
        return DIFFERENT in {one.verdict for one in judged}

    draw = np.random.default_rng(0)
    assert found(np.arange(32))
    assert np.mean([found(draw.permutation(32)[:16]) for _ in range(200)]) >= POWER

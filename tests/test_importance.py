"""Shares of variance against closed forms, simulated noise and optuna; averages, edges and surroundings by hand."""

import sys
import time

import numpy as np
import pytest
import xarray

from jaxexp import importance
from jaxexp.errors import StudyError
from jaxexp.importance import anova, forests

A, B = np.asarray([0.0, 1.0, 2.0, 4.0]), np.asarray([1.0, 2.0, 6.0])


def results(values, columns, status=None):
    """Results with one metric `y` [trial, seed] and the hyperparameters of each trial."""
    values = np.asarray(values, np.float64)
    status = np.zeros(values.shape, np.int8) if status is None else np.asarray(status, np.int8)
    return xarray.Dataset(
        {
            "y": (("trial", "seed", "eval_step"), np.stack([values, values], -1) * [0, 1]),
            "status": (("trial", "seed"), status),
            "status_step": (("trial", "seed"), np.full(values.shape, -1, np.int32)),
        },
        coords={
            "trial": np.arange(len(values)),
            "seed": np.arange(values.shape[1]),
            "eval_step": [0, 10],
            "fixed": 3,
            **{name: ("trial", np.asarray(column)) for name, column in columns.items()},
        },
    )


def grid(function, noise=None, *, order=None):
    """Results of a function of the grid A x B, with noise [trial, seed] on top."""
    a, b = (axis.ravel() for axis in np.meshgrid(A, B, indexing="ij"))
    values = function(a, b)[:, None] + (np.zeros((len(a), 2)) if noise is None else noise)
    order = np.arange(len(a)) if order is None else order
    return results(values[order], {"a": a[order], "b": b[order]})


def test_an_additive_grid_has_no_interactions():
    found = importance.shares(grid(lambda a, b: 3 * a + b), "y")
    of_a, of_b = 9 * A.var(), B.var()
    assert found.main == pytest.approx({"a": of_a / (of_a + of_b), "b": of_b / (of_a + of_b)})
    assert found.pairs[("a", "b")] == pytest.approx(0, abs=1e-12)
    assert found.rest == 0


def test_a_product_has_the_shares_of_its_closed_form():
    """Of a b: mean(b)^2 var(a), mean(a)^2 var(b) and var(a) var(b), of which each is a share."""
    parts = np.asarray([B.mean() ** 2 * A.var(), A.mean() ** 2 * B.var(), A.var() * B.var()])
    found = importance.shares(grid(lambda a, b: a * b), "y")
    np.testing.assert_allclose([*found.main.values(), *found.pairs.values()], parts / parts.sum(), rtol=1e-12)


def test_three_at_once_are_the_rest():
    sides = np.meshgrid([-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0], indexing="ij")
    a, b, c = (side.ravel() for side in sides)
    found = importance.shares(results((a * b * c + 2 * a)[:, None], {"a": a, "b": b, "c": c}), "y")
    assert found.main == pytest.approx({"a": 0.8, "b": 0.0, "c": 0.0})
    assert set(found.pairs.values()) == {0.0}
    assert found.rest == pytest.approx(0.2)
    assert "no noise was subtracted" in found.method


def test_the_order_of_trials_and_words_as_values_change_nothing():
    shuffled = grid(lambda a, b: a * b, order=np.random.default_rng(0).permutation(len(A) * len(B)))
    expected = importance.shares(grid(lambda a, b: a * b), "y")
    assert importance.shares(shuffled, "y").main == pytest.approx(expected.main)
    words = shuffled.assign_coords(
        a=("trial", np.asarray(["zero", "one", "two", "", "four"])[shuffled.a.values.astype(int)])
    )
    assert importance.shares(words, "y").main == pytest.approx(expected.main)


def test_what_is_swept_side_by_side_is_one_hyperparameter():
    dataset = grid(lambda a, b: 3 * a + b)
    dataset = dataset.assign_coords(rate=("trial", -2 * dataset.a.values))
    found = importance.shares(dataset, "y")
    assert set(found.main) == {"a+rate", "b"}
    assert found.main["a+rate"] == pytest.approx(9 * A.var() / (9 * A.var() + B.var()))


def noisy(rng, function, num_seeds, spread=2.0):
    noise = spread * rng.normal(size=(len(A) * len(B), num_seeds)) + 5 * rng.normal(size=num_seeds)
    return grid(function, noise)


def test_the_noise_of_seeds_is_subtracted_without_bias():
    """The variance of each effect, on average over 300 simulated studies of 3 seeds, is the true one."""
    rng, c, found = np.random.default_rng(1), 0.1, []
    for _ in range(300):
        dataset = noisy(rng, lambda a, b: 0.3 * a + c * a * b, 3)
        found.append(list(anova.decomposed(dataset["y"].values[..., 1].reshape(len(A), len(B), 3)).effects.values()))
    true = [(0.3 + c * B.mean()) ** 2 * A.var(), (c * A.mean()) ** 2 * B.var(), c**2 * A.var() * B.var()]
    errors = np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    np.testing.assert_array_less(np.abs(np.mean(found, axis=0) - true), 3.5 * errors)
    left_in = np.asarray([3, 2, 6]) / 12 * 2.0**2 / 3  # degrees of freedom / cells * variance / seeds
    assert (left_in > 7 * errors).all(), "noise that was left in would be seen"


def test_where_hyperparameters_do_nothing_their_shares_are_zero():
    rng = np.random.default_rng(2)
    found = [importance.shares(noisy(rng, lambda a, b: 0 * a, 5), "y") for _ in range(200)]
    silent = np.mean([sum(one.main.values()) + sum(one.pairs.values()) + one.rest == 0 for one in found])
    assert 0.91 < silent <= 0.99  # the F test's 5 %
    assert "do not differ by more than noise" in next(one for one in found if not any(one.main.values())).method


@pytest.mark.parametrize("size", [1e-20, 0.7, 3e8])
@pytest.mark.parametrize("lost", [[], [(0, 2)], [(0, 0), (1, 1)], [(0, 2), (0, 3), (1, 0), (1, 3), (2, 0), (2, 1)]])
def test_rounding_has_no_share(size, lost):
    values, status = size * np.asarray([[1.0, 2.0, 7.0, 3.5]] * 3), np.zeros((3, 4), int)
    status[tuple(np.transpose(lost).astype(int)) if lost else ()] = int(bool(lost))
    found = importance.shares(results(values, {"rate": [0.1, 0.2, 0.3]}, status), "y")
    assert (found.main, found.rest, found.noise) == ({"rate": 0.0}, 0.0, 0.0)
    alone = np.full((3, 1), 0.7 * size)
    assert importance.shares(results(alone, {"rate": [0.1, 0.2, 0.3]}), "y").main == {"rate": 0.0}


def test_small_differences_that_are_no_rounding_have_shares():
    found = importance.shares(results([[1.0], [1.0], [1 + 1e-6]], {"rate": [0.1, 0.2, 0.3]}), "y")
    assert found.main == pytest.approx({"rate": 1.0})


@pytest.mark.parametrize("rates", [[0.1, 0.2, 0.3], [0.1, 0.2, 0.2]])
@pytest.mark.parametrize("num_seeds", [1, 3])
def test_trials_of_one_mean_are_said_to_be_that(rates, num_seeds):
    """On a grid and off it: more seeds would change nothing."""
    found = importance.shares(results(np.full((3, num_seeds), 0.7), {"rate": rates}), "y")
    assert found.main == {"rate": 0.0}
    assert found.method.endswith("; all trials have the same mean, so there is nothing to explain")
    assert "F test" not in found.method


def test_a_forest_explains_no_rounding():
    sums = np.asarray([0.3, 0.1 + 0.2] * 4)
    assert forests.main_effects({"a": (list(range(8)), np.arange(8))}, sums) == {"a": 0.0}


def test_what_a_seed_does_to_every_trial_is_no_noise():
    shift = np.random.default_rng(3).normal(size=4) * np.ones((len(A) * len(B), 1))
    found = importance.shares(grid(lambda a, b: a + b, shift), "y")
    assert found.noise == pytest.approx(0, abs=1e-12)
    assert sum(found.main.values()) == pytest.approx(1)


def test_missing_runs_leave_the_subtraction_nearly_unbiased():
    """Where nothing has an effect, and a fifth of the runs is missing, what seems to be there is the noise."""
    rng = np.random.default_rng(4)
    raw, noise = [], []
    for _ in range(400):
        cells = 2 * rng.normal(size=(4, 3, 6)) + 5 * rng.normal(size=6)
        cells[rng.random(cells.shape) < 0.2] = np.nan
        if (np.isfinite(cells).sum(-1) > 1).all():
            found = anova.decomposed(cells)
            raw.append(found.raw)
            noise.append(found.noise)
    assert len(raw) > 300
    assert np.mean(raw) == pytest.approx(np.mean(noise), rel=0.08)


def test_trials_without_a_finite_run_take_their_value_with_them():
    dataset = grid(lambda a, b: 3 * a + b)
    status = np.where(dataset.a.values == 4, 1, 0)[:, None] * np.ones((1, 2), np.int8)
    status[0, 0] = 1  # a run that diverged beside one that did not
    dataset["status"] = (("trial", "seed"), status.astype(np.int8))
    found = importance.shares(dataset, "y")
    of_a, of_b = 9 * A[:3].var(), B.var()
    assert found.main == pytest.approx({"a": of_a / (of_a + of_b), "b": of_b / (of_a + of_b)})
    assert found.left_out == ("a=4.0: 3 of 3 trials have no finite run",)
    assert (found.num_trials, found.num_diverged) == (9, 7)


def test_seeds_that_few_trials_have_take_no_part():
    """Two trials have more seeds than the others, as a comparison adds them: these change nothing."""
    dataset = noisy(np.random.default_rng(6), lambda a, b: a + b, 8)
    status = np.zeros((len(A) * len(B), 8), np.int8)
    status[2:, 3:] = 3
    more = dataset.assign(status=(("trial", "seed"), status))
    first = dataset.isel(seed=slice(3))
    found, expected = importance.shares(more, "y"), importance.shares(first, "y")
    assert found.main == expected.main
    assert found.left_out == ("5 of 8 seeds were not run in every trial",)
    assert importance.marginal(more, "a", "y") == importance.marginal(first, "a", "y")
    assert importance.sensitivity(more, "y", True) == importance.sensitivity(first, "y", True)
    assert importance.at_edge(more, "y", True) == importance.at_edge(first, "y", True)


def test_scattered_holes_leave_a_grid():
    cells, told = importance._without_holes(
        np.asarray([[np.nan, 1.0], [2.0, np.nan]])[..., None],
        [importance._Factor("a", [1, 2], np.zeros(0)), importance._Factor("b", [3, 4], np.zeros(0))],
    )
    assert np.isfinite(cells).all()
    assert cells.size == 1
    assert len(told) == 2


def test_what_cannot_be_explained_is_refused():
    dataset = grid(lambda a, b: a)
    with pytest.raises(StudyError, match="there is no metric 'x'"):
        importance.shares(dataset, "x")
    with pytest.raises(StudyError, match="not measured at step 5: measured at 0, 10"):
        importance.shares(dataset, "y", 5)
    with pytest.raises(StudyError, match="no hyperparameter differs"):
        importance.shares(dataset.isel(trial=[0]).drop_vars(["a", "b"]), "y")
    dataset["status"] = dataset["status"] + 1
    with pytest.raises(StudyError, match="no trial has a finite y"):
        importance.shares(dataset, "y")


def sampled(num_trials=80, seed=0):
    rng = np.random.default_rng(seed)
    rate = 10 ** rng.uniform(-4, 0, num_trials)
    momentum, other = rng.uniform(size=(2, num_trials))
    values = np.log10(rate) + 1.5 * momentum
    return results(values[:, None] * np.ones((1, 2)), {"rate": rate, "momentum": momentum, "other": other})


def test_without_optuna_a_sampled_sweep_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(StudyError, match=r"pip install 'jaxexp\[search\]'"):
        importance.shares(sampled(), "y")


def test_a_sampled_sweep_is_ranked_by_optuna():
    pytest.importorskip("optuna")
    pytest.importorskip("sklearn")
    found = importance.shares(sampled(), "y")
    assert sorted(found.main, key=lambda name: -found.main[name]) == ["rate", "momentum", "other"]
    assert found.main["rate"] > 0.6
    assert found.main["other"] < 0.05
    assert 0 <= found.rest < 0.3
    assert "no full grid" in found.method


def test_a_forest_of_many_trials_is_of_some_of_them_and_says_so():
    pytest.importorskip("optuna")
    pytest.importorskip("sklearn")
    assert "of 80 trials, which" in importance.shares(sampled(), "y").method  # and imports optuna
    began = time.process_time()
    importance.shares(sampled(300), "y")
    of_few = time.process_time() - began
    began = time.process_time()
    found = importance.shares(many := sampled(100_000), "y")
    assert time.process_time() - began < 2 * of_few
    assert "of 300 of 100,000 trials, which are no full grid" in found.method
    assert found.num_trials == 300
    of_rate, of_momentum = (4 / 12**0.5) ** 2, 1.5**2 / 12
    assert found.main["rate"] == pytest.approx(of_rate / (of_rate + of_momentum), abs=0.08)
    assert found == importance.shares(many, "y")


@pytest.mark.parametrize("num_trials", [301, 3_000, 30_000, 99_999])
def test_a_forest_s_trials_are_spread_evenly_and_in_step_with_no_period(num_trials):
    trials = forests.chosen(num_trials)
    assert len(np.unique(trials)) == len(trials) == 300
    assert np.diff(trials).max() < 2 * (num_trials / 300 + 1)
    for period in (2, 3, 10):
        assert np.bincount(trials % period, minlength=period).min() > 0.5 * 300 / period


def test_the_closed_form_agrees_with_optuna_s_forest_on_a_grid():
    pytest.importorskip("optuna")
    pytest.importorskip("sklearn")
    a, b = (axis.ravel() for axis in np.meshgrid(np.arange(8.0), np.arange(8.0), indexing="ij"))
    values = a + 0.02 * a * b + 0.3 * b
    closed = importance.shares(results(values[:, None] * np.ones((1, 2)), {"a": a, "b": b}), "y")
    columns = {"a": (list(range(8)), a.astype(int)), "b": (list(range(8)), b.astype(int))}
    assert forests.main_effects(columns, values) == pytest.approx(closed.main, abs=0.05)


def test_a_marginal_is_the_mean_of_trials_and_its_interval_that_of_seeds():
    rng = np.random.default_rng(5)
    dataset = noisy(rng, lambda a, b: a + b, 6)
    found = importance.marginal(dataset, "a", "y")
    assert list(found) == A.tolist()
    for value, estimate in found.items():
        by_seed = dataset["y"].values[dataset.a.values == value, :, 1].mean(0)
        assert estimate == pytest.approx(importance.mean_interval(by_seed))
    with pytest.raises(StudyError, match="'fixed' is not swept"):
        importance.marginal(dataset, "fixed", "y")


def test_a_run_that_diverged_shifts_no_marginal():
    """Two trials far apart: the seed that has only one of them is 1 above the others there, hence in the average."""
    dataset = results([[1.0, 2.0, 3.0], [11.0, 12.0, 99.0]], {"a": [1.0, 1.0], "b": [1, 2]}, [[0, 0, 0], [0, 0, 1]])
    (estimate,) = importance.marginal(dataset, "a", "y").values()
    assert estimate.mean == pytest.approx((2.0 + 12.0) / 2)
    assert (estimate.n, estimate.excluded) == (3, 1)
    assert estimate.high - estimate.low == pytest.approx(2 * 4.302653 / np.sqrt(3), rel=1e-6)  # t(2), sd 1


def test_an_edge_is_told_with_a_wider_range():
    values = np.asarray([1.0, 2.0, 3.0, 4.0])[:, None] * np.ones((1, 4))
    dataset = results(values, {"rate": [0.001, 0.01, 0.1, 1.0], "hidden": [8, 16, 32, 64], "kind": list("abcd")})
    found = importance.at_edge(dataset, "y", larger_is_better=True)
    assert set(found) == {"rate", "hidden"}
    assert "`rate=0.1,1,10`" in found["rate"]
    assert "hidden=64 is best and the largest of 4 values" in found["hidden"]
    assert "`hidden=32,64,96`" in found["hidden"]
    assert "`rate=0.0001,0.001,0.01`" in importance.at_edge(dataset, "y", larger_is_better=False)["rate"]
    assert importance.at_edge(dataset.isel(trial=[0, 1]), "y", larger_is_better=True) == {}, "two values have no inside"


def test_an_inner_optimum_has_no_edge_and_zero_has_nothing_below():
    values = np.asarray([1.0, 3.0, 2.0])[:, None] * np.ones((1, 2))
    assert importance.at_edge(results(values, {"rate": [1.0, 2.0, 3.0]}), "y", larger_is_better=True) == {}
    told = importance.at_edge(results(values[::-1], {"rate": [0.5, 0.0, 0.9]}), "y", larger_is_better=True)["rate"]
    assert told.endswith("if rate can be smaller")


def test_no_range_is_widened_beyond_what_the_field_allows():
    dataset = results(np.asarray([1.0, 2.0, 3.0])[:, None] * np.ones((1, 2)), {"momentum": [0.5, 0.7, 0.9]})
    told = importance.at_edge(dataset, "y", larger_is_better=True, limits={"momentum": (0.0, 1.0)})["momentum"]
    assert "`momentum=0.7,0.9,1`" in told
    assert importance.at_edge(dataset, "y", larger_is_better=True, limits={"momentum": (None, 0.9)}) == {}
    assert "`momentum=0.3,0.5,0.7`" in importance.at_edge(dataset, "y", False, limits={"momentum": (0, 1)})["momentum"]


def test_a_tie_with_the_inside_is_no_edge():
    values = np.asarray([1.0, 1.0, 0.0])[:, None] * np.ones((1, 2))
    assert importance.at_edge(results(values, {"rate": [1.0, 2.0, 3.0]}), "y", larger_is_better=True) == {}


def test_sensitivity_is_judged_on_seeds_that_the_best_was_not_chosen_by():
    """Trial 1 is best on the seeds 0 and 2 that choose, by luck: on the others it loses to its neighbour."""
    values = [[0.0] * 4, [9.0, 1.0, 9.0, 1.0], [2.0, 3.0, 2.0, 3.0]]
    found = importance.sensitivity(results(values, {"rate": [0.1, 0.2, 0.3]}), "y", larger_is_better=True)
    assert [(step.best, step.value, step.lost.mean, step.lost.n) for step in found] == [
        (0.2, 0.1, 1.0, 2),
        (0.2, 0.3, -2.0, 2),
    ]


def test_neighbours_are_the_next_values_with_all_else_equal():
    a, b = (axis.ravel() for axis in np.meshgrid([1.0, 2.0, 3.0, 4.0], ["u", "v", "w"], indexing="ij"))
    values = -((a.astype(float) - 2) ** 2) - (b != "v")
    dataset = results(values[:, None] * np.ones((1, 2)), {"a": a.astype(float), "b": b})
    found = importance.sensitivity(dataset, "y", larger_is_better=True)
    assert [(step.name, step.value, step.lost.mean) for step in found] == [
        ("a", 1.0, 1.0), ("a", 3.0, 1.0), ("b", "u", 1.0), ("b", "w", 1.0)
    ]  # fmt: skip


def test_a_trial_that_diverges_is_best_only_where_all_do():
    dataset = results([[5.0] * 4, [3.0] * 4], {"rate": [0.1, 0.2]}, [[1, 0, 0, 0], [0, 0, 0, 0]])
    assert importance.sensitivity(dataset, "y", larger_is_better=True)[0].best == 0.2
    both = results([[5.0] * 4, [3.0] * 4], {"rate": [0.1, 0.2]}, [[1, 0, 0, 0], [0, 0, 1, 0]])
    assert importance.sensitivity(both, "y", larger_is_better=True)[0].best == 0.1

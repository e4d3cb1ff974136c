"""Arms of a run paired with each other, and what their pairs say, at one look or at several."""

import numpy as np
import pytest
import xarray
from scipy import stats

from jaxexp import comparisons, stages, statistics
from jaxexp.commands import comparing
from jaxexp.comparisons import arms
from jaxexp.errors import StudyError


def results(values, columns, status=None):
    """Results with one metric `y` [trial, seed], the hyperparameters of each trial, and one that is fixed."""
    values = np.asarray(values, np.float64)
    status = np.zeros(values.shape, np.int8) if status is None else np.asarray(status, np.int8)
    return xarray.Dataset(
        {
            "y": (("trial", "seed", "eval_step"), np.stack([0 * values, values], -1)),
            "status": (("trial", "seed"), status),
            "status_step": (("trial", "seed"), np.full(values.shape, -1, np.int32)),
        },
        coords={
            "trial": np.arange(len(values)),
            "seed": np.arange(values.shape[1]),
            "eval_step": [0, 10],
            "hidden": 16,
            **{name: ("trial", np.asarray(column)) for name, column in columns.items()},
        },
    )


def sweep(status=None):
    """A sweep of two starts, one of which was crossed with a scale as well: trial 4 has no counterpart."""
    values = np.arange(5.0)[:, None] ** 2 + np.random.default_rng(0).normal(size=(5, 6))
    columns = {"start": ["zeros", "zeros", "ones", "ones", "ones"], "rate": [0.1, 0.2, 0.1, 0.2, 0.2]}
    return results(values, columns | {"scale": [1.0, 1.0, 1.0, 1.0, 0.5]}, status)


def test_trials_are_paired_where_they_differ_in_nothing_else():
    assert arms.matched(sweep(), "start=zeros", "start=ones") == [(0, 2), (1, 3)]
    assert arms.matched(sweep(), "start=zeros,rate=0.2", "start=ones,rate=0.2") == [(1, 3)]
    assert arms.matched(sweep(), "start = zeros, rate=.1", "start=ones,rate=1e-1") == [(0, 2)]
    assert arms.matched(sweep(), "start=ones,hidden=16,scale=1", "start=ones,scale=0.5") == [(3, 4)]


def test_single_trials_are_a_pair_whatever_they_differ_in():
    assert arms.matched(sweep(), "start=zeros,rate=0.1", "scale=0.5") == [(0, 4)]


def test_commas_and_signs_inside_values_are_kept():
    dataset = results(np.zeros((2, 2)), {"layers": ["(8, 8)", "(4,)"], "shift": [-0.5, 0.5]})
    assert arms.matched(dataset, "layers=(8, 8),shift=-0.5", "layers=(4,)") == [(0, 1)]
    booleans = results(np.zeros((2, 2)), {"nesterov": [True, False]})
    assert arms.matched(booleans, "nesterov=true", "nesterov=False") == [(0, 1)]


MISTAKES = {
    "no arm": ("zeros", "start=ones", "'zeros' is no arm: write e.g. `learning_rate=0.1`"),
    "name": ("stat=zeros", "start=ones", "unknown hyperparameter 'stat'; did you mean 'start'?"),
    "value": ("start=zeroes", "start=ones", "no trial has start=zeroes; did you mean 'zeros'?"),
    "number": ("rate=fast", "rate=0.1", "no trial has rate=fast; known: 0.1, 0.2"),
    "together": ("start=zeros,scale=0.5", "start=ones", "no trial has start=zeros,scale=0.5 together"),
    "same": ("start=ones", "start=ones,hidden=16", "are the same trials"),
    "several": (
        "start=zeros",
        "start=ones,rate=0.1,scale=1",
        "trials 0 and 1 differ in rate, which the other arm names",
    ),
    "none": ("start=zeros", "scale=0.5,rate=0.2", "is more than one trial for each of the other arm"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_arm_that_cannot_be_meant_is_refused_with_the_fix(mistake):
    first, second, message = MISTAKES[mistake]
    with pytest.raises(StudyError) as refused:
        arms.matched(sweep(), first, second)
    assert message in str(refused.value)


def test_arms_without_counterparts_say_in_what_they_differ():
    columns = {"start": ["zeros", "zeros", "ones", "ones"], "rate": [1.0, 2.0, 1.0, 2.0], "scale": [1.0, 1.0, 2.0, 2.0]}
    with pytest.raises(StudyError, match=r"the same scale: name what else differs, e\.g\. `start=zeros,scale=\.\.\.`"):
        arms.matched(results(np.zeros((4, 2)), columns), "start=zeros", "start=ones")


def test_a_contrast_is_scipy_s_paired_test_on_the_seeds_means():
    dataset = sweep()
    found = comparisons.compare(dataset, "start=zeros", "start=ones", "y", margin=100.0)
    first, second = (dataset["y"].values[trials, :, -1].mean(0) for trials in ([0, 1], [2, 3]))
    expected = stats.ttest_rel(first, second)
    assert found.p_different == pytest.approx(expected.pvalue)
    assert (found.difference.low, found.difference.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.difference.mean == pytest.approx(found.first_mean.mean - found.second_mean.mean)
    assert (found.difference.n, found.num_trials, found.num_alone, found.at) == (6, 2, 1, 10)
    assert found.improvement.mean == 0.0
    assert found.equivalent is True
    assert comparisons.compare(dataset, "start=zeros", "start=ones", "y", margin=1.0).equivalent is False
    assert comparisons.compare(dataset, "start=zeros", "start=ones", "y", 0).difference.mean == 0


def test_runs_that_diverged_are_counted_and_those_not_run_are_left_out():
    status = np.zeros((5, 6), int)
    status[0, 1] = status[2, 1] = status[3, 2] = 1
    status[1, 5] = 3
    status[4] = 1  # has no counterpart, hence no part
    found = comparisons.compare(sweep(status), "start=zeros", "start=ones", "y")
    assert (found.difference.n, found.difference.excluded) == (3, 2)
    assert (found.first_diverged, found.second_diverged) == (1, 2)
    assert found.first_mean.n == found.second_mean.n == 3
    told = comparisons.sentence(found)
    assert told.startswith("where no run diverged, ones is higher than zeros by ")
    assert told.endswith("3 pairs; of 5 seeds 2 are left out, for a run diverged")


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(StudyError, match="there is no metric 'x'; known: y"):
        comparisons.compare(sweep(), "start=zeros", "start=ones", "x")
    with pytest.raises(StudyError, match="y was not measured at step 7: measured at 0, 10"):
        comparisons.compare(sweep(), "start=zeros", "start=ones", "y", 7)
    with pytest.raises(StudyError, match=r"margin=0\.0 leaves no difference"):
        comparisons.compare(sweep(), "start=zeros", "start=ones", "y", margin=0.0)
    with pytest.raises(StudyError, match="no seed was run for both"):
        comparisons.compare(sweep(np.full((5, 6), 3)), "start=zeros", "start=ones", "y")
    nothing = comparisons.compare(sweep(np.full((5, 6), 1)), "start=zeros", "start=ones", "y")
    assert (nothing.difference.n, nothing.difference.excluded, nothing.p_different) == (0, 6, 1.0)
    told = comparisons.sentence(nothing)
    assert "0 pairs, too few to say anything, for a run diverged at 6 of 6 seeds: name the arms more narrowly" in told
    alone = comparisons.compare(sweep().isel(seed=[0]), "start=zeros", "start=ones", "y")
    assert comparisons.sentence(alone).endswith("1 pairs, too few to say anything: run more seeds")


def test_sentences():
    found = comparisons.compare(sweep(), "start=zeros", "start=ones", "y")
    assert comparisons.sentence(found).startswith("ones is higher than zeros by ")
    numbers = comparisons.compare(sweep(), "rate=0.2,scale=1", "rate=0.1,scale=1", "y")
    assert comparisons.sentence(numbers).startswith("rate=0.2,scale=1 is higher than rate=0.1,scale=1 by ")
    same = results([[1.0, 2.0, 3.0], [1.1, 1.9, 3.0]], {"rate": [1.0, 2.0]})
    told = comparisons.sentence(comparisons.compare(same, "rate=1", "rate=2", "y", margin=0.5))
    assert told == "rate=1 and rate=2 are not told apart: difference 0 [-0.248, 0.248], 3 pairs; equivalent within 0.5"


def test_two_stages_judge_by_the_first_stages_spread():
    """By hand: s = 1 over the first 3, 12 pairs, t(2): half-width 4.3027 / sqrt(12), t = mean sqrt(12)."""
    differences = np.asarray([1.0, 2.0, 3.0, *[2.5] * 9])
    contrast = comparisons.compare(sweep(), "start=zeros", "start=ones", "y", margin=4.0)
    found = comparisons.staged(contrast, differences, 3)
    half = stats.t.ppf(0.975, 2) / np.sqrt(12)
    assert found.difference[:4] == pytest.approx(
        (differences.mean(), differences.mean() - half, differences.mean() + half, 12)
    )
    assert found.p_different == pytest.approx(2 * stats.t.sf(differences.mean() * np.sqrt(12), 2))
    assert found.equivalent is True
    assert comparisons.staged(contrast._replace(margin=3.2), differences, 3).equivalent is False
    with_lost = comparisons.staged(contrast, np.insert(differences, 1, np.nan), 4)
    assert with_lost.difference[:4] == pytest.approx(found.difference[:4])
    assert with_lost.difference.excluded == 1


def test_the_second_stage_keeps_the_level_that_looking_again_would_lose():
    """No difference, the number of seeds chosen by the first 5: the test finds one in 5 % of 1500 simulations."""
    rng, contrast = np.random.default_rng(7), comparisons.compare(sweep(), "start=zeros", "start=ones", "y")
    found = []
    for _ in range(1500):
        first = rng.normal(size=5)
        more = rng.normal(size=statistics.seeds_needed(first, 0.6) - 5)
        found.append(comparisons.staged(contrast, np.concatenate([first, more]), 5))
    wrong = np.mean([one.p_different < 0.05 for one in found])
    assert 0.035 < wrong < 0.065
    assert wrong == np.mean([not one.difference.low < 0 < one.difference.high for one in found])
    assert max(one.difference.high - one.difference.low for one in found) <= 1.2 + 1e-9


def test_trials_of_two_runs_are_paired_by_seed_whatever_their_order():
    first = sweep()
    second = first.isel(trial=[4, 2, 0], seed=[5, 3, 1, 0]) + 0
    second["y"] = second["y"] + 0.5
    second["status"] = second["status"].astype(np.int8)
    found = comparisons.compare_runs(first, second, "y")
    assert [contrast.first for contrast in found] == [
        "start=zeros, rate=0.1, scale=1.0", "start=ones, rate=0.1, scale=1.0", "start=ones, rate=0.2, scale=0.5"
    ]  # fmt: skip
    assert [contrast.difference.n for contrast in found] == [4, 4, 4]
    assert [contrast.difference.mean for contrast in found] == pytest.approx([-0.5] * 3)


def test_runs_that_share_the_untrained_step_alone_are_not_compared():
    short, long = sweep(), sweep().assign_coords(eval_step=[0, 40])
    with pytest.raises(StudyError, match="no common step but 0 of the two runs, which end at 10 and 40: train"):
        comparisons.compare_runs(short, long, "y")
    assert comparisons.compare_runs(short, long, "y", at=0)[0].at == 0
    assert comparisons.compare_runs(short, short, "y")[0].at == 10


def test_p_values_of_two_runs_are_adjusted_by_holm():
    rng = np.random.default_rng(1)
    columns = {"rate": [1.0, 2.0, 3.0]}
    first, second = (results(rng.normal(size=(3, 8)) + shift, columns) for shift in (0.0, [[0.0], [0.8], [3.0]]))
    found = comparisons.compare_runs(first, second, "y")
    raw = [contrast.p_different for contrast in found]
    assert [contrast.p_adjusted for contrast in found] == pytest.approx(_holm(raw))


def _holm(raw):
    """Step-down by its definition: the k-th smallest of m counts m - k + 1 times, and never less than a smaller one."""
    order, adjusted = np.argsort(raw), np.zeros(len(raw))
    for rank, index in enumerate(order):
        adjusted[index] = max(min(1.0, (len(raw) - place) * raw[order[place]]) for place in range(rank + 1))
    return adjusted


def test_a_trial_that_is_several_of_the_other_run_is_refused_with_what_they_differ_in():
    one = results([[1.0, 2.0]], {"rate": [0.1]})
    two = results([[1.0, 2.0], [3.0, 5.0]], {"rate": [0.1, 0.1], "momentum": [0.0, 0.9]})
    for runs in ((one, two), (two, one)):
        with pytest.raises(StudyError, match=r"differ in momentum, which one run.*momentum=0\.0 --name alone"):
            comparisons.compare_runs(*runs, "y")
    (found,) = comparisons.compare_runs(one, two.isel(trial=[1]), "y")
    assert found.difference.mean == -2.5


def test_seeds_that_all_agree_have_no_interval_and_are_no_evidence():
    dataset = results([[1.5, 2.5, 3.5], [1.0, 2.0, 3.0]], {"rate": [1.0, 2.0]})
    found = comparisons.compare(dataset, "rate=1", "rate=2", "y", margin=1.0)
    assert (found.difference.mean, found.p_different, found.equivalent) == (0.5, 1.0, False)
    assert comparisons.interval(found.difference) == "0.5 (no interval)"
    assert comparisons.sentence(found) == (
        "rate=1 and rate=2 differ by 0.5 in each of 3 pairs: without spread there is no interval"
    )
    staged = comparisons.staged(found, np.asarray([0.5, 0.5, 0.7]), 2)
    assert (staged.p_different, staged.difference.low, staged.equivalent) == (1.0, -np.inf, False)


def test_three_looks_with_ever_narrower_wishes_are_each_exact_and_together_wrong_more_often():
    """No difference, 2000 simulations, first stage of 10: each look is wrong in 5 %, one of three in about 10 %."""
    rng, contrast = np.random.default_rng(11), comparisons.compare(sweep(), "start=zeros", "start=ones", "y")
    wrong = np.zeros((2000, 3), bool)
    for row in wrong:
        values = rng.normal(size=10)
        first = values
        for look, width in enumerate((0.6, 0.4, 0.25)):
            values = np.append(values, rng.normal(size=max(0, statistics.seeds_needed(first, width) - len(values))))
            row[look] = comparisons.staged(contrast, values, 10).p_different < 0.05
    assert (np.abs(wrong.mean(0) - 0.05) < 3.5 * np.sqrt(0.05 * 0.95 / 2000)).all()
    assert 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / 2000) < wrong.any(1).mean() < 0.15


def test_runs_that_share_nothing_say_what_differs():
    other = sweep().assign_coords(hidden=32)
    with pytest.raises(StudyError, match="share no trial: hidden is 16 and 32"):
        comparisons.compare_runs(sweep(), other, "y")
    with pytest.raises(StudyError, match="share no seed"):
        comparisons.compare_runs(sweep(), sweep().assign_coords(seed=np.arange(6) + 6), "y")


@pytest.mark.parametrize(("wilder", "told"), [(3.0, True), (1.0, False)])
def test_a_first_stage_that_was_calmer_than_all_pairs_is_told(tmp_path, capsys, wilder, told):
    values = np.random.default_rng(3).normal(size=(2, 40)) * np.where(np.arange(40) < 10, 1.0, wilder)
    dataset, words = results(values, {"rate": [1.0, 2.0]}), ("rate=1", "rate=2")
    stages.keep(tmp_path, dataset, arms.matched(dataset, *words), range(10), 0.5)
    comparing._print_stage(tmp_path, dataset, words, comparing._judged(tmp_path, dataset, words, "y", None, None))
    shown, spread = " ".join(capsys.readouterr().out.split()), (values[0] - values[1])
    expected = (
        f"spread of all 40 pairs is {spread.std(ddof=1):.3g}, of the first 10 it was {spread[:10].std(ddof=1):.3g}"
    )
    assert (f"the {expected}: the interval covers in 95 % of cases for normal differences" in shown) == told
    assert "by the spread of the first 10 seeds" in shown

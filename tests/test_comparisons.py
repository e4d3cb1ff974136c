"""Arms of a run paired with each other, what their pairs say, and the verbs `compare` and `importance` end to end."""

import json

import numpy as np
import pytest
import typer
import xarray
from scipy import stats
from typer.testing import CliRunner

import jaxexp as jx
from jaxexp import catalog, cli, comparisons, foreground, overrides, recorded, stages, statistics
from jaxexp import study as studies
from jaxexp.commands import comparing, explaining, folders
from jaxexp.comparisons import arms
from jaxexp.errors import StudyError

app = typer.Typer()
for verb in (comparing.compare, explaining.importance, folders.doctor):
    app.command()(verb)


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
    assert "0 pairs, too few" in comparisons.sentence(nothing)


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


@pytest.mark.parametrize("verb", [["importance", "jump"], ["compare", "jump", "start=ones", "start=zeros"]])
def test_before_the_first_batch_there_is_nothing_to_compare(folder, verb):
    run = trained(folder)
    for path in (run / "chunks").iterdir():
        path.unlink()
    assert "there is no result yet: wait for the first batch" in invoked(*verb, code=2).stderr


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


EXPERIMENT = '''"""How high does it jump?"""
import jax
import jaxexp as jx

@jx.config
class Config:
    gain: float = 1.0
    start: str = jx.static("zeros", choices=("zeros", "ones"))
    legs: tuple = (2, 2)

def train(key, config):
    luck = jax.random.normal(key)
    height = config.gain * (2.0 if config.start == "ones" else 1.0) * (1 + luck)
    return {"height": height, "loss_of_height": -height}

study = jx.Study(experiment=jx.from_train(train), config=Config(),
                 sweep=jx.grid(start=("zeros", "ones"), gain=(0.5, 1.0, 2.0)), seeds=SEEDS)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trained(folder, seeds=12):
    (folder / "experiments" / "jump.py").write_text(EXPERIMENT.replace("SEEDS", str(seeds)))
    invoked("run", "jump", "--quiet", of=cli.app)
    return folder / "results" / "jump" / "default"


def invoked(*words, of=app, code=0):
    done = CliRunner().invoke(of, list(words))
    assert done.exit_code == code, done.stderr
    return done


def test_compare_says_what_the_python_function_does(folder):
    run = trained(folder)
    arms_ = ("start=ones,gain=1", "start=zeros,gain=1")
    document = json.loads(invoked("compare", "jump", *arms_, "--margin", "0.01", "--json").stdout)
    found = comparisons.compare(jx.load(run), *arms_, "height", margin=0.01)
    assert document["difference"] == found.difference._asdict()
    assert document["p_different"] == found.p_different
    assert (document["metric"], document["equivalent"], document["difference"]["n"]) == ("height", False, 12)
    shown = invoked("compare", "jump", *arms_, "--metric", "height").stdout
    assert comparisons.sentence(found).split(";")[0] in shown
    assert "12" in shown


def test_the_metric_that_nobody_chose_is_named_with_the_others(folder):
    run = trained(folder)
    told = "metric height, the first, for none was named; choose with --metric: loss_of_height"
    for words in (["start=ones", "start=zeros"], [str(run)]):
        assert told in " ".join(invoked("compare", "jump", *words).stdout.split())
        shown = invoked("compare", "jump", *words, "--metric", "loss_of_height").stdout
        assert "loss" in shown
        assert "for none was named" not in shown


def test_compare_until_trains_the_two_arms_alone_and_the_same_command_again_nothing(folder):
    run = trained(folder)
    words = ("compare", "jump", "start=ones,gain=1", "start=zeros,gain=1", "--until", "0.4", "--workers", "1")
    done = invoked(*words)
    dataset = jx.load(run)
    ran = (dataset["status"].values == 0).sum(1)
    one, other = arms.matched(dataset, *words[2:4])[0]
    assert ran[one] == ran[other] > 12
    assert sorted(np.delete(ran, [one, other])) == [12] * 4
    differences = (dataset["height"].values[one] - dataset["height"].values[other])[:, -1]
    expected = max(12, int(np.ceil((stats.t.ppf(0.975, 11) * differences[:12].std(ddof=1) / 0.4) ** 2)))
    assert ran[one] == expected
    assert f"needs {expected} seeds" in done.stderr
    assert "reached: " in done.stdout
    before = sorted((run / "chunks").iterdir())
    again = invoked(*words)
    assert sorted((run / "chunks").iterdir()) == before
    assert again.stdout == done.stdout
    invoked("report", "jump", of=cli.app)
    told = "added seeds to two arms by what it saw"
    assert told in (run / "report.html").read_text()
    assert told in " ".join(invoked("table", "jump", of=cli.app).stdout.split())
    assert told not in invoked("table", "jump", "--csv", of=cli.app).stdout
    assert told in invoked("plot", "jump", "--kind", "curves", of=cli.app).stderr


def test_the_first_stage_of_two_arms_is_kept_and_used_again(folder):
    run = trained(folder)
    ones, zeros = "start=ones,gain=1", "start=zeros,gain=1"
    assert stages.known(run) == {}
    invoked("compare", "jump", ones, zeros, "--until", "0.6", "--workers", "1")
    wider = json.loads(invoked("compare", "jump", ones, zeros, "--until", "0.4", "--workers", "1", "--json").stdout)
    (stage,) = stages.known(run).values()
    assert (stage.seeds, stage.widths) == (list(range(12)), [0.6, 0.4])
    dataset = jx.load(run)
    pairs = arms.matched(dataset, ones, zeros)
    one, other = comparisons.paired_scores(dataset, pairs, "height")
    differences = (one - other)[comparisons.were_run(dataset, pairs)]
    expected = comparisons.staged(comparisons.compare(dataset, ones, zeros, "height"), differences, 12)
    assert len(differences) > 12
    later = json.loads(invoked("compare", "jump", ones, zeros, "--json").stdout)
    assert later["difference"] == wider["difference"] == expected.difference._asdict()
    assert (later["num_first"], later["p_different"]) == (12, expected.p_different)
    swapped = json.loads(invoked("compare", "jump", "gain=1.0,start=zeros", ones, "--json").stdout)
    assert swapped["difference"]["high"] == pytest.approx(-later["difference"]["low"])
    other_arms = json.loads(invoked("compare", "jump", "start=ones,gain=2", "start=zeros,gain=2", "--json").stdout)
    assert other_arms["num_first"] is None
    told = invoked("compare", "jump", ones, zeros).stdout
    assert "the spread of the first 12 seeds" in told
    assert "look 2: each is wrong in 5 %" in told


def test_a_first_stage_that_was_killed_has_seeds_that_were_not_run_and_no_two_stage_interval(folder, monkeypatch):
    run, words = trained(folder, seeds=8), ("compare", "jump", "start=ones,gain=1", "start=zeros,gain=1")
    before = json.loads(invoked(*words, "--json").stdout)

    def killed(*_):
        raise StudyError("killed")

    monkeypatch.setattr(foreground, "train", killed)
    assert "killed" in invoked(*words, "--until", "0.4", code=2).stderr
    assert ((jx.load(run)["status"].values == 3).sum(), jx.load(run).sizes["seed"]) == (12, 10)
    found = json.loads(invoked(*words, "--json").stdout)
    assert found == before
    assert (found["num_first"], found["difference"]["n"], found["difference"]["excluded"]) == (None, 8, 0)
    told = " ".join(invoked(*words).stdout.split())
    assert "pairs 8, 2 seeds were not run for both difference" in told
    assert "2 of 10 seeds of the first stage of --until were not run: the interval is no two-stage one" in told
    assert "go on with --until 0.4" in told
    assert "spread of the first" not in told
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert "spread of the first 10 seeds, by" in " ".join(invoked(*words, "--until", "0.4").stdout.split())


def test_a_first_stage_with_runs_that_diverged_says_how_many_pairs_it_has(folder):
    text = EXPERIMENT.replace("SEEDS", "12").replace(
        "luck = jax.random.normal(key)",
        "luck = jax.random.normal(key)\n    luck = jax.numpy.where(luck > 0.5, jax.numpy.inf, luck)",
    )
    (folder / "experiments" / "jump.py").write_text(text)
    invoked("run", "jump", "--quiet", of=cli.app)
    words = ("compare", "jump", "start=ones,gain=1", "start=zeros,gain=1")
    told = " ".join(invoked(*words, "--until", "5", "--workers", "1").stdout.split())
    found = json.loads(invoked(*words, "--json").stdout)
    num_pairs = found["difference"]["n"]
    assert (0 < num_pairs < 12, found["num_first"]) == (True, 12)
    assert f"{12 - num_pairs} seeds are none, for a run that diverged" in told
    assert f"spread of the first 12 seeds, {num_pairs} of which are pairs, by which" in told


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


def test_a_damaged_note_of_the_first_stage_is_refused_with_what_to_do(folder):
    run = trained(folder)
    (run / stages.NAME).write_text('{"stages": []}')
    told = invoked("compare", "jump", "start=ones", "start=zeros", code=2).stderr
    assert "stages.json is damaged" in told
    assert "`rm " in told
    assert "stages.json is damaged" in invoked("doctor", "jump", code=1).stdout


def test_a_first_stage_without_spread_is_doubled_up_to_the_budget(folder):
    run = trained(folder)
    text = (folder / "experiments" / "jump.py").read_text()
    for name, luck in (("late", "(jax.random.uniform(key) > 0.95) * 1.0"), ("never", "0.0")):
        (folder / "experiments" / f"{name}.py").write_text(text.replace("jax.random.normal(key)", luck))
        invoked("run", name, "--quiet", of=cli.app)
        words = ("compare", name, "start=ones,gain=1", "start=zeros,gain=1", "--until", "0.05", "--budget", "50")
        done = invoked(*words, "--workers", "1")
        (stage,) = stages.known(run.parents[1] / name / "default").values()
        again = invoked(*words, "--workers", "1")
        assert again.stdout == done.stdout
        assert "going on to 24 seeds in it" in done.stderr
        if name == "late":
            assert len(stage.seeds) in (24, 48)
            assert "and the budget is 50: going on to 50" in done.stderr
        else:
            assert len(stage.seeds) == 50
            assert "no two of 50 differences differ, and the budget is 50 seeds" in done.stderr
            assert "not reached: the difference is not known to any width" in done.stdout
            assert "no interval" in done.stdout


def test_runs_of_two_experiments_are_not_compared(folder):
    first = trained(folder)
    (folder / "experiments" / "leap.py").write_text((folder / "experiments" / "jump.py").read_text())
    invoked("run", "leap", "--quiet", of=cli.app)
    told = invoked("compare", str(first), "leap", code=2).stderr
    assert "are of the experiments jump and leap" in told
    assert told.count("\n") == 1


def test_compare_until_ends_at_the_budget_and_says_so(folder):
    run = trained(folder, seeds=4)
    words = ("start=ones", "start=zeros", "--until", "0.0001", "--budget", "16", "--json", "--workers", "1")
    document = json.loads(invoked("compare", "jump", *words).stdout)
    assert document["difference"]["n"] == 16
    assert document["num_trials"] == 3
    assert (jx.load(run)["status"].values == 0).all()
    told = invoked("compare", "jump", *words[:4], "--budget", "16").stdout
    assert "not reached: " in told


def test_orders_that_words_can_say_ask_for_the_trials_alone(folder):
    run = trained(folder)
    dataset = jx.load(run)

    def trials(chosen, seeds):
        found = []
        for order in stages.orders(run, dataset, chosen, seeds):
            study = overrides.chosen(catalog.load(order.path), order.full, order.words, order.samples)
            assert list(studies.seeds(study)) == sorted(seeds)
            table = studies.table(studies.check(study))
            found.append(
                [(c.start, c.gain) for c in (studies.trial_config(study, table, i) for i in range(len(table)))]
            )
        return found

    assert trials([0, 3], range(20)) == [[("zeros", 0.5), ("ones", 0.5)]]
    assert trials([0, 4], [1, 5, 9]) == [[("zeros", 0.5)], [("ones", 1.0)]]
    tuples = dataset.assign_coords(legs=("trial", ["[2, 2]", "[4, 4]"] * 3))
    (whole,) = stages.orders(run, tuples, [0, 1], range(20))
    assert whole == recorded.order(run, words=["seeds=0:20", "num_steps=1", "evaluate_every=1", "log_every=1"])


def test_two_runs_are_compared_trial_by_trial(folder):
    first = trained(folder)
    invoked("run", "jump", "gain=1.0,2.0,3.0", "seeds=20", "--name", "other", "--quiet", of=cli.app)
    second = first.with_name("other")
    document = json.loads(invoked("compare", str(first), str(second), "--json").stdout)
    assert [trial["difference"]["n"] for trial in document["trials"]] == [12] * 4
    assert {trial["difference"]["mean"] for trial in document["trials"]} == {0.0}, "the same code and seeds"
    assert "0 of 4 shared trials differ at 5 %" in invoked("compare", str(first), str(second)).stdout


WRONG = (
    (["start=ones"], "start=ones is one arm, and compare takes two"),
    (["a=1", "b=2", "c=3"], "compare takes two arms"),
    (["results/jump/default", "--until", "1"], "compare takes two arms"),
    *(
        (["start=ones", "start=zeros", "--until", width], f"--until {float(width)} is no width above 0")
        for width in ("0", "-1", "nan", "inf", "1e-200")
    ),
    *(
        (["start=ones", "start=zeros", "--margin", width], f"--margin {float(width)} is no width above 0")
        for width in ("0", "-1", "nan", "inf")
    ),
    (["start=one", "start=zeros"], "no trial has start=one; did you mean 'ones'?"),
)


def test_a_mistake_is_one_message_and_exit_code_2(folder):
    run = trained(folder, seeds=2)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for words, message in WRONG:
        told = invoked("compare", "jump", *words, code=2).stderr
        assert message in told
        assert told.count("\n") == 1
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_importance_says_shares_edges_and_what_is_lost_nearby(folder):
    trained(folder)
    document = json.loads(invoked("importance", "jump", "--json").stdout)
    shares = document["shares"]
    assert sum(shares["main"].values()) + sum(share for *_, share in shares["pairs"]) == pytest.approx(1)
    assert shares["main"]["gain"] > shares["main"]["start"] > 0.1
    assert shares["num_trials"] == 6
    assert document["larger_is_better"] is True
    assert set(document["edges"]) == {"gain"}
    assert [(step["name"], step["value"]) for step in document["sensitivity"]] == [("start", "zeros"), ("gain", 1.0)]
    assert json.loads(invoked("importance", "jump", "--metric", "loss_of_height", "--json").stdout)["edges"].keys() == {
        "gain"
    }
    shown = invoked("importance", "jump").stdout
    assert "closed form on a full grid of 2 x 3 trials" in shown
    assert "gain=2 is best and the largest of 3 values" in shown
    flipped = invoked("importance", "jump", "--smaller").stdout
    assert "gain=0.5 is best and the smallest of 3 values" in flipped

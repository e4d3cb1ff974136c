"""`jaxexp compare` and `importance`: of one run or of two, until an interval is narrow enough, and what is refused."""

import json

import numpy as np
import pytest
import typer
from scipy import stats
from typer.testing import CliRunner

import jaxexp as jx
from jaxexp import catalog, cli, comparisons, foreground, overrides, recorded, stages
from jaxexp import study as studies
from jaxexp.commands import comparing, explaining, folders
from jaxexp.comparisons import arms
from jaxexp.errors import StudyError


@pytest.mark.parametrize("verb", [["importance", "jump"], ["compare", "jump", "start=ones", "start=zeros"]])
def test_before_the_first_batch_there_is_nothing_to_compare(folder, verb):
    run = trained(folder)
    for path in (run / "chunks").iterdir():
        path.unlink()
    assert "there is no result yet: wait for the first batch" in invoked(*verb, code=2).stderr


app = typer.Typer()
for verb in (comparing.compare, explaining.importance, folders.doctor):
    app.command()(verb)

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


def test_a_first_stage_without_any_pair_is_not_gone_on_with(folder):
    text = EXPERIMENT.replace("SEEDS", "12").replace("jax.random.normal(key)", "jax.numpy.inf")
    (folder / "experiments" / "jump.py").write_text(text)
    invoked("run", "jump", "--quiet", of=cli.app)
    told = invoked("compare", "jump", "start=ones,gain=1", "start=zeros,gain=1", "--until", "5", code=2).stderr
    assert "a run diverged at each of the first 12 seeds: name the arms more narrowly" in " ".join(told.split())
    assert jx.load(folder / "results" / "jump" / "default").sizes["seed"] == 12


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

"""`jaxexp report` and `plot`: the page of a run folder, also while it is trained, and figures on their own."""

import json
import os
import signal
import time

import pytest
import typer
from page_reader import Reader
from typer.testing import CliRunner

from jaxexp import claims, store, worker
from jaxexp.commands import reporting

app = typer.Typer()
app.command()(reporting.report)
app.command()(reporting.plot)

EXPERIMENT = '''"""Does <b>it</b> roll?

It has one seed more than it needs.
"""
import jax, jax.numpy as jnp
import jaxexp as jx

@jx.config
class Config:
    learning_rate: float = jx.dynamic(0.1, minimum=0)

def step(key, state, data, config):
    return state - config.learning_rate * state, {"loss": jnp.sum(state**2)}

def reached(dataset):
    return dataset["distance"].isel(eval_step=-1).mean("trial")

study = jx.Study(
    experiment=jx.Experiment(
        lambda key, data, config: jax.random.normal(key, (4,)), step,
        lambda state, data, config: {"distance": jnp.sum(jnp.abs(state))},
    ),
    config=Config(), sweep=jx.grid(learning_rate=(0.1, 0.2, 0.4)), seeds=3, num_steps=20, evaluate_every=10,
    claims=(jx.Claim("It arrives.", reached, jx.below(100.0)),),
)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made_folder = tmp_path_factory.mktemp("ball")
    (made_folder / "experiments").mkdir()
    (made_folder / "experiments" / "ball.py").write_text(EXPERIMENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made_folder)
        from jaxexp.cli import app as whole

        assert CliRunner().invoke(whole, ["run", "ball", "--quiet"]).exit_code == 0
    return made_folder


def invoke(folder, monkeypatch, *words):
    monkeypatch.chdir(folder)
    return CliRunner().invoke(app, words)


def test_report_writes_the_page_of_a_run(folder, monkeypatch):
    done = invoke(folder, monkeypatch, "report", "ball", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    text = (folder / told["report"]).read_text()
    assert (told["not_run"], told["bytes"]) == (0, len(text.encode()))
    read = Reader(text)
    assert read.wrong == []
    for part in ("Does <b>it</b> roll?", "1 holds", "jaxexp run ball seeds=3", "It has one seed more"):
        assert part in read.text, part
    assert "importance" in [attributes["id"] for attributes in read.all("section")]


def test_report_says_that_the_experiment_has_changed_or_is_gone(folder, monkeypatch):
    path = folder / "experiments" / "ball.py"
    try:
        path.write_text(EXPERIMENT + "# more\n")
        assert invoke(folder, monkeypatch, "report", "ball").exit_code == 0
        written = folder / "results" / "ball" / "default" / "report.html"
        assert "The experiment file or a module of it has changed since" in written.read_text()
        path.unlink()
        assert invoke(folder, monkeypatch, "report", "results/ball/default").exit_code == 0
        assert "The study is not at hand" in written.read_text()
    finally:
        path.write_text(EXPERIMENT)


@pytest.fixture
def unfinished(folder, monkeypatch):
    """A page of a run of which two of five seeds are done, and which another process seems to train."""
    whole = worker.load(folder / "results" / "ball" / "default")
    part = whole.assign(status=whole.status.where(whole.seed < 2, 3).astype("int8"))
    monkeypatch.setattr(worker, "load", lambda folder: part)
    monkeypatch.setattr(claims, "held", lambda folder: iter([("000000000-abc", False)]))
    return folder / "results" / "ball" / "default" / "report.html"


def test_a_live_page_is_written_until_all_runs_are_done(folder, unfinished, monkeypatch):
    part = worker.load(folder)
    whole = part.assign(status=part.status * 0)
    shown, refreshed = iter([part, part, whole]), []

    def slept(seconds):
        refreshed.append('http-equiv="refresh"' in unfinished.read_text())

    monkeypatch.setattr(worker, "load", lambda folder: next(shown))
    monkeypatch.setattr(reporting, "_SECONDS", 0.01)
    monkeypatch.setattr(time, "sleep", slept)
    assert invoke(folder, monkeypatch, "report", "ball", "--live").exit_code == 0
    assert len(refreshed) >= 2
    assert all(refreshed)
    assert 'http-equiv="refresh"' not in unfinished.read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_page_that_is_not_read_again(folder, unfinished, monkeypatch, number, code):
    monkeypatch.setattr(time, "sleep", lambda seconds: os.kill(os.getpid(), number))
    done = invoke(folder, monkeypatch, "report", "ball", "--live", "--json")
    assert done.exit_code == code
    assert code or json.loads(done.stdout)["not_run"] == 3
    assert 'http-equiv="refresh"' not in unfinished.read_text()


def test_a_live_page_ends_where_nobody_trains(folder, unfinished, monkeypatch):
    monkeypatch.setattr(claims, "held", lambda folder: iter([("000000000-abc", True)]))
    monkeypatch.setattr(reporting, "_SECONDS", 0.01)
    monkeypatch.setattr(reporting, "_IDLE_SECONDS", 0.05)
    done = invoke(folder, monkeypatch, "report", "ball", "--live")
    assert done.exit_code == 0
    assert "nobody has trained for" in done.stderr
    assert 'http-equiv="refresh"' not in unfinished.read_text()


def test_a_reference_is_refused_with_what_to_type(folder, monkeypatch):
    reference = folder / "results" / "ball" / "reference"
    reference.mkdir()
    (reference / "run.json").write_bytes((folder / "results" / "ball" / "default" / "run.json").read_bytes())
    assert store.record(reference)["experiment"] == "ball"
    for verb in ("report", "plot"):
        done = invoke(folder, monkeypatch, verb, "ball", "--name", "reference")
        assert done.exit_code == 2
        assert "train it with `jaxexp run ball --full`" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("kind", ["curves", "sensitivity", "differences"])
def test_plot_draws_the_kind_that_is_asked_for(folder, monkeypatch, kind):
    done = invoke(folder, monkeypatch, "plot", "ball", "--kind", kind, "--metric", "loss", "--json")
    assert done.exit_code == 0, done.output
    (path,) = json.loads(done.stdout)["figures"]
    assert path.endswith(f"figures/{kind}-loss.png")
    assert (folder / path).stat().st_size > 5000


def test_plot_names_what_it_cannot_draw(folder, monkeypatch):
    for words, message in {
        ("--kind", "heatmp"): "--kind heatmp is no kind of figure; did you mean 'heatmap'?",
        ("--kind", "heatmap"): "no two hyperparameters are crossed here",
        ("--metric", "los"): "there is no metric 'los'; did you mean 'loss'?",
    }.items():
        done = invoke(folder, monkeypatch, "plot", "ball", *words)
        assert (done.exit_code, done.stdout) == (2, "")
        assert message in done.stderr

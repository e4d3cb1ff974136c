"""`jaxexp importance` of a run folder."""

import json

import pytest
import typer
from typer.testing import CliRunner

import jaxexp as jx
from jaxexp.commands import explaining


@jx.config
class Config:
    rate: float = 0.1


app = typer.Typer()
app.command()(explaining.importance)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    measured = jx.from_train(lambda key, config: {"mse": config.rate, "score": config.rate, "constant": 0.7})
    made = tmp_path_factory.mktemp("runs") / "scores"
    jx.run(jx.Study(experiment=measured, config=Config(), sweep=jx.grid(rate=(0.2, 0.4, 0.8)), seeds=2), made)
    return str(made)


def invoked(*words):
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("name", ["mse", "score"])
def test_which_value_is_best_goes_by_the_metric_s_name_unless_it_is_said(folder, name):
    larger = name == "score"
    document = json.loads(invoked(folder, "--metric", name, "--json"))
    assert document["larger_is_better"] is larger
    assert f"and the {'largest' if larger else 'smallest'} of 3 values" in document["edges"]["rate"]
    flipped = invoked(folder, "--metric", name, "--smaller" if larger else "--larger")
    assert f"and the {'smallest' if larger else 'largest'} of 3 values" in flipped


def test_a_metric_that_is_constant_is_said_to_be(folder):
    shown = " ".join(invoked(folder, "--metric", "constant").split())
    assert "all trials have the same mean" in shown
    assert "run more seeds" not in shown

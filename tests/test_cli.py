"""The command line as its users meet it: exit codes, one clear message for each mistake, and nothing written."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jaxexp import catalog, display, foreground, jobs, worker
from jaxexp.cli import app
from jaxexp.errors import StoreError

EXPERIMENT = '''"""How fast does a ball roll?"""
import jax, jax.numpy as jnp
import jaxexp as jx

@jx.config
class Config:
    learning_rate: float = jx.dynamic(0.1, minimum=0)
    momentum: float = jx.dynamic(0.5, minimum=0, maximum=1)
    hidden: int = 4
    shape: str = jx.static("bowl", choices=("bowl", "bowls"))
    threshold: float = 0.5

def init(key, data, config):
    return jax.random.normal(key, (config.hidden,))

def step(key, state, data, config):
    {BRANCH}
    loss = jnp.sum(state**2)
    return state - config.learning_rate * state, {{"loss": loss}}

def evaluate(state, data, config):
    return {{"distance": jnp.sum(jnp.abs(state))}}

def loss_by_rate(dataset):
    return dataset["distance"].isel(eval_step=-1).mean("trial")

study = jx.Study(
    experiment=jx.Experiment(init, step, evaluate), config=Config(), sweep=jx.grid(learning_rate=(0.1, 0.2)),
    seeds=3, num_steps=20, evaluate_every=10,
    claims=(jx.Claim("it rolls near the bottom", loss_by_rate, jx.below(100.0)),
            jx.Claim("it never arrives", loss_by_rate, jx.above(100.0))),
)
full = study.replace(seeds=5, claims=(*study.claims, jx.Claim("at full size too", loss_by_rate, jx.below(100.0))))
if __name__ == "__main__":
    jx.main(study, full=full)
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "experiments").mkdir()
    write(tmp_path, "pass")
    return tmp_path


def write(folder: Path, branch: str) -> None:
    text = EXPERIMENT.replace("{BRANCH}", branch).replace("{{", "{").replace("}}", "}")
    (folder / "experiments" / "ball.py").write_text(text)


def jaxexp(folder: Path, *words: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "jaxexp", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, **options)


MISTAKES = {
    "unknown field": (["learning_rat=0.1"], "unknown hyperparameter 'learning_rat'; did you mean 'learning_rate'?"),
    "wrong type": (
        ["learning_rate=abc"],
        "learning_rate=abc cannot be read: learning_rate takes a float of at least 0",
    ),
    "no name": (["--name", ""], "'' cannot name a run: a name has up to 100 letters"),
    "no value": (["learning_rate="], "learning_rate= has no value: write e.g. `learning_rate=0.1`"),
    "no spacing": (["learning_rate=geomspace(0,1,5)"], "geomspace(0, 1, 5) is not possible: a geometric spacing never"),
    "axis twice": (["learning_rate=0.1", "learning_rate=0.2"], "learning_rate is given twice"),
    "out of range": (["momentum=1.5"], "momentum=1.5 is out of range: momentum takes a float from 0 to 1"),
    "no choice": (["shape=bowll"], "shape='bowll' is not one of its choices; did you mean 'bowl'?"),
    "too many": (
        ["learning_rate=linspace(0.1,1,100)", "momentum=linspace(0.1,1,100)", "seeds=1000"],
        "asks for at least 10,000,000 runs, more than 100,000: say --yes if you mean it",
    ),
    "too many at once": (
        ["learning_rate=linspace(0,1,1e9)"],
        "asks for at least 1,000,000,000 runs",
    ),
    "too many to count": (["learning_rate=range(1e30)"], "asks for at least 1,000,000,000,000,000,0"),
    "too many to count, meant": (["learning_rate=range(1e30)", "--yes"], "values, more than 100,000,000"),
    "too many samples": (["learning_rate=uniform(0,1)", "--samples", "1000000"], "--samples 1000000 asks for at least"),
    "too many to hold": (
        ["learning_rate=linspace(0,1,1e9)", "--yes"],
        "linspace(0, 1, 1000000000) asks for 1000000000 values: the third number is how many, from 1 to 10,000,000",
    ),
    "no digit": (["seeds=\u00b2"], "seeds=\u00b2 cannot be read: write seeds=64"),
    "no digits": (["--tile", "\u00b2x2"], "cannot be read: write trials x seeds"),
    "infinite": (["learning_rate=1e39"], "learning_rate=1e+39 is infinite as a float32"),
    "name outside": (["--name", "../x"], "'../x' cannot name a run"),
    "folder": (["--out", "/proc/none"], "cannot write to /proc/none/ball/default"),
    "seeds": (["seeds=none"], "seeds=none cannot be read: write seeds=64"),
    "steps": (["num_steps=0"], "num_steps=0 is no positive whole number"),
    "function": (["momentum=geospace(0.1,1,3)"], "there is no function 'geospace'; did you mean 'geomspace'?"),
    "samples": (["momentum=uniform(0,1)"], "say how many trials, e.g. --samples 64"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_message_and_writes_nothing(folder, mistake, monkeypatch):
    words, message = MISTAKES[mistake]
    before = sorted(folder.glob("*"))
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["run", "ball", *words])
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert sorted(folder.glob("*")) == before


def test_data_that_cannot_be_made_name_the_line_of_the_experiment(folder):
    write(folder, "pass")
    path = folder / "experiments" / "ball.py"
    path.write_text(path.read_text().replace("seeds=3,", "seeds=3, data=lambda config: 1 / 0,"))
    done = jaxexp(folder, "plan", "ball")
    assert done.returncode == 2
    assert "error: data cannot be made: ZeroDivisionError: division by zero, line 29 of " in done.stderr
    assert "ball.py (with hidden=4, shape='bowl')" in done.stderr


def test_a_file_that_is_not_listed_and_one_of_another_encoding_are_shown(folder, monkeypatch):
    monkeypatch.chdir(folder)
    text = Path("experiments", "ball.py").read_text()
    Path("experiments", "_hidden.py").write_text(text)
    Path("experiments", "latin.py").write_bytes(
        f"# coding: latin-1\n{text.replace('fast', 'schnéll')}".encode("latin-1")
    )
    for name, asked in (("experiments/_hidden.py", "How fast"), ("latin", "How schnéll")):
        done = CliRunner().invoke(app, ["show", name, "--json"])
        assert json.loads(done.stdout)["question"] == f"{asked} does a ball roll?"


@pytest.mark.parametrize(("words", "hinted"), [(["run", "ball", "--seed"], True), (["list", "--seed"], False)])
def test_only_a_verb_that_takes_words_hints_at_them(folder, words, hinted):
    done = jaxexp(folder, *words)
    assert done.returncode == 2
    assert ("seed=..., e.g. seeds=64" in done.stderr) == hinted


def test_a_run_goes_on_where_standard_error_cannot_be_written(folder):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "jaxexp", "run", "ball"]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=full, text=True)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("run ")


def test_signs_that_standard_output_lacks_are_written_otherwise(folder):
    path = folder / "experiments" / "ball.py"
    path.write_text(path.read_text().replace('"""How', '"""β: how', 1))
    done = jaxexp(folder, "list", env={**os.environ, "PYTHONIOENCODING": "latin-1"})
    assert done.returncode == 0
    assert "\\u03b2: how" in done.stdout


def test_a_run_that_nobody_may_read_is_told_without_a_traceback(folder, monkeypatch):
    monkeypatch.chdir(folder)

    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refused)
    with pytest.raises(StoreError, match="ball cannot be read: Permission denied"):
        catalog.run_folder("ball", Path("results"), None)


def test_no_device_is_said_by_doctor_too(folder):
    done = jaxexp(folder, "doctor", env={**os.environ, "JAX_PLATFORMS": "cuda"})
    assert done.returncode == 2
    assert done.stderr.startswith("error: JAX finds no device")


def test_a_setting_that_ends_runs_is_said_by_doctor_too(folder):
    done = jaxexp(folder, "doctor", env={**os.environ, "JAX_DEBUG_NANS": "1"})
    assert done.returncode == 0
    assert done.stderr.startswith("nothing can be trained: JAX_DEBUG_NANS is set")
    assert "memory" in done.stdout


def test_a_dynamic_field_in_an_if_is_named_with_the_fix(folder):
    write(folder, "if config.threshold > 0.1: state = state * 1.0")
    done = jaxexp(folder, "run", "ball")
    assert done.returncode == 2
    assert "step uses the dynamic field 'threshold'" in done.stderr
    assert "`threshold: float = jx.static(0.5)`" in done.stderr
    assert not (folder / "results").exists()


def test_a_hyperparameter_with_dashes_is_told_how_it_is_set(folder):
    done = jaxexp(folder, "run", "ball", "--learning-rate", "0.1")
    assert done.returncode == 2
    assert "are set without dashes: learning_rate=..., e.g. seeds=64" in done.stderr


def test_an_error_of_the_experiment_names_its_line(folder):
    write(folder, "state = 1 / 0")
    done = jaxexp(folder, "run", "ball")
    assert done.returncode == 2
    assert "step cannot be traced: ZeroDivisionError: division by zero, line " in done.stderr
    assert "experiments/ball.py" in done.stderr


def test_an_unknown_experiment_is_suggested(folder):
    done = jaxexp(folder, "run", "bal")
    assert done.returncode == 2
    assert "did you mean 'ball'?" in done.stderr


def test_a_run_that_is_nowhere_is_suggested(folder):
    path = folder / "results" / "ball" / "default" / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    done = jaxexp(folder, "table", "bll")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is no run at bll or results/bll/default; did you mean 'ball'?" in done.stderr
    assert "; there are results/ball/default: start one with" in jaxexp(folder, "table", "other").stderr


def test_a_file_in_the_place_of_a_folder_is_named(folder):
    (folder / "results").write_text("mine")
    done = jaxexp(folder, "run", "ball")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot write to results/ball/default: results is a file; choose another folder with --out" in done.stderr
    assert (folder / "results").read_text() == "mine"


@pytest.mark.parametrize("words", [["--help"], ["list"], ["show", "ball"]])
def test_an_output_without_room_is_one_message(folder, words):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "jaxexp", *words], cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (2, "error: standard output cannot be written: No space left on device\n")


@pytest.mark.parametrize("words", [["run", "ball", "--nosuch", "--json"], ["nosuch", "--json"], ["run", "--json"]])
def test_what_cannot_be_parsed_is_a_json_document_as_well(folder, words):
    done = jaxexp(folder, *words)
    found = json.loads(done.stdout)
    assert (done.returncode, found["exit"]) == (2, 2)
    assert found["error"] in done.stderr


@pytest.mark.parametrize(
    ("word", "told"), [("--help", "run velocity_init"), ("list", "ball  How fast does a ball roll?")]
)
def test_help_and_list_answer_within_300_ms_of_cpu(folder, word, told):
    """Of eight attempts the best: other work on the machine only adds to it."""
    needed = []
    for _ in range(8):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = jaxexp(folder, word)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert (done.returncode, told in done.stdout) == (0, True)
        needed.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if needed[-1] < 0.3:
            return
    pytest.fail(f"CPU seconds of {word}: {needed}")


def test_a_table_shows_texts_as_they_are(capsys):
    display.table(["activation"], [["[red]relu"], ["\x1b[31mtanh"]])
    assert capsys.readouterr().out.split() == [
        "activation",
        "[red]relu",
        r"\x1b[31mtanh",
    ]


def test_runs_that_other_processes_train_meanwhile_are_told_as_theirs(folder, monkeypatch):
    train = foreground.train

    def after_others(job, *rest):
        for _ in worker.work(jobs.prepare(job.plan.study, job.folder)):
            pass
        return train(job, *rest)

    monkeypatch.setattr(foreground, "train", after_others)
    monkeypatch.chdir(folder)
    assert (
        "0 runs computed in 0.0 s, 6 by other processes, 0 diverged" in CliRunner().invoke(app, ["run", "ball"]).stdout
    )


def test_run_json_table_status_check_and_plot_agree(folder):
    document = json.loads(jaxexp(folder, "run", "ball", "--json").stdout)
    assert (document["runs"], document["computed"], document["diverged"], document["programs"]) == (6, 6, 0, 1)
    assert [claim["verdict"] for claim in document["claims"]] == ["holds", "refuted"]
    again = json.loads(jaxexp(folder, "run", "ball", "--json", "--quiet").stdout)
    assert again["computed"] == 0
    assert again["table"] == document["table"]
    assert json.loads(jaxexp(folder, "table", "ball", "--json").stdout) == document["table"]
    status = json.loads(jaxexp(folder, "status", "results/ball/default", "--json").stdout)
    assert (status["ok"], status["not_run"]) == (6, 0)
    checked = jaxexp(folder, "check", "ball", "--json")
    assert checked.returncode == 3
    assert json.loads(checked.stdout) == document["claims"]
    plotted = json.loads(jaxexp(folder, "plot", "ball", "--json").stdout)
    assert all((folder / path).stat().st_size > 5000 for path in plotted["figures"])


def test_what_an_experiment_prints_is_not_in_the_document(folder):
    path = folder / "experiments" / "ball.py"
    path.write_text(path.read_text().replace("@jx.config", "print('at first')\n@jx.config", 1))
    done = jaxexp(folder, "show", "ball", "--json")
    assert json.loads(done.stdout)["name"] == "ball"
    assert "at first" in done.stderr
    assert "at first" in jaxexp(folder, "show", "ball").stdout


def test_a_claim_whose_estimate_fails_hides_neither_the_table_nor_the_other_verdicts(folder, monkeypatch):
    monkeypatch.chdir(folder)
    path = Path("experiments", "ball.py")
    broken, written = """it never arrives", lambda dataset: 1 / 0""", Path("results", "ball", "default")
    path.write_text(path.read_text().replace('it never arrives", loss_by_rate', broken))
    for words in (["run", "ball", "--quiet"], ["check", "ball"]):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2
        assert "holds  it rolls near the bottom" in done.stdout
        assert "not shown  it never arrives" in done.stdout
        error = "error: the claim 'it never arrives' cannot be estimated: ZeroDivisionError: division by zero"
        assert done.output.splitlines()[-1] == done.stderr.strip() == error
        if words[0] == "run":
            assert "6 runs computed" in done.stdout
            assert done.stdout.startswith("learning rate")
            assert "run     results/ball/default" in done.stdout
            assert '"not shown"' in (written / "claims.json").read_text()
            assert {"claims.npz", "figures"} <= {path.name for path in written.iterdir()}
        document = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
        assert (document["exit"], document["error"]) == (2, error.removeprefix("error: "))
        assert [claim["verdict"] for claim in document["claims"]] == ["holds", "not shown"]


def test_the_file_itself_runs_and_dry_run_writes_nothing(folder):
    command = [sys.executable, "-m", "experiments.ball", "--dry-run", "--full", "hidden=2,3"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "20 runs (4 trials x 5 seeds)" in done.stdout
    assert "2 groups" in done.stdout
    assert not (folder / "results").exists()


def test_check_and_plot_take_the_size_that_was_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for arguments, statements in (([], 2), (["--full"], 3)):
        assert CliRunner().invoke(app, ["run", "ball", *arguments, "--quiet"]).exit_code == 0
        name = ["--name", "full"] if arguments else []
        checked = CliRunner().invoke(app, ["check", "ball", *name, "--json"])
        assert checked.exit_code == 3, "one claim is refuted"
        assert len(json.loads(checked.stdout)) == statements
        assert CliRunner().invoke(app, ["plot", "ball", *name]).exit_code == 0


@pytest.mark.parametrize(("words", "told"), [("hidden=1,2,3,4,5,6,7,8,9", True), ("learning_rate=1,2,3", False)])
def test_a_field_that_compiles_many_programs_is_named(folder, monkeypatch, words, told):
    monkeypatch.chdir(folder)
    stdout = CliRunner().invoke(app, ["plan", "ball", words]).stdout
    assert ("hidden is static, and each of its 9 values compiles a program: if it may be" in stdout) == told


@pytest.mark.parametrize(
    ("seconds", "quiet", "told"), [(0.0, False, "tracing the experiment"), (0.0, True, ""), (60.0, False, "")]
)
def test_what_takes_long_before_there_are_runs_to_count_is_said_once(folder, monkeypatch, seconds, quiet, told):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(display, "_LINE_SECONDS", seconds)
    words = ["run", "ball", "seeds=1", "learning_rate=0.1", *["--quiet"] * quiet]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert done.stderr.count("tracing") == bool(told)
    assert told in done.stderr
    assert "tracing" not in done.stdout


def test_ctrl_c_ends_after_the_segment_and_says_how_to_go_on(folder):
    command = [sys.executable, "-m", "jaxexp", "run", "ball", "num_steps=2000000000", "evaluate_every=1000000000"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    chunks = folder / "results" / "ball" / "default" / "plans"
    wait_for(lambda: any(chunks.glob("*.npz")) if chunks.exists() else False)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "python -m jaxexp run ball num_steps=2000000000 evaluate_every=1000000000" in stderr
    assert "Traceback" not in stderr
    assert list((folder / "results" / "ball" / "default" / "checkpoints").glob("[0-9]*.npz"))


def wait_for(happened, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_too_many_runs_are_refused_within_a_second_of_importing_jax(folder):
    words = MISTAKES["too many"][0]
    imported = cpu_seconds([sys.executable, "-c", "import jax, jax.numpy, jaxexp as jx; jx.config, jx.Study"], folder)
    refused = cpu_seconds([sys.executable, "-m", "jaxexp", "run", "ball", *words], folder)
    assert refused - imported < 0.5


def cpu_seconds(command: list[str], folder: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, capture_output=True, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_sigterm_checkpoints_and_says_how_to_go_on(folder):
    command = [sys.executable, "-m", "jaxexp", "run", "ball", "num_steps=2000000000", "evaluate_every=1000000000"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    plans = folder / "results" / "ball" / "default" / "plans"
    wait_for(lambda: any(plans.glob("*.npz")) if plans.exists() else False)
    time.sleep(3)
    process.terminate()
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "To go on:" in stderr
    assert list((folder / "results" / "ball" / "default" / "checkpoints").glob("[0-9]*.npz"))

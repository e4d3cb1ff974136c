"""The peers of the benchmarks: C trains as a NumPy loop does, rows have one schema, and one who is missing says so."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import measurement, peers, task, workloads
from benchmarks.peers import __main__ as command
from benchmarks.peers import compiled_c, descendants

NUM_STEPS = 10
ROW = {
    "workload": str,
    "contender": str,
    "trials": int,
    "trials_per_second": float,
    "trials_per_cpu_second": float,
    "device": str,
    "note": str,
}


def few_steps(workload: str) -> task.Task:
    study = workloads.module(workload).study
    return workloads.task(workload, study.replace(seeds=2, num_steps=NUM_STEPS)).part(trials=slice(3, None, 9))


def numpy_loop(given: task.Task) -> np.ndarray:
    """Trains run by run in float64; final losses [num_seeds, num_trials]."""
    trials = given.hyperparameters.astype(float)
    return np.array([[_trained(given, seed, *trial) for trial in trials] for seed in range(given.num_seeds)])


def _trained(given: task.Task, seed: int, learning_rate: float, momentum: float) -> float:
    layers = zip(given.kernels, given.biases, strict=True)
    params = [array[seed].astype(float) for layer in layers for array in layer]
    velocity = [np.zeros_like(param) for param in params]
    for indices in given.table[seed]:
        batch = indices if len(indices) else slice(None)
        slopes = _loss_and_gradient(given.workload, params, given.inputs[batch], given.labels[batch])[1]
        velocity = [momentum * v + slope for v, slope in zip(velocity, slopes, strict=True)]
        params = [param - learning_rate * v for param, v in zip(params, velocity, strict=True)]
    return _loss_and_gradient(given.workload, params, given.eval_inputs, given.eval_labels)[0]


def _loss_and_gradient(workload, params, inputs, labels):
    kernel, bias, out, out_bias = params
    before = inputs @ kernel + bias[None]
    units = np.tanh(before) if workload == "W1" else np.maximum(before, 0)
    logits = units @ out + out_bias[None]
    if workload == "W1":
        losses = np.logaddexp(0, logits[:, 0]) - labels * logits[:, 0]
        back = 1 / (1 + np.exp(-logits)) - labels[:, None]
    else:
        likely = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
        losses = -np.log(likely[np.arange(len(labels)), labels])
        back = likely - np.eye(logits.shape[1])[labels]
    back = back / len(labels)
    before_back = back @ out.T * (1 - units**2 if workload == "W1" else before > 0)
    return losses.mean(), (inputs.T @ before_back, before_back.sum(0), units.T @ back, back.sum(0))


@pytest.mark.parametrize("workload", command.WORKLOADS)
def test_c_trains_as_a_numpy_loop_does(workload):
    given = few_steps(workload)
    if shutil.which("cc") is None:
        with pytest.raises(ImportError, match="no C compiler `cc`"):
            compiled_c.sweep(given)
        return
    run = compiled_c.sweep(given)
    np.testing.assert_allclose(run(), numpy_loop(given), rtol=2e-5)
    np.testing.assert_array_equal(run(), run())
    assert np.float32(1e-30) * np.float32(1e-10) > 0, "the process still computes with subnormal numbers"


def test_c_without_a_compiler_names_it():
    with pytest.raises(ImportError, match="no C compiler `absent-cc`"):
        compiled_c.sweep(few_steps("W1"), compiler="absent-cc")


def test_rows_have_one_schema_also_of_a_peer_that_is_missing(tmp_path, monkeypatch):
    bare = tmp_path / "bare"  # an interpreter without any package
    command_line = [sys.executable, "-m", "venv", "--without-pip", str(bare)]
    command.subprocess.run(command_line, check=True)
    given = few_steps("W1")
    monkeypatch.setattr(workloads, "task", lambda workload: given)
    found = command.rows(["c", "sklearn"], pythons={"sklearn": str(bare / "bin/python")}, chosen=["W1"], repeats=1)
    loop, compiled, missing = found
    assert loop["contender"] == measurement.CAREFUL_LOOP
    for row in found:
        assert set(ROW) <= set(row)
    present = [loop, compiled] if shutil.which("cc") else [loop]
    for row in present:
        assert all(isinstance(row[name], kind) for name, kind in ROW.items())
        assert row["trials"] == given.num_runs
        assert row["trials_per_second"] > 0
    assert missing["trials"] == 0
    assert missing["trials_per_second"] is missing["trials_per_cpu_second"] is missing["cpu_ratio"] is None
    assert missing["note"].startswith("not measured: No module named 'numpy'")
    assert "--install" in missing["note"]


def test_every_peer_has_pinned_requirements_and_a_module():
    for peer in command.PEERS:
        lines = (command.REQUIREMENTS / f"{peer.venv}.txt").read_text().splitlines()
        assert lines
        assert all("==" in line for line in lines)
        module = peer.contender.function.partition(":")[0].rpartition(".")[2]
        assert (Path(peers.__path__[0]) / f"{module}.py").exists()


def test_interpreters_are_the_given_ones_then_those_of_the_folder(tmp_path):
    (tmp_path / "hydra" / "bin").mkdir(parents=True)
    (tmp_path / "hydra" / "bin" / "python").touch()
    found = command.interpreters(["c", "hydra", "ray", "torch"], tmp_path, {"torch": "python3"}, install=False)
    assert found == {"hydra": str(tmp_path / "hydra/bin/python"), "torch": "python3"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hydre"], "no peer is called hydre: they are c, optuna"),
        (["ray", "--python", "ray=absent"], "no such interpreter: absent"),
        (["ray", "--install"], "--install needs --environments FOLDER"),
    ],
)
def test_mistakes_on_the_command_line_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert message in capsys.readouterr().err


def test_descendants_cpu_seconds_are_counted_while_they_live(tmp_path):
    busy = "import sys, time\nwhile time.process_time() < .5: pass\nprint(flush=True)\nsys.stdin.read()"
    pipe = command.subprocess.PIPE

    def run():
        workers.append(command.subprocess.Popen([sys.executable, "-c", busy], stdin=pipe, stdout=pipe))
        workers[0].stdout.readline()
        return np.zeros(1)

    workers = []
    descendants.logged(run, str(tmp_path / "log"))()
    workers[0].communicate()
    assert 0.45 < float((tmp_path / "log").read_text()) < 2
    assert workers[0].returncode == 0

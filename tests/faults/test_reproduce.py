"""Reproductions of run folders and references: the same bits here, and what is judged, named and told elsewhere."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import jaxexp as jx
from jaxexp import catalog, files, jobs, quantities, replay, report, reproduce, store, worker
from jaxexp import recorded as recorded_orders
from jaxexp.cli import app
from jaxexp.errors import MismatchError, StoreError, StudyError
from jaxexp.plans import Tile
from jaxexp.reproduce import DIFFERENT, IDENTICAL, WITHIN
from jaxexp.study import Study


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run whose experiment file lies beside it."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "walks.py").write_text(
        f'"""Where do walks end?"""\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n'
        "import jaxexp as jx\nimport studies\nstudy = studies.walk(3, 5).replace(claims=(\n"
        '    jx.Claim("Far.", lambda d: d.largest.isel(trial=0, eval_step=-1), jx.above(-99)),))\n'
    )
    monkeypatch.chdir(tmp_path)
    source = jobs.Source("walks", (tmp_path / "experiments" / "walks.py").read_text(), tmp_path)
    study = catalog.load("walks").study
    found = worker.run(study, tmp_path / "run", tile=Tile(2, 2), source=source)
    report.write(tmp_path / "run", study, found)
    return tmp_path / "run"


def again(folder: Path, temporary: Path, *words: str, seeds: int | None = None) -> reproduce.Reproduction:
    trained = []
    for asked in recorded_orders.asked(folder, seeds, words):
        job = reproduce.begun(folder, asked, temporary)
        for _ in worker.work(job):
            pass
        trained.append(quantities.Trained(asked, job, worker.collect(job), job.plan.num_runs - job.num_done))
    return reproduce.judge(folder, trained)


def extended(folder: Path, stop_after: int | None = None, **changes: Any) -> Study:
    """The recorded study with something changed, trained into the same folder, whole or for so many batches."""
    study = catalog.load("walks").study.replace(**changes)
    job = jobs.prepare(study, folder, source=jobs.Source("walks", Path("experiments/walks.py").read_text()))
    for number, _event in enumerate(event for event in worker.work(job) if isinstance(event, worker.Committed)):
        if stop_after is not None and number + 1 >= stop_after:
            return study
    report.write(folder, study, worker.collect(job))
    return study


def full(path, content):
    raise StoreError("the disk is full")


def test_a_run_is_reproduced_to_the_bit_and_the_record_lies_beside_it(recorded, tmp_path):
    found = again(recorded, tmp_path / "again")
    assert (found.verdict, found.changed, found.num_runs) == (IDENTICAL, [], 15)
    assert len(found.judged) == 1 + 3 * 2  # a claim; of each trial what is evaluated and what is logged
    path = reproduce.keep(recorded, found)
    assert path == recorded / "reproductions" / "001.json"
    assert json.loads(path.read_text())["verdict"] == IDENTICAL
    assert reproduce.keep(recorded, found).name == "002.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write", full)
        with pytest.raises(StoreError, match="full"):
            reproduce.keep(recorded, found)
    assert not (recorded / "reproductions" / "003.json").exists()


def test_an_interrupted_reproduction_goes_on_where_it_was_stopped(recorded, tmp_path):
    (asked,) = recorded_orders.asked(recorded)
    events = worker.work(reproduce.begun(recorded, asked, tmp_path / "again"))
    next(event for event in events if isinstance(event, worker.Committed))
    events.close()
    left = reproduce.begun(recorded, asked, tmp_path / "again")
    assert 0 < left.num_done < 15
    found = again(recorded, tmp_path / "again")
    assert (found.verdict, found.changed, found.num_runs) == (IDENTICAL, [], 15)
    assert found.warnings[0].startswith(f"{15 - left.num_done} runs were trained now; all others were in ")


def test_what_is_judged_is_not_trained_into_and_neither_is_anything_else(recorded, tmp_path):
    (asked,) = recorded_orders.asked(recorded)
    with pytest.raises(StoreError, match="is what is to be reproduced"):
        reproduce.begun(recorded, asked, tmp_path / "experiments" / ".." / "run")
    with pytest.raises(StoreError, match="holds other files and no run"):
        reproduce.begun(recorded, asked, tmp_path / "experiments")
    path = tmp_path / "again"
    reproduce.begun(recorded, asked, path)
    experiment = jx.Experiment(
        asked.study.experiment.init, asked.study.experiment.step, lambda *given: {"largest": 0.0}
    )
    changed = asked._replace(study=asked.study.replace(experiment=experiment))
    with pytest.raises(MismatchError, match="train again in another folder"):
        reproduce.begun(recorded, changed, path)


def test_where_no_verdict_can_be_recorded_nothing_is_trained(recorded, tmp_path):
    (asked,) = recorded_orders.asked(recorded)
    (recorded / "reproductions").write_text("a file in the way")
    with pytest.raises(StoreError, match=r"the verdict is recorded in .*: reproduce a copy of it"):
        reproduce.begun(recorded, asked, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_claim_on_a_trial_that_is_not_trained_again_is_not_judged(recorded, tmp_path):
    path = tmp_path / "experiments" / "walks.py"
    claim = "jx.measured('largest', studies.Config(rate=0.1))"
    path.write_text(path.read_text().replace("lambda d: d.largest.isel(trial=0, eval_step=-1)", claim))
    reference = tmp_path / "reference"
    study = catalog.load("walks").study
    source = jobs.Source("walks", path.read_text(), tmp_path)
    report.write(reference, study, worker.run(study, reference, tile=Tile(2, 2), source=source))
    assert again(reference, tmp_path / "again").verdict == IDENTICAL
    for folder in ("plans", "chunks"):
        shutil.rmtree(reference / folder)
    with pytest.raises(StoreError, match=r"(?s)nothing that could be compared.*no trial has rate=0\.1"):
        again(reference, tmp_path / "other", "rate=0.3,0.4")


def test_a_part_of_the_seeds_is_compared_with_the_same_seeds(recorded, tmp_path):
    found = again(recorded, tmp_path / "again", seeds=3)
    assert (found.verdict, found.num_runs) == (IDENTICAL, 9)
    assert {judged.comparison.n for judged in found.judged} == {3}


def test_a_claim_whose_estimate_depends_on_other_seeds_is_judged_on_all_of_them_alone(recorded, tmp_path):
    path = tmp_path / "experiments" / "walks.py"
    path.write_text(
        path.read_text()
        + "last = lambda d: d.largest.isel(eval_step=-1)\n"
        + "worst = lambda d: int(last(d).where(d.seed % 2 == 0).mean('seed').fillna(9).argmin('trial'))\n"
        + "odd = lambda d: last(d).isel(trial=worst(d)).sel(seed=d.seed % 2 == 1)\n"
        + "moved = lambda d: abs(last(d) - d.largest.isel(eval_step=0)).mean('seed')\n"
        + "largest = lambda d: last(d).isel(trial=int(moved(d).argmax('trial')))\n"
        + "study = study.replace(claims=(*study.claims, jx.Claim('Worst.', odd, jx.above(0)),\n"
        + "    jx.Claim('Largest.', largest, jx.above(0))))\n"
    )
    study, source = catalog.load("walks").study, jobs.Source("walks", path.read_text(), tmp_path)
    report.write(tmp_path / "new", study, worker.run(study, tmp_path / "new", tile=Tile(2, 2), source=source))
    assert len(study.claims) == 3
    whole = again(tmp_path / "new", tmp_path / "again")
    assert (whole.verdict, whole.not_judged) == (IDENTICAL, [])
    part = again(tmp_path / "new", tmp_path / "part", seeds=3)
    assert (part.verdict, [told.split(":")[0] for told in part.not_judged]) == (IDENTICAL, ["Worst.", "Largest."])
    assert "Far." in {judged.quantity for judged in part.judged}
    assert part.not_judged[0].endswith("leave --seeds out")


def test_of_other_seeds_than_the_first_the_recorded_ones_are_taken(tmp_path):
    record = {"experiment": "velocity_init", "words": ["seeds=7,3,5", "num_steps=9"], "full": False, "samples": None}
    store.create(tmp_path, {**record, "tile": [1, 1]})
    assert recorded_orders.order(tmp_path, 2).words == ["num_steps=9", "seeds=7,3"]
    assert recorded_orders.order(tmp_path, None, ["num_steps=3"]).words == ["seeds=7,3,5", "num_steps=3"]


def test_a_reference_without_chunks_is_judged_by_its_claims(recorded, tmp_path):
    reference = tmp_path / "reference"
    reference.mkdir()
    for name in ("run.json", "claims.npz"):
        (reference / name).write_bytes((recorded / name).read_bytes())
    assert again(reference, tmp_path / "again").verdict == IDENTICAL
    (reference / "claims.npz").unlink()
    with pytest.raises(StoreError, match="neither claims nor results"):
        again(reference, tmp_path / "more")


def test_other_bits_on_the_way_are_not_identical(recorded, tmp_path):
    path = tmp_path / "experiments" / "walks.py"
    path.write_text(
        path.read_text()
        + "experiment = study.experiment\n"
        + "def step(*given):\n    state, logged = experiment.step(*given)\n"
        + "    return state, {'mean': 1e-3 * given[1]['x'].mean() ** 2}\n"
        + "study = study.replace(experiment=experiment._replace(step=step))\n"
    )
    found = again(recorded, tmp_path / "again")
    assert {judged.quantity for judged in found.judged if judged.verdict == DIFFERENT} == {
        f"mean at step 30 (rate={rate})" for rate in (0.1, 0.5, 0.9)
    }
    old = np.ones(4, np.float32)
    (judged,) = reproduce.compared({"x": (old, old)}, 1, otherwise_before={"x"})
    assert judged.verdict == WITHIN
    (judged,) = reproduce.compared({"x": (old, old)}, 1, same_machine=True, otherwise_before={"x"})
    assert judged.verdict == DIFFERENT


def test_a_run_that_diverged_at_a_step_that_is_not_logged_is_not_identical(recorded):
    before = jx.load(recorded)
    after = before.copy(deep=True)
    after["status"][0, 1], after["status_step"][0, 1] = 1, 7
    assert {name: pair.same for name, pair in quantities.of_plan(before, after, []) if pair} == {
        f"{metric} (rate={rate})": rate != 0.1
        for metric in ("mean at step 30", "largest after 40 steps")
        for rate in (0.1, 0.5, 0.9)
    }


def test_what_was_recorded_and_not_measured_again_is_told(recorded, tmp_path):
    found = again(recorded, tmp_path / "again", "num_steps=20")
    assert found.not_judged == [
        "largest: recorded at 2 steps at which it was not measured again",
        "mean: recorded at 2 steps at which it was not measured again",
    ]
    before = jx.load(recorded)
    fewer = before.isel(step=[0], eval_step=[0]).assign_coords(step=[3], eval_step=[4])
    assert len(list(quantities._not_compared(before, fewer))) == 4
    told = list(quantities._not_compared(before.drop_vars("mean"), before.drop_vars("largest")))
    assert told == ["largest: recorded, and not measured any more", "mean: measured now, and not recorded"]


def test_the_experiment_file_with_the_recorded_text_is_taken(recorded, tmp_path, monkeypatch):
    other = tmp_path / "other"
    (other / "experiments").mkdir(parents=True)
    (other / "experiments" / "walks.py").write_text("study = None\n")
    shutil.copytree(recorded, other / "run")
    (wanted,) = recorded_orders.asked(other / "run")
    assert wanted.order is not None
    assert Path(wanted.order.path).resolve() == tmp_path / "experiments" / "walks.py"


def test_what_python_code_made_has_no_experiment_file(recorded, tmp_path):
    worker.run(catalog.load("walks").study, tmp_path / "made", tile=Tile(2, 2))
    with pytest.raises(StudyError, match="made by Python code that called jaxexp: no experiment file is recorded"):
        recorded_orders.asked(tmp_path / "made")


def test_what_was_kept_of_a_reproduction_can_be_reproduced_itself(recorded, tmp_path):
    again(recorded, tmp_path / "again", seeds=3)
    kept = store.record(tmp_path / "again")
    assert (kept["experiment"], kept["path"], kept["words"][0]) == ("walks", "", "seeds=0:3")
    found = again(tmp_path / "again", tmp_path / "third")
    assert (found.verdict, found.num_runs, found.changed) == (IDENTICAL, 9, [])


def test_a_changed_field_is_different_here(recorded, tmp_path):
    assert again(recorded, tmp_path / "again", "num_steps=20").verdict == DIFFERENT


def test_another_version_is_named_and_judged_with_tolerance(recorded, tmp_path):
    record = store.record(recorded)
    record["versions"] = {**record["versions"], "jax": "0.1.0"}
    (recorded / "run.json").write_bytes(files.sealed_json(record))
    found = again(recorded, tmp_path / "again")
    assert found.verdict == IDENTICAL
    assert "0.1.0" in found.changed[0]


def by_quantity(found: reproduce.Reproduction) -> dict[str, tuple[str, int]]:
    return {judged.quantity: (judged.verdict, sum(judged.finite) // 2) for judged in found.judged}


def test_a_folder_with_more_seeds_is_reproduced_in_whole(recorded, tmp_path):
    extended(recorded, seeds=8)
    found = again(recorded, tmp_path / "again")
    assert (found.verdict, found.num_runs, found.not_judged, found.warnings) == (IDENTICAL, 24, [], [])
    assert {num_seeds for _, num_seeds in by_quantity(found).values()} == {8}
    assert "Far." in by_quantity(found)


def traced(number: int) -> Study:
    """A study of plain functions without claims, swept over what is no number; fault 1 changes the trial of None."""

    @jx.config
    class Config:
        note: str | None = None
        sizes: tuple[int, ...] = (1,)

    def train(key: Any, config: Any) -> dict[str, Any]:
        return {"total": float(number) if config.note is None else 1.0 * sum(config.sizes)}

    sweep = jx.grid(note=(None, "a=b, c"), sizes=((4, 4), (3,)))
    return jx.Study(experiment=jx.from_train(train), config=Config(), sweep=sweep, seeds=4)


def test_values_that_are_no_numbers_are_told_as_a_folder_tells_them(tmp_path):
    found = jx.run(traced(0), tmp_path)
    assert (found["note"].values.tolist(), found["sizes"].values[0]) == (["null", "null", "a=b, c", "a=b, c"], "[4, 4]")
    assert found.identical(jx.load(tmp_path))


@pytest.mark.parametrize("fault", [0, 1])
def test_trials_of_values_that_are_no_numbers_and_plain_functions_are_judged(tmp_path, fault):
    jx.run(traced(0), tmp_path / "run")
    (stored,) = store.plans(tmp_path / "run")
    job = jobs.prepare(traced(fault), tmp_path / "again")
    for _ in worker.work(job):
        pass
    asked = recorded_orders.Asked(traced(fault), None, stored)
    pairs, missing = quantities.metrics(
        tmp_path / "run", [quantities.Trained(asked, job, worker.collect(job), job.plan.num_runs)]
    )
    assert missing == []
    judged = reproduce.compared({name: pair[1:3] for name, pair in pairs.items()}, 1, same_machine=True)
    different = {found.quantity for found in judged if found.verdict == DIFFERENT}
    assert len(judged) == 4
    assert different == (
        {f"total at step 0 (note=null, sizes={sizes})" for sizes in ("[4, 4]", "[3]")} if fault else set()
    )


def test_trials_that_were_never_recorded_are_told(recorded, tmp_path):
    found = again(recorded, tmp_path / "again", "rate=0.5,0.61")
    assert found.not_judged == [f"rate=0.61: {recorded} has no such trial"]


def test_a_folder_with_more_trials_of_other_seeds_is_reproduced_in_whole(recorded, tmp_path):
    extended(recorded, sweep=jx.cases({"rate": 0.77}, {"rate": 0.2}, {"rate": 0.5}), seeds=(11, 3, 12))
    asked = recorded_orders.asked(recorded)
    assert [one.order is None for one in asked] == [False, True]
    found = again(recorded, tmp_path / "again")
    assert (found.verdict, found.num_runs) == (IDENTICAL, 15 + 8)
    told = by_quantity(found)
    assert told["largest after 40 steps (rate=0.77)"] == (IDENTICAL, 3)
    assert told["largest after 40 steps (rate=0.5)"] == (IDENTICAL, 7)  # of both plans together
    assert told["largest after 40 steps (rate=0.1)"] == (IDENTICAL, 5)


def test_a_folder_with_more_steps_is_reproduced_in_whole_and_its_claims_too(recorded, tmp_path):
    extended(recorded, num_steps=60)
    found = again(recorded, tmp_path / "again")
    assert (found.verdict, found.num_runs, found.not_judged) == (IDENTICAL, 30, [])
    names = list(by_quantity(found))
    assert [sum(f"after {step} steps" in name for name in names) for step in (40, 60)] == [3, 3]
    assert "Far." in names


def test_a_change_in_what_only_the_second_plan_holds_is_found(recorded, tmp_path):
    extended(recorded, num_steps=60)
    path = next(path for path in sorted((recorded / "plans").glob("0001-*.npz")))
    digest = path.stem.split("-")[1]
    chunk = next((recorded / "chunks").glob(f"*-{digest}.npz"))
    arrays = files.read_npz(chunk)
    arrays["evaluated:largest"][..., -1] *= np.float32(1.0000002)
    chunk.write_bytes(files.npz_bytes(arrays))
    found = again(recorded, tmp_path / "again")
    assert found.verdict == DIFFERENT
    assert {judged.quantity for judged in found.judged if judged.verdict == DIFFERENT} <= {
        f"largest after 60 steps (rate={rate})" for rate in (0.1, 0.5, 0.9)
    }
    assert "have other bits, though nothing that is recorded" in found.warnings[0]


def test_of_an_unfinished_extension_what_is_there_is_judged(recorded, tmp_path):
    extended(recorded, stop_after=1, num_steps=60)
    found = again(recorded, tmp_path / "again")
    assert found.verdict == IDENTICAL
    assert by_quantity(found)["Far."] == (IDENTICAL, 5)  # the claims are of the first plan
    assert sum(num for name, (_, num) in by_quantity(found).items() if "after 60" in name) == 4  # a tile


def test_claims_that_cannot_be_judged_are_named_with_the_reason(recorded, tmp_path):
    kept = files.read_npz(recorded / "claims.npz")
    (recorded / "claims.npz").write_bytes(files.npz_bytes({**kept, "num_steps": np.asarray(7)}))
    (line,) = again(recorded, tmp_path / "again").not_judged
    assert "judged after 7 steps, and no plan" in line
    other = {**kept, "statements": files.text_array(["Near."])}
    (recorded / "claims.npz").write_bytes(files.npz_bytes(other))
    assert again(recorded, tmp_path / "more").not_judged == [
        "Far.: not among the recorded claims",
        "Near.: the experiment does not claim it any more",
    ]
    (recorded / "claims.npz").unlink()
    (line,) = again(recorded, tmp_path / "most").not_judged
    assert "no claims.npz" in line


def test_another_program_or_other_data_is_named(recorded, tmp_path):
    studies = Path(__file__).parent / "studies.py"
    text = studies.read_text().replace("1e-6 * jnp.tanh", "2e-6 * jnp.tanh")
    (tmp_path / "changed.py").write_text(text)
    path = tmp_path / "experiments" / "walks.py"
    path.write_text(
        path.read_text().replace("import studies", f"sys.path.insert(0, {str(tmp_path)!r})\nimport changed as studies")
    )
    found = again(recorded, tmp_path / "again")
    assert found.verdict == DIFFERENT
    assert found.changed == [
        "experiment file: another than the recorded one",
        "program: another than the recorded one (group all)",
    ]
    assert "see what has changed in code or data" in found.warnings[0]


def test_where_chunks_come_from_several_machines_it_is_said(recorded, tmp_path):
    chunk = next((recorded / "chunks").glob("*.npz"))
    arrays = files.read_npz(chunk)
    elsewhere = {**files.array_text(arrays["environment"]), "threads": 77}
    arrays["environment"] = files.text_array(elsewhere)
    chunk.write_bytes(files.npz_bytes(arrays))
    found = again(recorded, tmp_path / "again")
    assert (found.verdict, found.warnings) == (IDENTICAL, [])
    assert "1 of them" in found.changed[0]


NAMED = """
import enum, jax
from collections.abc import Callable
import jaxexp as jx

class Norm(enum.Enum):
    BATCH = 1
    LAYER = 2

@jx.config
class Config:
    x: float = 1.0
    norm: Norm = Norm.BATCH
    activation: Callable = jax.numpy.tanh
    sizes: tuple[int, ...] | None = (8, 8)

def train(key, config):
    return {"m": config.activation(config.x) * config.norm.value * len(config.sizes or ())}

study = jx.Study(experiment=jx.from_train(train), config=Config(), sweep=jx.grid(x=(1.0, 2.0)), seeds=2)
"""


def test_an_enum_a_function_and_an_optional_tuple_are_known_again(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "named.py").write_text(NAMED)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results" / "named" / "default"
    for words in ([], ["norm=LAYER"], ["norm=BATCH,LAYER", "x=3"]):
        assert CliRunner().invoke(app, ["run", "named", *words]).exit_code == 0
    assert replay.replay(folder, 0, 1).differing == []
    found = again(folder, tmp_path / "again")
    assert (found.verdict, found.num_runs, found.not_judged) == (IDENTICAL, 12, [])


def test_more_seeds_than_a_folder_has_are_refused(recorded):
    with pytest.raises(StoreError, match="has 5 seeds, of which 6 are wanted: leave --seeds out for all"):
        recorded_orders.asked(recorded, 6)
    shutil.rmtree(recorded / "plans")  # as of a reference
    with pytest.raises(StoreError, match="has 5 seeds, of which 6 are wanted"):
        recorded_orders.asked(recorded, 6)


def test_an_experiment_file_that_lies_in_the_run_folder_is_not_run(recorded, tmp_path):
    record = store.record(recorded)
    (recorded / "evil.py").write_text("raise SystemExit('it ran')")
    for path in ("run/evil.py", str(recorded / "evil.py")):
        (recorded / "run.json").write_bytes(files.sealed_json({**record, "path": path}))
        with pytest.raises(StudyError, match=r"there is no .*evil.py here"):
            recorded_orders.asked(recorded)


def test_the_first_of_seeds_that_begin_elsewhere_is_one(recorded):
    record = store.record(recorded)
    (recorded / "run.json").write_bytes(files.sealed_json({**record, "words": ["seeds=100:104"]}))
    assert recorded_orders.order(recorded, 1).words == ["seeds=100:101"]

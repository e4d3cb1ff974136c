"""What the verbs print with `--json` is what `jaxexp/schemas/` says, and the schemas refuse anything else."""

import contextlib
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from typer.testing import CliRunner

import jaxexp
from jaxexp.cli import app

FOLDER = Path(jaxexp.__file__).parent / "schemas"
SCHEMAS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
REGISTRY: Registry = Registry().with_resources(
    (schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values()
)

EXPERIMENT = '''"""How fast does a ball roll?"""
import jax, jax.numpy as jnp
import jaxexp as jx

@jx.config
class Config:
    rate: float = jx.dynamic(0.1, minimum=0)
    hidden: int = 4
    shape: str = jx.static("bowl", choices=("bowl", "bowls"))

def init(key, data, config):
    return jax.random.normal(key, (config.hidden,))

def step(key, state, data, config):
    loss = jnp.where(config.rate > 1, jnp.inf, jnp.sum(state**2))
    return state - config.rate * state, {"loss": loss}

def evaluate(state, data, config):
    return {"distance": jnp.sum(jnp.abs(state))}

def distance(dataset):
    return dataset["distance"].isel(eval_step=-1, trial=0)

study = jx.Study(
    experiment=jx.Experiment(init, step, evaluate), config=Config(), seeds=3, num_steps=4, evaluate_every=2,
    sweep=jx.grid(rate=(0.1, 1.5), hidden=(2, 4)),
    claims=(jx.Claim("it rolls near the bottom", distance, jx.below(100.0)),
            jx.Claim("it never arrives", distance, jx.above(100.0)),
            jx.Claim("at times", distance, jx.between(-1, 100), statistic="median")),
)
'''

COMMANDS: dict[str, tuple[str, list[str], int]] = {
    "list": ("list", ["list"], 0),
    "show": ("show", ["show", "ball"], 0),
    "show a tuple": ("show", ["show", "balls"], 0),
    "plan": ("plan", ["plan", "ball", "shape=bowl,bowls"], 0),
    "plan one group": ("plan", ["plan", "ball", "hidden=2", "--exact-memory"], 0),
    "run": ("run", ["run", "ball", "--quiet"], 0),
    "run dry": ("run", ["run", "ball", "--dry-run"], 0),
    "run a shard": ("run", ["run", "ball", "--name", "part", "--shard", "1/2", "--tile", "1x1", "--quiet"], 0),
    "status": ("status", ["status", "ball"], 0),
    "status of a part": ("status", ["status", "ball", "--name", "part"], 0),
    "check": ("check", ["check", "ball"], 3),
    "doctor": ("doctor", ["doctor"], 0),
    "doctor of a run": ("doctor", ["doctor", "ball"], 0),
    "replay": ("replay", ["replay", "ball", "--trial", "0", "--seed", "1"], 0),
    "replay of one that diverged": ("replay", ["replay", "ball", "--trial", "2", "--seed", "1"], 0),
    "reproduce": ("reproduce", ["reproduce", "ball", "--quiet"], 0),
    "table": ("table", ["table", "ball"], 0),
    "table of a part": ("table", ["table", "ball", "--name", "part"], 0),
    "table of groups": ("table", ["table", "ball", "--group-by", "hidden", "--statistic", "median"], 0),
    "export": ("export", ["export", "ball", "--to", "csv", "--out", "ball.csv"], 0),
    "report": ("report", ["report", "ball"], 0),
    "plot": ("plot", ["plot", "ball", "--kind", "curves"], 0),
    "compare": ("compare", ["compare", "ball", "rate=0.1,hidden=2", "rate=0.1,hidden=4"], 0),
    "compare runs": ("compare", ["compare", "results/ball/default", "results/ball/default"], 0),
    "importance": ("importance", ["importance", "ball"], 0),
    "gc": ("gc", ["gc", "ball", "--dry-run"], 0),
    "an error": ("error", ["show", "bale"], 2),
    "an error of a table": ("error", ["table", "ball", "--by", "rat"], 2),
    "an error of a claim": ("error", ["run", "lost", "--quiet"], 2),
}
"""By name the schema, the command and its exit code; in order, since the first ones make what later ones read."""


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(SCHEMAS[name], registry=REGISTRY)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The document that each command prints."""
    place = tmp_path_factory.mktemp("place")
    (place / "experiments").mkdir()
    (place / "experiments" / "ball.py").write_text(EXPERIMENT)
    (place / "experiments" / "balls.py").write_text(EXPERIMENT.replace("hidden: int = 4", "hidden: tuple = (4, 2)"))
    (place / "experiments" / "lost.py").write_text(EXPERIMENT.replace('never arrives", distance', 'is lost", None'))
    told = {}
    with contextlib.chdir(place):
        for name, (_, words, code) in COMMANDS.items():
            done = CliRunner().invoke(app, [*words, "--json"])
            assert done.exit_code == code, (name, done.output, done.exception)
            told[name] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_of_draft_2020_12(name):
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:jaxexp:{name}"
    assert len(schema["description"]) > 20


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_printed_is_what_the_schema_says(printed, name):
    validator(COMMANDS[name][0]).validate(printed[name])


def test_the_documents_hold_what_the_schemas_are_to_tell(printed):
    assert {"runs", "left"} < printed["run a shard"].keys()
    assert printed["status"]["first_not_finite"][0] == {"trial": 2, "seed": 0, "step": 0}
    assert {claim["verdict"] for claim in printed["check"]} == {"holds", "refuted", "not shown"}
    assert printed["check"][2]["estimate"]["low"] is None
    assert printed["replay of one that diverged"]["not_finite_step"] == 0
    assert printed["plan"]["groups"][0]["static"].keys() == {"hidden", "shape"}
    assert len(printed["reproduce"]["quantities"]) > 3
    assert {COMMANDS[name][0] for name in printed} == SCHEMAS.keys() - {"environment"}


FREE = {"static", "metrics", "compiler_options", "versions", "hyperparameters", "main", "marginals", "edges"}
"""Objects whose keys are not fixed, by the key that they lie under."""

OPTIONAL = {
    *(("doctor", name) for name in ("folder", "whole", "damaged")),
    ("error", "claims"),
    ("table", "trials"),
    ("table", "stopped early"),
}
ANYTHING = {("show", "default"), ("importance", "value"), ("importance", "best")}


def nodes(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all values in a document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, part in items:
        yield from nodes(part, (*path, key))


def changed(document: Any, path: tuple, change: Any) -> Any:
    """A copy with one value changed by a function of what holds it and its key."""
    copied = copy.deepcopy([document])
    place: Any = copied
    for key in (0, *path)[:-1]:
        place = place[key]
    change(place, (0, *path)[-1])
    return copied[0]


def put(value: Any):
    def change(place: Any, key: Any) -> None:
        place[key] = value

    return change


def is_free(path: tuple) -> bool:
    return len(path) > 1 and path[-2] in FREE


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_type_anywhere_is_refused(printed, name):
    schema, document = COMMANDS[name][0], printed[name]
    valid = validator(schema).is_valid
    tried = 0
    for path in nodes(document):
        if path and (schema, path[-1]) in ANYTHING:
            continue
        tried += 1
        if "groups" in path and is_free(path):
            continue  # a static hyperparameter may be a tuple
        wrong = [[[]]] if path and (path[-1] in FREE or is_free(path)) else {"wrong": 1}
        assert not valid(changed(document, path, put(wrong))), path
    assert tried > 2


@pytest.mark.parametrize("name", COMMANDS)
def test_a_missing_or_an_unknown_key_is_refused(printed, name):
    schema, document = COMMANDS[name][0], printed[name]
    valid = validator(schema).is_valid
    tried = 0
    for path in nodes(document):
        holder = document
        for key in path:
            holder = holder[key]
        if isinstance(holder, dict) and not (path and path[-1] in FREE):
            tried += 1
            assert not valid(changed(document, (*path, "un-known"), put(1))), path
        is_key = bool(path) and isinstance(path[-1], str)
        if not is_key or is_free(path) or (schema, path[-1]) in OPTIONAL:
            continue
        if path[-1] in ("rate", "hidden") or " @" in path[-1]:  # a table's columns, which depend on the study
            continue
        tried += 1
        assert not valid(changed(document, path, lambda place, key: place.pop(key))), path
    assert tried > 1

"""The newcomer's path through the README: what is read off it, how it is walked, and that each command works."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("newcomer", ROOT / "scripts" / "newcomer.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


newcomer = _script()

README = """# A project

```console
$ git clone <this repository> && cd jaxexp
$ make run     # takes a minute
what it prints
```

`jaxexp list` is no command about the file, and `mine` is none. Then `jaxexp check other`.

Save this as `experiments/mine.py`; then `jaxexp run mine` (with `.venv/bin` on your path).

```python
x = 1
```

`jaxexp plan mine` says something; `jaxexp run mine rate=0.1,0.2 seeds=32` more.

```python
not_saved = True
```

```console
$ jaxexp run mine \\
>   --quiet
$ jaxexp plan mine
```
"""


def test_commands_and_the_file_are_read_in_order_and_once():
    assert newcomer.steps(README) == [
        newcomer.Step("git clone <this repository> && cd jaxexp"),
        newcomer.Step("make run"),
        newcomer.Step("x = 1\n", "experiments/mine.py"),
        newcomer.Step("jaxexp run mine"),
        newcomer.Step("jaxexp plan mine"),
        newcomer.Step("jaxexp run mine rate=0.1,0.2 seeds=32"),
        newcomer.Step("jaxexp run mine --quiet"),
    ]


def test_the_readme_of_the_project_has_the_newcomers_steps():
    found = newcomer.steps((ROOT / "README.md").read_text())
    commands = [step.text for step in found if not step.path]
    assert commands[0].startswith("git clone <this repository>")
    assert "make run" in commands
    (saved,) = (step for step in found if step.path)
    assert saved.path == "experiments/mine.py"
    assert "jx.Study(" in saved.text
    verbs = [command.split()[1] for command in commands if " mine" in command]
    assert {"plan", "run", "table", "compare", "report", "export"} <= set(verbs), (
        "the example is planned, swept and told"
    )
    for command in commands:  # a shell can read each, brackets and all; only the repository is left to be filled in
        typed = command.replace(newcomer.REPOSITORY, "/a/repository")
        read = subprocess.run(["bash", "-n", "-c", typed], capture_output=True, text=True)
        assert (read.returncode, read.stderr) == (0, ""), typed


def walked(tmp_path: Path, *commands: str) -> list:
    todo = [newcomer.Step(command) for command in commands]
    return list(newcomer.walk(todo, tmp_path, {"WHO": "newcomer"}, tmp_path / "from"))


def test_a_walk_keeps_its_folder_and_ends_where_a_command_fails(tmp_path):
    found = walked(tmp_path, "mkdir a && cd a", "echo $WHO in $(basename $PWD)", "exit 7", "echo never")
    assert [(outcome.code, outcome.output) for outcome in found] == [(0, ""), (0, "newcomer in a\n"), (7, "")]
    assert all(outcome.seconds >= 0 for outcome in found)


def test_a_walk_saves_files_where_it_is(tmp_path):
    todo = [newcomer.Step("mkdir b && cd b"), newcomer.Step("x = 1\n", "c/d.py"), newcomer.Step("cat c/d.py")]
    *_, last = newcomer.walk(todo, tmp_path, {}, tmp_path)
    assert last.output == "x = 1\n"


def checkout(folder: Path, readme: str) -> Path:
    folder.mkdir()
    (folder / "README.md").write_text(readme)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def test_the_script_clones_and_says_how_each_command_ended(tmp_path, capfd):
    cloning = "```console\n$ git clone -q <this repository> && cd jaxexp\n$ test -f README.md\n$ {}\n```\n"
    good = checkout(tmp_path / "good", cloning.format("basename $PWD"))
    assert newcomer.main(["--source", str(good)]) == 0
    assert "3 commands" in capfd.readouterr().out
    bad = checkout(tmp_path / "bad", cloning.format("echo why; false"))
    assert newcomer.main(["--source", str(bad)]) == 1
    told = capfd.readouterr().out
    assert "$ echo why; false\nwhy\n" in told
    assert "failed" in told
    assert newcomer.main(["--source", str(bad), "--skip", "false"]) == 0


def copied(folder: Path) -> Path:
    """The working tree, as git would see it: tracked files and those that it would not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.slow
def test_every_command_of_the_readme_works_but_for_make(tmp_path):
    source = copied(tmp_path / "from" / "jaxexp")
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=source, check=True)
    found = newcomer.steps((source / "README.md").read_text())
    todo = [step for step in found if step.path or not step.text.startswith("make")]
    clone = tmp_path / "jaxexp"
    binaries = tmp_path / "bin"
    binaries.mkdir()
    command = f'#!/bin/sh\nexec "{sys.executable}" -m jaxexp "$@"\n'
    for name, text in (("jaxexp", command), ("python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')):
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    todo.insert(1, newcomer.Step(f"mkdir .venv && ln -s {binaries} .venv/bin"))  # in place of `make venv`
    path = f"{clone}/.venv/bin{os.pathsep}{os.environ['PATH']}"
    outcomes = list(newcomer.walk(todo, tmp_path, {"PATH": path, "PYTHONPATH": str(clone)}, source))
    assert [outcome for outcome in outcomes if outcome.code] == []
    assert len(outcomes) == sum(not step.path for step in todo)
    assert (clone / "results" / "mine" / "default" / "summary.csv").is_file()
    verdicts = json.loads((clone / "results" / "velocity_init" / "default" / "claims.json").read_text())
    assert {claim["verdict"] for claim in verdicts} == {"holds"}

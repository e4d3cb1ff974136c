"""The README is what it says: an example under 40 lines that trains as pasted, and a table that is not stale."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
SCRIPT = Path(__file__).parents[1] / "scripts" / "make_references.py"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def example() -> str:
    return blocks()[0]


def test_the_example_fits_in_forty_lines_of_code():
    assert 20 < len(example().strip().splitlines()) <= 40


def test_the_example_trains_as_pasted(tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "mine.py").write_text(example().replace("if __name__", f"{blocks()[1]}\nif __name__"))
    words = ["mine", "seeds=2", "num_steps=44", "hidden=32", "--quiet"]
    done = subprocess.run([sys.executable, "-m", "jaxexp", "run", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "test accuracy @44" in done.stdout
    assert re.search(r"(holds|not shown)  Momentum \.9 is ahead of none\.  \(0\.\d+ ", done.stdout), done.stdout
    assert (tmp_path / "results" / "mine" / "default" / "run.json").is_file()
    figure = re.search(r"figure\s+(\S+)", done.stdout)
    assert figure is not None
    assert (tmp_path / figure.group(1)).stat().st_size > 5000


def test_every_command_of_the_readme_exists():
    known = "list show plan run status table plot report check compare importance export replay reproduce doctor gc"
    verbs = set(re.findall(rf"`?jaxexp ({'|'.join(known.split())})\b", README.read_text()))
    helped = subprocess.run([sys.executable, "-m", "jaxexp", "--help"], capture_output=True, text=True, check=True)
    assert {"plan", "run"} <= verbs
    assert all(verb in helped.stdout for verb in verbs)


def test_the_table_of_questions_is_the_one_that_the_kept_results_give():
    spec = importlib.util.spec_from_file_location("make_references", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = README.read_text()
    assert script.with_table(text) == text, "write it anew: python scripts/make_references.py --table"
    assert text.count("--full`") == len(script.QUESTIONS)
    assert "not run yet" not in text

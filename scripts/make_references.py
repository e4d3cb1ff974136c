"""Trains the studies at full size and keeps what a reader needs of them in results/NAME/reference.

`python scripts/make_references.py [NAME ...]` runs `jaxexp run NAME --full` (which goes on where it stopped), then
copies the record, the summary, the verdicts, the per-seed values behind them and the figures. `--table` only
writes the README's table of questions anew.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = ("run.json", "summary.csv", "claims.json", "claims.npz")
QUESTIONS = (
    "velocity_init",
    "mse_and_likelihood",
    "generalized_dice",
    "accuracy_surrogates",
    "lstm_recurrence",
    "softmax_spiral",
)
BEGIN, END = "<!-- questions: written by scripts/make_references.py --table -->", "<!-- end of questions -->"


def main() -> None:
    """Runs the studies that were named, or all, then writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(QUESTIONS)}; all where none is given")
    parser.add_argument("--table", action="store_true", help="only write the README's table")
    given = parser.parse_args()
    for name in [] if given.table else given.names or QUESTIONS:
        subprocess.run([sys.executable, "-m", "jaxexp", "run", name, "--full"], cwd=ROOT, check=True)
        keep(ROOT / "results" / name / "full", ROOT / "results" / name / "reference")
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text()))


def keep(full: Path, reference: Path) -> None:
    """Copies what is kept of a run folder; records of reproductions are of the reference before, and go with it."""
    shutil.rmtree(reference, ignore_errors=True)
    reference.mkdir(parents=True)
    for name in KEPT:
        shutil.copy(full / name, reference / name)
    shutil.copytree(full / "figures", reference / "figures")


def with_table(readme: str) -> str:
    """Returns the README's text with the table of questions as the references say it."""
    rows = [row(name) for name in QUESTIONS if (ROOT / "experiments" / f"{name}.py").is_file()]
    head = ["| question | verdicts at full size | answer | figure |", "|---|---|---|---|"]
    table = "\n".join([BEGIN, *head, *rows, END])
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: table, readme, flags=re.DOTALL)


def row(name: str) -> str:
    """Returns an experiment's row of the table."""
    docstring = (ROOT / "experiments" / f"{name}.py").read_text().split('"""')[1]
    question = docstring.split("\n")[0].replace("|", "\\|")
    reference = ROOT / "results" / name / "reference"
    verdicts, figures = "not run yet", ""
    if (reference / "claims.json").is_file():
        found = [claim["verdict"] for claim in json.loads((reference / "claims.json").read_text())]
        counts = {verdict: found.count(verdict) for verdict in ("holds", "refuted", "not shown") if verdict in found}
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "no claims"
        paths = sorted((reference / "figures").glob("*.png"))
        figures = " ".join(f"[{path.stem}]({path.relative_to(ROOT)})" for path in paths)
    answer = f"[answer](docs/answers/{name}.md)" if (ROOT / "docs" / "answers" / f"{name}.md").is_file() else ""
    return f"| {question} `jaxexp run {name} --full` | {verdicts} | {answer} | {figures} |"


if __name__ == "__main__":
    main()

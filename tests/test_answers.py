"""The answers' pages say what the kept results say: every claim, its verdict and its numbers, to the printed digits."""

import csv
import json
import re
from pathlib import Path

import pytest

from jaxexp import catalog

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "answers").glob("*.md"))
NUMBER = r"-?\d*\.?\d+(?:e-?\d+)?"
ESTIMATE = re.compile(rf"(mean|constant|median|share) ({NUMBER}) \[({NUMBER}), ({NUMBER})\]")
HALF_WIDTH = re.compile(rf"({NUMBER}) ± ({NUMBER})")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def kept(page: Path) -> Path:
    return ROOT / "results" / page.stem / "reference"


def rows(text: str) -> list[list[str]]:
    """The cells of the verdict table: the one whose first column is `claim`."""
    table = re.search(r"^\| claim .*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table is not None, "a page needs a table '| claim | estimate and 95 % interval | n | verdict |'"
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in table.group(1).splitlines()]


def is_printed_as(value: float, text: str) -> bool:
    """Whether a text is a value to as many digits as the text has."""
    digits, _, exponent = text.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
    return abs(value - float(text)) <= 0.5 * unit * (1 + 1e-6)


def differences(text: str, claims: list[dict]) -> list[str]:
    """What a page's verdict table has otherwise than the claims do."""
    found, wrong = rows(text), []
    if [row[0] for row in found] != [claim["statement"] for claim in claims]:
        return ["the statements are others"]
    for (statement, printed, num_seeds, verdict), claim in zip(found, claims, strict=True):
        estimate, match = claim["estimate"], ESTIMATE.fullmatch(printed)
        if match is None or match.group(1) != claim["statistic"]:
            wrong.append(f"{statement} needs '{claim['statistic']} x [low, high]'")
        elif not all(map(is_printed_as, (estimate[key] for key in ("mean", "low", "high")), match.groups()[1:])):
            wrong.append(f"{statement} is {estimate}")
        if int(num_seeds) != estimate["n"] or verdict != claim["verdict"]:
            wrong.append(f"{statement} {claim['verdict']}, n = {estimate['n']}")
    return wrong


def half_widths(text: str) -> list[tuple[str, str]]:
    """The numbers `x ± y` of a page's tables, without those of a column of published figures."""
    found, header = [], None
    for line in text.splitlines():
        cells = line.split("|") if line.startswith("|") else None
        header = cells and (header or cells)
        for title, cell in zip(header or [], cells or [], strict=True):
            found += [] if "published" in title else HALF_WIDTH.findall(cell)
    return found


def kept_half_widths(reference: Path) -> list[tuple[float, float]]:
    """The means of `summary.csv` and of the claims that have an interval, each with half its width."""
    with (reference / "summary.csv").open() as file:
        table = list(csv.DictReader(file))
    halves = [(float(row[name.removesuffix(" ±")]), float(row[name])) for row in table for name in row if "±" in name]
    claims = [claim["estimate"] for claim in json.loads((reference / "claims.json").read_text())]
    halves += [(estimate["mean"], (estimate["high"] - estimate["low"]) / 2) for estimate in claims]
    return [(mean, half) for mean, half in halves if half > 0]  # NaN where all seeds agree


def unknown(printed: list[tuple[str, str]], kept: list[tuple[float, float]]) -> list[tuple[str, str]]:
    """Those of the printed `x ± y` that no trial and no claim has."""
    return [texts for texts in printed if not any(all(map(is_printed_as, numbers, texts)) for numbers in kept)]


def test_every_reference_has_its_page():
    assert {page.stem for page in PAGES} == {path.parent.name for path in ROOT.glob("results/*/reference")}
    assert len(PAGES) == 6


@each_page
def test_the_verdict_table_has_the_claims_of_the_reference(page):
    claims = json.loads((kept(page) / "claims.json").read_text())
    assert len(claims) > 0
    assert differences(page.read_text(), claims) == []


@each_page
def test_what_the_tables_give_with_a_half_width_is_in_the_reference(page):
    assert unknown(half_widths(page.read_text()), kept_half_widths(kept(page))) == []


def test_half_widths_are_read_from_the_tables_that_pages_have():
    assert sum(len(half_widths(page.read_text())) for page in PAGES) > 40
    text = (
        "| a | published | here |\n|---|---|---|\n| b | .5 ± .1 | .25 ± .01; .3 ± .02 |\n\n| a |\n| 1 ± 2 |\n.7 ± 1\n"
    )
    assert half_widths(text) == [(".25", ".01"), (".3", ".02"), ("1", "2")]
    wrong = [(".25", ".02"), (".26", ".01")]
    assert unknown([(".25", ".01"), *wrong], [(0.2512, 0.0098)]) == wrong


@each_page
def test_the_reference_has_the_claims_of_the_experiment(page):
    claims = json.loads((kept(page) / "claims.json").read_text())
    full = catalog.load(str(ROOT / "experiments" / f"{page.stem}.py")).full
    assert [claim["statement"] for claim in claims] == [claim.statement for claim in full.claims]


@each_page
def test_the_page_shows_every_figure_and_its_links_exist(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    paths = {(page.parent / target).resolve() for target in targets if not target.startswith("http")}
    assert all(path.exists() for path in paths), [path for path in paths if not path.exists()]
    figures = set(kept(page).glob("figures/*.png"))
    assert len(figures) > 0
    assert figures <= paths


def test_references_are_small_enough_for_git():
    sizes = [path.stat().st_size for path in ROOT.glob("results/*/reference/**/*") if path.is_file()]
    assert 0 < sum(sizes) < 20e6


CLAIM = {
    "statement": "A: above .2.",
    "verdict": "holds",
    "statistic": "mean",
    "estimate": {"mean": 0.25749, "low": 0.2, "high": 3.14e-1, "n": 8},
}
ROW = "| A: above .2. | mean .257 [.20, 3.1e-1] | 8 | holds |\n"
HEAD = "| claim | estimate and 95 % interval | n | verdict |\n|---|---|---|---|\n"


def test_a_table_that_is_right_has_no_differences():
    assert differences(HEAD + ROW, [CLAIM]) == []
    assert differences(HEAD + ROW.replace("| holds", "| **holds**"), [CLAIM]) == []


@pytest.mark.parametrize(
    "change",
    [(".257", ".258"), (".20,", ".21,"), ("3.1e-1", "3.2e-1"), ("| 8 |", "| 9 |"), ("mean", "median"),
     ("holds", "not shown"), ("A:", "B:"), (" [.20, 3.1e-1]", "")],
)  # fmt: skip
def test_a_table_with_anything_wrong_is_found(change):
    assert change[0] in ROW
    assert len(differences(HEAD + ROW.replace(*change), [CLAIM])) == 1
    assert differences(HEAD + ROW + ROW, [CLAIM]) != []


def test_the_table_of_reproductions_says_what_their_records_say():
    """A column of the table is a record's number: the first is 001.json, and `not run` where there is none."""
    text = (ROOT / "docs" / "reproduce.md").read_text().split("## The six references")[1].split("## ")[0]
    lines = re.findall(r"^\|.*\|$", text, re.M)
    header, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert {name for name, *_ in rows} == {page.stem for page in PAGES}
    for name, *cells in rows:
        reference = ROOT / "results" / name / "reference"
        claims = json.loads((reference / "claims.json").read_text())
        records = {path.stem: json.loads(path.read_text()) for path in (reference / "reproductions").glob("*.json")}
        assert set(records) == {f"{number:03}" for number, cell in enumerate(cells, 1) if cell != "not run"}
        for number, record in records.items():
            assert cells[int(number) - 1].startswith(f"**{record['verdict']}** (")
            assert f"jax {record['environment']['versions']['jax']}" in header[int(number)]
            assert len(record["quantities"]) == len(claims)

"""The page of a run: whole, escaped, alone, and small; what it says are the numbers of the run."""

import itertools
import re
import time
from typing import Any

import numpy as np
import pytest
from made_results import made, plan, record, study
from page_reader import Reader

import jaxexp as jx
from jaxexp import statistics
from jaxexp.errors import StudyError
from jaxexp.importance import Shares
from jaxexp.pages import page

EVIL = "<script>alert(1)</script>\"'&$x$"


def grid(**options):
    rates, hidden = (axis.ravel() for axis in np.meshgrid((0.001, 0.01, 0.1), (8, 16)))
    return made({"learning_rate": rates, "hidden": hidden}, **options)


def subject(dataset=None, **changes):
    dataset = grid(lost=[(1, 0)]) if dataset is None else dataset
    known: dict[str, Any] = {
        "folder": "results/made/default",
        "record": record(),
        "plans": (plan(dataset),),
        "dataset": dataset,
    }
    known |= {"study": study(), **changes}
    return page.Subject(**known)


@pytest.fixture(scope="module")
def text():
    return page.document(subject())


def test_the_page_is_whole_and_each_id_is_there_once(text):
    read = Reader(text)
    assert read.wrong == []
    assert read.open == []
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) > 20
    assert len(set(ids)) == len(ids)
    links = [attributes["href"] for attributes in read.all("a")]
    assert {link.removeprefix("#") for link in links} <= set(ids)
    used = re.findall(r"url\(#([\w-]+)\)", text) + [entry["href"][1:] for entry in read.all("use")]
    assert len(used) > 20
    assert set(used) <= set(ids)


def test_nothing_is_loaded_from_elsewhere_and_no_script_may_run(text):
    read = Reader(text)
    (policy,) = [meta["content"] for meta in read.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert not read.all("script") + read.all("link") + read.all("iframe") + read.all("object") + read.all("base")
    for tag, attributes in read.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "action", "srcset"):
                assert value.startswith(("#", "data:image/png;base64,")), (tag, value[:80])
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)
    assert not [meta for meta in read.all("meta") if meta.get("http-equiv") == "refresh"]


def test_what_a_reader_needs_is_there(text):
    read = Reader(text)
    assert dict(read.elements)["html"] == {"lang": "en"}
    headings = [tag for tag, _ in read.elements if re.fullmatch(r"h\d", tag)]
    assert headings.count("h1") == 1
    assert all(int(after[1]) <= int(before[1]) + 1 for before, after in itertools.pairwise(headings))
    assert all(attributes.get("scope") in ("col", "row") for attributes in read.all("th"))
    boxes = [attributes for attributes in read.all("div") if "scroll" in attributes.get("class", "")]
    assert len(boxes) > 8
    assert all(box["tabindex"] == "0" and box["role"] == "region" and box["aria-label"] for box in boxes)
    drawn = read.all("svg")
    assert len(drawn) == 5
    assert all(one["role"] == "img" and len(one["aria-label"]) > 40 for one in drawn)
    sections = [attributes["id"] for attributes in read.all("section")]
    assert sections == ["verdicts", "figures", "table", "method", "plan", "diverged", "commands", "environment"]


def test_the_numbers_are_those_of_the_run(text):
    told = Reader(text).text
    dataset = grid(lost=[(1, 0)])
    best = dataset.accuracy.values[5, :, -1]
    found = statistics.check(study(), dataset)
    assert [verdict.verdict for verdict in found] == ["holds", "refuted", "not shown"]
    for part in ("1 holds", "1 refuted", "1 not shown", "Is it so?", "It may be.", "24", "6 trials"):
        assert part in told, part
    estimate = statistics.mean_interval(best)
    assert f"mean {estimate.mean:.4g} [{estimate.low:.4g}, {estimate.high:.4g}]" in told
    assert f"{best.mean():.4f} ± {best.std(ddof=1) / 2 * 3.182446:.4f}" in told
    assert "1 of 24 runs, in 1 trials, stopped being finite" in told
    assert "the same weights" not in told, "nets of different shapes have different ones"
    assert "one seed, which draws weights and minibatches from the same random numbers in both trials" in told
    assert "jaxexp replay results/made/default --trial 1 --seed 0" in told
    assert "jaxexp run made hidden=8 seeds=4 --tile 4x2 --name again" in told
    assert "with changes that are not committed" in told
    assert told.index("5", told.index("largest first")) < told.index("0.1", told.index("largest first"))


@pytest.mark.parametrize(
    "where", ["experiment", "folder", "value", "field", "claim", "docstring", "note", "metric", "words"]
)
def test_text_of_a_run_is_text(where):
    changes = {}
    dataset = grid()
    if where == "value":
        dataset = made({"optimizer": [EVIL, "b"], "hidden": [1, 2]}, lost=[(0, 0)])
    elif where == "field":
        dataset = made({EVIL: [0.1, 0.2], "hidden": [1, 2]}, lost=[(0, 0)])
    elif where == "metric":
        dataset = made({"hidden": [1, 2]}, names=(EVIL,))
    elif where in ("experiment", "words"):
        changes = {
            "record": record(**({"experiment": EVIL} if where == "experiment" else {"words": [f"hidden={EVIL}"]}))
        }
    elif where == "docstring":
        changes = {"record": record(source=f"'''{EVIL.replace(chr(39), '')} <b>\n\n</p><img src=x onerror=y>'''\n")}
    elif where == "folder":
        changes = {"folder": f"results/{EVIL}"}
    elif where == "note":
        changes = {"notes": [EVIL]}
    else:
        claims = (jx.Claim(EVIL, jx.measured("accuracy", study().config), jx.above(0)),)
        changes = {"study": study(claims=claims)}
    made_page = page.document(subject(dataset, **{"study": None} | changes))
    read = Reader(made_page)
    assert read.wrong == []
    assert not read.all("script")
    assert not [attributes for _, attributes in read.elements if "onerror" in attributes or "alert(1)" in attributes]
    assert "<script>alert(1)" in read.text


def test_a_study_whose_figure_or_claim_fails_has_a_page():
    def broken(dataset):
        """Draws nothing."""
        raise ZeroDivisionError("<b>no</b>")

    claims = (jx.Claim("it fails", broken, jx.above(0)), jx.Claim("it does not", lambda d: d.seed, jx.above(-99)))
    told = Reader(page.document(subject(study=study(figures=(broken,), claims=claims)))).text
    assert "broken cannot be drawn: ZeroDivisionError: <b>no</b>" in told
    assert "1 holds" in told
    assert (
        "Not every claim can be judged: the claim 'it fails' cannot be estimated: ZeroDivisionError: <b>no</b>" in told
    )


def test_trials_with_more_seeds_than_others_are_said_to_have_them():
    uneven = made({"hidden": [1, 2, 4]}, waiting=[(0, 2), (0, 3)])
    first, second = plan(uneven.isel(seed=[0, 1])), plan(uneven.isel(trial=[1, 2]))
    told = Reader(page.document(subject(uneven, plans=(first, second)))).text
    assert "2 to 4 seeds (0 to 3) for each of 3 trials" in told
    assert "only what jaxexp compare says of them allows for that" in told
    assert "over n = 2 to 4 seeds" in told
    assert "seeds=2 --tile" in told
    assert "Seeds of some trials that were asked for later are not in these words" in told
    assert "allows for that" not in Reader(page.document(subject())).text


def test_a_run_without_results_yet_has_a_page_that_is_read_again():
    waiting = [(trial, seed) for trial in range(2) for seed in range(2)]
    dataset = made({"hidden": [1, 2]}, num_seeds=2, waiting=waiting).drop_vars(["accuracy", "loss"])
    text = page.document(subject(dataset), refresh=5)
    read = Reader(text)
    assert {"http-equiv": "refresh", "content": "5"} in read.all("meta")
    assert "this page is read again every 5 seconds" in read.text
    assert [attributes["id"] for attributes in read.all("section")][:2] == ["verdicts", "method"]


def test_importance_is_shown_with_what_was_left_out():
    shares = Shares(
        {"learning_rate": 0.625, "hidden": 0.25},
        {("learning_rate", "hidden"): 0.1},
        0.025,
        "by grid",
        0.01,
        6,
        ("x=1",),
        0,
    )
    told = Reader(page.document(subject(shares=shares))).text
    for part in ("learning_rate and hidden", "62.5 %", "10.0 %", "2.5 %", "by grid", "Left out: x=1."):
        assert part in told, part


def test_no_share_is_said_to_be_for_the_reason_that_there_is():
    shares = Shares({"hidden": 0.0}, {}, 0.0, "by grid; all trials have the same mean", 0.0, 6, (), 0)
    told = Reader(page.document(subject(shares=shares))).text
    assert "all trials have the same mean." in told
    assert "seeds explain" not in told
    assert "seeds alone explain" not in told


def test_the_table_is_sorted_as_asked_and_says_what_it_leaves_out():
    dataset = made({"learning_rate": np.linspace(0.1, 1, 40)})
    told = Reader(page.document(subject(dataset, study=None))).text
    assert "The first 30 of 40 trials, by accuracy, largest first" in told
    assert "jaxexp table results/made/default --limit 40" in told
    by = Reader(page.document(subject(dataset, study=None, by="learning_rate"))).text
    assert "by learning_rate, smallest first" in by
    loss = Reader(page.document(subject(dataset, study=None, metric="loss"))).text
    assert "by loss, smallest first" in loss
    with pytest.raises(StudyError, match="there is no column"):
        page.document(subject(dataset, study=None, by="rate"))
    with pytest.raises(StudyError, match="there is no metric 'los'; did you mean 'loss'"):
        page.document(subject(dataset, study=None, metric="los"))


def test_trials_that_diverge_come_last_in_a_table_by_a_metric_and_it_says_so():
    dataset = made({"learning_rate": [0.25, 0.5, 0.75]}, lost=[(2, 0)])
    told = Reader(page.document(subject(dataset, study=None))).text
    table = told[told.index("3 trials, by accuracy, largest first, those with diverged runs last: mean") :]
    assert table.index("0.5") < table.index("0.25") < table.index("0.75")
    by = Reader(page.document(subject(dataset, study=None, by="-learning_rate"))).text
    assert "by learning_rate, largest first: mean" in by
    whole = Reader(page.document(subject(made({"learning_rate": [0.25, 0.5]}), study=None))).text
    assert "by accuracy, largest first: mean" in whole


@pytest.mark.parametrize(("metric", "column"), [("accuracy", "--by -accuracy"), ("loss", "--metric loss --by loss")])
def test_what_judges_the_best_by_other_seeds_is_named_where_there_are_some(metric, column):
    for num_seeds in (1, 4):
        dataset = made({"learning_rate": [0.1, 0.2]}, num_seeds=num_seeds)
        told = Reader(page.document(subject(dataset, study=None, metric=metric))).text
        command = f"jaxexp table results/made/default {column} judges the best by other seeds"
        assert (command in told) == (num_seeds > 1)


def test_the_same_run_gives_the_same_page(text):
    assert page.document(subject()) == text


def test_seeds_that_have_gaps_are_named():
    dataset = grid().assign_coords(seed=np.asarray([1, 5, 6, 9], np.uint32))
    assert "seeds=1,5,6,9" in Reader(page.document(subject(dataset, study=None))).text
    dataset = grid().assign_coords(seed=np.asarray([4, 5, 6, 7], np.uint32))
    assert "seeds=4:8" in Reader(page.document(subject(dataset, study=None))).text


def test_a_hundred_thousand_runs_make_a_small_page_in_seconds():
    drawn = np.random.default_rng(0)
    columns = {"learning_rate": 10 ** drawn.uniform(-4, 0, 2000), "momentum": drawn.uniform(0, 1, 2000)}
    columns |= {"hidden": drawn.choice([8, 16, 32], 2000), "optimizer": drawn.choice(["sgd", "adam"], 2000)}
    lost = [(int(trial), 0) for trial in range(0, 2000, 7)]
    dataset = made(columns, num_seeds=50, lost=lost, names=("accuracy", "share", "error"))
    began = time.process_time()
    text = page.document(subject(dataset, study=None))
    assert time.process_time() - began < 8
    assert len(text.encode()) < 1_000_000
    told = Reader(text).text
    assert "100,000" in told
    assert "The first 30 of 2,000 trials" in told

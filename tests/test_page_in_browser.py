"""The page as a browser shows it: no complaint, no request, nothing too wide, and no barrier that axe-core finds.

Needs Chromium.
"""

import chromium
import numpy as np
import pytest
from made_results import made, plan, record, study

from jaxexp.pages import page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.PATH is None, reason="there is no Chromium here: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser():
    with chromium.Chromium() as started:
        yield started


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A page with every verdict and figure, long names and words, and runs that are not finite."""
    rates, hidden = (axis.ravel() for axis in np.meshgrid((0.001, 0.01, 0.1, 1.0), (8, 16, 32)))
    columns = {"learning_rate": rates, "hidden": hidden, "optimizer": ["adam" * 9] * 11 + ["sgd"]}
    dataset = made(columns, lost=[(0, seed) for seed in range(4)] + [(5, 1)], names=("accuracy", "a_long_name" * 3))
    told = record(words=["x=" + "9" * 300])
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page.document(page.Subject("results/made/default", told, (plan(dataset),), dataset, study())))
    return path


@pytest.mark.parametrize(("width", "scheme"), chromium.LOOKS)
def test_a_page_fits_its_window_asks_for_nothing_and_has_no_barrier(browser, written, width, scheme):
    browser.bypass_policy()
    assert chromium.wrong(browser, written, width, scheme) == []
    assert browser.value("document.querySelectorAll('figure svg').length") == 5
    dark = browser.value("getComputedStyle(document.body).backgroundColor")
    assert dark == {"light": "rgb(252, 252, 250)", "dark": "rgb(20, 23, 26)"}[scheme]


def test_axe_finds_a_barrier_where_there_is_one(browser, written):
    browser.bypass_policy()
    browser.open(written)
    browser.value("document.querySelector('figcaption').style = 'color: #888; background: #999'; 1")
    assert [one[0] for one in chromium.barriers(browser)] == ["color-contrast"]


def test_a_script_in_a_page_would_be_refused_and_noticed(browser, written, tmp_path):
    browser.bypass_policy(False)
    changed = tmp_path / "changed.html"
    inserted = "<script>document.title='ran'</script><img src='https://example.invalid/x.png' alt=''>"
    changed.write_text(written.read_text().replace("<main>", f"<main>{inserted}"))
    browser.open(changed)
    assert browser.value("document.title") == "Is it so?"
    assert any("Content Security Policy" in told for told in browser.complaints())


def test_a_page_prints_without_what_only_a_screen_needs(browser, written):
    browser.open(written, media="print")
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.value("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"

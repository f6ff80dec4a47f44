"""The report: a page that parser and browser take, that needs nothing else, and that all can read."""

import functools
import html
import itertools
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from processes import DEADLINE

from shmps import Cluster, Journal, LogisticRegression
from shmps.linear import solvers
from shmps.ps.messages import WORKER
from shmps.report import charts
from shmps.report.summary import report, write_report
from shmps.system.failpoints import Failpoint

VOID = {"meta", "line", "circle", "rect", "path", "polyline"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def trained(**settings):
    X = np.random.default_rng(0).normal(size=(200, 6))
    settings = {"workers": 2, "timeline": True, "test_interval": 5} | settings
    if "solver" not in settings:
        settings["batch_size"] = 10
    return LogisticRegression(**settings).fit(X, X[:, 0] > 0).result_.with_source("<a&b>", "", 0.1)


@pytest.fixture(scope="module")
def killed():
    with pytest.MonkeyPatch.context() as patch:
        failpoint = Failpoint(WORKER, 1, "worker: answered", 20)
        patch.setattr(solvers, "Cluster", functools.partial(Cluster, failpoints=[failpoint]))
        return trained()


class Page(HTMLParser):
    """Fails on what is not well-formed; what is on the page, as (tag, attributes) and text by tag."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self._open = [], {}, []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        assert len({name for name, _ in attributes}) == len(attributes), (
            f"an attribute of {tag} is there twice"
        )
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in VOID
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def all(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]


RUNS = {
    "async": {"mode": "async"},
    "hogwild": {"mode": "hogwild", "test_interval": 0},
    "lbfgs": {"solver": "lbfgs"},
    "no timeline": {"timeline": False, "test_interval": 0},
}


@pytest.mark.parametrize("run", [*RUNS, "killed"])
def test_the_page_is_well_formed_and_needs_nothing_else(run, killed, tmp_path):
    write_report(killed if run == "killed" else trained(**RUNS[run]), tmp_path / "out.html")
    text = (tmp_path / "out.html").read_text()
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>") and page.all("html") == [{"lang": "en"}]
    identities = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identities) == len(set(identities))
    assert page.all("script", "link", "img", "iframe") == []
    assert all(attributes["href"][1:] in identities for attributes in page.all("a"))
    assert "url(" not in text and "@import" not in text and "http:" not in text and "https:" not in text


def test_the_page_can_be_heard_and_walked_through_by_keyboard(killed):
    page = Page(report(killed))
    identities = {attributes["id"]: tag for tag, attributes in page.elements if "id" in attributes}
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    pictures = page.all("svg")
    assert len(pictures) == 4 + 1 + 2  # learning, delays, a strip per worker
    for attributes in pictures:
        assert attributes["role"] == "img"
        assert [identities[name] for name in attributes["aria-labelledby"].split()] == ["title", "desc"]
    for attributes in page.all("section"):
        assert identities[attributes["aria-labelledby"]] == "h2"
    assert all(attributes["scope"] in ("row", "col") for attributes in page.all("th"))
    regions = [attributes for attributes in page.all("div") if "tabindex" in attributes]
    assert len(regions) == len(page.all("details")) == 3
    assert all(attributes["role"] == "region" and attributes["aria-label"] for attributes in regions)


def test_the_page_says_what_the_result_says(killed):
    page = Page(report(killed))
    assert page.texts["h1"] == ["Training of <a&b>"]
    Page(report(replace(killed, events=[replace(killed.events[0], outcome="<i>")])))
    told = dict(killed.figures())
    cells = page.texts["td"] + page.texts["th"]
    assert {*told, *told.values(), "learning_rate"} <= set(cells)
    assert f"{killed.history[-1].metrics.accuracy:.4f}" in cells
    assert any(str(killed.events[0]) in line for line in page.texts["li"])
    assert len([attributes for attributes in page.all("span") if attributes.get("class") == "mark"]) == 1
    assert "worker 1" in page.texts["span"]


def luminance(colour):
    """Relative luminance (WCAG 2.2) of #rrggbb."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_text_and_charts_stand_out_in_light_and_in_dark(killed):
    themes = re.findall(r":root \{(.*?)\}", report(killed), re.DOTALL)
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", theme))
        for name in ("text", "quiet", "compute", "bad"):  # of text
            assert contrast(colours[name], colours["page"]) >= 4.5, name
        for name in ("compute", "pull", "push", "sleep", "wait"):
            assert contrast(colours[name], colours["page"]) >= 3, name


# Put around the page by the test alone: the page itself allows no script.
MEASURE = """<!DOCTYPE html><title></title><body><script>
const frame = document.createElement('iframe')
frame.style = 'width: %dpx; height: 900px; border: 0'
frame.srcdoc = %s
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement
  page.querySelectorAll('details').forEach(each => each.open = true)
  const widths = [...page.querySelectorAll('svg')].map(each => each.getBoundingClientRect().width)
  document.title = JSON.stringify({ background: getComputedStyle(page.body).backgroundColor,
    room: root.clientWidth, needed: root.scrollWidth, widths: widths, mode: page.compatMode })
}
document.body.append(frame)
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="neither chromium nor google-chrome is installed")
@pytest.mark.parametrize(
    ("width", "scheme", "background"), [(380, 0, "rgb(15, 20, 25)"), (1100, 1, "rgb(255, 255, 255)")],
    ids=["narrow and dark", "wide and light"],
)  # fmt: skip
def test_a_browser_shows_the_page(killed, width, scheme, background, tmp_path):
    quoted = json.dumps(report(killed)).replace("</", "<\\/")
    (tmp_path / "page.html").write_text(MEASURE % (width, quoted))
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"),
            *("--virtual-time-budget=5000", f"--blink-settings=preferredColorScheme={scheme}"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"file://{tmp_path}/page.html"),
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    title = re.search("<title>(.+?)</title>", done.stdout)
    assert title, done.stderr[-2000:]
    found = json.loads(html.unescape(title[1]))
    assert (found["background"], found["mode"]) == (background, "CSS1Compat")
    assert found["needed"] <= found["room"] == width  # nothing sticks out
    assert len(found["widths"]) == 7 and min(found["widths"]) > 250


def test_what_is_no_number_is_left_out_of_a_chart(killed):
    history = [replace(at, metrics=replace(at.metrics, log_loss=math.nan)) for at in killed.history]
    text = report(replace(killed, history=history))
    assert "None of these values is a number" in text
    assert not re.search(r'(?:points|d|x|y)="[^"]*nan', text)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 0), (0.7638, 0.8505), (-3, 1e6), (5, 5), (0, 3e-5), (0.32, 0.3200001)]
)
def test_the_numbers_of_an_axis_are_few_equally_far_apart_and_around_the_values(low, high):
    marks = charts.scale(low, high)
    assert marks[0] <= low and marks[-1] >= high and 2 <= len(marks) <= 6
    assert np.diff(marks) == pytest.approx(marks[1] - marks[0])


@pytest.mark.parametrize("most", [0.1, 1500, 100_000, 4_000_000])
def test_the_numbers_below_a_chart_are_inside_it(most):
    drawn = charts.line_chart("n", "title", [(0, 0), (most, 1)], "gradients")
    width = float(re.search(r'viewBox="0 0 (\d+)', drawn)[1])
    found = re.findall(r'<text x="([\d.]+)"[^>]*"middle">([\d.,]+)<', drawn)
    assert found and all(float(x) + 3.5 * len(text) <= width for x, text in found)


def test_the_page_of_a_recorded_run_shows_whose_pushes_came_when(tmp_path):
    path = tmp_path / "run.journal"
    result = trained(mode="async", record=path)
    journal = Journal.open(path)
    page = Page(report(result, journal))
    assert "Order of pushes" in page.texts["h2"] and "Order of pushes" not in Page(report(result)).texts["h2"]
    assert {"Pushes of worker 0", "Pushes of worker 1"} <= set(page.texts["title"])
    for rank in range(2):
        own = np.flatnonzero(journal.pushes["worker"] == rank)
        assert f"{len(own):,} of {len(journal.pushes):,} pushes." in page.texts["desc"]
        row = [f"{len(own):,}", f"{np.median(np.diff(own) - 1):.0f}", f"{np.diff(own).max() - 1:,}"]
        assert str(row)[1:-1] in str(page.texts["td"])
    identities = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identities) == len(set(identities))

"""The page: it stands alone, says what the fit said, and lets no text through as markup."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

import credo
from credo.report import vector
from credo.report.page import Section, paragraphs, table, write
from credo.report.vector import Picture

TEXT = """Coin & toss: is p < 1/2?

    p ~ Beta(a, b)
      x ~ Bernoulli(p)

Some prose over
two lines.

    a further    formula
"""
ALONE = {"meta", "img", "br", "link", "input", "hr"}  # elements without an end


class Reader(HTMLParser):
    """Fails where an element is not closed, and keeps the links, the pictures, the rows of tables, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.pictures: list[dict] = []
        self.rows: list[list[str]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links += [found[k] for k in ("href", "src") if k in found]
        if tag == "img":
            self.pictures.append(found)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ALONE:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def fit() -> credo.Fit:
    pair = credo.load("coin_toss")
    return credo.fit(pair.model, pair.guide, torch.tensor([1.0, 1.0, 0.0]), steps=20, progress=False)


def picture(path: Path, size: tuple[float, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=size)
    figure.subplots()
    vector.save(figure, path)


def test_everything_that_is_known_of_a_pair_is_said(fit, tmp_path):
    picture(tmp_path / "coin" / "loss.svg", (6, 4))
    picture(tmp_path / "coin" / "strip.svg", (11, 3))
    compared = pd.DataFrame({"mean": [0.5], "kl": [1.25e-11]}, index=pd.Index(["p"], name="site"))
    section = Section(
        "coin",
        TEXT,
        "credo fit coin --seed 0",
        fit=fit,
        seconds=12.34,
        scores=pd.Series({"accuracy": 0.975, "nll": 0.1234, "brier": 0.1, "ece": 0.0456}, name="360 held-out rows"),
        tables={"Compared with the exact posterior": compared},
        gap="log evidence -3, ELBO -3: the guide is 0.0 nats away",
        pictures=[
            Picture("loss.svg", "It fell", "The loss."),
            Picture("strip.svg", "Digits", "Images."),
            Picture("gone.svg", "", "Was never drawn."),
        ],
    )
    path = write(tmp_path, [section], "credo 1, seed 0")
    text = path.read_text(encoding="utf-8")
    page = Reader(text)
    assert path == tmp_path / "index.html" and page.texts["h1"] == ["credo"]
    assert page.texts["h2"] == ["Coin & toss: is p < 1/2?"]
    assert page.texts["pre"] == ["p ~ Beta(a, b)\n  x ~ Bernoulli(p)", "a further    formula"]
    assert "Some prose over two lines." in page.texts["p"]
    said = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    tail = fit.losses[-2:]
    assert said == {
        "−ELBO": f"{sum(tail) / 2:,.2f} nats",
        "steps": "20",
        "seconds": "12.3",
        "stopped": fit.stopped,
        "accuracy, 360 held-out rows": "97.5%",
        "nll": "0.123 nats",
        "Brier": "0.100",
        "ECE": "0.046",
    }
    assert ["p", "0.5", "1.25 × 10−11"] in page.rows
    assert ["coin", "Coin & toss: is p < 1/2?", "97.5% of 360 held-out rows right", "12.3 s"] in page.rows
    assert ["p", "Beta", "pathwise", fit.plan.entries[0].term, fit.plan.entries[0].reason] in page.rows
    assert [(p["src"], p["alt"], p["width"], p["height"]) for p in page.pictures] == [
        ("coin/loss.svg", "It fell. The loss.", "576", "384"),  # 96 pixels of CSS an inch
        ("coin/strip.svg", "Digits. Images.", "1056", "288"),
    ]
    assert page.texts["figcaption"] == ["The loss.", "Images."]
    assert "credo fit coin --seed 0" in page.texts["code"] and page.texts["footer"] == ["credo 1, seed 0"]


def test_the_page_stands_alone(fit, tmp_path):
    picture(tmp_path / "coin" / "loss.svg", (6, 4))
    text = write(tmp_path, [Section("coin", TEXT, fit=fit, pictures=[Picture("loss.svg", "h", "c")])]).read_text(
        encoding="utf-8"
    )
    for link in Reader(text).links:
        assert link == "#coin" or (tmp_path / link).is_file(), link
    assert not re.search(r"https?:|<script|@import|url\(|\son\w+=", text)
    assert "{" not in re.sub("<style>.*</style>", "", text, flags=re.DOTALL)


def test_nothing_gets_through_as_markup(tmp_path):
    evil = "<b>&\"'"
    wrong = pd.DataFrame({evil: [evil]}, index=pd.Index([evil], name=evil))
    picture(tmp_path / evil / "a.svg", (1, 1))
    section = Section(evil, evil + "\n\n    " + evil, evil, tables={evil: wrong}, gap=evil, error=evil)
    section.pictures = [Picture("a.svg", evil, evil)]
    text = write(tmp_path, [section], evil).read_text(encoding="utf-8")
    assert "<b>" not in text and evil not in text
    page = Reader(text)
    assert page.links == ["#" + evil, f"{evil}/a.svg"] and page.pictures[0]["alt"] == f"{evil}. {evil}"
    assert page.rows[-2:] == [[evil, evil], [evil, evil]]


def test_a_pair_that_failed_says_why_and_shows_what_there_is(fit, tmp_path):
    sections = [Section("good", "Good.", fit=fit), Section("bad", error="ValueError: no rows")]
    page = Reader(write(tmp_path / "new", sections).read_text(encoding="utf-8"))
    assert [row[2] for row in page.rows[:2]] == [f"−ELBO {sum(fit.losses[-2:]) / 2:,.2f} nats", "failed"]
    assert "ValueError: no rows" in page.texts["p"] and page.texts["h2"] == ["Good", "bad"]


def test_no_pair_at_all(tmp_path):
    assert Reader(write(tmp_path, []).read_text(encoding="utf-8")).rows == []


def test_a_table_shows_numbers_to_four_digits_and_says_what_it_leaves_out():
    frame = pd.DataFrame(
        {"a": [1234567, 2], "b": [0.123456, float("nan")], "c": [-1.5e-7, 2e12], "d": ["x", True]},
        index=pd.Index([1000, 2], name="n"),
    )
    assert Reader(table(frame)).rows == [
        ["n", "a", "b", "c", "d"],
        ["1,000", "1,234,567", "0.1235", "−1.5 × 10−7", "x"],
        ["2", "2", "–", "2 × 1012", "True"],
    ]
    long = Reader(table(pd.DataFrame({"a": range(1045)}))).rows
    assert len(long) == 42 and long[-1] == ["… and 1,005 rows more"]


def test_paragraphs_of_the_docstrings():
    assert paragraphs("Title.") == ("Title", [])
    title, blocks = paragraphs(TEXT)
    assert title == "Coin & toss: is p < 1/2?"
    assert blocks == [
        (True, "p ~ Beta(a, b)\n  x ~ Bernoulli(p)"),
        (False, "Some prose over two lines."),
        (True, "a further    formula"),
    ]
    assert paragraphs("T\n\nprose:\n    formula\nmore")[1] == [(False, "prose:"), (True, "formula"), (False, "more")]


def test_pairs_that_are_to_come_are_named_in_the_overview_alone(fit, tmp_path):
    """While the page is written it reloads itself; the finished page does not, and no part of a page is left."""
    done = Section("good", "Good.", fit=fit)
    waiting = [Section("next", "Next <one>.", waiting="being fitted"), Section("last", "Last.", waiting="to come")]
    text = write(tmp_path, [done, *waiting], note="A <note>.", reload=7).read_text(encoding="utf-8")
    page = Reader(text)
    assert [row[::2][:2] for row in page.rows[1:3]] == [["next", "being fitted"], ["last", "to come"]]
    assert page.links == ["#good"] and page.texts["h2"] == ["Good"] and "A <note>." in page.texts["p"]
    assert text.count('<meta http-equiv="refresh" content="7">') == 1
    last = write(tmp_path, [done]).read_text(encoding="utf-8")
    assert "refresh" not in last and 'class="note"' not in last
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_the_verdict_of_the_fit_is_on_the_page(fit, tmp_path):
    page = Reader(write(tmp_path, [Section("coin", fit=fit)]).read_text(encoding="utf-8"))
    assert fit.verdict is not None and repr(fit.verdict).replace("k-hat -", "k-hat −") in page.texts["p"]


def test_formulas_that_follow_each_other_are_shown_together(tmp_path):
    text = "A title.\n\n    f = net(x)\n\n    one   y ~ N(f, 1)\n\nProse.\n\n    more\n"
    page = Reader(write(tmp_path, [Section("a", text)]).read_text(encoding="utf-8"))
    assert page.texts["pre"] == ["f = net(x)\n\none   y ~ N(f, 1)", "more"]

"""The gallery has a card for each pair and each how-to, and each card shows what docs/pictures.py ran and drew."""

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import credo
from tests.cases.docs_program import docs_program

DOCS = Path(__file__).parents[2] / "docs"
HOW_TO = sorted(path.stem for path in (DOCS / "how-to").glob("*.md") if path.stem != "index")
PAGE = (DOCS / "gallery.md").read_text(encoding="utf-8")
CARDS = re.findall(r"^::::\{grid-item-card\}.*?^::::$", PAGE, flags=re.MULTILINE | re.DOTALL)
SMALLEST = 11  # pixels of a letter, where a picture is shown in its own size


@pytest.fixture(scope="module")
def pictures():
    return docs_program("pictures")


@pytest.mark.parametrize("name", credo.names())
def test_every_pair_has_a_card(name: str) -> None:
    (card,) = [card for card in CARDS if f"(pictures/{name}.svg)" in card]
    assert f'credo.load("{name}")' in card and f"(notebooks/{name}.ipynb)" in card


@pytest.mark.parametrize("name", HOW_TO)
def test_every_how_to_has_a_card(name: str) -> None:
    assert len([card for card in CARDS if f"(how-to/{name}.md)" in card]) == 1, f"docs/gallery.md: a card for {name}"


def test_every_card_has_a_formula_code_a_sentence_and_a_link_that_leads_somewhere() -> None:
    for card in CARDS:
        title = card.splitlines()[0]
        assert re.search(r"^\$.+\$$", card, flags=re.MULTILINE), f"{title}: no formula"
        (code,) = re.findall(r"^```(?:python|text)\n(.*?)^```", card, flags=re.MULTILINE | re.DOTALL)
        assert 1 <= len(code.splitlines()) <= 9, title
        assert max(map(len, code.splitlines())) <= 55, f"{title}: a line of code is wider than the card"
        sentence = card.split("```")[-1].split(":::{card-footer}")[0].strip()
        assert sentence.endswith(".") and len(sentence) > 30, title
        (target,) = re.findall(r"\[(?:notebook|how to)\]\(([\w/-]+\.\w+)\)", card)
        root = DOCS.parent if target.startswith("notebooks/") else DOCS  # the site copies the notebooks
        assert (root / target).is_file(), f"{title}: {target}"


def test_the_seconds_are_those_that_were_measured(pictures) -> None:
    measured = pictures.seconds()
    assert measured.keys() == {name for name, block in pictures.blocks().items() if block}
    assert all(seconds > 0 for seconds in measured.values())
    assert pictures.with_seconds(PAGE, measured) == PAGE, "run python docs/pictures.py"
    other = pictures.with_seconds(PAGE, {"vae": 123.4})
    (line,) = set(other.splitlines()) - set(PAGE.splitlines())
    assert line == "123 s · [notebook](notebooks/vae.ipynb)"


def test_every_picture_exists_in_the_size_in_which_it_is_shown(pictures) -> None:
    width, height = pictures.SIZE
    for name in pictures.blocks():
        root = ElementTree.parse(DOCS / f"pictures/{name}.svg").getroot()
        assert (root.get("width"), root.get("height")) == (f"{72 * width:g}pt", f"{72 * height:g}pt"), name
        assert re.search(rf"!\[[^\]]{{20,}}\]\(pictures/{name}\.svg\)", PAGE), (
            f"{name}: no text for those who cannot see"
        )
    used = set(pictures.blocks()) | {"ten_lines"}  # the picture of README and start page
    assert {path.stem for path in (DOCS / "pictures").glob("*.svg")} == used


def test_letters_are_large_enough_in_every_picture(pictures) -> None:
    """matplotlib writes text as outlines, scaled from a font of 100 units: scale(0.09) is 9 points, 12 pixels."""
    for name in pictures.blocks():
        text = (DOCS / f"pictures/{name}.svg").read_text(encoding="utf-8")
        scales = [float(s) for s in re.findall(r"scale\(([\d.]+) -[\d.]+\)", text)]
        assert scales and min(scales) * 100 * 96 / 72 >= SMALLEST, f"{name}: letters of {min(scales) * 133:.1f} pixels"
        assert "scale(0.7)" not in text, f"{name}: an exponent, whose letters are 0.7 times as large"


def test_an_unknown_card_is_refused(pictures) -> None:
    with pytest.raises(SystemExit, match="no such card: vea; the gallery has coin_toss"):
        pictures.main(["vea"])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["coin_toss", "lesson", "regression", "mixture", "gp", "gpu", "arviz"])
def test_the_lines_of_a_card_draw_its_picture(pictures, name: str, tmp_path, monkeypatch) -> None:
    """The quick ones; `python docs/pictures.py` runs them all."""
    monkeypatch.syspath_prepend(str(DOCS))
    pictures.draw(name, pictures.blocks()[name], tmp_path)
    assert "<path" in (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
    for module in ("cards", "drawings"):
        sys.modules.pop(module, None)

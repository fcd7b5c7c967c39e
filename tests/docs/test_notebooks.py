"""What the site needs of notebooks: pictures with alt text, a headline and a sentence; code that fits the page."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
DRAWS = re.compile(r"plt\.(subplots|figure)\(|credo\.plots\.[a-z]+\(")
COLUMNS = 100  # of code that the site shows at once


def cells_of(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def wrong_pictures(cells):
    """What is wrong with the pictures of a notebook, a line for each cell."""
    wrong = []
    for number, cell in enumerate(cells):
        if cell["cell_type"] != "code" or not DRAWS.search("".join(cell["source"])):
            continue
        alt = cell.get("metadata", {}).get("mystnb", {}).get("image", {}).get("alt", "")
        if len(alt.split()) < 5 or not alt.endswith("."):
            wrong.append(
                f"cell {number}: got the alt text {alt!r}, wanted a sentence in mystnb.image.alt of its metadata"
            )
        below = "".join(cells[number + 1]["source"]) if number + 1 < len(cells) else ""
        if not re.match(r"\*\*[^*]+\.\*\* \S.*\.", below, re.DOTALL):
            wrong.append(f"cell {number}: got {below[:40]!r} below its picture, wanted '**Headline.** A sentence.'")
    return wrong


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_picture_has_an_alt_text_a_headline_and_a_sentence(path):
    assert not wrong_pictures(cells_of(path))


def test_pictures_without_words_are_found():
    def code(source, alt):
        return {"cell_type": "code", "source": [source], "metadata": {"mystnb": {"image": {"alt": alt}}}}

    def text(source):
        return {"cell_type": "markdown", "source": [source]}

    alt, words = "A line that falls to zero.", "**It falls.** The line is at zero from step 100 on."
    for draws in ("fig, ax = plt.subplots()", "credo.plots.losses(fit);"):
        assert not wrong_pictures([code(draws, alt), text(words)])
        assert len(wrong_pictures([code(draws, "loss.png"), text(words)])) == 1
        assert len(wrong_pictures([code(draws, alt), text("The line falls.")])) == 1
        assert len(wrong_pictures([code(draws, "")])) == 2
    assert not wrong_pictures([code("color = credo.plots.FIT", "")])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_code_fits_the_page(path):
    lines = [line.rstrip("\n") for cell in cells_of(path) if cell["cell_type"] == "code" for line in cell["source"]]
    assert not [line for line in lines if len(line) > COLUMNS]


def test_the_page_of_notebooks_names_files_that_exist_and_lists_each_once():
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    linked = re.findall(r"\(notebooks/(\w+)\.ipynb\)", page)
    listed = re.findall(r"^notebooks/(\w+)$", page, re.MULTILINE)
    # The pattern stands for the last notebook, and for those of new pairs, which edit no page.
    assert page.count("\nnotebooks/*\n") == 1 and linked == [*listed, "after_the_fit"]
    assert len(set(linked)) == len(linked) and set(linked) <= {path.stem for path in NOTEBOOKS}
    assert len(re.findall(r"\| \d+ \|$", page, re.MULTILINE)) == len(linked)  # its seconds

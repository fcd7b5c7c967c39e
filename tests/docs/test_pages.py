"""The code of every page of the site runs: by the build of the site, here, or in a test of its own."""

import contextlib
import re
import warnings
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs"
PAGES = sorted(
    page
    for page in DOCS.rglob("*.md")
    if not {"_build", "notebooks", ".ipynb_checkpoints"} & set(page.relative_to(DOCS).parts)
)
HEAD = re.compile(r"\A---\nfile_format: mystnb\nkernelspec:\n  name: python3\n(?:[^\n]+\n)*?---\n")
CELL = re.compile(r"^(?P<fence>`{3,}|:{3,})\{code-cell\}[^\n]*\n(?P<body>.*?)^(?P=fence)\n", re.MULTILINE | re.DOTALL)
SETTINGS = re.compile(r"\A(?:---\n(?P<yaml>.*?)\n---\n|(?P<lines>(?::[\w-]+:[^\n]*\n)+))", re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def cells(page: Path) -> list[tuple[int, str, str]]:
    """(line, code, settings) of each block of code that the build of the site executes."""
    text = page.read_text(encoding="utf-8")
    found = []
    for cell in CELL.finditer(text):
        body = cell["body"]
        settings = SETTINGS.match(body)
        start = cell.start("body") + (settings.end() if settings else 0)
        code = body[settings.end() :] if settings else body
        found.append((text.count("\n", 0, start), code, settings[0] if settings else ""))
    return found


EXECUTED = [page for page in PAGES if cells(page)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_block_of_python_is_one_that_something_runs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if "{code-cell}" in text:
        assert HEAD.match(text), "a page with code cells starts with the front matter of docs/start.md"
        assert len(cells(page)) == len(re.findall(r"^\S{3,}\{code-cell\}", text, re.MULTILINE))
    elsewhere = name_of(page).startswith("coming-from/")  # code of other libraries, which are not installed
    if re.search(r"^\s*`{3,}(?:python|py)\b", text, re.MULTILINE) and not elsewhere:
        tests = [test for test in TESTS.rglob("test_*.py") if test != Path(__file__)]
        assert any(page.name in test.read_text(encoding="utf-8") for test in tests), (
            "write ```{code-cell} python, which the build of the site executes, instead of ```python; or run the "
            "blocks in a test that names the page, as tests/docs/test_watching.py does"
        )


@pytest.mark.parametrize("page", EXECUTED, ids=name_of)
def test_every_picture_of_a_page_says_what_it_shows(page: Path) -> None:
    """A cell that draws has an alternative text in its settings. `check_site` looks at the pictures themselves."""
    for line, code, settings in cells(page):
        draws = re.search(r"credo\.plots\.(?!FIT|EXACT|PRIOR|POINTS)|plt\.(plot|show|subplots)|az\.plot_", code)
        hidden = "remove-output" in settings or "hide-output" in settings or "remove-cell" in settings
        if draws and not hidden:
            assert "alt:" in settings, f"{name_of(page)}, line {line + 1}: the cell draws; give it mystnb: image: alt:"


@pytest.mark.parametrize("page", [p for p in PAGES if p.parent.name == "how-to" and p.stem != "index"], ids=name_of)
def test_a_how_to_names_the_words_that_lead_the_search_to_it(page: Path) -> None:
    found = re.findall(r"^```\{index\} (.*)\n```\n", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) == 1, "write ```{index} ! WORD, ! WORD below the title: what a reader would search for"
    # Without "!" the search lists the page below all pages that hold the word.
    assert all(word.startswith("! ") for word in found[0].split(", "))


@pytest.mark.slow
@pytest.mark.parametrize("page", EXECUTED, ids=name_of)
def test_the_cells_of_a_page_run_one_after_the_other(page: Path, tmp_path: Path, monkeypatch) -> None:
    """As a program, in a folder of its own, with warnings as errors; a cell that hides its warnings has some."""
    import matplotlib.pyplot as plt

    monkeypatch.setattr("matplotlib.pyplot.show", lambda *args, **kwargs: None)
    names: dict[str, object] = {"__name__": "__main__", "display": print}
    with contextlib.chdir(tmp_path), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="arviz")  # of calls in its own code
        for line, code, settings in cells(page):
            program = compile("\n" * line + code, str(page), "exec")
            expected = Exception if "raises-exception" in settings else ()
            hidden = pytest.warns(UserWarning) if "remove-stderr" in settings else contextlib.nullcontext()
            try:
                with hidden:
                    exec(program, names)
            except expected:
                continue
            finally:
                plt.close("all")
            assert not expected, f"{name_of(page)}, line {line + 1}: no error, though the cell announces one"

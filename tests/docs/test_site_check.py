"""docs/check_site.py finds each kind of mistake in a built site, and nothing in a sound one."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.cases.docs_program import docs_program

DOCS = Path(__file__).parents[2] / "docs"
SOUND = {
    "index.html": """<html><head><title>start</title><link rel="stylesheet" href="_static/a.css?digest=1"></head>
        <body id="top"><a href="sub/page.html#there">page</a><a href="#top">top</a><a href="sub/">folder</a>
        <a href="https://pyro.ai/examples#x">Pyro</a><a href="mailto:a@b.org">mail</a>
        <img src="_static/a.svg" alt="A curve that falls">
        <img src="data:image/png;base64,AA" alt="A point"></body></html>""",
    "sub/page.html": """<title>page</title><h2 id="there">There</h2><a href="../index.html">back</a>""",
    "sub/index.html": "<title>folder</title>",
    "_static/a.css": "p { background: url(a.svg); } q { background: url(data:image/png;base64,AA) }",
    "_static/a.svg": "<svg/>",
    "_static/template.html": "<img src='{{ no page }}'>",
}


@pytest.fixture(scope="module")
def check() -> ModuleType:
    """docs/check_site.py, which is a program and belongs to no package."""
    return docs_program("check_site")


def built(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_sound_site_has_no_problems(check, tmp_path, capsys) -> None:
    site = built(tmp_path, SOUND)
    assert check.problems(site) == []
    assert check.external(site) == {"https://pyro.ai/examples#x": ["index.html"]}
    assert check.main([str(site), "--external"]) == 0
    assert "3 pages, 1 links to other sites, 0 problems" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="gone.html">x</a>', "link gone.html: no such file"),
        ('<a href="sub/page.html#nowhere">x</a>', "no such place on that page"),
        ('<a href="#nowhere">x</a>', "no such place on that page"),
        ('<a href="">x</a>', "a link without a target"),
        ('<a href="https://no address">x</a>', "is no address of a site"),
        ('<a href="htp://pyro.ai">x</a>', "is no address of a site"),
        ('<img src="_static/a.svg">', "its text is None"),
        ('<img src="_static/a.svg" alt=" ">', "its text is ' '"),
        ('<img src="_static/a.svg" alt="../_images/0a1b.png">', "wanted what it shows"),
        ('<img src="gone.png" alt="A curve">', "loads gone.png, which is not there"),
        ('<img src="https://x.org/a.png" alt="A curve">', "from another server"),
        ('<script src="//x.org/a.js"></script>', "from another server"),
        ('<link rel="stylesheet" href="https://x.org/a.css">', "from another server"),
        ('<style>@import url("https://x.org/font.css");</style>', "from another server"),
        ('<p style="background: url(https://x.org/a.png)">', "from another server"),
        ('<iframe src="https://x.org"></iframe>', "from another server"),
    ],
)
def test_a_mistake_on_a_page_is_found(check, tmp_path, body: str, problem: str) -> None:
    site = built(tmp_path, SOUND | {"bad.html": f"<title>bad</title>{body}"})
    (found,) = check.problems(site)
    assert found.startswith("bad.html: ") and problem in found
    assert check.main([str(site)]) == 1


def test_a_page_without_a_title_a_style_with_a_strange_font_and_no_site_are_found(check, tmp_path) -> None:
    site = built(tmp_path / "a", SOUND | {"bad.html": "<p>text</p>"})
    assert check.problems(site) == ["bad.html: no title"]
    site = built(tmp_path / "b", SOUND | {"_static/b.css": "@font-face { src: url('https://x.org/f.woff2') }"})
    assert check.problems(site) == ["_static/b.css: loads https://x.org/f.woff2 from another server"]
    assert check.problems(tmp_path / "nothing") == [f"{tmp_path / 'nothing'}: no page"]


def test_a_picture_of_very_many_points_is_found(check, tmp_path) -> None:
    site = built(tmp_path, SOUND | {"_static/a.svg": "<svg>" + "<path/>" * 200_000 + "</svg>"})
    assert check.problems(site) == [
        "index.html: picture _static/a.svg has 1.4 MB; draw what has many points with rasterized=True"
    ]


def test_links_to_files_of_the_repository_are_links_to_pages() -> None:
    pytest.importorskip("sphinx")
    sys.path.insert(0, str(DOCS))
    try:
        from links import PAGES, to_pages
    finally:
        sys.path.remove(str(DOCS))
    assert to_pages("notebooks/trust", "see [x](../docs/how-to/a.md#b)") == "see [x](../how-to/a.md#b)"
    assert to_pages("house", "[c](../CONTRIBUTING.md) [x](a.md)") == "[c](contributing.md) [x](a.md)"
    assert to_pages("how-to/vae", "[c](../../CHANGELOG.md)") == "[c](../changelog.md)"
    for file, page in PAGES.items():
        assert (DOCS.parent / file).is_file() and (DOCS / page).is_file()

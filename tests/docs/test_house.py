"""docs/house.md describes the tree as it is: its picture shows the imports, and no room or file is missing."""

import re
from pathlib import Path

import pytest

from tests.cases.docs_program import docs_program

ROOT = Path(__file__).parents[2]
INFERENCE = ROOT / "inference"
REMEDY = "run python docs/house.py"


@pytest.fixture(scope="module")
def house():
    """docs/house.py, which is a program and belongs to no package."""
    return docs_program("house")


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs/house.md").read_text(encoding="utf-8")


def test_the_picture_shows_the_imports_as_they_are(house) -> None:
    assert house.PICTURE.read_text(encoding="utf-8") == house.picture(), REMEDY


def test_every_arrow_of_the_picture_points_up(house) -> None:
    names = house.rooms()
    for name in names:
        for other in house.imported(name):
            assert names.index(other) < names.index(name), f"inference/{name}/ imports from {other}/, a later room"


def test_the_page_names_every_room_and_every_file(page) -> None:
    sections = dict(re.findall(r"^### \d+\. `(\w+)`\n(.*?)(?=^###|^<!-- end)", page, flags=re.MULTILINE | re.DOTALL))
    rooms = {path.parent.name for path in INFERENCE.glob("*/__init__.py")}
    assert sections.keys() == rooms, REMEDY
    for room, text in sections.items():
        files = {path.name for path in INFERENCE.glob(f"{room}/*") if path.is_file() and path.name != "__init__.py"}
        assert set(re.findall(r"^- `([\w.]+)`: \S", text, flags=re.MULTILINE)) == files, f"{room}: {REMEDY}"


def test_every_path_that_the_page_names_exists(page) -> None:
    paths = re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.\w+)?)`", page)
    assert len(paths) > 40
    missing = [p for p in paths if not (ROOT / p).exists() and not (INFERENCE / p).exists()]
    assert not missing, missing

"""Pictures of the page: small vector files whose text can be read on a phone, in the light and in the dark."""

import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from credo import plots
from credo.report import vector

SVG = "{http://www.w3.org/2000/svg}"
PHONE = (
    356  # pixels of CSS that a picture has on a phone of 390: 2 of 16 are the margins of the page, 1 of 1 its border
)


def line(path: Path, points: int = 100, **of: str) -> ElementTree.Element:
    with vector.drawing():
        figure = Figure((vector.WIDTH, vector.HEIGHT), layout="constrained")
        ax = figure.subplots()
        ax.plot(np.random.default_rng(0).normal(size=points), color=plots.FIT)
        ax.set(xlabel="step & <more>")
        vector.save(figure, path, **of)
    return ElementTree.parse(path).getroot()


def test_text_is_text_and_the_file_says_what_it_shows(tmp_path):
    root = line(tmp_path / "a.svg", headline="It <fell>", sentence="A & b.")
    assert "step & <more>" in [text.text for text in root.iter(f"{SVG}text")]
    assert root.find(f"{SVG}title").text == "It <fell>"
    assert "A & b." in (tmp_path / "a.svg").read_text().replace("&amp;", "&")
    line(tmp_path / "b.svg", headline="It <fell>", sentence="A & b.")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert vector.size(tmp_path / "a.svg") == pytest.approx((72 * vector.WIDTH, 72 * vector.HEIGHT))
    assert vector.size(tmp_path / "none.svg") is None
    (tmp_path / "c.svg").write_text("no picture")
    assert vector.size(tmp_path / "c.svg") is None


def test_crowds_of_points_are_pixels_and_few_are_not(tmp_path):
    few, many = (line(tmp_path / f"{n}.svg", n) for n in (100, 20_000))
    assert few.find(f".//{SVG}image") is None and many.find(f".//{SVG}image") is not None
    assert (tmp_path / "20000.svg").stat().st_size < 100_000
    assert [text.text for text in many.iter(f"{SVG}text")]  # the axes stay


def test_text_can_be_read_on_a_phone(tmp_path):
    line(tmp_path / "a.svg")
    sizes = [float(found) for found in re.findall(r"font-size: ([\d.]+)px", (tmp_path / "a.svg").read_text())]
    width, _ = vector.size(tmp_path / "a.svg")
    assert sizes and min(sizes) * PHONE / width >= 11


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.1)."""
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return float(np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("colour", [*vector.DARK, *plots.POINTS, plots.FIT, plots.EXACT, plots.PRIOR])
def test_colours_can_be_seen_in_the_dark(colour):
    """A contrast of 3 with the ground, which WCAG asks of graphics; frames of images may be quieter."""
    from matplotlib.colors import to_hex

    colour, ground = to_hex(colour), vector.DARK["#ffffff"]
    if colour in ("#ffffff", "#e0e0e0"):
        return
    low, high = sorted(map(luminance, (vector.DARK.get(colour, colour), ground)))
    assert (high + 0.05) / (low + 0.05) >= 3


def test_black_and_white_are_swapped_in_the_dark_and_nowhere_else(tmp_path):
    line(tmp_path / "a.svg")
    before, _, dark = (tmp_path / "a.svg").read_text().partition("@media (prefers-color-scheme: dark) {")
    style = dark.partition("</style>")[0]
    for (light, other), kind in itertools.product(vector.DARK.items(), ("fill", "stroke")):
        assert f'[style*="{kind}: {light}"] {{ {kind}: {other} !important }}' in style
    assert vector.DARK["#ffffff"] not in before
    assert f"fill: {vector.DARK['#000000']}" in style.rpartition("text:not(")[2]  # black, which matplotlib leaves out

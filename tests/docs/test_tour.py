"""The code of docs/tour.md runs as it stands, from top to bottom, and does what the page says."""

import re
from pathlib import Path

import pytest
import torch

import credo

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "tour.md").read_text(encoding="utf-8")


def cells(page: str) -> list[str]:
    """The code of the executed cells of a page, without their options."""
    found = re.findall(r"```\{code-cell\} python\n(.*?)```", page, flags=re.DOTALL)
    return [re.sub(r"\A---\n.*?\n---\n", "", cell, flags=re.DOTALL) for cell in found]


@pytest.fixture(scope="module")
def scope() -> dict[str, object]:
    """The namespace in which the cells run, one after the other."""
    return {}


@pytest.fixture(scope="module")
def fits(scope) -> list[credo.Fit]:
    """The fits of these cells."""
    found: list[credo.Fit] = []
    for cell in cells(PAGE):
        exec(cell, scope)
        if isinstance(scope.get("fit"), credo.Fit) and (not found or scope["fit"] is not found[-1]):
            found.append(scope["fit"])  # type: ignore[arg-type]  # just looked at
    return found


def of_site(fits: list[credo.Fit], site: str) -> credo.Fit:
    (fit,) = [fit for fit in fits if site in fit.sample(1)]
    return fit


def test_the_regression_predicts_what_it_says(fits) -> None:
    # slope | x, y is normal with precision 1 + sum x^2 / 0.25
    x = torch.linspace(-1, 1, 50).double()
    precision = 1 + (x * x).sum() / 0.25
    slope = 2 * (x * x).sum() / 0.25 / precision
    predicted = of_site(fits, "slope").predict(2000, torch.tensor([3.0]))["y"].mean().item()
    error = (9 / precision + 0.25).sqrt() / 2000**0.5
    assert predicted == pytest.approx(3 * slope.item(), abs=5 * error.item())


def test_the_network_tells_the_moons_apart(fits) -> None:
    net, x, y = of_site(fits, "0.weight").data
    probs = of_site(fits, "0.weight").predict(100, net, x)["probs"]
    assert probs.shape == (100, 300, 2)
    assert credo.metrics.classification(probs, y).accuracy > 0.95  # a line between them gets 0.87


def test_the_saved_fit_is_the_fit(fits, scope) -> None:
    net, x, _ = of_site(fits, "0.weight").data
    assert torch.equal(scope["same"].predict(3, net, x)["probs"], of_site(fits, "0.weight").predict(3, net, x)["probs"])
    assert len(scope["five"]) == 5


def test_the_posterior_of_the_calls_is_the_one_in_the_comment(fits, scope) -> None:
    rate = scope["exact"].marginals["rate"]
    assert (rate.concentration.item(), rate.rate.item()) == pytest.approx((16, 6), rel=1e-8)


def test_the_pair_of_ones_own_finds_the_two_normals(fits) -> None:
    fit = of_site(fits, "k")
    assert fit.plan.estimator("k") == "enumerate"
    (x,) = fit.data
    means = fit.summary(200)["mean"]
    for name, rows in (("loc[0]", x < -0.5), ("loc[1]", x > -0.5)):  # the gap between them
        assert means[name] == pytest.approx(x[rows].mean().item(), abs=0.1)


def test_the_picture_of_the_ranks_shows_what_its_caption_says(fits, scope) -> None:
    assert scope["calibration"].calibrated and scope["calibration"].ranks is not None


def test_the_table_of_pairs_is_true() -> None:
    """Every row names a pair, its picture is in the gallery, and its command runs on it.

    A new pair may come without a row.
    """
    rows = re.findall(r"^\| `(\w+)` \|.*`credo \w+ (\w+)` \|$", PAGE, flags=re.MULTILINE)
    gallery = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert len(rows) >= 7
    for name, command in rows:
        assert name == command and name in credo.names()
        (picture,) = set(re.findall(rf"\(((?:pictures|pairs)/{name}\.(?:svg|png))\)", gallery))
        assert (DOCS / picture).is_file(), picture

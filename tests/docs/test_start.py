"""The code of docs/start.md runs as it stands, from top to bottom, and its sentences are true."""

import math
import re
from pathlib import Path

import pytest
import torch

import credo

PAGE = (Path(__file__).parents[2] / "docs" / "start.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def scope() -> dict[str, object]:
    """What the cells of the page leave, run one after the other; `coin_fit` is the fit with a guide."""
    found: dict[str, object] = {}
    for cell in re.findall(r"```\{code-cell\} python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(re.sub(r"\A---\n.*?\n---\n", "", cell, flags=re.DOTALL), found)
        if "guide" in found:
            found.setdefault("coin_fit", found["fit"])
    return found


def test_the_coin_has_the_beta_of_the_text(scope) -> None:
    params = scope["coin_fit"].params  # Beta(2 + 5, 2 + 2), conjugate
    assert params["heads"].item() == pytest.approx(7, abs=0.02)
    assert params["tails"].item() == pytest.approx(4, abs=0.02)
    assert "Beta(7, 4)" in PAGE and scope["coin_fit"].converged
    evidence = math.log(math.gamma(7) * math.gamma(4) / math.gamma(11) * math.gamma(4))  # B(7, 4) / B(2, 2)
    assert f"−log p(data) = {-evidence:.2f}" in PAGE


def test_the_line_is_that_of_least_squares(scope) -> None:
    """With 442 rows the priors hardly matter: a, b and sigma are those of ordinary least squares."""
    fit, table = scope["fit"], scope["table"]
    x = torch.tensor(table["bmi"].to_numpy()).double() - 25
    y = torch.tensor(table["progression"].to_numpy()).double()
    X = torch.stack([torch.ones_like(x), x], 1)
    ab = torch.linalg.lstsq(X, y[:, None]).solution[:, 0]
    residuals = y - X @ ab
    sigma = (residuals.square().sum() / (len(x) - 2)).sqrt()
    sds = sigma * torch.linalg.inv(X.T @ X).diagonal().sqrt()
    found = fit.summary(4000)
    for name, mean, sd in (("a", ab[0], sds[0]), ("b", ab[1], sds[1])):
        assert found.loc[name, "mean"] == pytest.approx(mean.item(), abs=0.15 * sd.item())
        assert found.loc[name, "sd"] == pytest.approx(sd.item(), rel=0.1)
    assert found.loc["sigma", "mean"] == pytest.approx(sigma.item(), rel=0.02)
    assert fit.method == "full rank" and fit.verdict.trust == "yes"


def test_mean_field_is_as_narrow_as_the_page_says(scope) -> None:
    """A mean-field normal has the conditional sd: sd(b) sqrt(1 - r^2), r the correlation of intercept and slope."""
    x = torch.tensor(scope["table"]["bmi"].to_numpy()).double()
    ratio = ((x - x.mean()).square().mean() / x.square().mean()).sqrt().item()
    assert ratio == pytest.approx(1 / 6, abs=0.01)  # "a sixth"
    narrow, full = scope["narrow"], scope["full"]
    sd = full.sample(4000)["b"].std().item()
    assert narrow.sample(4000)["b"].std().item() / sd == pytest.approx(ratio, rel=0.1)
    assert narrow.corrected(4000)["b"].std().item() == pytest.approx(sd, rel=0.1)
    assert narrow.verdict.trust == "corrected" and "full_rank" in narrow.verdict.remedy


def test_the_loaded_fit_is_the_fit(scope) -> None:
    assert scope["same"].summary().equals(scope["fit"].summary())


def test_no_name_of_the_page_is_missing_from_credo() -> None:
    names = set(re.findall(r"\bcredo\.(\w+)", PAGE)) - {"py"}
    assert names <= set(dir(credo)), names - set(dir(credo))

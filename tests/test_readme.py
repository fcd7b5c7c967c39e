"""The code of the README runs as it is shown, and does what its comments say."""

import re
from pathlib import Path

import pytest
import torch

import credo

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_of_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) >= 2
    scope: dict[str, object] = {}
    for block in blocks:
        exec(block, scope)
    fit = scope["fit"]
    assert isinstance(fit, credo.Fit)
    # slope | x, y is normal with precision 1 + sum x^2 / 0.25
    x = torch.linspace(-1, 1, 50).double()
    precision = 1 + (x * x).sum() / 0.25
    slope = 2 * (x * x).sum() / 0.25 / precision
    predicted = fit.predict(2000, torch.tensor([3.0]))["y"].mean().item()
    error = (9 / precision + 0.25).sqrt() / 2000**0.5
    assert predicted == pytest.approx(3 * slope.item(), abs=5 * error.item())


def test_every_pair_has_its_row() -> None:
    for name in credo.names():
        assert f"| `{name}` |" in README, f"README: the table of pairs lacks a row for {name}"

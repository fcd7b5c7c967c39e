"""The code of the README runs as it is shown, and does what its comments say; its tables are true."""

import math
import re
from pathlib import Path

import pytest
import torch

from credo.inference.estimators.estimator import ANALYTIC_KL, STICKING
from credo.inference.pair.summed_out import SUMMED_OUT
from credo.inference.planning.legal import ESTIMATORS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names() -> dict[str, object]:
    """What the README's blocks of Python leave, run one after the other."""
    found: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        exec(block, found)
    return found


def test_the_ten_lines_find_line_and_faulty_readings(names) -> None:
    """Beside the posterior on a grid of a and b, where each row is a mixture of a good and a faulty reading."""
    x, y, fit = names["x"].double(), names["y"].double(), names["fit"]
    a, b = torch.linspace(0.5, 1.3, 81).double(), torch.linspace(1.8, 2.3, 81).double()
    normal = torch.distributions.Normal
    mean = a[:, None, None] + b[:, None] * x
    good = normal(mean, 0.5).log_prob(y) + math.log(0.9)
    faulty = normal(mean, 9.5).log_prob(y) + math.log(0.1)
    log_p = torch.logaddexp(good, faulty).sum(-1) + normal(0, 5).log_prob(a)[:, None] + normal(0, 5).log_prob(b)
    weight = (log_p - log_p.logsumexp((0, 1))).exp()
    for name, grid in (("a", a[:, None]), ("b", b)):
        centre = (weight * grid).sum()
        sd = (weight * (grid - centre) ** 2).sum().sqrt().item()
        found = fit.summary(4000).loc[name]
        assert found["mean"] == pytest.approx(centre.item(), abs=0.1 * sd)
        assert found["sd"] == pytest.approx(sd, rel=0.1)
    share = (weight[..., None] * torch.sigmoid(faulty - good)).sum((0, 1))
    assert torch.allclose(fit.sample(2000)["glitch"].double().mean(0), share, atol=0.04)
    assert share[45::3].min() > 0.99 and fit.verdict.trust == "yes"


def test_the_comments_of_the_ten_lines_are_true(names) -> None:
    fit, x, y = names["fit"], names["x"].double(), names["y"].double()
    mean, sd, truth, least_squares = map(
        float, re.search(r"b is ([\d.]+) ± ([\d.]+); the truth is (\d), least squares says ([\d.]+)", README).groups()
    )
    found = fit.summary(4000).loc["b"]
    assert found["mean"] == pytest.approx(mean, abs=0.01) and found["sd"] == pytest.approx(sd, abs=0.005)
    slope = ((x - x.mean()) * y).sum() / ((x - x.mean()) ** 2).sum()
    assert truth == 2 and least_squares == pytest.approx(slope.item(), abs=0.05)
    assert repr(fit.verdict).startswith(re.search(r"# (trust: yes \(.*?) \.\.\.", README)[1])
    assert fit.predict(4000, torch.tensor([4.0]))["y"].mean() == pytest.approx(9, abs=0.5)


def test_the_table_of_estimators_names_every_word_of_a_plan() -> None:
    table = README[README.index("| latent | word in the plan |") :].split("\n\n")[0]
    words = re.findall(r"^\| .*? \| `([^`]+)` \|", table, flags=re.MULTILINE)
    wanted = {SUMMED_OUT, ANALYTIC_KL, STICKING, *(estimator.name for estimator in ESTIMATORS)}
    assert set(words) == wanted and len(words) == len(wanted)


def rows_of(results: str, label: str) -> list[list[str]]:
    """The rows of docs/results.md that begin with the label: the first number of each further cell, as written."""
    rows = [line for line in results.splitlines() if line.startswith(f"| {label}")]
    return [re.findall(r"(?<=\| )\d[\d.]*", row[len(label) + 2 :]) for row in rows]


def test_the_figures_beside_pyro_are_those_of_the_results() -> None:
    """The README and the start page state what docs/results.md states."""
    steps = rows_of(RESULTS, "Pyro SVI, validation o")[:2] + rows_of(RESULTS, "**credo, `svi.run`**")
    wanted = [row[column].removesuffix(".0") for row in steps for column in (0, 2, 3)]  # coin, BNN, VAE
    (coin,) = [line.split(" | ") for line in RESULTS.splitlines() if line.startswith("| 350,757 |")]
    (mistakes,) = [line.strip("| ").split(" | ") for line in RESULTS.splitlines() if line.startswith("| all |")]
    wanted += [coin[4], coin[5].strip(" |"), *mistakes[5].split(" of ")]
    assert len(wanted) == 13
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").replace(",", "")
    for text in (README, page):
        missing = [number for number in wanted if not re.search(rf"(?<![\d.]){re.escape(number)}(?![\d])", text)]
        assert not missing
        assert f"{mistakes[4]} of {mistakes[1]}" in text


def test_the_start_page_has_the_same_ten_lines_and_picture() -> None:
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    program = re.search(r"```python\n(.*?)fit\.summary", README, flags=re.DOTALL)[1]
    assert program in page
    for picture, text in (("docs/pictures/ten_lines.svg", README), ("pictures/ten_lines.svg", page)):
        assert picture in text
    assert (ROOT / "docs" / "pictures" / "ten_lines.svg").is_file()


def test_what_the_readme_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).is_file(), target

"""The pictures draw what the fit and the exact posterior say: checked on the curves, not on pixels."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.figure import Figure

import credo
from credo.models import coin_toss

FLIPS = torch.tensor([1.0, 1.0, 0.0, 1.0])


def axes():
    return Figure().subplots()


@pytest.fixture(scope="module")
def coin() -> credo.Fit:
    pair = credo.load("coin_toss")
    return credo.fit(pair.model, pair.guide, FLIPS, steps=0)  # q is the prior


@pytest.fixture(scope="module")
def regression() -> credo.Fit:
    pair = credo.load("linear_regression")
    x = torch.linspace(-1, 1, 40)
    return credo.fit(pair.model, pair.guide, x[:, None], 2 * x, steps=60)


def area(line) -> float:
    x, y = (torch.as_tensor(v, dtype=torch.float64) for v in line.get_data())
    return torch.trapezoid(y, x).item()


def test_belief_draws_the_densities_and_the_points(coin):
    exact = coin_toss.posterior(FLIPS)
    ax = credo.plots.belief(coin, "p", exact=exact, points={"MLE": 0.75}, ax=axes())
    lines = {line.get_label(): line for line in ax.lines}
    assert set(lines) == {"prior", "fit", "exact", "MLE 0.75"}
    for name in ("prior", "fit", "exact"):
        assert area(lines[name]) == pytest.approx(1, abs=0.01)
    x, y = (torch.as_tensor(v) for v in lines["exact"].get_data())
    inside = (x > 0) & (x < 1)
    density = dist.Beta(torch.tensor(5.0).double(), 3.0).log_prob(x[inside].double()).exp()
    assert torch.allclose(y[inside].double(), density, rtol=1e-6)
    assert ax.get_xlabel() == "p"


def test_belief_smooths_draws_where_no_density_is_known(regression):
    ax = credo.plots.belief(regression, "b", ax=axes())
    assert area(next(line for line in ax.lines if line.get_label() == "fit")) == pytest.approx(1, abs=0.02)
    assert credo.plots.belief(regression, "theta", (0,), ax=axes()).get_xlabel() == "theta[0]"
    with pytest.raises(ValueError, match="'c' is no latent"):
        credo.plots.belief(regression, "c", ax=axes())


def test_the_loss_is_drawn_whole(regression):
    ax = credo.plots.losses(regression, axes())
    assert tuple(ax.lines[0].get_ydata()) == regression.losses


def test_intervals_are_two_sds_wide(regression):
    table = credo.compare(regression)
    ax = credo.plots.intervals(table, axes())
    assert [t.get_text() for t in ax.get_yticklabels()] == list(table.index)
    fitted = ax.containers[1]
    low, high = fitted[2][0].get_segments()[0][:, 0]
    assert (high - low) / 4 == pytest.approx(table["sd"].iloc[0])


def test_the_band_is_the_predictive(regression):
    ax = credo.plots.predictive(regression, ax=axes())
    assert ax.get_xlabel() == "x" and "inside" in ax.get_legend().get_texts()[2].get_text()
    assert list(ax.lines[1].get_ydata()) == regression.data[1].tolist()


def test_a_model_of_labels_has_no_band(coin):
    with pytest.raises(ValueError, match="predictive"):
        credo.plots.predictive(coin, ax=axes())


def test_two_observed_sites_have_no_band():
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        for name in ("a", "b"):
            with pyro.plate(f"N{name}", len(x)):
                pyro.sample(name, dist.Normal(z, 1.0), obs=x)

    with pytest.raises(ValueError, match="'a', 'b'"):
        credo.plots.predictive(credo.fit(model, None, FLIPS, steps=1), ax=axes())


def test_the_lesson_draws_the_three_answers():
    table = coin_toss.lesson(FLIPS)
    ax = credo.plots.lesson(table, axes())
    assert [line.get_label() for line in ax.lines] == ["MLE", "MAP", "full Bayes"]
    assert list(ax.lines[2].get_ydata()) == list(table["bayes"])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "1", "3", "4"]

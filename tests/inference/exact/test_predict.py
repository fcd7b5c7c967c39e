"""Predictions of the exact posterior: compared with the predictive by hand."""

import pyro
import pyro.distributions as dist
import torch

import credo
from tests.cases.posterior import ACCEPTED

N = 20_000


def test_predictions_are_those_of_the_regression():
    pair = credo.load("linear_regression")
    X, y = torch.randn(30, 3), torch.randn(30)
    found, new = credo.exact(pair.model, X, y), torch.randn(5, 3)
    drawn, by_hand = found.predict(20_000, new)["y"], pair.posterior(X, y).predictive(new)
    assert drawn.shape == (20_000, 5)
    assert ((drawn.mean(0) - by_hand.mean).abs() < 0.03).all()
    assert ((drawn.std(0) / by_hand.variance.sqrt() - 1).abs() < 0.03).all()
    assert found.predict(3)["y"].shape == (3, 30)


def test_predictions_for_new_rows_are_those_of_bishop_eq_3_58():
    """y* ~ N(x*.m + m_b, noise^2 + a*' V a*)."""
    case = ACCEPTED["regression"]
    exact = credo.exact(case.model, *case.data)
    new = torch.tensor([[1.0, 0.0, -2.0, 0.5], [0.0, 0.0, 0.0, 0.0], [3.0, 1.0, 1.0, -1.0]], dtype=torch.float64)
    draws = exact.predict(N, new, seed=2)
    assert set(draws) == {"y"} and draws["y"].shape == (N, 3)
    w, b = case.marginals["w"], case.marginals["b"]
    cov = torch.zeros(5, 5, dtype=torch.float64)
    cov[:4, :4], cov[4, 4] = w.covariance_matrix, b.variance
    cov[:4, 4:], cov[4:, :4] = case.covariances["w", "b"], case.covariances["w", "b"].T
    A = torch.cat([new, torch.ones(3, 1).double()], 1)
    mean, sd = A @ torch.cat([w.mean, b.mean[None]]), (0.36 + (A @ cov * A).sum(1)).sqrt()
    got, spread = draws["y"].mean(0), draws["y"].std(0)
    assert ((got - mean).abs() <= 5 * sd / N**0.5).all() and ((spread / sd - 1).abs() <= 0.04).all()


def test_predictions_without_new_data_are_for_the_rows_of_the_data():
    """A flip drawn anew is heads with probability a / (a + b), and two of them hang together through p."""
    case = ACCEPTED["coin"]
    p = case.marginals["p"]
    flips = credo.exact(case.model, *case.data).predict(N, seed=3)["flip"].double()
    assert flips.shape == (N, len(case.data[0]))
    assert ((flips.mean(0) - p.mean).abs() <= 5 * 0.5 / N**0.5).all()
    between = ((flips[:, 0] - p.mean) * (flips[:, 1] - p.mean)).mean()
    assert abs(between - p.variance) <= 5 * 0.25 / N**0.5


def test_predictions_after_an_update_are_of_all_data():
    case = ACCEPTED["coin"]
    (flips,) = case.data
    exact = credo.exact(case.model, flips[:2]).update(flips[2:])
    drawn = exact.predict(N, flips[:4], seed=3)["flip"].double()
    assert drawn.shape == (N, 4) and ((drawn.mean(0) - case.marginals["p"].mean).abs() <= 5 * 0.5 / N**0.5).all()


def test_a_deterministic_site_keeps_its_shape_in_a_plate():
    def model(x, y):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            line = pyro.deterministic("line", w * x)
            pyro.sample("y", dist.Normal(line, 0.01), obs=y)

    x = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    drawn = credo.exact(model, x, 2 * x).predict(50)
    assert drawn["line"].shape == drawn["y"].shape == (50, 3)
    assert (drawn["line"] - drawn["y"]).abs().max() < 0.1


def test_draws_of_the_posterior_hold_the_deterministic_sites():
    def model(x, y):
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        pyro.deterministic("double", 2 * b)
        with pyro.plate("N", len(y)):
            pyro.deterministic("mean", b * x)
            pyro.sample("y", dist.Normal(b * x, 1.0), obs=y)

    x = torch.tensor([1.0, 2.0, 3.0])
    exact = credo.exact(model, x, x + 1)
    drawn = exact.sample(1000, seed=1)
    assert set(drawn) == {"b", "double", "mean"} and drawn["mean"].shape == (1000, 3)
    assert torch.equal(drawn["double"], 2 * drawn["b"])
    assert torch.allclose(drawn["mean"], drawn["b"][:, None] * x.double())
    assert torch.equal(drawn["b"], exact.sample(1000, seed=1)["b"])
    assert list(exact.summary().index) == ["b"]

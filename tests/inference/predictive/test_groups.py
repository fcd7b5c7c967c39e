"""Draws, predictions and data by the groups of ArviZ, as tensors."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import credo
from credo.inference.predictive import groups as module
from credo.inference.predictive.groups import data_groups, posterior_groups, prior_groups, with_rows
from credo.inference.predictive.pointwise import guide_points
from credo.inference.runtime.state import reading

X, Y = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.linspace(-1.0, 1.0, 6)


def regression(x, y, scale=0.1, words="none", net=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    mean = pyro.deterministic("mean", x @ w)
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(mean, scale), obs=y)


def guide(x, y, scale=0.1, words="none", net=None):
    pyro.sample("w", dist.Normal(pyro.param("m", torch.zeros(2)), 3.0).to_event(1))


@pytest.fixture(scope="module")
def fit() -> credo.Fit:
    return credo.fit(regression, guide, X, Y, 0.1, "text", nn.Linear(2, 1), steps=0, progress=False)


def of(fit, n=40, chains=1):
    with reading(fit.state, 0), torch.no_grad():
        points = guide_points(fit, n)._replace(chains=chains)
    return posterior_groups(fit, points, 0, predictive=True)


def test_predictions_belong_to_the_draws(fit):
    found = of(fit)
    assert found["posterior"]["w"].shape == (1, 40, 2) and found["posterior_predictive"]["y"].shape == (1, 40, 6)
    noise = found["posterior_predictive"]["y"] - found["posterior"]["mean"]
    assert noise.abs().max() < 0.5 < found["posterior"]["mean"].std(1).max()
    by_hand = dist.Normal(found["posterior"]["mean"], 0.1).log_prob(Y)
    torch.testing.assert_close(found["log_likelihood"]["y"], by_hand, rtol=1e-4, atol=1e-3)
    assert found["sample_stats"].keys() == {"lp", "log_q"}


def test_predictions_that_fill_the_memory_have_the_first_draws_of_each_chain(fit, monkeypatch):
    whole = of(fit, chains=2)
    monkeypatch.setattr(module, "MOST", 6 * 10)
    monkeypatch.setattr(module, "FEWEST", 5)
    few = of(fit, chains=2)
    assert few["posterior"]["w"].shape == (2, 20, 2) and few["sample_stats"]["lp"].shape == (2, 20)
    assert few["posterior_predictive"]["y"].shape == few["log_likelihood"]["y"].shape == (2, 5, 6)
    torch.testing.assert_close(few["log_likelihood"]["y"], whole["log_likelihood"]["y"][:, :5])
    noise = few["posterior_predictive"]["y"] - few["posterior"]["mean"][:, :5]
    assert noise.abs().max() < 0.5


def test_the_prior_is_that_of_the_model(fit):
    found = prior_groups(fit, 2000, 0)
    assert found["prior"].keys() == {"w", "mean"} and found["prior_predictive"].keys() == {"y"}
    assert found["prior"]["w"].std().item() == pytest.approx(1.0, abs=0.05)


def test_the_data_are_observations_and_other_numbers(fit):
    found, left_out = data_groups(fit, 0)
    assert torch.equal(found["observed_data"]["y"], Y)
    assert found["constant_data"].keys() == {"x", "scale"} and left_out == ["words", "net"]
    assert with_rows(fit) == ({"x", "y"}, 6)


def test_a_prior_that_cannot_be_drawn_raises():
    def flat(y):
        z = pyro.sample("z", dist.ImproperUniform(dist.constraints.real, (), ()))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    with pytest.raises(NotImplementedError):
        prior_groups(credo.fit(flat, None, torch.tensor(1.0), progress=False), 3, 0)

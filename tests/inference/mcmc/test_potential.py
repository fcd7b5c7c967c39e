"""The density that chains walk on: as recorded for several chains at a time, and as written."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.gaussian.density import density
from credo.inference.mcmc import reference as module
from credo.inference.mcmc.potential import agrees, recorded

FEWER = {"draws": 20, "warmup": 20, "progress": False}  # never enough to be believed


def test_a_model_that_looks_at_its_values_is_run_as_it_is_written():
    """|z| by a branch: it cannot be recorded, and comes out the same."""

    def branch(y):
        z = pyro.sample("z", dist.Normal(1.0, 1.0))
        pyro.sample("y", dist.Normal(z if z.item() > 0 else -z, 1.0), obs=y)

    def plain(y):
        z = pyro.sample("z", dist.Normal(1.0, 1.0))
        pyro.sample("y", dist.Normal(z.abs(), 1.0), obs=y)

    found = []
    for model in (branch, plain):
        with pytest.raises(credo.UnreliableReference) as caught:
            credo.reference(model, torch.tensor(0.5), **FEWER)
        found.append(caught.value.reference.draws["z"])
    torch.testing.assert_close(found[0][:, :5], found[1][:, :5])


def test_a_recording_that_is_another_model_is_not_used(monkeypatch):
    """It agrees where the chains start, and keeps them from most of the posterior."""

    def far(y):
        z = pyro.sample("z", dist.Normal(0.0, 10.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def walled(far, chains):
        def elsewhere(us):
            values, gradients = far.at_each(us)
            beyond = us > us_at_start.max()
            return values - 100 * (us - us_at_start.max()).clamp(min=0).sum(-1), torch.where(beyond, -100.0, gradients)

        return elsewhere

    us_at_start = torch.empty(0)
    real = module.starts

    def starts(*args):
        nonlocal us_at_start
        found = real(*args)
        us_at_start = found.us - 1.0
        return found._replace(us=us_at_start)

    monkeypatch.setattr(module, "starts", starts)
    monkeypatch.setattr(module, "recorded", walled)
    with pytest.raises(credo.UnreliableReference) as caught:
        credo.reference(far, torch.tensor(5.0), draws=60, warmup=60, progress=False)
    drawn = caught.value.reference.draws["z"]
    assert (drawn > us_at_start.max() + 0.5).any()
    assert drawn.mean().item() == pytest.approx(5.0, abs=0.5)


def coin(flips):
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("N", len(flips)):
        pyro.sample("flips", dist.Bernoulli(p), obs=flips)


FLIPS = torch.tensor([1.0, 1.0, 0.0, 1.0])


def by_hand(us):
    """log Beta(p; 2, 2) + log p(flips | p) + log dp/du, p = 1 / (1 + exp(-u)); its slope is 5 - 8 p."""
    p = us.sigmoid()
    values = math.log(6.0) + 4 * p.log() + 2 * (1 - p).log() + (p * (1 - p)).log()
    return values.sum(-1), 5 - 8 * p


@pytest.mark.parametrize("vectorised", [True, False], ids=["together", "one by one"])
def test_the_density_is_that_by_hand_as_written_and_as_recorded(vectorised, double):
    of_coin = density(coin, (FLIPS.double(),), None)._replace(vectorised=vectorised)
    with pyro.validation_enabled(False):  # which reads the values of the latents
        scores = recorded(of_coin, 5)
    us = torch.linspace(-3, 3, 5)[:, None]
    for function in (of_coin.at_each, scores):
        for found, wanted in zip(function(us), by_hand(us), strict=True):
            torch.testing.assert_close(found, wanted)


def test_a_function_that_differs_anywhere_does_not_agree(double):
    of_coin, points = density(coin, (FLIPS.double(),), None), torch.linspace(-3, 3, 5)[:, None]
    for chains in (1, 2, 4, 8):
        assert agrees(of_coin, by_hand, points, chains)

    def elsewhere(us):
        values, gradients = by_hand(us)
        return values + 1e-3 * (us > 2.5).sum(-1), gradients

    def another_slope(us):
        values, gradients = by_hand(us)
        return values, gradients * (1 + 1e-3)

    assert not agrees(of_coin, elsewhere, points, 2) and agrees(of_coin, elsewhere, points[:-1], 2)
    assert not agrees(of_coin, another_slope, points, 2)


def test_a_point_without_a_factor_leaves_the_others_their_density(double):
    """The graph gives NaN for all points at a time; the model is then run at each."""

    def factored(y):
        r = pyro.sample("r", dist.Normal(0.0, 1.0))
        S = torch.eye(2) + (1 - torch.eye(2)) * r / 3
        pyro.sample("y", dist.MultivariateNormal(torch.zeros(2), S, validate_args=False), obs=y)

    y = torch.tensor([0.3, -0.1])
    of_model = density(factored, (y,), None)._replace(vectorised=True, chunk=100)
    with pyro.validation_enabled(False):
        scores = recorded(of_model, 2)
        values, gradients = scores(torch.tensor([[1.5], [4.0]]))  # no correlation is 4 / 3
    S = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    wanted = dist.Normal(0.0, 1.0).log_prob(torch.tensor(1.5)) + dist.MultivariateNormal(torch.zeros(2), S).log_prob(y)
    torch.testing.assert_close(values[0], wanted)
    assert values[1].isnan() and gradients[0].isfinite().all()

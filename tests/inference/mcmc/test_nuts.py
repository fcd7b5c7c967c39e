"""The sampler's starting points, and the density that it runs on: as recorded, and as written."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.gaussian.density import density
from credo.inference.mcmc import reference as module
from credo.inference.mcmc.nuts import agrees, captured_potential, potential_of, starting_points

FEWER = {"draws": 20, "warmup": 20, "progress": False}  # never enough to be believed


def test_two_modes_are_refused():
    """Seen by any seed: each second chain starts at minus the one before."""

    def square(y):
        z = pyro.sample("z", dist.Normal(0.0, 3.0))
        pyro.sample("y", dist.Normal(z * z, 0.3), obs=y)

    for seed in range(2):
        with pytest.raises(credo.UnreliableReference, match="R-hat of z is"):
            credo.reference(square, torch.tensor(4.0), draws=50, warmup=50, seed=seed, progress=False)


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
    """It agrees where the chains start, and keeps them from where the posterior is."""

    def far(y):
        z = pyro.sample("z", dist.Normal(0.0, 10.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def captured(far):
        def elsewhere(u):
            value, gradient = potential_of(far)(u.clamp(max=2.5))
            return value + 100 * (u - 2.5).clamp(min=0).sum(), torch.where(u > 2.5, 100.0, gradient)

        return elsewhere

    monkeypatch.setattr(module, "captured_potential", captured)
    with pytest.raises(credo.UnreliableReference) as caught:
        credo.reference(far, torch.tensor(5.0), **FEWER)
    assert caught.value.reference.marginals["z"].mean.item() == pytest.approx(5.0, abs=1.0)


def coin(flips):
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("N", len(flips)):
        pyro.sample("flips", dist.Bernoulli(p), obs=flips)


FLIPS = torch.tensor([1.0, 1.0, 0.0, 1.0])


def potential(u):
    """-(log Beta(p; 2, 2) + log p(flips | p) + log dp/du), p = 1 / (1 + exp(-u)); its slope is 8 p - 5."""
    p = u.sigmoid()
    value = math.log(6.0) + 4 * p.log() + 2 * (1 - p).log() + (p * (1 - p)).log()
    return -value.sum(), 8 * p - 5


def test_the_density_is_that_by_hand_as_written_and_as_recorded(double):
    of_coin = density(coin, (FLIPS.double(),), None)
    with pyro.validation_enabled(False):  # which reads the values of the latents
        recorded = captured_potential(of_coin)
    for u in torch.linspace(-3, 3, 5)[:, None]:
        for function in (potential_of(of_coin), recorded):
            for found, wanted in zip(function(u), potential(u), strict=True):
                torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(of_coin.constrained(u)["p"], u[0].sigmoid())


def test_a_function_that_differs_anywhere_does_not_agree(double):
    of_coin, points = density(coin, (FLIPS.double(),), None), torch.linspace(-3, 3, 5)[:, None]
    assert agrees(of_coin, potential, points)

    def elsewhere(u):
        value, gradient = potential(u)
        return value + 1e-3 * (u > 2.5).sum(), gradient

    def another_slope(u):
        value, gradient = potential(u)
        return value, gradient * (1 + 1e-3)

    assert not agrees(of_coin, elsewhere, points) and agrees(of_coin, elsewhere, points[:-1])
    assert not agrees(of_coin, another_slope, points)


def test_each_second_chain_starts_at_minus_the_one_before():
    points = starting_points(density(coin, (FLIPS,), None), 4)
    assert points.shape == (4, 1) and (points.abs() <= 2).all()
    assert torch.equal(points[1::2], -points[::2]) and points[0] != points[2]

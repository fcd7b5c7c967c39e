"""Measurements on a running pair: the gain against the closed form of the ELBO, and nothing moved by measuring."""

import math
import random

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import constraints

import credo
from credo.inference.convergence.gain import Elbo, elbo_gain
from credo.inference.objective.gradients import gradients
from credo.inference.pair.pair import Pair
from credo.inference.planning.race import Contest, race
from credo.inference.runtime.parameters import unconstrained
from credo.inference.runtime.state import entered

Y = torch.tensor([1.0, 2.0, 0.3])


def model(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def guide(y):
    loc = pyro.param("loc", torch.tensor(0.3))
    scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)
    pyro.sample("z", dist.Normal(loc, scale))


def elbo(point):
    """Up to a constant; point: (loc, log scale)."""
    loc, log_scale = point.double()
    return (Y.sum() * loc - 2 * (loc**2 + (2 * log_scale).exp()) + log_scale).item()


@pytest.fixture
def inside():
    runner = credo.SVI(model, guide)
    plan = runner.prepare(Y)
    with entered(runner._prepared.state):
        yield Pair(model, guide, (Y,)), plan


NOW, FAR, NEAR = torch.tensor([0.3, -0.7]), torch.tensor([0.8, -0.5]), torch.tensor([0.301, -0.7])


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("other", [FAR, NEAR])
def test_the_gain_is_the_difference_of_the_elbos_and_changes_its_sign_with_them(inside, other, vectorised):
    there, back = (elbo_gain(Elbo(*inside, vectorised), *points, seed=3) for points in ((other, NOW), (NOW, other)))
    exact = elbo(other) - elbo(NOW)
    assert there.nats == pytest.approx(exact, abs=5 * there.error + there.tolerance)
    assert back.nats == pytest.approx(-there.nats)
    # Both sides see the same noise: the error of a small difference is small.
    assert there.error <= 0.01 if other is NEAR else there.error > 0.01


def test_a_point_gains_nothing_over_itself(inside):
    found = elbo_gain(Elbo(*inside, True), NOW, NOW, seed=3)
    assert (found.nats, found.error) == (0.0, 0.0)
    assert 0 < found.rounding < 1e-4


def test_a_gain_says_how_far_the_answer_moved_in_sds(inside):
    """loc from 0.3 to 0.4, where the sd of the guide is exp(-0.7); the sample sd of 32 draws is 13 % off."""
    found = elbo_gain(Elbo(*inside, True), torch.tensor([0.4, -0.7]), NOW, seed=3)
    assert found.moved == pytest.approx(0.1 / math.exp(-0.7), rel=0.4)
    assert elbo_gain(Elbo(*inside, True), NOW, NOW, seed=3).moved == 0.0
    assert elbo_gain(Elbo(*inside, True, latents=1000), FAR, NOW, seed=3).moved == 0.0  # not of networks


def test_measuring_moves_neither_parameters_nor_generators(inside):
    pair, plan = inside
    before = [p.detach().clone() for p in unconstrained().values()], torch.get_rng_state()
    elbo_gain(Elbo(pair, plan, True), FAR, NEAR, seed=3)
    assert torch.equal(torch.get_rng_state(), before[1])
    race(Contest(pair, 2, True), plan)
    assert all(torch.equal(a, b) for a, b in zip(before[0], unconstrained().values(), strict=True))
    assert all(p.requires_grad and p.grad is None for p in unconstrained().values())


def test_the_gradient_of_an_unused_parameter_is_zero(inside):
    found = gradients(lambda: 3 * pyro.param("loc"))
    assert {name: g.item() for name, g in found.items()} == {"loc": 3.0, "scale": 0.0}


def test_weights_that_lie_otherwise_in_memory_are_trained_like_any_others():
    """Convolutions in the channels-last format, say: Pyro would train a copy that the network does not see."""
    net = nn.Conv2d(2, 3, 2).to(memory_format=torch.channels_last)
    x, y = torch.randn(4, 2, 2, 2), torch.randn(4, 3)

    def model(net, x, y):
        pyro.module("net", net)
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(net(x).flatten(1) + z[:, None], 1.0).to_event(1), obs=y)

    def guide(net, x, y):
        loc = pyro.param("loc", torch.zeros(len(x)))
        with pyro.plate("N", len(x)):
            pyro.sample("z", dist.Normal(loc, 0.5))

    fit = credo.fit(model, guide, net, x, y, steps=30, progress=False)
    after = fit.trained(net).weight
    assert after.shape == net.weight.shape and not torch.equal(after, net.weight)


def test_a_program_that_draws_noise_of_its_own_is_told_from_rounding(inside):
    """The same parameters and the same seed give another ELBO: no precision would help."""
    pair, plan = inside
    own = random.Random(0)

    def shifted(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z + own.gauss(0.0, 1.0), 1.0), obs=y)

    assert elbo_gain(Elbo(pair._replace(model=shifted), plan, False), NEAR, NOW, seed=3).unsteady
    steady = elbo_gain(Elbo(pair, plan, False), NEAR, NOW, seed=3)
    assert not steady.unsteady
    wide, narrow = torch.tensor([1e6, -0.5]), torch.tensor([1e6, -0.7])
    far = elbo_gain(Elbo(pair._replace(data=(Y + 1e6,)), plan, False), wide, narrow, seed=3)
    assert far.rounding > 1 and not far.unsteady


def test_the_verdict_on_noise_asks_for_no_other_precision():
    own = random.Random(0)

    def shifted(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z + own.gauss(0.0, 1.0), 1.0), obs=y)

    with pytest.warns(UserWarning, match="outside of a sample site|when nothing does"):
        fit = credo.fit(shifted, guide, Y, progress=False)
    assert not fit.converged and "float64" not in fit.stopped and "outside of its sites" in fit.stopped

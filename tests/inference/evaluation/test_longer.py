"""A fit goes on where it ended, by a run of its own, and nothing of it changes."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import constraints

import credo
from credo.inference.evaluation.longer import LEAST, elbo_difference, longer

Y = torch.tensor([1.0, 2.0, 0.3])


def model(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def at(loc, scale):
    def guide(y):
        m = pyro.param("loc", torch.tensor(loc))
        s = pyro.param("scale", torch.tensor(scale), constraint=constraints.positive)
        pyro.sample("z", dist.Normal(m, s))

    return credo.SVI(model, guide, progress=False, compile=False).run(Y, steps=0)


def kl(fit):
    """From the posterior, N(sum y / 4, 1 / 4), nats."""
    m, s = fit.params["loc"].item(), fit.params["scale"].item()
    posterior = dist.Normal(Y.sum().item() / 4, 0.5)
    return torch.distributions.kl_divergence(dist.Normal(m, s), posterior).item()


def test_a_difference_of_two_elbos_is_that_of_their_divergences():
    one, two = at(0.0, 1.0), at(0.6, 0.6)
    found, error = elbo_difference(two, one, 3, 4000)
    assert found == pytest.approx(kl(one) - kl(two), abs=4 * error) and error < 0.05


def test_a_fit_that_ended_early_goes_on_to_the_posterior_and_stays_as_it_is(unchanged):
    fit = at(3.0, 2.0)
    params, state = {name: value.clone() for name, value in fit.params.items()}, torch.get_rng_state()
    with unchanged():
        found = longer(fit, seconds=20.0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(fit.params[name], value) for name, value in params.items())
    assert found.steps == LEAST and found.gained == pytest.approx(kl(fit) - kl(found.fit), abs=4 * found.error)
    assert kl(found.fit) < 0.01 < 1 < kl(fit)


def test_a_fit_at_the_posterior_stays_there():
    found = longer(at(Y.sum().item() / 4, 0.5), seconds=20.0)
    assert kl(found.fit) < 0.01 and abs(found.gained) < 0.02


def test_a_run_whose_steps_take_too_long_is_not_made():
    assert longer(at(0.0, 1.0), seconds=1e-3) is None


def test_a_network_among_the_data_and_its_batches_go_on():
    torch.manual_seed(0)
    net, x = nn.Linear(1, 1), torch.linspace(-1, 1, 40)[:, None]

    def line(net, x, y):
        pyro.module("net", net)
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(net(x).squeeze(-1) + b, 0.1), obs=y)

    def guide(net, x, y):
        pyro.sample("b", dist.Normal(pyro.param("m", torch.tensor(0.0)), 0.1))

    before = net.weight.item()
    fit = credo.SVI(line, guide, batch_size=10, progress=False).run(net, x, 5 * x[:, 0], steps=10)
    found = longer(fit, seconds=20.0)
    assert fit.batch_size == found.fit.batch_size == 10 and net.weight.item() == before
    assert found.gained > 100 and found.fit.trained(net).weight.item() == pytest.approx(5.0, abs=0.1)

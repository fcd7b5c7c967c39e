"""The log joint density of a model and its gradient beside those by hand, at one point and at many."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.gaussian.density import agree, density, prepared
from credo.inference.pair.pair import Summed
from credo.inference.runtime.defaults import default_dtype
from credo.inference.runtime.state import entered


@pytest.fixture(autouse=True)
def unchecked():
    """As in the state of a run: Pyro's checks read the values of latents, which `vmap` cannot batch."""
    with pyro.validation_enabled(False):
        yield


FLIPS = torch.tensor([1.0, 1.0, 0.0, 1.0])
US = torch.linspace(-3, 3, 5).double()[:, None]


def coin(flips):
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("N", len(flips)):
        pyro.sample("flips", dist.Bernoulli(p), obs=flips)


def of_coin(us):
    """log Beta(p; 2, 2) + log p(flips | p) + log dp/du, p = 1 / (1 + exp(-u)); its slope is 5 - 8 p."""
    p = us.sigmoid()
    return (math.log(6.0) + 4 * p.log() + 2 * (1 - p).log() + (p * (1 - p)).log())[:, 0], 5 - 8 * p


def mixture(x):
    """A scale, a vector on the simplex, and finite latents in a plate."""
    shares = pyro.sample("shares", dist.Dirichlet(torch.tensor([2.0, 3.0, 4.0])))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Categorical(shares))
        pyro.sample("x", dist.Normal(torch.tensor([-2.0, 0.0, 2.0])[k], scale), obs=x)


def of_mixture(u, x):
    """log p(x, shares, log scale) with the sum over k written out, and the density of shares in stick-breaking form."""
    offset = torch.tensor([2.0, 1.0]).log()  # torch's stick-breaking: v = sigmoid(u - log(K - 1 - i))
    v = (u[:2] - offset).sigmoid()
    rest = torch.stack([1 - v[0], (1 - v[0]) * (1 - v[1])])
    shares = torch.stack([v[0], v[1] * rest[0], rest[1]])
    jacobian = (v * (1 - v)).log().sum() + rest[0].log()
    prior = dist.Dirichlet(torch.tensor([2.0, 3.0, 4.0])).log_prob(shares) + dist.Normal(0.0, 1.0).log_prob(u[2])
    parts = dist.Normal(torch.tensor([-2.0, 0.0, 2.0]), u[2].exp()).log_prob(x[:, None]) + shares.log()
    return prior + jacobian + parts.logsumexp(-1).sum()


def test_a_coin_has_the_density_by_hand(double):
    found = density(coin, (FLIPS.double(),), None)
    assert found.vectorised and found.names == ("p",)
    for got, wanted in zip(found.at_each(US), of_coin(US), strict=True):
        torch.testing.assert_close(got, wanted)
    for u, value, gradient in zip(US, *of_coin(US), strict=True):
        assert agree(found.at(u), (value, gradient))
        torch.testing.assert_close(found.constrained(u)["p"], u[0].sigmoid())


def test_flips_in_single_precision_have_the_density_of_double(double):
    """The sum of log sigmoid(+-w y) by hand. torch rounds it to the precision of the flips, whatever that of w."""
    y = torch.linspace(-1.0, 1.0, 30)

    def model(y):
        w = pyro.sample("w", dist.Normal(0.0, 3.0))
        with pyro.plate("N", len(y)):
            pyro.sample("flips", dist.Bernoulli(logits=w * y), obs=(y > 0).float())

    found, w = density(model, (y,), None), torch.tensor([1.3])
    logits = w * y
    wanted = torch.where(y > 0, logits, -logits).sigmoid().log().sum() + dist.Normal(0.0, 3.0).log_prob(w).sum()
    assert found.vectorised and found.at(w)[0].item() == pytest.approx(wanted.item(), rel=1e-12)


def test_finite_latents_are_summed_out_and_a_simplex_has_its_jacobian(double):
    x = torch.tensor([0.5, 2.5, -1.0, 0.8])
    found = density(mixture, (x,), Summed(frozenset({"k"}), 1))
    assert found.vectorised and found.shapes == (torch.Size([2]), torch.Size([]))
    us = torch.randn(6, 3)
    values, gradients = found.at_each(us)
    for u, value, gradient in zip(us, values, gradients, strict=True):
        u = u.clone().requires_grad_()
        wanted = of_mixture(u, x)
        torch.testing.assert_close(value, wanted.detach())
        torch.testing.assert_close(gradient, torch.autograd.grad(wanted, u)[0])


def branching(y):
    """|z| by a branch on its value, which `vmap` does not take."""
    z = pyro.sample("z", dist.Normal(1.0, 1.0))
    pyro.sample("y", dist.Normal(z if z.item() > 0 else -z, 1.0), obs=y)


def test_a_model_that_vmap_does_not_take_runs_in_a_loop(double):
    found = density(branching, (torch.tensor(0.5),), None)
    assert not found.vectorised
    u = torch.tensor([-1.5, 0.7])
    values, gradients = found.at_each(u[:, None])
    torch.testing.assert_close(values, -math.log(2 * math.pi) - ((u - 1) ** 2 + (0.5 - u.abs()) ** 2) / 2)
    torch.testing.assert_close(gradients[:, 0], 1 - u + (0.5 - u.abs()) * u.sign())


def written(y):
    """A vector written number by number, and an observation that is missing filled with a latent."""
    z = torch.zeros(2)
    z[0] = pyro.sample("a", dist.Normal(0.0, 1.0))
    z[1] = pyro.sample("b", dist.Normal(0.0, 1.0))
    y = y.clone()
    y[0] = z[0]
    with pyro.plate("N", 2):
        pyro.sample("y", dist.Normal(z.sum(), 1.0), obs=y)


def test_vmap_takes_a_model_that_writes_into_its_own_tensors(double):
    found = density(written, (torch.tensor([math.nan, 0.5]),), None)
    assert found.vectorised and found.writes
    us = torch.tensor([[-1.5, 0.7], [0.3, 2.0], [0.0, 0.0]])
    a, b = us.T
    values, gradients = found.at_each(us)
    known = a**2 + b**2 + b**2 + (0.5 - a - b) ** 2  # y[0] - z.sum() = -b
    torch.testing.assert_close(values, -2 * math.log(2 * math.pi) - known / 2)
    torch.testing.assert_close(gradients, torch.stack([-a + 0.5 - a - b, -2 * b + 0.5 - a - b], 1))
    minus = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    torch.testing.assert_close(found.hessians(us), -minus.expand(3, 2, 2))


def factored():
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    matrix = torch.stack([torch.stack([z, z * 0]), torch.stack([z * 0, z * 0 + 1.0])])
    pyro.factor("root", torch.linalg.cholesky(matrix).diagonal().sum())


def test_a_point_without_a_factor_is_nan_and_spoils_no_other(double):
    found = density(factored, (), None)
    values, gradients = found.at_each(torch.tensor([[1.0], [-1.0], [4.0]]))
    assert values.isnan().tolist() == gradients[:, 0].isnan().tolist() == [False, True, False]
    normal = -math.log(2 * math.pi) / 2
    torch.testing.assert_close(values[[0, 2]], torch.tensor([normal - 0.5 + 2, normal - 8 + 3]))


def test_a_density_that_is_zero_everywhere_is_refused():
    def impossible():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("never", z * 0 - torch.inf)

    with pytest.raises(ValueError, match="zero or not finite at each of 100 starting points"):
        density(impossible, (), None)


def test_the_users_data_is_prepared_in_double_precision_and_nothing_leaks(unchanged):
    with unchanged():
        found, state, _ = prepared(coin, (FLIPS,), torch.device("cpu"), 3)
    assert found.first.dtype == torch.float64
    with entered(state), default_dtype(torch.float64):
        torch.testing.assert_close(found.at_each(US)[0], of_coin(US)[0])


def test_a_model_with_constants_in_single_precision_is_run_in_it():
    weights = torch.ones(2, 2)

    def single(y):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(weights @ z, 1.0).to_event(1), obs=y)

    found, *_ = prepared(single, (torch.ones(2),), torch.device("cpu"), 0)
    assert found.first.dtype == torch.float32


def test_out_of_memory_is_no_point_without_a_density():
    full = []

    def model():
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        if full:
            raise torch.OutOfMemoryError("out of memory")
        pyro.sample("y", dist.Normal(z[0], 1.0), obs=torch.tensor(2.0))

    found = density(model, (), None)
    full.append(True)
    for look in (found.at_each, found.hessians):
        with pytest.raises(torch.OutOfMemoryError):
            look(torch.zeros(1, 2))
        with pytest.raises(torch.OutOfMemoryError):
            found._replace(vectorised=False).hessians(torch.zeros(1, 2))

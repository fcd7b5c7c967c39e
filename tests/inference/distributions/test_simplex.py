"""Draws from Beta and Dirichlet that `vmap` can batch: their distribution and gradients, beside torch's own."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import ks_2samp, kstest

from credo.inference.distributions.simplex import draw_on_simplex, is_on_simplex
from credo.inference.runtime.vectorise import repeat


@pytest.fixture(autouse=True)
def in_double(double):
    """All of these in double precision."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("a", [0.005, 0.3, 1.0, 7.0])
def test_draws_of_a_beta_are_those_of_torch(a, dtype):
    fn = dist.Beta(torch.tensor(a, dtype=dtype), torch.tensor(1.3 * a, dtype=dtype))
    ours = repeat(lambda: pyro.sample("x", fn), 4000, True)
    assert ours.dtype == dtype and ours.min() > 0 and ours.max() < 1
    theirs = torch.distributions.Beta(torch.tensor(a).double(), torch.tensor(1.3 * a).double()).sample((4000,))
    places = 1e-6  # float32 has no numbers between 1 and the next below
    assert ks_2samp(*(x.double().clamp(places, 1 - places).numpy() for x in (ours, theirs))).pvalue > 1e-4


@pytest.mark.parametrize("a", [0.05, 1.0, 5.0])
def test_draws_of_a_dirichlet_are_those_of_torch(a):
    concentration = a * torch.tensor([1.0, 2.0, 0.5])
    ours = repeat(lambda: pyro.sample("x", dist.Dirichlet(concentration)), 4000, True)
    theirs = torch.distributions.Dirichlet(concentration.double()).sample((4000,))
    torch.testing.assert_close(ours.sum(-1), torch.ones(4000), atol=1e-5, rtol=0)
    for k in range(3):
        assert kstest(ours[:, k].numpy(), theirs[:, k].numpy()).pvalue > 1e-4


def test_wrappers_are_seen_through():
    fn = dist.Beta(torch.tensor(2.0), 3.0).expand([4]).to_event(1)
    assert draw_on_simplex(fn).shape == (4,) and len(draw_on_simplex(fn).unique()) == 4
    assert draw_on_simplex(dist.Dirichlet(torch.ones(3)).expand([2])).shape == (2, 3)


@pytest.mark.parametrize("a", [0.2, 2.0])
def test_the_gradient_of_the_mean_is_that_of_its_closed_form(a):
    """E x = a / (a + b): d/da = b / (a + b)^2. E x^2 too, for the shape."""
    b = 1.5
    one = torch.tensor(a).double().requires_grad_()
    x = repeat(lambda: pyro.sample("x", dist.Beta(one, torch.tensor(b).double())), 20_000, True)
    for f, exact in (
        (x, b / (a + b) ** 2),
        (
            x**2,
            (2 * a + 1) / ((a + b) * (a + b + 1)) - a * (a + 1) * (2 * a + 2 * b + 1) / ((a + b) * (a + b + 1)) ** 2,
        ),
    ):
        parts = f.split(1000)
        g = torch.stack([torch.autograd.grad(p.mean(), one, retain_graph=True)[0] for p in parts])
        assert abs(g.mean().item() - exact) < 4 * g.std().item() / len(parts) ** 0.5
        assert g.std().item() / len(parts) ** 0.5 < 0.05 * exact


def test_the_gradient_of_a_dirichlets_mean_is_that_of_its_closed_form():
    a = torch.tensor([0.6, 1.5, 2.5]).double().requires_grad_()
    x = repeat(lambda: pyro.sample("x", dist.Dirichlet(a)), 20_000, True)
    g = torch.stack([torch.autograd.grad(p[:, 0].mean(), a, retain_graph=True)[0] for p in x.split(1000)])
    total = a.detach().sum()
    exact = (total * torch.eye(3)[0] - a.detach()[0]) / total**2
    assert ((g.mean(0) - exact).abs() < 4.5 * g.std(0) / 20**0.5).all() and (
        g.std(0) / 20**0.5 < 0.1 * exact.abs()
    ).all()
    assert math.isclose(exact.sum().item(), ((total - 3 * a.detach()[0]) / total**2).item())


def test_a_distribution_on_the_simplex_is_known_through_its_wrappers():
    beta = dist.Beta(torch.tensor([2.0, 1.0]), 3.0)
    for fn in (beta, beta.to_event(1), beta.mask(torch.tensor([True, False])), dist.Dirichlet(torch.ones(3))):
        assert is_on_simplex(fn)
    for fn in (dist.Uniform(0.0, 1.0), dist.Kumaraswamy(1.0, 2.0), dist.Gamma(2.0, 1.0).expand([3])):
        assert not is_on_simplex(fn)

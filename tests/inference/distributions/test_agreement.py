"""Closed forms of KL compared with their definition: torch's own agree, wrong ones do not."""

import itertools

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import register_kl

from credo.inference.distributions.agreement import agreement, integral
from credo.inference.distributions.divergence import divergence


def laws(*shape):
    """Distributions of many kinds, with parameters of this shape."""

    def r():
        return torch.rand(shape) * 2 + 0.3

    a = torch.randn(*shape, 3, 3)
    covariance = a @ a.mT + torch.eye(3)
    return {
        "Bernoulli": dist.Bernoulli(torch.rand(shape)),
        "Beta": dist.Beta(r(), r()),
        "Beta at both ends": dist.Beta(torch.full(shape, 0.02), 0.02),
        "Categorical": dist.Categorical(torch.rand(*shape, 4)),
        "Dirichlet": dist.Dirichlet(torch.rand(*shape, 4) + 0.3),
        "Exponential": dist.Exponential(r()),
        "Gamma": dist.Gamma(2 * r(), r()),
        "Gamma at zero": dist.Gamma(torch.full(shape, 0.01), r()),
        "Gumbel": dist.Gumbel(torch.randn(shape), r()),
        "HalfNormal": dist.HalfNormal(r()),
        "Laplace": dist.Laplace(torch.randn(shape), r()),
        "LogNormal": dist.LogNormal(torch.randn(shape), r()),
        "MultivariateNormal": dist.MultivariateNormal(torch.randn(*shape, 3), covariance),
        "Normal": dist.Normal(torch.randn(shape), r()),
        "Normal, wide": dist.Normal(torch.randn(shape), 4 * r()),
        "a vector": dist.Normal(torch.randn(*shape, 3), 1.5).to_event(1),
        "Pareto": dist.Pareto(r(), 1.05 + r()),
        "Poisson": dist.Poisson(r()),
        "Uniform": dist.Uniform(0.2 * r(), 0.8 + r()),
    }


def off(q, p, numbers=2**14):
    """|claimed - found| over 6 standard errors and some slack, the largest of the rows."""
    found = agreement(q, p, numbers)
    return None if found is None else _off(*found)


def _off(claimed, found, error, numbers):
    return ((claimed - found).abs() / (6 * error + 0.01 * claimed.abs() + 1e-3 * numbers)).max().item()


@pytest.mark.parametrize("shape", [(), (3,), (100,)], ids=["a number", "three", "a hundred"])
def test_the_closed_forms_of_torch_agree_also_where_the_draws_have_no_variance(shape):
    """LogNormal, Pareto and a wide Normal under Gumbel: the variance of log q - log p is infinite or nearly so."""
    torch.manual_seed(0)
    compared = 0
    one, two = laws(*shape), laws(*shape)
    for a, b in itertools.product(one, two):
        try:
            known = divergence(one[a], two[b]).isfinite().all()
        except NotImplementedError:
            continue
        if known and (found := off(one[a], two[b])) is not None:
            compared += 1
            assert found < 1, (a, b)
    assert compared > 40


class Bell(dist.Normal):
    """A normal with a KL of its own."""


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (lambda kl, q, p: kl, True),
        (lambda kl, q, p: 2 * kl, False),
        (lambda kl, q, p: kl + 0.5, False),
        (
            lambda kl, q, p: torch.distributions.kl_divergence(
                dist.Normal(p.loc, p.scale), dist.Normal(q.loc, q.scale)
            ),
            False,
        ),
    ],
    ids=["right", "twice", "constant", "reversed"],
)
@pytest.mark.parametrize("shape", [(), (5,), (300,)], ids=["a number", "five", "three hundred"])
def test_a_wrong_closed_form_is_off_and_a_right_one_is_not(wrong, right, shape):
    @register_kl(Bell, Bell)
    def kl(q, p):
        one, two = dist.Normal(q.loc, q.scale), dist.Normal(p.loc, p.scale)
        return wrong(torch.distributions.kl_divergence(one, two), q, p)

    torch.distributions.kl._KL_MEMOIZE.clear()
    q, p = Bell(torch.full(shape, 0.3), 0.5), Bell(torch.zeros(shape), 1.0)
    assert (off(q, p) < 1) is right
    if shape:
        assert (off(q.to_event(1), p.to_event(1)) < 1) is right


def test_masks_that_differ_are_off_and_equal_ones_are_not():
    one, two = torch.tensor([True, False, True]), torch.tensor([True, True, False])
    q, p = dist.Normal(torch.full((3,), 0.3), 1.0), dist.Normal(torch.zeros(3), 1.0)
    assert off(q.mask(one), p.mask(one)) < 1
    assert off(q.mask(one), p.mask(two)) > 1 and off(q.mask(False), p.mask(one)) > 1


def test_the_integral_of_a_density_is_one_unless_it_is_improper():
    for fn in (
        dist.Gamma(torch.tensor(2.0), 3.0),
        dist.Normal(torch.zeros(3), 2.0).to_event(1),
        dist.Cauchy(torch.tensor(0.0), 1.0),
    ):
        assert (integral(fn) - 1).abs().max() < 1e-3
    assert abs(integral(dist.Normal(torch.tensor(0.0), 1.0).mask(False)) - 1) > 0.5
    assert integral(dist.Poisson(torch.tensor(2.0))) is None and integral(dist.Dirichlet(torch.ones(3))) is None

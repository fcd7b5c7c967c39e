"""Exponential families fitted to the gradients of known densities: the parameters are recovered."""

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import biject_to

from credo.inference.exact.coordinates import INTERVAL, POSITIVE
from credo.inference.exact.families import BETA, GAMMAS, NORMAL, families_on, match, mode

ROOT = dist.transforms.PowerTransform(torch.tensor(-0.5))
KNOWN = {  # the family, a density, and its natural parameters
    "gamma": (GAMMAS[1], dist.Gamma(3.0, 2.0), (3.0, 2.0)),
    "inverse gamma": (GAMMAS[-1], dist.InverseGamma(3.0, 2.0), (3.0, 2.0)),
    "sd of a gamma precision": (GAMMAS[-2], dist.TransformedDistribution(dist.Gamma(3.0, 2.0), ROOT), (3.0, 2.0)),
    "beta": (BETA, dist.Beta(0.7, 4.0), (0.7, 4.0)),
    "normal": (NORMAL, dist.Normal(1.5, 0.5), (1.5 / 0.25, 1 / 0.25)),
    "lognormal": (NORMAL, dist.LogNormal(1.5, 0.5), (1.5 / 0.25, 1 / 0.25)),
}
ZERO = torch.zeros((), dtype=torch.float64)


def slopes(q, xs):
    """The gradient of the log density in the unconstrained coordinate, at each of these points."""
    T, x = biject_to(q.support), xs.clone().requires_grad_()
    z = T(x)
    return torch.autograd.grad((q.log_prob(z) + T.log_abs_det_jacobian(x, z)).sum(), x)[0]


def fitted(family, q):
    xs = torch.linspace(-1.5, 1.5, 5, dtype=torch.float64).reshape(5, 1, 1)
    return match(family, xs, slopes(q, xs), ZERO)


@pytest.mark.parametrize("name", KNOWN)
def test_the_natural_parameters_are_recovered(name):
    family, q, (a, b) = KNOWN[name]
    fit = fitted(family, q)
    assert fit.a.item() == pytest.approx(a, rel=1e-6) and fit.b.item() == pytest.approx(b, rel=1e-6)
    assert fit.misfit < 1e-6


@pytest.mark.parametrize("name", KNOWN)
def test_the_slope_is_zero_at_the_mode(name):
    family, q, _ = KNOWN[name]
    at = mode(fitted(family, q), ZERO)
    assert slopes(q, at).abs().max() < 1e-5 < slopes(q, at + 0.1).abs().max()


@pytest.mark.parametrize("name", sorted(set(KNOWN) - {"normal"}))
def test_another_family_on_the_support_does_not_fit(name):
    family, q, _ = KNOWN[name]
    others = [other for other in families_on(INTERVAL if family is BETA else POSITIVE) if other is not family]
    assert others and all(fitted(other, q).misfit > 1e-3 for other in others)


def test_the_distribution_made_has_the_moments_of_the_known_one():
    for name in ("gamma", "inverse gamma", "beta", "normal"):
        family, q, _ = KNOWN[name]
        fit = fitted(family, q)
        made = family.make(fit.a, fit.b)
        assert made.mean.item() == pytest.approx(q.mean.item(), rel=1e-6), name
        assert made.variance.item() == pytest.approx(q.variance.item(), rel=1e-5), name

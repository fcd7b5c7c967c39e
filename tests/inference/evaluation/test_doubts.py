"""The latent along which a density does not fall is named, where the posterior is improper; proper ones are fitted."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import credo

ROWS = torch.linspace(-1.0, 1.0, 30)


def unseen(y):
    """Nothing is known of a."""
    pyro.sample("a", dist.ImproperUniform(constraints.real, (), ()))
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.StudentT(5.0, b, 1.0), obs=y)


def separated(y):
    """The likelihood of a slope that tells all classes apart rises to 1 for ever."""
    w = pyro.sample("w", dist.ImproperUniform(constraints.real, (), ()))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Bernoulli(logits=w * y), obs=(y > 0).float())


def seen(y):
    """Flat priors, and a proper posterior."""
    a = pyro.sample("a", dist.ImproperUniform(constraints.real, (), ()))
    s = pyro.sample("s", dist.ImproperUniform(constraints.positive, (), ()))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(a, s), obs=y)


def nearly_separated(y):
    w = pyro.sample("w", dist.Normal(0.0, 3.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Bernoulli(logits=w * y), obs=(y > 0).float())


@pytest.mark.parametrize(("model", "name"), [(unseen, "a"), (separated, "w")])
def test_an_improper_posterior_is_named(model, name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = credo.fit(model, None, ROWS, progress=False)
    assert fit.verdict.trust == "no" and f"the density does not fall along {name!r}" in str(fit.verdict)
    assert not fit.converged and "proper prior" in fit.verdict.remedy
    assert ["does not fall" in str(w.message) for w in caught] == [True]


@pytest.mark.parametrize("model", [seen, nearly_separated])
def test_a_proper_posterior_is_not(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = credo.fit(model, None, ROWS, progress=False)
    assert "fall" not in str(fit.verdict) and fit.verdict.trust in ("yes", "corrected")

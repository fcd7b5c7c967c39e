"""What rules out a closed form before one is sought: masks, supports, moving sites."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import credo

torch.manual_seed(0)
NOISE = torch.randn(20)


def masked_by_distribution(x):
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Bernoulli(0.3).mask(torch.arange(len(x)) < 2))
        pyro.sample("x", dist.Normal(k, 1.0), obs=x)


def masked_by_handler(x):
    with pyro.plate("N", len(x)), poutine.mask(mask=torch.arange(len(x)) < 2):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        pyro.sample("x", dist.Normal(k, 1.0), obs=x)


def masked_beside_a_mean(x):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with poutine.mask(mask=torch.tensor(False)):
        k = pyro.sample("k", dist.Categorical(torch.ones(3) / 3))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(m + k, 1.0), obs=x)


@pytest.mark.parametrize("model", [masked_by_distribution, masked_by_handler, masked_beside_a_mean])
def test_a_mask_around_a_finite_latent_is_refused(model):
    with pytest.raises(credo.NoClosedForm, match="'k': a mask"):
        credo.exact(model, NOISE[:4])


@pytest.mark.parametrize("mean", [lambda k: 0.0, lambda k: k])
def test_a_wishart_is_refused_without_a_warning(mean):
    def model(x):
        k = pyro.sample("k", dist.Bernoulli(0.5))
        W = pyro.sample("W", dist.Wishart(torch.tensor(4.0), torch.eye(2)))
        with pyro.plate("N", 10):
            loc = mean(k) * torch.ones(2)
            pyro.sample("x", dist.MultivariateNormal(loc, precision_matrix=W), obs=x.reshape(10, 2))

    with pytest.raises(credo.NoClosedForm, match="'W': Wishart has the support"):
        credo.exact(model, NOISE)

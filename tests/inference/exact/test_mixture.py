"""Mixtures over the values of finite latents: compared with Bayes' rule over a list of these values."""

import pyro
import pyro.distributions as dist
import torch

import credo


def near(one, two, relative=1e-8):
    torch.testing.assert_close(
        torch.as_tensor(one, dtype=torch.float64), torch.as_tensor(two, dtype=torch.float64), rtol=relative, atol=1e-9
    )


def modes(x):
    k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.5, 0.3])))
    mu = pyro.sample("mu", dist.Normal(torch.tensor([-3.0, 0.0, 3.0])[k], 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def test_a_mixture_over_a_finite_latent():
    x = torch.tensor([1.0, 0.5], dtype=torch.float64)
    found = credo.exact(modes, x)
    prior = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    cov = torch.eye(2, dtype=torch.float64) + 1.0
    each = [
        torch.distributions.MultivariateNormal(torch.full((2,), m, dtype=torch.float64), cov).log_prob(x)
        for m in (-3, 0, 3)
    ]
    logs = torch.stack(each) + prior.log()
    assert abs(found.log_evidence - logs.logsumexp(0).item()) < 1e-9
    weights = logs.softmax(0)
    near(found.marginals["k"].probs, weights)
    near(found.marginals["mu"].mean, (weights * (torch.tensor([-3.0, 0.0, 3.0]) + 1.5) / 3).sum())
    drawn = found.sample(20_000)
    assert abs(drawn["mu"].mean() - found.marginals["mu"].mean) < 0.02

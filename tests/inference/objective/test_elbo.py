"""The objective: its mean gradient over many draws against the exact gradient of the exact ELBO, in z-scores."""

import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import norm
from torch.distributions import Beta, kl_divergence
from torch.distributions import constraints as c

import credo
from credo.inference.objective.elbo import differentiable_loss
from credo.inference.objective.gradients import gradients
from credo.inference.pair.pair import Pair
from credo.inference.runtime.parameters import unconstrained
from credo.inference.runtime.state import entered

Y = torch.tensor([1.3, 0.2, 2.0])
FLIPS = torch.tensor([1.0, 0.0, 1.0, 1.0])
BATCHES = 60
param = partial(torch.tensor, dtype=torch.float32)


def entropy(scale):
    return torch.log(scale) + 0.5 * math.log(2 * math.pi * math.e)


def log_normal(x, mean, scale, variance=0.0):
    """E[log N(x; m, scale)] over m of this mean and variance."""
    return -0.5 * ((x - mean) ** 2 + variance) / scale**2 - torch.log(scale) - 0.5 * math.log(2 * math.pi)


# Each case: model, guide, data, starting values in unconstrained space, the exact ELBO as a function of them.


def normal_model(y):
    noise = pyro.param("noise", param(0.8), constraint=c.positive)  # a parameter of the model
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, noise), obs=y)


def normal_guide(y):
    loc = pyro.param("loc", param(0.3))
    scale = pyro.param("scale", param(0.6), constraint=c.positive)
    pyro.sample("z", dist.Normal(loc, scale))


def normal_elbo(p):
    s, one = p["scale"].exp(), torch.ones(())
    fits = log_normal(Y, p["loc"], p["noise"].exp(), s**2).sum()
    return fits + log_normal(0.0, p["loc"], one, s**2) + entropy(s)


def coin_model(flips):
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("N", len(flips)):
        pyro.sample("flips", dist.Bernoulli(p), obs=flips)


def coin_guide(flips):
    a = pyro.param("a", param(1.7), constraint=c.positive)
    b = pyro.param("b", param(2.6), constraint=c.positive)
    pyro.sample("p", dist.Beta(a, b))


def coin_elbo(p):
    a, b = p["a"].exp(), p["b"].exp()
    heads, tails = FLIPS.sum(), (1 - FLIPS).sum()
    fits = heads * torch.digamma(a) + tails * torch.digamma(b) - (heads + tails) * torch.digamma(a + b)
    two = torch.tensor(2.0).double()
    return fits - kl_divergence(Beta(a, b), Beta(two, two))


def chain_model(y):
    """A scale that is a latent itself, and a latent below it."""
    s = pyro.sample("s", dist.LogNormal(0.0, 0.5))
    z = pyro.sample("z", dist.Normal(0.0, s))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def chain_guide(y):
    m = pyro.param("m", param(-0.2))
    t = pyro.param("t", param(0.4), constraint=c.positive)
    s = pyro.sample("s", dist.LogNormal(m, t))
    pyro.sample("z", dist.Normal(pyro.param("slope", param(0.7)) * s, 0.5 * s))


def chain_elbo(p):
    m, t, slope, one = p["m"], p["t"].exp(), p["slope"], torch.ones(())
    square = (2 * m + 2 * t**2).exp()  # E[s^2], and E[s] = exp(m + t^2 / 2)
    first = (m + t**2 / 2).exp()
    fits = sum(log_normal(y, slope * first, one, slope**2 * (square - first**2) + 0.25 * square) for y in Y)
    prior_s = -0.5 * (m**2 + t**2) / 0.25 - math.log(0.5) + entropy(t) - 0.5 * math.log(2 * math.pi)
    prior_z = -0.5 * (slope**2 + 0.25) - 0.5 * math.log(2 * math.pi) + entropy(0.5 * one)
    return fits + prior_s + prior_z


def switch_model(y):
    k = pyro.sample("k", dist.Bernoulli(0.3))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(2 * k, 1.0), obs=y)


def switch_guide(y):
    pyro.sample("k", dist.Bernoulli(logits=pyro.param("logit", param(0.4))))


def switch_elbo(p):
    q, one = torch.sigmoid(p["logit"]), torch.ones(())
    total = 0.0
    for k, weight, prior in ((0.0, 1 - q, 0.7), (1.0, q, 0.3)):
        total = total + weight * (log_normal(Y, 2 * k, one).sum() + math.log(prior) - torch.log(weight))
    return total


def mixture_model(y):
    loc = pyro.sample("loc", dist.Normal(torch.tensor([-1.0, 1.0]), 2.0).to_event(1))
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.4, 0.6])))
        pyro.sample("y", dist.Normal(loc[k], 1.0), obs=y)


def mixture_guide(y):
    mean = pyro.param("mean", param([-0.5, 1.2]))
    scale = pyro.param("scale", param([0.5, 0.3]), constraint=c.positive)
    logits = pyro.param("logits", param([[0.3, -0.2], [0.0, 0.5], [-1.0, 1.0]]))
    pyro.sample("loc", dist.Normal(mean, scale).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("k", dist.Categorical(logits=logits))


def mixture_elbo(p):
    s, one, q = p["scale"].exp(), torch.ones(()), torch.softmax(p["logits"], -1)  # q: (3, 2), enumerated
    fits = log_normal(Y[:, None], p["mean"], one, s**2) + torch.tensor([0.4, 0.6]).log() - q.log()
    prior = log_normal(torch.tensor([-1.0, 1.0]), p["mean"], 2 * one, s**2) + entropy(s)
    return (q * fits).sum() + prior.sum()


def few_model(y):
    """The same as normal_model, seen two rows at a time."""
    noise = pyro.param("noise", param(0.8), constraint=c.positive)
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y), subsample_size=2) as rows:
        pyro.sample("y", dist.Normal(z, noise), obs=y[rows])


def local_model(y):
    with pyro.plate("N", len(y), subsample_size=2) as rows:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 0.5), obs=y[rows])


def local_guide(y):
    loc = pyro.param("loc", param([0.3, -0.4, 1.0]))
    scale = pyro.param("scale", param([0.6, 0.2, 0.4]), constraint=c.positive)
    with pyro.plate("N", len(y), subsample_size=2) as rows:
        pyro.sample("z", dist.Normal(loc[rows], scale[rows]))


def local_elbo(p):
    s, one = p["scale"].exp(), torch.ones(())
    each = log_normal(Y, p["loc"], 0.5 * one, s**2) + log_normal(0.0, p["loc"], one, s**2) + entropy(s)
    return each.sum()


switch = (switch_model, switch_guide, Y, switch_elbo)
normal = (normal_model, normal_guide, Y, normal_elbo)
coin = (coin_model, coin_guide, FLIPS, coin_elbo)
chain = (chain_model, chain_guide, Y, chain_elbo)
mixture = (mixture_model, mixture_guide, Y, mixture_elbo)
local = (local_model, local_guide, Y, local_elbo)
CASES = {  # overrides, term, and the case
    "normal": ({}, "log q", *normal),
    "normal, STL": ({}, "sticking the landing", *normal),
    "normal, KL": ({}, "analytic KL", *normal),
    "normal, score": ({"z": "score"}, "log q", *normal),
    "normal, two rows at a time": ({}, "log q", few_model, *normal[1:]),
    "coin": ({}, "log q", *coin),
    "coin, STL": ({}, "sticking the landing", *coin),
    "coin, KL": ({}, "analytic KL", *coin),
    "coin, score": ({"p": "score"}, "log q", *coin),
    "chain": ({}, "log q", *chain),
    "chain, STL": ({}, "sticking the landing", *chain),
    "chain, KL": ({}, "analytic KL", *chain),
    "chain, s by score": ({"s": "score"}, "log q", *chain),
    "chain, z by score": ({"z": "score"}, "log q", *chain),
    "switch": ({}, "log q", *switch),
    "switch, score": ({"k": "score"}, "log q", *switch),
    "mixture": ({}, "log q", *mixture),
    "mixture, KL": ({}, "analytic KL", *mixture),
    "mixture, k by score": ({"k": "score"}, "log q", *mixture),
    "mixture, loc by score": ({"loc": "score"}, "log q", *mixture),
    "local": ({}, "log q", *local),
    "local, STL": ({}, "sticking the landing", *local),
    "local, KL": ({}, "analytic KL", *local),
    "local, score": ({"z": "score"}, "log q", *local),
}
EXACT = {"switch"}  # summed over, nothing is drawn


def batches(overrides, term, model, guide, data):
    """(BATCHES rows of loss and flat gradient, each a mean of many draws; {parameter: its unconstrained value})."""
    runner = credo.SVI(model, guide, plan=overrides)
    plan = runner.prepare(data)
    assert plan.needs_score or term in plan.terms
    plan = plan.with_term(term)
    assert plan.term == term
    vectorised = runner._steps.vectorised and not plan.needs_score
    rows = []
    with entered(runner._prepared.state):
        start = {name: p.detach().double() for name, p in unconstrained().items()}
        for _ in range(BATCHES):
            n = 200 if vectorised else 20
            loss, surrogate = differentiable_loss(plan.recipe, Pair(model, guide, (data,)), n, vectorised)
            found = gradients(lambda surrogate=surrogate: surrogate)
            rows.append(torch.cat([torch.tensor([loss]), *(g.flatten() for g in found.values())]).double())
    return torch.stack(rows), {name: start[name].requires_grad_() for name in found}


@pytest.mark.parametrize("name", CASES)
def test_the_mean_gradient_is_the_gradient_of_the_exact_elbo(name):
    *case, elbo = CASES[name]
    rows, start = batches(*case)
    loss = -elbo(start)
    exact = torch.cat([loss.detach()[None], *(g.flatten() for g in torch.autograd.grad(loss, list(start.values())))])
    if name in EXACT:
        assert rows.std(0).max() == 0
        assert rows[0].tolist() == pytest.approx(exact.tolist(), rel=1e-5, abs=1e-6)
        return
    sd = rows.std(0) + 1e-6  # the rounding of single precision
    z = (rows.mean(0) - exact) / (sd / BATCHES**0.5)
    assert z.abs().max() <= norm.isf(1e-4 / 2 / len(z)), z
    assert ((rows - exact) / sd).square().mean().sqrt() <= 1.2
    assert rows.std(0).min() > 0

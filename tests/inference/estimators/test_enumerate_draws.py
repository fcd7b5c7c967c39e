"""Draws beside the finite sites that are summed over, and sites that nobody learns: unbiased, in z-scores.

Oracles: sums over the values and closed forms, or Gauss and Hermite's quadrature, of the normals given them.
"""

from functools import partial
from itertools import combinations, product

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence
from torch.distributions import constraints as c
from torch.nn.functional import logsigmoid

import credo
from credo.inference.objective.elbo import differentiable_loss
from credo.inference.objective.gradients import gradients
from credo.inference.pair.batches import batch
from credo.inference.pair.pair import Pair
from credo.inference.runtime.parameters import unconstrained
from credo.inference.runtime.state import entered

Y = torch.tensor([1.3, 0.2, 2.0])
BATCHES = 60

MEANS, PRIOR = torch.tensor([-1.0, 0.5]), torch.tensor([0.4, 0.6])


def below_model(y):
    """The normal's prior, and in the guide its posterior too, depend on which of two it is."""
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Categorical(PRIOR))
        z = pyro.sample("z", dist.Normal(MEANS[k], 1.0))
        pyro.sample("y", dist.Normal(z, 0.7), obs=y)


def below_guide(y):
    m, s = pyro.param("m", torch.tensor([-0.6, 1.0])), pyro.param("s", torch.tensor([0.5, 0.8]), constraint=c.positive)
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Categorical(logits=pyro.param("logits", torch.tensor([0.3, -0.1]))))
        pyro.sample("z", dist.Normal(m[k], s[k]))


def below_elbo(p, y):
    """Row by row: sum_k q_k (log p_k - log q_k - KL(q(z | k) || p(z | k)) + E[log N(y; z, 0.7)])."""
    q, s = torch.softmax(p["logits"], -1), p["s"].exp()
    kl = kl_divergence(Normal(p["m"], s), Normal(MEANS.double(), 1.0))
    fits = Normal(p["m"], 0.7).log_prob(y[:, None].double()) - 0.5 * s**2 / 0.49
    return (q * (PRIOR.double().log() - q.log() - kl + fits)).sum()


def above_model(y):
    """The finite site's probability depends on the normal."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(z + k, 1.0), obs=y)


def above_guide(y):
    m, s = pyro.param("m", torch.tensor(0.4)), pyro.param("s", torch.tensor(0.6), constraint=c.positive)
    z = pyro.sample("z", dist.Normal(m, s))
    with pyro.plate("N", len(y)):
        pyro.sample("k", dist.Bernoulli(logits=pyro.param("slope", torch.tensor(0.9)) * (y - z)))


def above_elbo(p, y):
    """The integral over z by Gauss and Hermite, 64 points."""
    nodes, weights = map(torch.as_tensor, np.polynomial.hermite_e.hermegauss(64))
    z = p["m"] + p["s"].exp() * nodes[:, None]
    logit, y = p["slope"] * (y.double() - z), y.double()
    rows = 0.0
    for k, prior in ((0.0, 0.7), (1.0, 0.3)):
        log_q = logsigmoid(logit if k else -logit)
        rows = rows + log_q.exp() * (Normal(z + k, 1.0).log_prob(y) + torch.tensor(prior).double().log() - log_q)
    inner = rows.sum(1)
    return (weights / weights.sum() * inner).sum() - kl_divergence(Normal(p["m"], p["s"].exp()), Normal(0.0, 1.0))


def dropped_model(y):
    """Units that are there or not, with a probability that nobody learns, and a coin that looks at one of them."""
    mask = pyro.sample("mask", dist.Bernoulli(torch.full((2,), 0.9)).to_event(1))
    w = pyro.param("w", torch.tensor([0.8, -0.5]))
    k = pyro.sample("k", dist.Bernoulli(0.4))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal((w * mask).sum() + k, 1.0), obs=y)


def dropped_guide(y):
    mask = pyro.sample("mask", dist.Bernoulli(torch.full((2,), 0.9)).to_event(1))
    pyro.sample("k", dist.Bernoulli(logits=pyro.param("u", torch.tensor(0.3)) * mask[..., 0] + 0.2))


def dropped_elbo(p, y):
    total = 0.0
    for one, two, k in product((0.0, 1.0), repeat=3):
        known = torch.tensor([0.1, 0.9]).double()
        logit = p["u"] * one + 0.2
        log_q = logsigmoid(logit if k else -logit)
        fits = Normal(p["w"][0] * one + p["w"][1] * two + k, 1.0).log_prob(y.double()).sum()
        prior = torch.tensor(0.4 if k else 0.6).double().log()
        total = total + known[int(one)] * known[int(two)] * log_q.exp() * (fits + prior - log_q)
    return total


DRAWN = {  # model, guide, the exact ELBO, the estimators
    "a normal below": (below_model, below_guide, below_elbo, {"k": "enumerate", "z": "pathwise"}),
    "a normal above": (above_model, above_guide, above_elbo, {"z": "pathwise", "k": "enumerate"}),
    "a dropped unit": (dropped_model, dropped_guide, dropped_elbo, {"mask": "sampled", "k": "enumerate"}),
}


def exact_row(elbo, leaves):
    """(-ELBO and its gradient, flat), at the parameters of the run."""
    start = {n: p.detach().double().requires_grad_() for n, p in leaves.items()}
    exact = -elbo(start, Y)
    slopes = torch.autograd.grad(exact, list(start.values()))
    return torch.cat([exact.detach()[None], *(g.flatten() for g in slopes)])


def drawn_row(losses):
    """The same from one estimate: the mean of some (loss, surrogate)."""
    slopes = gradients(lambda: sum(surrogate for _, surrogate in losses) / len(losses))
    loss = torch.tensor([sum(value for value, _ in losses) / len(losses)])
    return torch.cat([loss, *(g.flatten() for g in slopes.values())]).double()


def agree(draws, exact):
    """Rows of draws, shape (BATCHES, P), have this mean: the largest of P z-scores, at the 1e-4 level."""
    draws = torch.stack(draws)
    assert draws.std(0).max() > 0
    z = (draws.mean(0) - exact) / ((draws.std(0) + 1e-6) / len(draws) ** 0.5)
    assert z.abs().max() <= norm.isf(1e-4 / 2 / len(z)), z


@pytest.mark.parametrize("vectorised", [True, False], ids=["at once", "one by one"])
@pytest.mark.parametrize("name", DRAWN)
def test_the_mean_is_exact(name, vectorised):
    model, guide, elbo, estimators = DRAWN[name]
    runner, pair = credo.SVI(model, guide), Pair(model, guide, (Y,))
    plan = runner.prepare(Y)
    assert {e.site: e.estimator for e in plan.entries} == estimators
    with entered(runner._prepared.state):
        exact = exact_row(elbo, unconstrained())
        for term in plan.terms:
            one = partial(differentiable_loss, plan.with_term(term).recipe, pair, 100 if vectorised else 8, vectorised)
            agree([drawn_row([one()]) for _ in range(BATCHES)], exact)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", ["a normal below", "a normal above"])
def test_the_mean_over_the_batches_is_exact(name, size):
    model, guide, elbo, estimators = DRAWN[name]
    runner, pair = credo.SVI(model, guide, batch_size=size), Pair(model, guide, (Y,))
    plan = runner.prepare(Y)
    assert {e.site: e.estimator for e in plan.entries} == estimators
    found = []
    with entered(runner._prepared.state):
        parts = [batch(pair, runner._prepared.rows, torch.tensor(i)) for i in combinations(range(3), size)]
        for _ in range(BATCHES):
            found.append(drawn_row([differentiable_loss(plan.recipe, part, 50, True) for part in parts]))
        agree(found, exact_row(elbo, unconstrained()))

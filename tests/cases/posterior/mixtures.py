"""A closed form for each joint value of a few finite sites, weighted by its evidence:

p(k | y) proportional to p(k) p(y | k),   p(z | y) = sum_k p(k | y) p(z | k, y),   p(y) = sum_k p(k) p(y | k)
"""

import math
from itertools import product

import pyro
import pyro.distributions as dist
import torch

from tests.cases.posterior.oracles import (
    Case,
    conditioned,
    known_noise,
    log_beta,
    log_factorial,
    log_gamma,
    mixture,
    randn,
    rows,
    t,
)

FLIPS = t(1, 1, 1, 0, 1, 1, 1, 1, 0, 1)
Y = t(1.3, 0.2, 2.0, -0.7, 0.9, 1.1)
X, Z = randn(31, 12, 3), randn(32, 12)
DISASTERS = t(4, 5, 4, 1, 0, 4, 3, 1, 0, 1, 0, 2)
FEW = t(-1.4, 1.9, 2.3, -0.8)


def fair_or_biased(flips):
    k = pyro.sample("k", dist.Bernoulli(0.3))
    p = pyro.sample("p", dist.Beta(2.0, 1.5))
    rows("flip", lambda: dist.Bernoulli(k * p + (1 - k) * 0.5), flips)


def which_sd(y):
    """Which of three sds the noise has; the mean unknown."""
    k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.5, 0.3])))
    z = pyro.sample("z", dist.Normal(0.5, 2.0))
    rows("y", lambda: dist.Normal(z, torch.tensor([0.3, 1.0, 4.0])[k]), y)


def spike_and_slab(X, y):
    """Each of three coefficients is in or out."""
    with pyro.plate("column", 3):
        s = pyro.sample("s", dist.Bernoulli(torch.tensor([0.5, 0.3, 0.6], dtype=X.dtype)))
    w = pyro.sample("w", dist.Normal(torch.zeros(3, dtype=X.dtype), 1.5).to_event(1))
    rows("y", lambda: dist.Normal((X * s.unsqueeze(-2)) @ w, 0.6), y, len(X))


def two_regressions(X, y):
    """One explains y by the first column, the other by the other two."""
    second = pyro.sample("second", dist.Bernoulli(0.4))
    u = pyro.sample("u", dist.Normal(0.0, 1.0))
    w = pyro.sample("w", dist.Normal(torch.zeros(2, dtype=X.dtype), 1.0).to_event(1))
    rows("y", lambda: dist.Normal((1 - second) * X[:, 0] * u + second * (X[:, 1:] @ w), 0.6), y, len(X))


def change_point(counts):
    """Before tau one rate, from tau on another."""
    n = len(counts)
    tau = pyro.sample("tau", dist.Categorical(torch.ones(n) / n))
    early = pyro.sample("early", dist.Gamma(2.0, 1.0))
    late = pyro.sample("late", dist.Gamma(1.5, 0.8))
    rows("count", lambda: dist.Poisson(torch.where(torch.arange(n) < tau, early, late)), counts)


def coin_and_normal(y):
    """A finite and a real latent that know nothing of each other."""
    k = pyro.sample("k", dist.Bernoulli(0.3))
    z = pyro.sample("z", dist.Normal(0.5, 2.0))
    pyro.sample("signal", dist.Normal(k, 1.0), obs=torch.tensor(0.75))
    rows("y", lambda: dist.Normal(z, 0.7), y)


def few_assignments(y):
    """Four rows of two components with unknown means: sixteen closed forms."""
    loc = pyro.sample("loc", dist.Normal(torch.tensor([-1.0, 2.0], dtype=y.dtype), 1.5).to_event(1))
    with pyro.plate("row", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal((1 - k) * loc[0] + k * loc[1], 0.5), obs=y)


def of_coin():
    heads, n = FLIPS.sum().item(), len(FLIPS)
    a, b = 2.0 + heads, 1.5 + n - heads
    terms = t(math.log(0.7) + n * math.log(0.5), math.log(0.3) + (log_beta(a, b) - log_beta(2, 1.5)).item())
    found = {"k": dist.Bernoulli(terms.softmax(0)[1]), "p": mixture(terms, dist.Beta(t(2.0, a), t(1.5, b)))}
    share = terms.softmax(0)[1]
    between = share * (1 - share) * (a / (a + b) - 2 / 3.5)
    return Case(fair_or_biased, (FLIPS,), found, terms.logsumexp(0).item(), {("k", "p"): between.reshape(1, 1)})


def of_which_sd():
    each = [known_noise(Y, 0.5, 2.0, sd) for sd in (0.3, 1.0, 4.0)]
    terms = t(0.2, 0.5, 0.3).log() + t(*[evidence for _, evidence in each])
    parts = dist.Normal(torch.stack([p.loc for p, _ in each]), torch.stack([p.scale for p, _ in each]))
    found = {"k": dist.Categorical(logits=terms), "z": mixture(terms, parts)}
    return Case(which_sd, (Y,), found, terms.logsumexp(0).item())


def of_spike_and_slab():
    eye, values = torch.eye(12).double(), t(*product((0.0, 1.0), repeat=3))
    each = [conditioned(t(0, 0, 0), 2.25 * torch.eye(3).double(), X * s, 0.36 * eye, Z) for s in values]
    prior = t(0.5, 0.3, 0.6)
    prior = (values * prior.log() + (1 - values) * (1 - prior).log()).sum(1)
    terms = prior + t(*[g.evidence for g in each])
    parts = dist.MultivariateNormal(torch.stack([g.mean for g in each]), torch.stack([g.cov for g in each]))
    found = {"s": dist.Bernoulli(terms.softmax(0) @ values), "w": mixture(terms, parts)}
    return Case(spike_and_slab, (X, Z), found, terms.logsumexp(0).item())


def of_two_regressions():
    eye, nothing = torch.eye(12).double(), torch.zeros(12, 1).double()
    designs = torch.cat([X[:, :1], nothing, nothing], 1), torch.cat([nothing, X[:, 1:]], 1)
    each = [conditioned(t(0, 0, 0), torch.eye(3).double(), A, 0.36 * eye, Z) for A in designs]
    terms = t(0.6, 0.4).log() + t(*[g.evidence for g in each])
    mean, cov = torch.stack([g.mean for g in each]), torch.stack([g.cov for g in each])
    found = {
        "second": dist.Bernoulli(terms.softmax(0)[1]),
        "u": mixture(terms, dist.Normal(mean[:, 0], cov[:, 0, 0].sqrt())),
        "w": mixture(terms, dist.MultivariateNormal(mean[:, 1:], cov[:, 1:, 1:])),
    }
    return Case(two_regressions, (X, Z), found, terms.logsumexp(0).item())


def of_change_point():
    n = len(DISASTERS)
    before = t(*[DISASTERS[:i].sum().item() for i in range(n)])
    i = torch.arange(n).double()
    a, b = 2.0 + before, 1.0 + i
    c, d = 1.5 + DISASTERS.sum() - before, 0.8 + n - i
    terms = log_gamma(a, b) - log_gamma(2.0, 1.0) + log_gamma(c, d) - log_gamma(1.5, 0.8)
    terms = terms - log_factorial(DISASTERS).sum() - math.log(n)
    share = terms.softmax(0)
    found = {
        "tau": dist.Categorical(share),
        "early": mixture(terms, dist.Gamma(a, b)),
        "late": mixture(terms, dist.Gamma(c, d)),
    }
    between = (share * a / b * c / d).sum() - (share * a / b).sum() * (share * c / d).sum()
    cov = {("early", "late"): between.reshape(1, 1)}
    return Case(change_point, (DISASTERS,), found, terms.logsumexp(0).item(), cov)


def of_both():
    terms = t(0.7, 0.3).log() + dist.Normal(t(0.0, 1.0), 1.0).log_prob(t(0.75))
    z, evidence = known_noise(Y, 0.5, 2.0, 0.7)
    found = {"k": dist.Bernoulli(terms.softmax(0)[1]), "z": z}
    return Case(coin_and_normal, (Y,), found, evidence + terms.logsumexp(0).item())


def of_few():
    values, eye = t(*product((0.0, 1.0), repeat=4)), torch.eye(4).double()
    designs = torch.stack([1 - values, values], -1)  # (16, 4, 2)
    each = [conditioned(t(-1.0, 2.0), 2.25 * torch.eye(2).double(), A, 0.25 * eye, FEW) for A in designs]
    terms = (values * math.log(0.3) + (1 - values) * math.log(0.7)).sum(1) + t(*[g.evidence for g in each])
    parts = dist.MultivariateNormal(torch.stack([g.mean for g in each]), torch.stack([g.cov for g in each]))
    found = {"k": dist.Bernoulli(terms.softmax(0) @ values), "loc": mixture(terms, parts)}
    return Case(few_assignments, (FEW,), found, terms.logsumexp(0).item())


MIXTURES = {
    "fair or biased": of_coin(),
    "which sd": of_which_sd(),
    "spike and slab": of_spike_and_slab(),
    "two regressions": of_two_regressions(),
    "change point": of_change_point(),
    "a coin and a normal": of_both(),
}
MIXTURES_EITHER = {"few assignments": of_few()}

"""Finite latents alone: enumeration by hand, and the forward-backward recursion (Rabiner 1989, eq. 19-27)."""

import math
from itertools import product

import pyro
import pyro.distributions as dist
import torch

from tests.cases.posterior.oracles import Case, randn, rows, t

PLACES = 2.5 * randn(21, 30)
CHAIN = randn(22, 100) + 2.0 * (torch.arange(100) % 40 > 20)
STAY = [[0.9, 0.07, 0.03], [0.2, 0.7, 0.1], [0.05, 0.15, 0.8]]
LOCS = [-1.0, 0.5, 2.5]
Y = t(1.3, 0.2, 2.0)


def two_coins(seen):
    """At least one of the two shows heads."""
    a = pyro.sample("a", dist.Bernoulli(0.5))
    b = pyro.sample("b", dist.Bernoulli(0.5))
    pyro.sample("some", dist.Bernoulli(1.0 - (1.0 - a) * (1.0 - b)), obs=seen)


def sprinkler(wet):
    """Murphy (2001): cloudy, sprinkler, rain, wet grass; p(wet) = 0.6471, p(s | wet) = 0.2781 / 0.6471."""
    c = pyro.sample("cloudy", dist.Bernoulli(0.5))
    s = pyro.sample("sprinkler", dist.Bernoulli(0.5 - 0.4 * c))
    r = pyro.sample("rain", dist.Bernoulli(0.2 + 0.6 * c))
    pyro.sample("wet", dist.Bernoulli(0.9 * s + 0.9 * r - 0.81 * s * r), obs=wet)


def urns(draws):
    """Three urns with known shares; all draws come from one of them."""
    k = pyro.sample("urn", dist.Categorical(torch.tensor([0.5, 0.3, 0.2])))
    rows("draw", lambda: dist.Bernoulli(torch.tensor([0.2, 0.5, 0.9])[k]), draws)


def assignments(y):
    """The component of each row; means known."""
    with pyro.plate("row", len(y)):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.5, 0.2, 0.3])))
        pyro.sample("y", dist.Normal(torch.tensor([-2.0, 0.0, 3.0])[k], 1.0), obs=y)


def above_the_rows(y):
    """One finite site for all rows above one of each row."""
    g = pyro.sample("g", dist.Bernoulli(0.4))
    with pyro.plate("row", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3 + 0.5 * g))
        pyro.sample("y", dist.Normal(k + g, 1.0), obs=y)


def hidden_markov(y):
    """100 sites of three values."""
    x = 0
    for i in pyro.markov(range(len(y))):
        stay = torch.tensor(STAY)
        x = pyro.sample(f"x{i}", dist.Categorical(stay[x]))
        pyro.sample(f"y{i}", dist.Normal(torch.tensor(LOCS)[x], 1.0), obs=y[i])


def survivors(seen):
    """How many of five are there, if each that is there is seen with 0.6?"""
    n = pyro.sample("n", dist.Binomial(5, 0.4))
    pyro.sample("seen", dist.Normal(0.6 * n, 0.8), obs=seen)


def added_up(total):
    """Rows of a plate that meet in a sum outside it."""
    with pyro.plate("row", 5):
        k = pyro.sample("k", dist.Bernoulli(0.3))
    pyro.sample("total", dist.Normal(k.sum(-1), 0.5), obs=total)


def neighbours(y):
    """Each row of the data looks at two rows of the plate."""
    with pyro.plate("row", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3))
    with pyro.plate("place", len(y)):
        pyro.sample("y", dist.Normal(k + 0.5 * k.roll(1, -1), 1.0), obs=y)


def log_normal(y, mean, sd=1.0):
    """log N(y; mean, sd) of floats."""
    return -0.5 * ((y - mean) / sd) ** 2 - math.log(sd) - 0.5 * math.log(2 * math.pi)


def coin(p, value):
    return p if value else 1 - p


def bernoulli(p):
    return dist.Bernoulli(t(p))


def of_sprinkler():
    joint = {
        (c, s, r): 0.5 * coin(0.5 - 0.4 * c, s) * coin(0.2 + 0.6 * c, r) * (0.9 * s + 0.9 * r - 0.81 * s * r)
        for c, s, r in product((0, 1), repeat=3)
    }
    wet = sum(joint.values())
    assert abs(wet - 0.6471) < 1e-12
    share = [sum(p for values, p in joint.items() if values[i]) / wet for i in range(3)]
    found = dict(zip(("cloudy", "sprinkler", "rain"), map(bernoulli, share), strict=True))
    both = t([[sum(p for (c, s, r), p in joint.items() if s and r) / wet - share[1] * share[2]]])
    return Case(sprinkler, (t(1.0),), found, math.log(wet), {("sprinkler", "rain"): both})


def of_urns():
    draws = t(1, 1, 0, 1, 1, 1, 0)
    joint = t(*[w * p**5 * (1 - p) ** 2 for w, p in zip((0.5, 0.3, 0.2), (0.2, 0.5, 0.9), strict=True)])
    return Case(urns, (draws,), {"urn": dist.Categorical(joint / joint.sum())}, joint.sum().log().item())


def of_assignments():
    terms = t(0.5, 0.2, 0.3).log() + log_normal(PLACES[:, None], t(-2.0, 0.0, 3.0))  # (N, 3)
    return Case(assignments, (PLACES,), {"k": dist.Categorical(logits=terms)}, terms.logsumexp(1).sum().item())


def of_above():
    """Given g the rows are independent."""
    on = [[coin(0.3 + 0.5 * g, 1) * math.exp(log_normal(y, 1.0 + g)) for y in Y.tolist()] for g in (0, 1)]
    off = [[coin(0.3 + 0.5 * g, 0) * math.exp(log_normal(y, 0.0 + g)) for y in Y.tolist()] for g in (0, 1)]
    weight = [(0.6, 0.4)[g] * math.prod(a + b for a, b in zip(on[g], off[g], strict=True)) for g in (0, 1)]
    total = sum(weight)
    k = [sum(weight[g] / total * on[g][i] / (on[g][i] + off[g][i]) for g in (0, 1)) for i in range(3)]
    found = {"g": bernoulli(weight[1] / total), "k": bernoulli(k)}
    return Case(above_the_rows, (Y,), found, math.log(total))


def of_hidden_markov():
    """Each message normalised; the evidence is the sum of the logs of what they were divided by."""
    A, emission = t(*STAY), log_normal(CHAIN[:, None], t(*LOCS)).exp()
    forward, evidence = [], 0.0
    for i in range(len(CHAIN)):
        alpha = (forward[-1] @ A if i else A[0]) * emission[i]
        evidence += alpha.sum().log().item()
        forward.append(alpha / alpha.sum())
    backward, found, between = torch.ones(3).double(), {}, {}
    for i in reversed(range(len(CHAIN))):
        gamma = forward[i] * backward
        found[f"x{i}"] = dist.Categorical(gamma / gamma.sum())
        if i == 50:
            pairs = forward[49][:, None] * A * (emission[50] * backward)
            pairs, values = pairs / pairs.sum(), torch.arange(3).double()
            cov = values @ pairs @ values - (pairs.sum(1) @ values) * (pairs.sum(0) @ values)
            between["x49", "x50"] = cov.reshape(1, 1)
        backward = A @ (emission[i] * backward)
        backward = backward / backward.sum()
    return Case(hidden_markov, (CHAIN,), found, evidence, between)


def of_survivors():
    terms = t(*[math.log(math.comb(5, n) * 0.4**n * 0.6 ** (5 - n)) + log_normal(2.0, 0.6 * n, 0.8) for n in range(6)])
    return Case(survivors, (t(2.0),), {"n": dist.Categorical(logits=terms)}, terms.logsumexp(0).item())


def of_added_up():
    values = t(*product((0.0, 1.0), repeat=5))
    terms = (values * math.log(0.3) + (1 - values) * math.log(0.7)).sum(1) + log_normal(2.2, values.sum(1), 0.5)
    share = (torch.softmax(terms, 0)[:, None] * values).sum(0)
    return Case(added_up, (t(2.2),), {"k": dist.Bernoulli(share)}, terms.logsumexp(0).item())


def of_neighbours():
    values = t(*product((0.0, 1.0), repeat=3))
    terms = (values * math.log(0.3) + (1 - values) * math.log(0.7)).sum(1)
    terms = terms + log_normal(Y, values + 0.5 * values.roll(1, 1)).sum(1)
    share = (torch.softmax(terms, 0)[:, None] * values).sum(0)
    return Case(neighbours, (Y,), {"k": dist.Bernoulli(share)}, terms.logsumexp(0).item())


FINITE = {
    "two coins": Case(
        two_coins,
        (t(1.0),),
        {"a": bernoulli(2 / 3), "b": bernoulli(2 / 3)},
        math.log(3 / 4),
        {("a", "b"): t([[-1 / 9]])},
    ),
    "sprinkler": of_sprinkler(),
    "urns": of_urns(),
    "assignments in a plate": of_assignments(),
    "finite above a plate": of_above(),
    "hidden markov, 100 sites": of_hidden_markov(),
    "a binomial latent": of_survivors(),
}
FINITE_EITHER = {"rows that meet in a sum": of_added_up(), "neighbours in a plate": of_neighbours()}

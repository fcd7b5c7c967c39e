"""Pairs with latents above rows and below them: nested plates, missing data, subsamples, what all rows move."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch.distributions import Normal, Poisson, kl_divergence

from tests.cases.elbo.expectations import Case, coin, coin_of, entropy, log_normal, param, positive
from tests.cases.elbo.rows import COUNTS, DATA, LOGITS, RATES, SCORE, SEEN


def missing_model(y):
    """The second datum is missing: Pyro makes it a latent."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(z + 2 * k, 1.0), obs=y, obs_mask=SEEN)


def missing_guide(y):
    pyro.sample("z", dist.Normal(param("m", 0.3), positive("s", 0.5)))
    with pyro.plate("N", len(y)):
        pyro.sample("k", dist.Bernoulli(logits=param("u", LOGITS)))
        with poutine.mask(mask=~SEEN):
            pyro.sample("y_unobserved", dist.Normal(param("g", -0.7), positive("t", 0.8)))


def missing_elbo(p):
    square, total = p["s"] ** 2, -kl_divergence(Normal(p["m"], p["s"]), Normal(0.0, 1.0))
    for k in (0.0, 1.0):
        log_q = coin(p["u"], k)
        seen = log_normal(DATA, p["m"] + 2 * k, 1.0, square)
        unseen = log_normal(p["g"], p["m"] + 2 * k, 1.0, square + p["t"] ** 2) + entropy(p["t"])
        total = total + (log_q.exp() * (coin_of(0.3, k) - log_q + torch.where(SEEN, seen, unseen))).sum()
    return total


def own_mask_model(y):
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3).mask(SEEN))
        pyro.sample("y", dist.Normal(2 * k, 1.0), obs=y)


def own_mask_guide(y):
    """The second row's log q does not count, but its draw does: the data see it."""
    with pyro.plate("N", len(y)):
        pyro.sample("k", dist.Bernoulli(logits=param("u", LOGITS)).mask(SEEN))


def own_mask_elbo(p):
    total = 0.0
    for k in (0.0, 1.0):
        log_q = coin(p["u"], k)
        total = total + (log_q.exp() * (SEEN * (coin_of(0.3, k) - log_q) + log_normal(DATA, 2 * k))).sum()
    return total


def few_coins_model(y):
    g = pyro.sample("g", dist.Poisson(torch.tensor(1.0)))
    with pyro.plate("N", len(y), subsample_size=2) as i:
        k = pyro.sample("k", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(2 * k + 0.5 * g, 1.0), obs=y[i])


def few_coins_guide(y):
    """A count for all above a coin for each, two rows at a time."""
    u = param("u", LOGITS)
    g = pyro.sample("g", dist.Poisson(positive("rate", 1.6)))
    with pyro.plate("N", len(y), subsample_size=2) as i:
        pyro.sample("k", dist.Bernoulli(logits=u[i] - 0.4 * g))


def few_coins_elbo(p):
    g, rows = COUNTS[:, None], 0.0
    for k in (0.0, 1.0):
        log_q = coin(p["u"] - 0.4 * g, k)
        rows = rows + (log_q.exp() * (coin_of(0.3, k) - log_q + log_normal(DATA, 2 * k + 0.5 * g))).sum(-1)
    log_q = Poisson(p["rate"]).log_prob(COUNTS)
    return (log_q.exp() * (Poisson(torch.tensor(1.0)).log_prob(COUNTS) - log_q + rows)).sum()


TABLE = torch.tensor([[0.3, 1.8], [-0.4, 0.9], [1.1, 2.2]])


def nested_model(table):
    """A coin for all, a class for each column, a normal for each cell."""
    g = pyro.sample("g", dist.Bernoulli(0.4))
    with pyro.plate("columns", 2, dim=-1):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
        with pyro.plate("rows", 3, dim=-2):
            z = pyro.sample("z", dist.Normal(k - g, 1.0))
            pyro.sample("y", dist.Normal(z, 0.5), obs=table)


def nested_guide(table):
    g = pyro.sample("g", dist.Bernoulli(logits=param("u", 0.3)))
    logits = param("v", [[0.5, -0.3, 0.1], [0.2, 0.4, -0.6]])
    with pyro.plate("columns", 2, dim=-1):
        k = pyro.sample("k", dist.Categorical(logits=logits * (1 + g[..., None])))
        with pyro.plate("rows", 3, dim=-2):
            pyro.sample("z", dist.Normal(param("a", 0.6) * table + param("b", 0.3) * k, positive("s", 0.5)))


def nested_elbo(p):
    total, square, table = 0.0, p["s"] ** 2, TABLE.double()
    for g in (0.0, 1.0):
        q_g, inner = coin(p["u"], g), 0.0
        log_q = (p["v"] * (1 + g)).log_softmax(-1)
        for k, prior in enumerate((0.2, 0.3, 0.5)):
            mean = p["a"] * table + p["b"] * k
            cells = log_normal(table, mean, 0.5, square) + log_normal(mean, k - g, 1.0, square) + entropy(p["s"])
            prior = torch.tensor(prior).double().log()
            inner = inner + (log_q[:, k].exp() * (prior - log_q[:, k] + cells.sum(0))).sum()
        total = total + q_g.exp() * (coin_of(0.4, g) - q_g + inner)
    return total


def summed_model(y):
    """z's prior looks at w, and the guide of w at the mean of z over the rows."""
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        z = pyro.sample("z", dist.Normal(w, 1.0))
        pyro.sample("y", dist.Normal(z.relu(), 1.0), obs=y)


def summed_guide(y):
    with pyro.plate("N", len(y)):
        z = pyro.sample("z", dist.Normal(param("m", [0.9, -0.3, 0.6]), positive("s", 0.6)))
    pyro.sample("w", dist.Normal(param("a", 0.8) * z.mean(-1), positive("t", 0.7)))


def summed_elbo(p):
    m, a, s2, t2, n = p["m"], p["a"], p["s"] ** 2, p["t"] ** 2, len(DATA)
    spread = s2 * ((1 - a / n) ** 2 + (n - 1) * (a / n) ** 2) + t2  # of z_i - w
    z = log_normal(m, a * m.mean(), 1.0, spread).sum() + n * entropy(p["s"])
    w = log_normal(0.0, a * m.mean(), 1.0, a**2 * s2 / n + t2) + entropy(p["t"])
    points = torch.linspace(-6, 7, 8001).double()
    density = Normal(m[:, None], p["s"]).log_prob(points).exp()
    return torch.trapezoid(density * log_normal(DATA[:, None], points.relu()), points).sum() + z + w


def shared_model(y):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        n = pyro.sample("n", dist.Poisson(torch.tensor(1.0)))
        pyro.sample("y", dist.Normal(n + w, 1.0), obs=y)


def shared_guide(y):
    """Given w the rows are apart, but w looks at all of them: a count moves the costs of other rows through it."""
    with pyro.plate("N", len(y)):
        n = pyro.sample("n", dist.Poisson(positive("rate", RATES)))
    pyro.sample("w", dist.Normal(param("a", 0.3) * n.sum(-1), positive("t", 0.5)))


def shared_elbo(p):
    a, rate = p["a"], p["rate"]
    mean, spread = a * rate.sum(), a**2 * rate.sum() + p["t"] ** 2  # of w, and then of n_i + w
    fit = log_normal(DATA, rate + mean, 1.0, spread + rate + 2 * a * rate).sum()
    log_q = Poisson(rate[:, None]).log_prob(COUNTS)
    kl = (log_q.exp() * (log_q - Poisson(torch.tensor(1.0)).log_prob(COUNTS))).sum()
    return fit - kl + log_normal(0.0, mean, 1.0, spread) + entropy(p["t"])


PLATES = {
    "count above coins, two rows at a time": Case(few_coins_model, few_coins_guide, few_coins_elbo, SCORE, 120),
    "missing values": Case(missing_model, missing_guide, missing_elbo, (*SCORE, {"y_unobserved": "score"})),
    "nested plates": Case(
        nested_model, nested_guide, nested_elbo, (*SCORE, {"g": "score"}, {"z": "score"}), data=(TABLE,)
    ),
    "normals crossed through a plate": Case(
        summed_model, summed_guide, summed_elbo, ({"z": "score"}, {"w": "score"}), 200
    ),
    "counts below a mean of theirs": Case(shared_model, shared_guide, shared_elbo, ({"w": "score"},), 200, 100),
    "own mask": Case(own_mask_model, own_mask_guide, own_mask_elbo, SCORE),
}

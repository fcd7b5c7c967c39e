"""Pairs with latents in each row: rows that look at each other, sums over rows, masks, scales, subsamples."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch.distributions import Poisson

from tests.cases.elbo.expectations import Case, Y, coin, coin_of, corners, log_normal, param, positive

DATA, COUNTS = Y.double(), torch.arange(40).double()
RATES, LOGITS = [0.5, 2.4, 0.8], [0.4, -0.6, 0.9]


def coins_with(observe_given):
    """A coin for each row, and what is observed given all of them."""

    def model(y):
        rows = pyro.plate("N", len(y))
        with rows:
            k = pyro.sample("k", dist.Bernoulli(0.3))
        observe_given(y, k, rows)

    return model


def coins_guide(y):
    with pyro.plate("N", len(y)):
        pyro.sample("k", dist.Bernoulli(logits=param("u", LOGITS)))


def coins_elbo(log_p):
    """The sum over the values of all three rows; log_p: of the data given each, shape (8, 3) -> (8,)."""

    def elbo(p):
        k = corners(3)
        log_q = coin(p["u"], k).sum(-1)
        return (log_q.exp() * (coin_of(0.3, k).sum(-1) + log_p(k) - log_q)).sum()

    return elbo


def added(y, k, rows):
    pyro.sample("total", dist.Normal(k.sum(-1), 0.7), obs=y.sum())


def centred(y, k, rows):
    with rows:
        pyro.sample("y", dist.Normal(2 * (k - k.mean(-1, keepdim=True)), 1.0), obs=y)


def elsewhere(y, k, rows):
    """Another plate of the same size at the same dimension: its rows are others."""
    with pyro.plate("M", len(y)):
        pyro.sample("y", dist.Normal(2 * k.flip(-1), 1.0), obs=y)


def one_by_one(y, k, rows):
    for i in pyro.plate("M", len(y)):
        pyro.sample(f"y{i}", dist.Normal(2 * k[..., i], 1.0), obs=y[i])


def sequential_model(y):
    for i in pyro.plate("N", len(y)):
        k = pyro.sample(f"k{i}", dist.Bernoulli(0.3))
        pyro.sample(f"y{i}", dist.Normal(2 * k, 1.0), obs=y[i])


def sequential_guide(y):
    u = param("u", LOGITS)
    for i in pyro.plate("N", len(y)):
        pyro.sample(f"k{i}", dist.Bernoulli(logits=u[i]))


def fits(mean):
    return log_normal(DATA, mean).sum(-1)


def neighbours_model(y):
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        j = pyro.sample("j", dist.Bernoulli(0.2 + 0.6 * k.mean(-1, keepdim=True)))
        pyro.sample("y", dist.Normal(2 * j, 1.0), obs=y)


def neighbours_guide(y):
    """The guide of a second coin looks at the mean of the first over all rows."""
    u, v = param("u", LOGITS), param("v", 1.2)
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(logits=u))
        pyro.sample("j", dist.Bernoulli(logits=v * (k.mean(-1, keepdim=True) - 0.3) + 0.2 * y))


def neighbours_elbo(p):
    k, j = corners(6).split(3, -1)
    mean = k.mean(-1, keepdim=True)
    log_q = coin(p["u"], k).sum(-1) + coin(p["v"] * (mean - 0.3) + 0.2 * DATA, j).sum(-1)
    log_p = coin_of(0.3, k).sum(-1) + coin((0.2 + 0.6 * mean).logit(), j).sum(-1) + fits(2 * j)
    return (log_q.exp() * (log_p - log_q)).sum()


def counts_model(y, centre=0.0, weight=1.0, rows=None):
    with pyro.plate("N", len(y), subsample_size=rows) as i, poutine.scale(scale=weight):
        n = pyro.sample("n", dist.Poisson(torch.tensor(1.0)))
        pyro.sample("y", dist.Normal(n - centre * n.mean(-1, keepdim=True), 1.0), obs=y[i])


def counts_guide(y, weight=1.0, rows=None):
    rate = positive("rate", RATES)
    with pyro.plate("N", len(y), subsample_size=rows) as i, poutine.scale(scale=weight):
        pyro.sample("n", dist.Poisson(rate[i]))


def counts_rows(p, observed=1.0):
    """The terms of the ELBO, row by row."""
    log_q = Poisson(p["rate"][:, None]).log_prob(COUNTS)
    log_p = Poisson(torch.tensor(1.0)).log_prob(COUNTS) + observed * log_normal(DATA[:, None], COUNTS)
    return (log_q.exp() * (log_p - log_q)).sum(-1)


def centred_counts_elbo(p):
    """Of centred counts only means and variances count: E sum (y - n + mean n)^2."""
    rate, n = p["rate"], len(DATA)
    mean, spread = rate - rate.mean(), rate * (1 - 2 / n) + rate.sum() / n**2  # of n_i - mean n
    log_q = Poisson(rate[:, None]).log_prob(COUNTS)
    kl = (log_q.exp() * (log_q - Poisson(torch.tensor(1.0)).log_prob(COUNTS))).sum()
    return log_normal(DATA, mean, 1.0, spread).sum() - kl


SEEN = torch.tensor([True, False, True])


def masked(program):
    return poutine.mask(program, mask=SEEN)


WEIGHT = torch.tensor([2.0, 0.5, 3.0])
SCORE = ({"k": "score"},)
ROWS = {
    "coins added up outside": Case(
        coins_with(added), coins_guide, coins_elbo(lambda k: log_normal(DATA.sum(), k.sum(-1), 0.7)), SCORE
    ),
    "coins in another plate": Case(
        coins_with(elsewhere), coins_guide, coins_elbo(lambda k: fits(2 * k.flip(-1))), SCORE
    ),
    "coins above single rows": Case(coins_with(one_by_one), coins_guide, coins_elbo(lambda k: fits(2 * k)), SCORE),
    "sequential plate": Case(sequential_model, sequential_guide, coins_elbo(lambda k: fits(2 * k)), ({"k1": "score"},)),
    "counts": Case(counts_model, counts_guide, lambda p: counts_rows(p).sum()),
    "counts, centred": Case(lambda y: counts_model(y, 1.0), counts_guide, centred_counts_elbo),
    "counts, masked": Case(masked(counts_model), masked(counts_guide), lambda p: counts_rows(p)[SEEN].sum()),
    "counts, weighted rows": Case(
        lambda y: counts_model(y, weight=WEIGHT),
        lambda y: counts_guide(y, weight=WEIGHT),
        lambda p: (WEIGHT * counts_rows(p)).sum(),
    ),
    "counts, two rows at a time": Case(
        lambda y: counts_model(y, rows=2), lambda y: counts_guide(y, rows=2), lambda p: counts_rows(p).sum(), (), 160
    ),
}
COUPLED = {
    "coins, centred": Case(
        coins_with(centred), coins_guide, coins_elbo(lambda k: fits(2 * (k - k.mean(-1, keepdim=True)))), SCORE
    ),
    "coins, neighbours": Case(neighbours_model, neighbours_guide, neighbours_elbo, (*SCORE, {"j": "score"})),
}

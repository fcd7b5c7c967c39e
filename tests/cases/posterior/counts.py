"""Counts and shares: Beta, Dirichlet and Gamma posteriors, alone, several, and in plates (Murphy 2012, chapter 3)."""

import pyro
import pyro.distributions as dist
import torch

from tests.cases.posterior.oracles import Case, log_beta, log_choose, log_factorial, log_gamma, rows, t

FLIPS = t(1, 0, 0, 1, 1, 1, 0, 1, 1, 0, 1)
TRIALS, HITS = t(5, 9, 4, 12), t(2, 7, 0, 5)
WAITS = t(0, 3, 1, 7, 2, 0)
COUNTS, TIMES = t(3, 0, 4, 11, 2), t(0.5, 0.25, 1.7, 3.1, 1.0)
CLASSES = torch.tensor([0, 2, 2, 1, 2, 0, 2])
TABLE = t([3.0, 0.0, 5.0, 2.0], [1.0, 1.0, 7.0, 1.0], [0.0, 0.0, 9.0, 1.0])  # ten in each row
N, H = len(FLIPS), int(FLIPS.sum())


def coin(flips):
    p = pyro.sample("p", dist.Beta(2.0, 3.0))
    rows("flip", lambda: dist.Bernoulli(p), flips)


def coin_of(a, b):
    return Case(coin, (FLIPS,), {"p": dist.Beta(t(a), t(b))}, (log_beta(a, b) - log_beta(2, 3)).item())


def tails(n):
    """No success at all: the posterior leans on the edge."""
    p = pyro.sample("p", dist.Beta(0.5, 0.5))
    rows("flip", lambda: dist.Bernoulli(p), n)


def uniform(flips):
    p = pyro.sample("p", dist.Uniform(0.0, 1.0))
    rows("flip", lambda: dist.Bernoulli(p), flips)


def cubed(wins):
    """A win is three successes in a row. Only wins were seen: p^(3N), which is a Beta; a loss would spoil it.

    torch's Bernoulli holds p^3 at 2e-16, so what it computes is a Beta above p = 6e-6 only.
    """
    p = pyro.sample("p", dist.Beta(2.0, 3.0))
    rows("win", lambda: dist.Bernoulli(p**3), wins)


def binomial(trials, hits):
    p = pyro.sample("p", dist.Beta(1.5, 2.0))
    rows("hits", lambda: dist.Binomial(trials, p), hits)


def geometric(waits):
    """Failures before the first success."""
    p = pyro.sample("p", dist.Beta(2.0, 2.5))
    rows("wait", lambda: dist.Geometric(p), waits)


def negative_binomial(counts):
    """torch: C(y + r - 1, y) (1 - p)^r p^y."""
    p = pyro.sample("p", dist.Beta(2.0, 2.5))
    rows("count", lambda: dist.NegativeBinomial(3.5, probs=p), counts)


def poisson(times, counts):
    rate = pyro.sample("rate", dist.Gamma(3.0, 1.5))
    rows("count", lambda: dist.Poisson(rate * times), counts)


def exponential_prior(counts):
    rate = pyro.sample("rate", dist.Exponential(0.7))
    rows("count", lambda: dist.Poisson(rate), counts)


def categorical(classes):
    p = pyro.sample("p", dist.Dirichlet(torch.tensor([1.0, 2.5, 0.7])))
    rows("class", lambda: dist.Categorical(p), classes)


def multinomial(table):
    p = pyro.sample("p", dist.Dirichlet(torch.tensor([1.0, 2.0, 0.7, 1.3])))
    rows("counts", lambda: dist.Multinomial(10, p), table)


def dirichlets(table):
    """A row of shares for each row of the table."""
    with pyro.plate("row", len(table)):
        p = pyro.sample("p", dist.Dirichlet(torch.tensor([1.0, 2.0, 0.7, 1.3])))
        pyro.sample("counts", dist.Multinomial(10, p), obs=table)


def betas(trials, hits):
    with pyro.plate("group", len(hits)):
        p = pyro.sample("p", dist.Beta(torch.arange(1.0, 5.0), 2.0))
        pyro.sample("hits", dist.Binomial(trials, p), obs=hits)


def gammas(table):
    """A rate for each column, shape (4,); counts (3, 4)."""
    with pyro.plate("column", 4, dim=-1):
        rate = pyro.sample("rate", dist.Gamma(2.0, 0.7))
        with pyro.plate("row", 3, dim=-2):
            pyro.sample("count", dist.Poisson(rate), obs=table)


def unrelated(flips, counts):
    """Two latents of different families that know nothing of each other."""
    p = pyro.sample("p", dist.Beta(2.0, 3.0))
    rate = pyro.sample("rate", dist.Gamma(2.0, 0.3))
    rows("flip", lambda: dist.Bernoulli(p), flips)
    rows("count", lambda: dist.Poisson(rate), counts)


def nearly_nothing(flips):
    """No data at all for the second site: its posterior is the prior."""
    coin(flips)
    pyro.sample("unused", dist.Gamma(2.0, 3.0))


def share(alpha, counts):
    """The Dirichlet of prior and counts, and the log ratio of its normalisers; the last dimension counts."""
    new = alpha + counts
    return dist.Dirichlet(new), (log_beta(*new.unbind(-1)) - log_beta(*alpha.expand_as(new).unbind(-1))).sum()


def rate_of(a, b, total, time):
    """Gamma(a, b) after counts of this total in this time, and the log ratio of its normalisers."""
    a, b = t(a), t(b)
    return dist.Gamma(a + total, b + time), (log_gamma(a + total, b + time) - log_gamma(a, b)).sum()


def beta_of(a, b, good, bad):
    a, b = torch.as_tensor(a).double(), torch.as_tensor(b).double()
    return dist.Beta(a + good, b + bad), (log_beta(a + good, b + bad) - log_beta(a, b)).sum()


def case(model, data, site, found, constant=0.0):
    posterior, evidence = found
    return Case(model, data, {site: posterior}, float(evidence + constant))


ALPHA = t(1.0, 2.0, 0.7, 1.3)
WAYS = (log_factorial(t(10.0)) - log_factorial(TABLE).sum(-1)).sum()  # of ordering the counts of all rows
CHOICES = log_choose(TRIALS, HITS).sum()
FACTORIALS = log_factorial(COUNTS).sum()
BOTH = rate_of(2, 0.3, COUNTS.sum(), 5), beta_of(2, 3, H, N - H)
COUNTED = {
    "coin": coin_of(2 + H, 3 + N - H),
    "coin, tails only": case(tails, (torch.zeros(40).double(),), "p", beta_of(0.5, 0.5, 0, 40)),
    "coin, uniform prior": case(uniform, (FLIPS,), "p", beta_of(1, 1, H, N - H)),
    "binomial": case(binomial, (TRIALS, HITS), "p", beta_of(1.5, 2, HITS.sum(), (TRIALS - HITS).sum()), CHOICES),
    "binomial, integers": case(
        binomial, (TRIALS.long(), HITS.long()), "p", beta_of(1.5, 2, HITS.sum(), (TRIALS - HITS).sum()), CHOICES
    ),
    "geometric": case(geometric, (WAITS,), "p", beta_of(2, 2.5, len(WAITS), WAITS.sum())),
    "negative binomial": case(
        negative_binomial,
        (COUNTS,),
        "p",
        beta_of(2, 2.5, COUNTS.sum(), 3.5 * len(COUNTS)),
        (torch.lgamma(COUNTS + 3.5) - torch.lgamma(t(3.5))).sum() - FACTORIALS,
    ),
    "poisson, exposure": case(
        poisson,
        (TIMES, COUNTS),
        "rate",
        rate_of(3, 1.5, COUNTS.sum(), TIMES.sum()),
        (COUNTS * TIMES.log()).sum() - FACTORIALS,
    ),
    "poisson, exponential prior": case(
        exponential_prior, (COUNTS.int(),), "rate", rate_of(1, 0.7, COUNTS.sum(), len(COUNTS)), -FACTORIALS
    ),
    "categorical": case(categorical, (CLASSES,), "p", share(t(1.0, 2.5, 0.7), t(2.0, 1.0, 4.0))),
    "multinomial": case(multinomial, (TABLE,), "p", share(ALPHA, TABLE.sum(0)), WAYS),
    "dirichlets in a plate": case(dirichlets, (TABLE,), "p", share(ALPHA, TABLE), WAYS),
    "betas in a plate": case(
        betas, (TRIALS, HITS), "p", beta_of(torch.arange(1.0, 5.0), 2.0 * torch.ones(4), HITS, TRIALS - HITS), CHOICES
    ),
    "gammas in a plate": case(gammas, (TABLE,), "rate", rate_of(2, 0.7, TABLE.sum(0), 3), -log_factorial(TABLE).sum()),
    "two unrelated latents": Case(
        unrelated,
        (FLIPS, COUNTS),
        {"rate": BOTH[0][0], "p": BOTH[1][0]},
        (BOTH[0][1] + BOTH[1][1] - FACTORIALS).item(),
    ),
    "a latent without data": Case(
        nearly_nothing,
        (FLIPS,),
        {"p": beta_of(2, 3, H, N - H)[0], "unused": dist.Gamma(t(2), t(3))},
        beta_of(2, 3, H, N - H)[1].item(),
    ),
}
COUNTED_EITHER = {"three in a row, wins only": case(cubed, (torch.ones(6).double(),), "p", beta_of(2, 3, 18, 0))}

"""Models without a closed form: supports, plates and structures beside the real-valued ones of the other file."""

import pyro
import pyro.distributions as dist
import torch
from torch import nn
from torch.nn.functional import dropout

from tests.cases.posterior.oracles import randn, rows, t
from tests.cases.posterior.refused_reals import COUNTS, LABELS, REALS, Refused, X, Y, of_mean

FLIPS = t(1, 1, 1, 0, 1, 1, 1, 1, 0, 1)
MANY = torch.cat([randn(53, 25) - 2, randn(54, 25) + 2])
SCHOOLS = t(28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
ERRORS = t(15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)


def mixture(y):
    loc = pyro.sample("loc", dist.Normal(torch.tensor([-1.0, 1.0], dtype=y.dtype), 5.0).to_event(1))
    with pyro.plate("row", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.5))
        pyro.sample("y", dist.Normal((1 - k) * loc[0] + k * loc[1], 1.0), obs=y)


def of_share(f, term=None):
    def model(flips):
        p = pyro.sample("p", dist.Beta(2.0, 3.0))
        if term:
            pyro.factor("term", term(p))
        rows("flip", lambda: dist.Bernoulli(f(p)), flips)

    return model


def sometimes(y):
    k = pyro.sample("k", dist.Bernoulli(0.5))
    mean = pyro.sample("w", dist.Normal(0.0, 1.0)) if k > 0 else torch.tensor(0.0)
    rows("y", lambda: dist.Normal(mean, 0.7), y)


def subsampled(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(y), subsample_size=3) as index:
        pyro.sample("y", dist.Normal(z, 0.7), obs=y[index])


def thinned(X, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(3, dtype=X.dtype), 1.5).to_event(1))
    rows("y", lambda: dist.Normal(dropout(X, 0.5) @ w, 0.7), y)


def layered(net, X, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(3, dtype=X.dtype), 1.5).to_event(1))
    rows("y", lambda: dist.Normal(net(X) @ w, 0.7), y)


def counted(prior):
    def model(y):
        n = pyro.sample("n", prior())
        rows("y", lambda: dist.Normal(n, 1.5), y)

    return model


def wide_or_narrow(prior):
    """The scale of a mean's prior is a latent."""

    def model(y):
        s = pyro.sample("s", prior())
        mu = pyro.sample("mu", dist.Normal(0.0, s))
        rows("y", lambda: dist.Normal(mu, 1.0), y)

    return model


def schools(y, errors):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, errors), obs=y)


def chances(flips):
    a = pyro.sample("a", dist.Beta(2.0, 2.0))
    b = pyro.sample("b", dist.Beta(3.0, 2.0))
    rows("flip", lambda: dist.Bernoulli(a * b), flips)


def coupled_plate(flips):
    """Rows of one plate that meet in a product."""
    with pyro.plate("coin", 2):
        p = pyro.sample("p", dist.Beta(2.0, 2.0))
    rows("flip", lambda: dist.Bernoulli(p[..., 0] * p[..., 1]), flips)


def summed_rates(counts):
    a = pyro.sample("a", dist.Gamma(2.0, 1.0))
    b = pyro.sample("b", dist.Gamma(3.0, 1.0))
    rows("count", lambda: dist.Poisson(a + b), counts)


def correlated(vectors):
    L = pyro.sample("L", dist.LKJCholesky(2, torch.tensor(2.0)))
    rows("y", lambda: dist.MultivariateNormal(torch.zeros(2), scale_tril=L), vectors)


def of_scale(prior, likelihood):
    def model(y):
        s = pyro.sample("s", prior())
        rows("y", lambda: likelihood(s), y)

    return model


def independent_prior(y):
    """Mean and precision know nothing of each other before the data: conjugate one at a time only."""
    mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
    tau = pyro.sample("tau", dist.Gamma(2.0, 1.5))
    rows("y", lambda: dist.Normal(mu, tau**-0.5), y)


def zero_inflated(counts):
    gate = pyro.sample("gate", dist.Beta(2.0, 2.0))
    rate = pyro.sample("rate", dist.Gamma(2.0, 0.5))
    rows("count", lambda: dist.ZeroInflatedPoisson(rate, gate=gate), counts)


def heavy_or_not(y):
    k = pyro.sample("k", dist.Bernoulli(0.5))
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    rows("y", lambda: dist.StudentT(3.0, z + k, 1.0), y)


NORMAL = "normal|gaussian|quadratic"
GAMMA = "gamma"
LATER = GAMMA + "|normal|gaussian"
RANDOM = "random|drop|noise|differ|same value|twice|again"
ANGLE = "von ?mises|circle|circular|support|famil|normal"
with torch.random.fork_rng([]):
    torch.manual_seed(0)
    NET = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).double().requires_grad_(False)
REFUSED: dict[str, Refused] = REALS | {
    "mixture of 50 rows": Refused(mixture, (MANY,), ("k", "loc"), "too many|combination|joint value|more than|values"),
    "three in a row, with losses": Refused(of_share(lambda p: p**3), (FLIPS,), ("p",), "beta"),
    "weak exotic term": Refused(of_share(lambda p: p, lambda p: 1e-4 * torch.sin(20 * p)), (FLIPS,), ("p",), "beta"),
    "site there only at times": Refused(sometimes, (Y,), ("w",), "only|not always|some values|there|missing|absent"),
    "subsampled plate": Refused(subsampled, (Y,), ("row", "y"), "subsampl"),
    "dropout": Refused(thinned, (X, LABELS), ("w", "y"), RANDOM),
    "dropout in a network": Refused(layered, (NET, X, LABELS), ("w", "y"), RANDOM),
    "poisson latent": Refused(counted(lambda: dist.Poisson(3.0)), (Y,), ("n",), "infinite|finite|support|endless"),
    "geometric latent": Refused(counted(lambda: dist.Geometric(0.3)), (Y,), ("n",), "infinite|finite|support|endless"),
    "half-normal scale of a mean": Refused(wide_or_narrow(lambda: dist.HalfNormal(1.0)), (Y,), ("s", "mu"), LATER),
    "gamma scale of a mean": Refused(wide_or_narrow(lambda: dist.Gamma(2.0, 1.0)), (Y,), ("s", "mu"), LATER),
    "eight schools": Refused(schools, (SCHOOLS, ERRORS), ("tau", "mu", "theta"), LATER),
    "product of two chances": Refused(chances, (FLIPS,), ("a", "b"), "beta|depend"),
    "rows that meet in a product": Refused(coupled_plate, (FLIPS,), ("p",), "beta|depend"),
    "sum of two rates": Refused(summed_rates, (COUNTS,), ("a", "b"), "gamma|depend"),
    "LKJ": Refused(correlated, (randn(55, 9, 2),), ("L",), "lkj|cholesky|correlation|support"),
    "half-cauchy sd": Refused(
        of_scale(lambda: dist.HalfCauchy(1.0), lambda s: dist.Normal(0.0, s)), (Y,), ("s",), GAMMA
    ),
    "gamma sd": Refused(of_scale(lambda: dist.Gamma(2.0, 1.0), lambda s: dist.Normal(0.0, s)), (Y,), ("s",), GAMMA),
    "gamma's shape": Refused(
        of_scale(lambda: dist.Gamma(2.0, 1.0), lambda s: dist.Gamma(s, 1.0)), (COUNTS + 1,), ("s",), GAMMA
    ),
    "beta's shape": Refused(
        of_scale(lambda: dist.Gamma(2.0, 1.0), lambda s: dist.Beta(s, 2.0)), (torch.sigmoid(Y),), ("s",), GAMMA
    ),
    "von mises": Refused(
        of_mean(lambda z: 2 * torch.cos(z), lambda: dist.VonMises(torch.tensor(0.0), torch.tensor(0.7))),
        (Y,),
        ("z",),
        ANGLE,
    ),
    "mean and precision apart": Refused(independent_prior, (Y,), ("mu", "tau"), LATER),
    "zero-inflated poisson": Refused(zero_inflated, (COUNTS,), ("gate", "rate"), "beta|gamma|depend"),
    "t beside a coin": Refused(heavy_or_not, (Y,), ("z",), NORMAL),
}

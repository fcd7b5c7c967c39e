"""Rates, scales, precisions and variances: Gamma and inverse gamma posteriors, and with a mean beside them.

Normal-gamma (Murphy 2012, section 4.6.3.7; normal-inverse-gamma is its mirror in 1/tau): with precision kappa0 tau of
the mean, kappa = kappa0 + N, m = (kappa0 m0 + sum y)/kappa, a = a0 + N/2,
b = b0 + (sum (y - ybar)^2 + kappa0 N (ybar - m0)^2/kappa)/2:

    log p(y) = log Gamma(a)/b^a - log Gamma(a0)/b0^a0 + log(kappa0/kappa)/2 - N/2 log(2 pi)
"""

import math

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import AffineTransform, PowerTransform, SigmoidTransform, TransformedDistribution

from tests.cases.posterior.oracles import Case, known_noise, log_gamma, randn, rows, t

TIMES = t(0.3, 1.9, 0.02, 4.1, 0.8)
Y = t(1.3, 0.2, 2.0, -0.7, 0.9, 1.1)
ABOVE = t(1.2, 3.4, 1.01, 8.0)
SHARES = t(0.2, 0.35, 0.9)
N = len(Y)


def exponential(times):
    rate = pyro.sample("rate", dist.Gamma(2.0, 3.0))
    rows("time", lambda: dist.Exponential(rate), times)


def gamma(times):
    rate = pyro.sample("rate", dist.Gamma(2.0, 3.0))
    rows("time", lambda: dist.Gamma(2.5, rate), times)


def inverse(times):
    scale = pyro.sample("scale", dist.InverseGamma(2.2, 3.0))
    rows("time", lambda: dist.Gamma(2.5, 1 / scale), times)


def weibull(times):
    """torch: scale, shape. With shape 2 the density is 2 r y exp(-r y^2), r = scale^-2."""
    r = pyro.sample("r", dist.Gamma(2.0, 3.0))
    rows("time", lambda: dist.Weibull(r**-0.5, 2.0), times)


def pareto(above):
    alpha = pyro.sample("alpha", dist.Gamma(2.0, 3.0))
    rows("above", lambda: dist.Pareto(1.0, alpha), above)


def laplace(y):
    scale = pyro.sample("scale", dist.InverseGamma(2.2, 3.0))
    rows("y", lambda: dist.Laplace(0.5, scale), y)


def precision(y):
    tau = pyro.sample("tau", dist.Gamma(2.0, 1.5))
    rows("y", lambda: dist.Normal(0.25, tau**-0.5), y)


def variance(y):
    v = pyro.sample("v", dist.InverseGamma(2.5, 1.5))
    rows("y", lambda: dist.Normal(0.25, v.sqrt()), y)


def deviation(y):
    """The sd itself is the site; its square to the -1 is a Gamma."""
    sd = pyro.sample("sd", dist.TransformedDistribution(dist.Gamma(2.0, 1.5), [PowerTransform(t(-0.5))]))
    rows("y", lambda: dist.Normal(0.25, sd), y)


def normal_gamma(y):
    tau = pyro.sample("tau", dist.Gamma(2.0, 1.5))
    mu = pyro.sample("mu", dist.Normal(0.5, (0.4 * tau) ** -0.5))
    rows("y", lambda: dist.Normal(mu, tau**-0.5), y)


def normal_inverse_gamma(y):
    v = pyro.sample("v", dist.InverseGamma(2.0, 1.5))
    mu = pyro.sample("mu", dist.Normal(0.5, (v / 0.4).sqrt()))
    rows("y", lambda: dist.Normal(mu, v.sqrt()), y)


def noisy_regression(X, y):
    """Coefficients in units of the noise, whose variance is unknown."""
    v = pyro.sample("v", dist.InverseGamma(2.5, 1.5))
    w = pyro.sample("w", dist.Normal(torch.zeros(X.shape[1], dtype=X.dtype), 1.5 * v.sqrt()).to_event(1))
    b = pyro.sample("b", dist.Normal(0.3, 2.0 * v.sqrt()))
    rows("y", lambda: dist.Normal(X @ w + b, v.sqrt()), y, len(X))


def log_normal(times):
    m = pyro.sample("m", dist.LogNormal(0.5, 0.8))
    rows("time", lambda: dist.LogNormal(m.log(), 0.6), times)


def log_normals(times):
    """A product of two: their logs are jointly normal."""
    a = pyro.sample("a", dist.LogNormal(0.5, 0.8))
    b = pyro.sample("b", dist.LogNormal(-0.25, 0.5))
    rows("time", lambda: dist.LogNormal((a * b).log(), 0.6), times)


def logit_normal(shares):
    z = pyro.sample("z", dist.TransformedDistribution(dist.Normal(0.3, 0.9), [SigmoidTransform()]))
    rows("share", lambda: dist.TransformedDistribution(dist.Normal(z.logit(), 0.6), [SigmoidTransform()]), shares)


def affine(y):
    """A normal in other units is a normal."""
    z = pyro.sample("z", dist.TransformedDistribution(dist.Normal(0.3, 0.9), [AffineTransform(t(2.0), t(3.0))]))
    rows("y", lambda: dist.Normal(z, 0.6), y)


def scaled(y):
    """Its evidence, and that the posterior of a scale has this shape and rate: a, a + n/2 and so on."""
    squares = ((y - 0.25) ** 2).sum()
    constant = -len(y) / 2 * math.log(2 * math.pi)
    return squares / 2, constant


def updated(prior, n, total, constant=0.0):
    """(shape, rate) after adding these; the log ratio of the normalisers and what does not depend on the scale."""
    a, b = t(*prior)
    return (a + n, b + total), (log_gamma(a + n, b + total) - log_gamma(a, b) + constant).item()


def one_scale(model, data, site, family, found):
    (a, b), evidence = found
    return Case(model, (data,), {site: family(a, b)}, evidence)


def mean_and_scale():
    kappa, n = 0.4 + N, N
    m = (0.4 * 0.5 + Y.sum()) / kappa
    b = 1.5 + (((Y - Y.mean()) ** 2).sum() + 0.4 * n * (Y.mean() - 0.5) ** 2 / kappa) / 2
    a = t(2.0 + n / 2)
    evidence = log_gamma(a, b) - log_gamma(2.0, 1.5) + 0.5 * math.log(0.4 / kappa) - n / 2 * math.log(2 * math.pi)
    return dist.StudentT(2 * a, m, (b / (a * kappa)).sqrt()), a, b, evidence.item()


def noisy():
    """w | v ~ N(m, v V) with V = (A'A + P)^-1; a = a0 + N/2, c = c0 + (y'y + m0'P m0 - m'V^-1 m)/2 (Murphy, 7.6.3)."""
    X, y = randn(1, 12, 3), randn(2, 12)
    A, m0 = torch.cat([X, torch.ones(12, 1).double()], 1), t(0, 0, 0, 0.3)
    P = torch.diag(t(1.5, 1.5, 1.5, 2.0) ** -2)
    V = torch.linalg.inv(A.T @ A + P)
    m = V @ (A.T @ y + P @ m0)
    a, c = t(2.5 + 6), 1.5 + ((y - A @ m) ** 2).sum() / 2 + (m - m0) @ P @ (m - m0) / 2
    evidence = log_gamma(a, c) - log_gamma(2.5, 1.5) - 6 * math.log(2 * math.pi)
    evidence += 0.5 * (torch.logdet(V) + torch.logdet(P))
    cov = V * c / a  # squared scale of the t
    tril = torch.linalg.cholesky(cov[:3, :3])
    found = {
        "v": dist.InverseGamma(a, c),
        "w": dist.MultivariateStudentT(2 * a, m[:3], tril),
        "b": dist.StudentT(2 * a, m[3], cov[3, 3].sqrt()),
    }
    between = {("w", "b"): cov[:3, 3:] * (a / (a - 1))}
    return Case(noisy_regression, (X, y), found, evidence.item(), between)


def product_of_two():
    """log a + log b = u with variances 0.64 and 0.25: each takes its share of what the data say of u."""
    u, evidence = known_noise(TIMES.log(), 0.25, 0.89**0.5, 0.6)
    shift, shrunk = u.mean - 0.25, 0.89 - u.variance
    found, logs = {}, {}
    for site, m, v in (("a", 0.5, 0.64), ("b", -0.25, 0.25)):
        logs[site] = (m + v / 0.89 * shift, v - v**2 / 0.89**2 * shrunk)
        found[site] = dist.LogNormal(logs[site][0], logs[site][1].sqrt())
    between = torch.expm1(-0.64 * 0.25 / 0.89**2 * shrunk) * found["a"].mean * found["b"].mean
    cov = {("a", "b"): between.reshape(1, 1)}
    return Case(log_normals, (TIMES,), found, evidence - TIMES.log().sum().item(), cov)


MU, A, B, BOTH = mean_and_scale()
HALF, NORMALS = scaled(Y)
LOGS = known_noise(TIMES.log(), 0.5, 0.8, 0.6)
LOGITS = known_noise(SHARES.logit(), 0.3, 0.9, 0.6)
UNITS = known_noise(Y, 2.9, 2.7, 0.6)
DEVIATION = updated((2.0, 1.5), N / 2, HALF, NORMALS)
SCALES = {
    "exponential": one_scale(exponential, TIMES, "rate", dist.Gamma, updated((2, 3), 5, TIMES.sum())),
    "gamma, known shape": one_scale(
        gamma,
        TIMES,
        "rate",
        dist.Gamma,
        updated((2, 3), 2.5 * 5, TIMES.sum(), 1.5 * TIMES.log().sum() - 5 * math.lgamma(2.5)),
    ),
    "gamma, inverse gamma scale": one_scale(
        inverse,
        TIMES,
        "scale",
        dist.InverseGamma,
        updated((2.2, 3), 2.5 * 5, TIMES.sum(), 1.5 * TIMES.log().sum() - 5 * math.lgamma(2.5)),
    ),
    "weibull, known shape": one_scale(
        weibull,
        TIMES,
        "r",
        dist.Gamma,
        updated((2, 3), 5, (TIMES**2).sum(), TIMES.log().sum() + 5 * math.log(2)),
    ),
    "pareto": one_scale(pareto, ABOVE, "alpha", dist.Gamma, updated((2, 3), 4, ABOVE.log().sum(), -ABOVE.log().sum())),
    "laplace, known place": one_scale(
        laplace, Y, "scale", dist.InverseGamma, updated((2.2, 3), N, (Y - 0.5).abs().sum(), -N * math.log(2))
    ),
    "normal, precision": one_scale(precision, Y, "tau", dist.Gamma, updated((2, 1.5), N / 2, HALF, NORMALS)),
    "normal, variance": one_scale(variance, Y, "v", dist.InverseGamma, updated((2.5, 1.5), N / 2, HALF, NORMALS)),
    "normal-gamma": Case(normal_gamma, (Y,), {"mu": MU, "tau": dist.Gamma(A, B)}, BOTH),
    "normal-inverse-gamma": Case(normal_inverse_gamma, (Y,), {"mu": MU, "v": dist.InverseGamma(A, B)}, BOTH),
    "regression, unknown noise": noisy(),
    "lognormal": Case(
        log_normal, (TIMES,), {"m": dist.LogNormal(LOGS[0].loc, LOGS[0].scale)}, LOGS[1] - TIMES.log().sum().item()
    ),
    "product of lognormals": product_of_two(),
    "logit-normal": Case(
        logit_normal,
        (SHARES,),
        {"z": TransformedDistribution(LOGITS[0], [SigmoidTransform()])},
        LOGITS[1] - (SHARES * (1 - SHARES)).log().sum().item(),
    ),
    "affine normal": Case(affine, (Y,), {"z": UNITS[0]}, UNITS[1]),
}
SCALES_EITHER = {
    "normal, sd": Case(
        deviation,
        (Y,),
        {"sd": TransformedDistribution(dist.Gamma(*DEVIATION[0]), [PowerTransform(t(-0.5))])},
        DEVIATION[1],
    ),
}

"""Plates whose rows hold several latents, plates below a finite latent, and priors that hardly say anything."""

import math

import pyro
import pyro.distributions as dist
import torch

from tests.cases.posterior.oracles import Case, conditioned, log_beta, log_choose, log_gamma, mixture, randn, rows, t

Y = t(1.3, 0.2, 2.0, -0.7, 0.9, 1.1)
TABLE = randn(61, 4, 5)
HITS = t(1.0, 0.0, 4.0)


def normal_gammas(table):
    """A mean and a precision of its own for each column, shape (5,); data (4, 5)."""
    with pyro.plate("column", 5, dim=-1):
        tau = pyro.sample("tau", dist.Gamma(2.0, 1.5))
        mu = pyro.sample("mu", dist.Normal(0.5, (0.4 * tau) ** -0.5))
        with pyro.plate("row", 4, dim=-2):
            pyro.sample("y", dist.Normal(mu, tau**-0.5), obs=table)


def pairs(table):
    """Two latents of each column that hang together, and know nothing of other columns."""
    with pyro.plate("column", 5, dim=-1):
        a = pyro.sample("a", dist.Normal(0.5, 1.0))
        b = pyro.sample("b", dist.Normal(a, 0.5))
        with pyro.plate("row", 4, dim=-2):
            pyro.sample("y", dist.Normal(a + 2 * b, 1.0), obs=table)


def which_prior(y):
    """A coin says where the mean is expected; mean and precision unknown."""
    k = pyro.sample("k", dist.Bernoulli(0.3))
    tau = pyro.sample("tau", dist.Gamma(2.0, 1.5))
    mu = pyro.sample("mu", dist.Normal(2.0 * k, (0.4 * tau) ** -0.5))
    rows("y", lambda: dist.Normal(mu, tau**-0.5), y)


def coin_above_betas(hits):
    k = pyro.sample("k", dist.Bernoulli(0.3))
    with pyro.plate("group", len(hits)):
        p = pyro.sample("p", dist.Beta(1.0 + 4.0 * k, 2.0))
        pyro.sample("hits", dist.Binomial(5, p), obs=hits)


def u_shaped(hits):
    """The posterior has its mass at the ends, where a group saw only hits or none."""
    with pyro.plate("group", len(hits)):
        p = pyro.sample("p", dist.Beta(0.05, 0.05))
        pyro.sample("hits", dist.Binomial(torch.tensor([1.0, 0.0, 5.0]), p), obs=hits)


def vague_rate(counts):
    rate = pyro.sample("rate", dist.Gamma(0.01, 0.01))
    rows("count", lambda: dist.Poisson(rate), counts)


def vague_variance(y):
    v = pyro.sample("v", dist.InverseGamma(0.001, 0.001))
    rows("y", lambda: dist.Normal(0.0, v.sqrt()), y)


def levels(y):
    """Two levels above the data, all in units of the noise, whose variance is unknown."""
    v = pyro.sample("v", dist.InverseGamma(2.5, 1.5))
    w = pyro.sample("w", dist.Normal(torch.zeros(3), v.sqrt()).to_event(1))
    with pyro.plate("group", len(y)):
        u = pyro.sample("u", dist.Normal(w.sum(-1, keepdim=True), 2 * v.sqrt()))
        pyro.sample("y", dist.Normal(u, v.sqrt()), obs=y)


def branch(wet):
    """A plain Python branch on a coin: two runs tell all."""
    rain = pyro.sample("rain", dist.Bernoulli(0.3))
    pyro.sample("wet", dist.Bernoulli(0.9 if rain > 0 else 0.2), obs=wet)


def of_normal_gamma(y, m0):
    """(mu, a, b, log p(y)) of each column; see `tests.cases.posterior.scales`. y: (n, *columns)."""
    n = len(y)
    kappa, mean = 0.4 + n, y.mean(0)
    m = (0.4 * m0 + n * mean) / kappa
    b = 1.5 + (((y - mean) ** 2).sum(0) + 0.4 * n * (mean - m0) ** 2 / kappa) / 2
    a = torch.full_like(b, 2.0 + n / 2)
    evidence = log_gamma(a, b) - log_gamma(2.0, 1.5) + 0.5 * math.log(0.4 / kappa) - n / 2 * math.log(2 * math.pi)
    return dist.StudentT(2 * a, m, (b / (a * kappa)).sqrt()), a, b, evidence


def of_normal_gammas():
    mu, a, b, evidence = of_normal_gamma(TABLE, 0.5)
    return Case(normal_gammas, (TABLE,), {"mu": mu, "tau": dist.Gamma(a, b)}, evidence.sum().item())


def of_pairs():
    A, P = torch.tensor([[1.0, 2.0]]).double().expand(4, 2), t([1.0, 1.0], [1.0, 1.25])
    each = [conditioned(t(0.5, 0.5), P, A, torch.eye(4).double(), y) for y in TABLE.T]
    mean, sd = torch.stack([g.mean for g in each]), torch.stack([g.cov.diagonal() for g in each]).sqrt()
    found = {"a": dist.Normal(mean[:, 0], sd[:, 0]), "b": dist.Normal(mean[:, 1], sd[:, 1])}
    between = torch.diag(torch.stack([g.cov[0, 1] for g in each]))
    return Case(pairs, (TABLE,), found, sum(g.evidence for g in each), {("a", "b"): between})


def of_which_prior():
    mu, a, b, evidence = of_normal_gamma(Y[:, None].expand(6, 2), t(0.0, 2.0))
    terms = t(0.7, 0.3).log() + evidence
    found = {
        "k": dist.Bernoulli(terms.softmax(0)[1]),
        "tau": mixture(terms, dist.Gamma(a, b)),
        "mu": mixture(terms, mu),
    }
    return Case(which_prior, (Y,), found, terms.logsumexp(0).item())


def of_coin_above():
    a = t(1.0, 5.0) + HITS[:, None]  # (3, 2)
    b = (7.0 - HITS[:, None]).expand(3, 2)
    each = log_beta(a, b) - log_beta(t(1.0, 5.0), t(2.0, 2.0)) + log_choose(t(5.0), HITS)[:, None]
    terms = t(0.7, 0.3).log() + each.sum(0)
    found = {"k": dist.Bernoulli(terms.softmax(0)[1]), "p": mixture(terms.expand(3, 2), dist.Beta(a, b))}
    share = terms.softmax(0)[1]
    means = a / (a + b)
    between = share * (1 - share) * (means[:, 1] - means[:, 0])
    return Case(coin_above_betas, (HITS,), found, terms.logsumexp(0).item(), {("k", "p"): between[None]})


def of_u_shaped():
    a, b = 0.05 + HITS, 0.05 + t(1.0, 0.0, 5.0) - HITS
    evidence = log_beta(a, b) - log_beta(0.05, 0.05) + log_choose(t(1.0, 0.0, 5.0), HITS)
    return Case(u_shaped, (HITS,), {"p": dist.Beta(a, b)}, evidence.sum().item())


def of_vague_rate(counts):
    a, b = 0.01 + counts.sum(), t(0.01 + len(counts))
    evidence = log_gamma(a, b) - log_gamma(0.01, 0.01) - torch.lgamma(counts + 1).sum()
    return Case(vague_rate, (counts,), {"rate": dist.Gamma(a, b)}, evidence.item())


def of_vague_variance():
    a, b = t(0.001 + 3), 0.001 + (Y**2).sum() / 2
    evidence = log_gamma(a, b) - log_gamma(0.001, 0.001) - 3 * math.log(2 * math.pi)
    return Case(vague_variance, (Y,), {"v": dist.InverseGamma(a, b)}, evidence.item())


def of_levels():
    """z = (w, u) ~ N(0, vP), y = u + noise of variance v: a = a0 + N/2, c = c0 + y'S^-1 y/2, squared scale C c/a."""
    n, P = len(Y), torch.eye(9).double()
    P[3:, :3] = P[:3, 3:] = 1.0
    P[3:, 3:] = 3.0 + 4.0 * torch.eye(n).double()
    A = torch.cat([torch.zeros(n, 3), torch.eye(n)], 1).double()
    S = A @ P @ A.T + torch.eye(n).double()
    found = conditioned(torch.zeros(9).double(), P, A, torch.eye(n).double(), Y)
    a, c = t(2.5 + n / 2), 1.5 + Y @ torch.linalg.solve(S, Y) / 2
    evidence = log_gamma(a, c) - log_gamma(2.5, 1.5) - n / 2 * math.log(2 * math.pi) - torch.logdet(S) / 2
    tril = [torch.linalg.cholesky(found.cov[part, part] * c / a) for part in (slice(0, 3), slice(3, 9))]
    marginals = {
        "v": dist.InverseGamma(a, c),
        "w": dist.MultivariateStudentT(2 * a, found.mean[:3], tril[0]),
        "u": dist.MultivariateStudentT(2 * a, found.mean[3:], tril[1]),
    }
    return Case(levels, (Y,), marginals, evidence.item(), {("w", "u"): found.cov[:3, 3:] * c / (a - 1)})


PLATED = {
    "two levels, unknown noise": of_levels(),
    "normal-gammas in a plate": of_normal_gammas(),
    "pairs in a plate": of_pairs(),
    "which prior, unknown noise": of_which_prior(),
    "a coin above betas": of_coin_above(),
    "betas at the ends": of_u_shaped(),
    "vague rate": of_vague_rate(t(3.0, 1.0)),
    "vague rate, no event": of_vague_rate(t(0.0, 0.0)),
    "vague variance": of_vague_variance(),
}
PLATED_EITHER = {
    "a branch on a coin": Case(branch, (t(1.0),), {"rain": dist.Bernoulli(t(0.27 / 0.41))}, math.log(0.41))
}

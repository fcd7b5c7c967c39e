"""Closed forms beyond what is promised: they may be refused, but then with the site; claimed, they must be right."""

import math

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch.distributions import Distribution

from tests.cases.posterior.oracles import Case, known_noise, randn, rows, t

TIMES = t(0.3, 1.9, 0.2, 4.1, 0.8)
Y = t(1.3, 0.2, 2.0, -0.7, 0.9, 1.1)
VECTORS = randn(41, 9, 2)


def uniform_pareto(times):
    """theta bounds the data: Pareto(max(2, max y), 1.5 + N), evidence 1.5 2^1.5 / ((1.5 + N) m^(1.5 + N))."""
    theta = pyro.sample("theta", dist.Pareto(2.0, 1.5))
    rows("time", lambda: dist.Uniform(0.0, theta), times)


def positive_mean(y):
    """A normal cut off at zero."""
    z = pyro.sample("z", dist.HalfNormal(2.0))
    rows("y", lambda: dist.Normal(z, 0.7), y)


def flat_mean(y):
    """A normal cut off at both ends of the prior."""
    z = pyro.sample("z", dist.Uniform(-1.0, 1.0))
    rows("y", lambda: dist.Normal(z, 0.7), y)


def detached(y):
    """Its gradients are wrong, its density is that of a normal mean."""
    z = pyro.sample("z", dist.Normal(0.5, 2.0))
    rows("y", lambda: dist.Normal(z.detach(), 0.7), y)


def wishart(vectors):
    """W ~ Wishart(nu, V): nu + N, (V^-1 + sum yy')^-1 (Bishop 2006, eq. B.78-B.82)."""
    W = pyro.sample("W", dist.Wishart(torch.tensor(4.0), torch.tensor([[0.5, 0.1], [0.1, 0.4]])))
    rows("y", lambda: dist.MultivariateNormal(torch.zeros(2), precision_matrix=W), vectors)


class CutNormal(Distribution):
    """N(m, s) between two ends; moments by the formulas of Johnson, Kotz and Balakrishnan (1994), section 10.1."""

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real

    def __init__(self, m, s, low, high):
        super().__init__(validate_args=False)
        self.normal, self.low, self.high = dist.Normal(m, s), low, high
        a, b = (low - m) / s, (high - m) / s
        unit = dist.Normal(t(0.0), t(1.0))
        self.mass = self.normal.cdf(high) - self.normal.cdf(low)
        fa, fb = unit.log_prob(a).exp(), unit.log_prob(b).exp()
        self._mean = m + s * (fa - fb) / self.mass
        tail = torch.where(b > 30, 0.0 * b, b * fb)
        self._variance = s**2 * (1 + (a * fa - tail) / self.mass - ((fa - fb) / self.mass) ** 2)

    mean = property(lambda self: self._mean)
    variance = property(lambda self: self._variance)
    has_enumerate_support = False

    def sample(self, shape=()):
        u = torch.rand(shape, dtype=torch.float64)
        return self.normal.icdf(self.normal.cdf(self.low) + u * self.mass)

    def log_prob(self, x):
        return self.normal.log_prob(x) - self.mass.log()


def of_uniform():
    n, m = len(TIMES), max(2.0, TIMES.max().item())
    evidence = math.log(1.5) + 1.5 * math.log(2) - math.log(1.5 + n) - (1.5 + n) * math.log(m)
    return Case(uniform_pareto, (TIMES,), {"theta": dist.Pareto(t(m), t(1.5 + n))}, evidence)


def of_cut(model, low, high, log_prior):
    """A prior that is exp(log_prior) times N(0, 2) or 1 between the ends."""
    precision = len(Y) / 0.49 + (0.25 if high > 30 else 0.0)
    m, s = Y.sum() / 0.49 / precision, t(precision**-0.5)
    found = CutNormal(m, s, t(low), t(high))
    at = dist.Normal(m, s).log_prob(m)
    likelihood = dist.Normal(m, t(0.7)).log_prob(Y).sum()
    prior = dist.Normal(t(0.0), t(2.0)).log_prob(m) if high > 30 else t(0.0)
    return Case(model, (Y,), {"z": found}, (likelihood + prior + log_prior - at + found.mass.log()).item())


def of_detached():
    found, evidence = known_noise(Y, 0.5, 2.0, 0.7)
    return Case(detached, (Y,), {"z": found}, evidence)


def of_wishart():
    n, V = len(VECTORS), t([0.5, 0.1], [0.1, 0.4])
    new = torch.linalg.inv(torch.linalg.inv(V) + VECTORS.T @ VECTORS)
    new = (new + new.T) / 2

    def log_norm(nu, V):
        """log of what a Wishart density is divided by, two dimensions."""
        gammas = 0.5 * math.log(math.pi) + math.lgamma(nu / 2) + math.lgamma((nu - 1) / 2)
        return nu / 2 * torch.logdet(V).item() + nu * math.log(2) + gammas

    evidence = log_norm(4.0 + n, new) - log_norm(4.0, V) - n * math.log(2 * math.pi)
    return Case(wishart, (VECTORS,), {"W": dist.Wishart(t(4.0 + n), new)}, evidence)


EDGES = {
    "uniform-pareto": of_uniform(),
    "positive mean": of_cut(positive_mean, 0.0, 1e6, math.log(2.0)),
    "flat mean": of_cut(flat_mean, -1.0, 1.0, -math.log(2.0)),
    "detached mean": of_detached(),
    "wishart": of_wishart(),
}

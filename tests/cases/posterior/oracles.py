"""The oracles that a posterior is compared with: closed forms written by hand in float64, in nats.

log int x^(a-1) e^(-bx) dx = log Gamma(a) - a log b               of gammas and, with x = 1/v, of inverse gammas
log int p^(a-1) (1-p)^(b-1) dp = log B(a, b)
z ~ N(m, P), y | z ~ N(Az, R):  y ~ N(Am, S), S = APA' + R, z | y ~ N(m + K(y - Am), P - KAP), K = PA'S^-1
                                                                  (Bishop 2006, eq. 2.113-2.117)
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch.distributions import Distribution

import credo


class Case(NamedTuple):
    """A model whose posterior is known: the marginals by site, and log p(data) in nats.

    A site whose elements depend on each other has them flattened into the event of its oracle. covariances: between two
    sites, flattened, shape (elements of one, elements of the other).
    """

    model: Callable[..., Any]
    data: tuple[Any, ...]
    marginals: Mapping[str, Distribution]
    evidence: float
    covariances: Mapping[tuple[str, str], torch.Tensor] = {}


def t(*values: Any) -> torch.Tensor:
    """One number, or a vector, in double precision."""
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.float64)


def randn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def log_beta(*a: Any) -> torch.Tensor:
    """log of the normaliser of a Dirichlet (a Beta for two): sum of log Gamma(a) less log Gamma of the sum."""
    a = torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in a])
    return torch.lgamma(a).sum(0) - torch.lgamma(a.sum(0))


def log_gamma(a: Any, b: Any) -> torch.Tensor:
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    return torch.lgamma(a) - a * b.log()


def log_factorial(n: torch.Tensor) -> torch.Tensor:
    return torch.lgamma(n.double() + 1)


def log_choose(n: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return log_factorial(n) - log_factorial(k) - log_factorial(n - k)


class Gaussian(NamedTuple):
    mean: torch.Tensor  # (D,)
    cov: torch.Tensor  # (D, D)
    evidence: float  # nats

    def block(self, index: Any) -> Distribution:
        """The marginal of some coordinates: a normal for an int, else a multivariate normal."""
        if isinstance(index, int):
            return dist.Normal(self.mean[index], self.cov[index, index].sqrt())
        return dist.MultivariateNormal(self.mean[index], self.cov[index][:, index])


def conditioned(m: torch.Tensor, P: torch.Tensor, A: torch.Tensor, R: torch.Tensor, y: torch.Tensor) -> Gaussian:
    """z ~ N(m, P) given y ~ N(Az, R); shapes (D,), (D, D), (N, D), (N, N), (N,). The covariance by Joseph's form."""
    S = A @ P @ A.T + R
    K = torch.linalg.solve(S, A @ P).T  # (D, N)
    rest = torch.eye(len(m), dtype=m.dtype) - K @ A
    cov = rest @ P @ rest.T + K @ R @ K.T
    return Gaussian(m + K @ (y - A @ m), (cov + cov.T) / 2, normal_log_prob(y, A @ m, S))


def normal_log_prob(y: torch.Tensor, mean: torch.Tensor, cov: torch.Tensor) -> float:
    """log N(y; mean, cov), shapes (N,), (N,), (N, N)."""
    y = y - mean
    quadratic = y @ torch.linalg.solve(cov, y)
    return -0.5 * (quadratic + torch.linalg.slogdet(cov)[1] + len(y) * math.log(2 * math.pi)).item()


def known_noise(y: torch.Tensor, m: float, s: float, noise: float) -> tuple[Distribution, float]:
    """(posterior of mu, log p(y)), y ~ N(mu, noise), mu ~ N(m, s): in sums of squares that do not cancel."""
    n, mean = len(y), y.mean()
    v = 1 / (s**-2 + n * noise**-2)
    square = ((y - mean) ** 2).sum() / noise**2 + (mean - m) ** 2 / (s**2 + noise**2 / n)
    evidence = -0.5 * square - n / 2 * math.log(2 * math.pi * noise**2) + 0.5 * math.log(v / s**2)
    return dist.Normal(v * (m / s**2 + n * mean / noise**2), t(v**0.5)), evidence.item()


def mixture(logits: torch.Tensor, parts: Distribution) -> Distribution:
    """Parts of shape (K,), weighted by the exponentials of the logits, normalised."""
    return dist.MixtureSameFamily(torch.distributions.Categorical(logits=logits), parts)


def rows(name: str, fn: Callable[[], Any], y: torch.Tensor | None, n: int | None = None) -> None:
    """y ~ fn() in a plate of all rows; a tensor of rows, or None and their number."""
    with pyro.plate(f"{name} rows", len(y) if n is None else n):
        pyro.sample(name, fn(), obs=y)


def check(exact: Any, case: Case) -> None:
    """Evidence to 1e-6 nats, marginals to 1e-8 of their size, densities at draws of the oracle to 1e-6 nats."""
    assert abs(exact.log_evidence - case.evidence) <= 1e-6, (exact.log_evidence, case.evidence)
    assert set(exact.marginals) == set(case.marginals)
    trace = poutine.trace(case.model).get_trace(*case.data)
    shapes = {site: trace.nodes[site]["value"].shape for site in case.marginals}
    for site, oracle in case.marginals.items():
        found = exact.marginals[site]
        if oracle.has_enumerate_support and not oracle.event_shape:
            for value in oracle.enumerate_support():
                close(site, found.log_prob(value).exp(), oracle.log_prob(value).exp(), 1e-8)
            continue
        shape = found.batch_shape + found.event_shape
        assert shape == shapes[site], f"{site}: {tuple(shape)}, wanted {tuple(shapes[site])}"
        if analytic(oracle):
            mean, sd = (v.reshape(shape) for v in (oracle.mean, oracle.variance.sqrt()))
            close(site, found.mean, mean, 1e-8 * torch.maximum(mean.abs(), sd))
            close(site, found.variance.sqrt(), sd, 1e-8 * sd)
        if (found.batch_shape, found.event_shape) == (oracle.batch_shape, oracle.event_shape):
            torch.manual_seed(1)
            x = oracle.sample((5,))
            a, b = (fn.log_prob(x.double()).reshape(5, -1).sum(1) for fn in (found, oracle))
            close(f"log density of {site}", a, b, 1e-6)


def analytic(fn: Distribution) -> bool:
    """Whether torch knows its mean: not of a logit-normal."""
    try:
        return fn.mean is not None
    except NotImplementedError:
        return False


def close(what: str, found: torch.Tensor, wanted: torch.Tensor, bound: Any) -> None:
    assert found.dtype == torch.float64, f"{what}: {found.dtype}"
    assert found.shape == wanted.shape, f"{what}: shape {tuple(found.shape)}, wanted {tuple(wanted.shape)}"
    excess = ((found - wanted).abs() / bound).max().item()
    assert excess <= 1, f"{what}: off by {excess:.3g} times what is allowed\nfound  {found}\nwanted {wanted}"


def refused(model: Callable[..., Any], data: tuple[Any, ...]) -> str:
    """The message of the refusal, or an AssertionError that shows what was claimed."""
    try:
        exact = credo.exact(model, *data)
    except credo.NoClosedForm as error:
        return str(error)
    raise AssertionError(f"accepted: log evidence {exact.log_evidence}, {dict(exact.marginals)}")

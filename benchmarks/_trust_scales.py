"""Scales and sizes of trust.py: each problem beside its standardised twin, with posteriors by formula or quadrature."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from _trust_case import Model, Moments, closed, linear, noise
from torch.distributions import constraints

SCALES = (1e-4, 77.0, 1e6)


class Scaled(NamedTuple):
    """A problem. base: the name of the standardised one, whose steps and seconds its own are compared with."""

    name: str
    base: str
    model: Model
    guide: Callable[..., Any] | str | None
    data: tuple[Any, ...]
    moments: Mapping[str, Moments]


def problems() -> list[Scaled]:
    found = []
    for word in (None, "full_rank", "mean_field"):
        how = f"({word})"
        base = f"raw data, scale 1 {how}"
        for scale in (1.0, *SCALES):
            found.append(raw(f"raw data, scale {scale:g} {how}", base, scale, 100, word))
        found.append(raw(f"raw data, N = 1e6 {how}", base, 1.0, 1_000_000, word))
        base = f"sds of 1 {how}"
        found.append(many(base, base, torch.ones(1000), word))
        found.append(many(f"1,000 sds from 1e-2 to 1e2 {how}", base, torch.logspace(-2, 2, 1000), word))
        base = f"counts, N = 100 {how}"
        for rows in (100, 1, 1_000_000):
            found.append(counts(base if rows == 100 else f"counts, N = {rows:g} {how}", base, rows, word))
    for word in (None, "full_rank"):
        base = f"columns, scale 1, condition 1 ({word})"
        found.append(columns(base, base, 1.0, 0, word))
        found += [columns(f"columns, scale {s:g} ({word})", base, s, 0, word) for s in SCALES]
        found.append(columns(f"condition 1e6 ({word})", base, 1.0, 3, word))
    base = "precision of sd 1 (Gamma guide)"
    found.append(precision(base, base, 1.0))
    found += [precision(f"precision of sd {s:g} (Gamma guide)", base, s) for s in (1e-2, 1e2)]
    return found


def raw(name: str, base: str, scale: float, rows: int, guide: Any) -> Scaled:
    """Data of sd `scale` around 3 scales, with unknown mean and sd; the posterior by quadrature in units of scale."""

    def model(y):
        m = pyro.sample("m", dist.Normal(0.0, 1000.0 * scale))
        s = pyro.sample("s", dist.LogNormal(math.log(scale), 2.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(m, s), obs=y)

    y = scale * (3 + torch.randn(rows, generator=noise(40)))
    units = y.double() / scale
    mean, var = units.mean(), units.var(correction=0)
    sd = (var / rows).sqrt()
    m = mean + sd * torch.linspace(-9, 9, 801, dtype=torch.float64)
    log_s = var.sqrt().log() + torch.linspace(-9, 9, 801, dtype=torch.float64) / math.sqrt(2 * rows)
    square = (var + (m[:, None] - mean).square()) * rows / 2
    log_p = -square * (-2 * log_s).exp() - rows * log_s - log_s**2 / 8 - (m[:, None] / 1000).square() / 2
    weight = (log_p - log_p.max()).exp()
    of_m, of_s = quadrature(m, weight.sum(1)), quadrature(log_s.exp(), weight.sum(0))
    moments = {"m": closed(*(scale * each for each in of_m)), "s": closed(*(scale * each for each in of_s))}
    return Scaled(name, base, model, guide, (y,), moments)


def many(name: str, base: str, sds: torch.Tensor, guide: Any) -> Scaled:
    """One observation of each mean, with sd sds: the precisions of prior and observation add."""

    def model(y, sds):
        with pyro.plate("N", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 300.0))
            pyro.sample("y", dist.Normal(z, sds), obs=y)

    y = 50 * torch.randn(len(sds), generator=noise(41))
    var = 1 / (sds.double() ** -2 + 300.0**-2)
    return Scaled(name, base, model, guide, (y, sds), {"z": closed(var * y.double() * sds.double() ** -2, var.sqrt())})


def counts(name: str, base: str, rows: int, guide: Any) -> Scaled:
    """Poisson counts whose log rate is normal; the posterior by quadrature."""

    def model(y):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Poisson(a.exp()), obs=y)

    y = torch.poisson(torch.full((rows,), 4.0), generator=noise(42))
    total = y.double().sum()
    near = ((total + 0.5) / rows).log()
    a = near + torch.linspace(-12, 12, 20_001, dtype=torch.float64) / (total + 1).sqrt()
    log_p = total * a - rows * a.exp() - a**2 / 2
    return Scaled(name, base, model, guide, (y,), {"a": closed(*quadrature(a, (log_p - log_p.max()).exp()))})


def columns(name: str, base: str, scale: float, decades: int, guide: Any) -> Scaled:
    """A regression on 20 columns; X'X has eigenvalues from 10^(-2 decades) to 1 times 200 scale^2."""

    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(20), 1e5 / scale).to_event(1))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)

    g = noise(43)
    left, right = (torch.linalg.qr(torch.randn(n, 20, generator=g).double())[0] for n in (200, 20))
    x = (200**0.5 * scale * (left * torch.logspace(0, -decades, 20)) @ right.T).float()
    y = x @ torch.randn(20, generator=g) / scale + 0.5 * torch.randn(200, generator=g)
    mean, cov, _ = linear(x, y, 1e5 / scale, 0.5)
    return Scaled(name, base, model, guide, (x, y), {"w": closed(mean, cov.diagonal().sqrt())})


def precision(name: str, base: str, sd: float) -> Scaled:
    """The precision of 3,000 numbers of this sd, with a Gamma guide: Gamma(1 + N / 2, 1 + sum y^2 / 2)."""

    def model(y):
        t = pyro.sample("t", dist.Gamma(1.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(0.0, t.rsqrt()), obs=y)

    def guide(y):
        a = pyro.param("a", torch.tensor(1.0), constraint=constraints.positive)
        b = pyro.param("b", torch.tensor(1.0), constraint=constraints.positive)
        pyro.sample("t", dist.Gamma(a, b))

    y = sd * torch.randn(3000, generator=noise(44))
    a, b = 1 + 1500, 1 + y.double().square().sum().item() / 2
    return Scaled(name, base, model, guide, (y,), {"t": closed(a / b, math.sqrt(a) / b)})


def quadrature(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean, sd) of points with equal distances in the variable of the weight."""
    mean = (weight * x).sum() / weight.sum()
    return mean, ((weight * (x - mean).square()).sum() / weight.sum()).sqrt()

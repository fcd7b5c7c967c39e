"""`scale.py minibatch`: fits with defaults in batches of 100 rows, beside their exact posteriors, over seeds.

    coin     p ~ Beta(10, 10), N = 1e5 flips                                       Beta posterior
    linear   b ~ N(0, 10^2 I) in 5 dimensions, y ~ N(x b, .5^2), N = 1e5 rows      normal posterior
    latents  mu ~ N(0, 10^2), z_n ~ N(mu, 1), x_n ~ N(z_n, .5^2), N = 2,000        normal posterior, its mean field

Wanted: each mean within .1 sd, each sd within 5 % of the exact one, or that the fit says it has not converged. The mean
field of a normal posterior has its means, and sds 1 / sqrt(precision) of each scalar; those are the ones compared.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch

import credo

SEEDS, BATCH = 5, 100
MEAN, SD = 0.1, 0.05  # of an exact sd; relative
NOISE = 0.5


class Case(NamedTuple):
    model: Callable[..., Any]
    guide: str | None
    data: tuple[torch.Tensor, ...]
    site: str
    mean: torch.Tensor  # of the exact posterior
    sd: torch.Tensor  # of its mean field


def coin_model(flips: torch.Tensor) -> None:
    p = pyro.sample("p", dist.Beta(10.0, 10.0))
    with pyro.plate("N", len(flips)):
        pyro.sample("flips", dist.Bernoulli(p), obs=flips)


def coin(n: int, seed: int) -> Case:
    flips = (torch.rand(n, generator=torch.Generator().manual_seed(seed)) < 0.7).float()
    exact = dist.Beta(10 + flips.double().sum(), 10 + n - flips.double().sum())
    return Case(coin_model, None, (flips,), "p", exact.mean, exact.variance.sqrt())


def linear_model(x: torch.Tensor, y: torch.Tensor) -> None:
    b = pyro.sample("b", dist.Normal(torch.zeros(x.shape[1]), 10.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x @ b, NOISE), obs=y)


def linear(n: int, seed: int) -> Case:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, generator=generator)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0]) + NOISE * torch.randn(n, generator=generator)
    precision = torch.eye(5) / 100 + x.double().T @ x.double() / NOISE**2
    mean = torch.linalg.solve(precision, x.double().T @ y.double() / NOISE**2)
    return Case(linear_model, None, (x, y), "b", mean, precision.diag().rsqrt())


def latents_model(x: torch.Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(mu, 1.0))
        pyro.sample("x", dist.Normal(z, NOISE), obs=x)


def latents(n: int, seed: int, guide: str | None = None) -> Case:
    generator = torch.Generator().manual_seed(seed)
    x = 1.5 + torch.randn(n, generator=generator) + NOISE * torch.randn(n, generator=generator)
    mu = x.double().sum() / (1 + NOISE**2) / (1 / 100 + n / (1 + NOISE**2))
    precision = 1 + NOISE**-2
    return Case(
        latents_model, guide, (x,), "z", (mu + x.double() / NOISE**2) / precision, torch.tensor(precision**-0.5)
    )


def amortised(n: int, seed: int) -> Case:
    return latents(n, seed, "amortised")


CASES: tuple[tuple[Callable[..., Case], int], ...] = (
    *((coin, 100_000), (linear, 100_000)),
    *((latents, 2000), (amortised, 2000)),
)


def minibatch(quick: bool, cases: tuple[tuple[Callable[..., Case], int], ...] = CASES) -> None:
    for make, n in cases:
        for seed in range(1 if quick else SEEDS):
            found = make(n // 20 if quick else n, seed)
            begun = time.process_time()
            fit = credo.fit(found.model, found.guide, *found.data, batch_size=BATCH, seed=seed, progress=False)
            draws = fit.sample(4000)[found.site].double()
            off = (draws.mean(0) - found.mean) / found.sd
            ratio = draws.std(0) / found.sd
            # Of many latents the root mean squares, since the largest of thousands of errors of draws is large.
            many = off.numel() > 100
            mean = off.square().mean().sqrt().item() if many else off.abs().max().item()
            sd = (ratio - 1).square().mean().sqrt().item() if many else (ratio - 1).abs().max().item()
            good = mean <= MEAN and sd <= SD
            said = "" if good else " SAID SO" if not fit.converged else " SILENT"
            print(
                f"{make.__name__:9} seed {seed}: mean off by {mean:.3f} sd, sd by {sd:.1%}; {len(fit.losses):,} steps, "
                f"{time.process_time() - begun:.0f} s of CPU; {'met' if good else 'missed'}{said}; {fit.stopped}",
                flush=True,
            )

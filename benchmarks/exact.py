"""How long does `credo.exact` take to find a closed form, and how accurate is it?

    python benchmarks/exact.py [rounds]

Coin with 1e6 flips (wanted < 1 s), regression with N = 1e5 and D = 100 (< 5 s), 1000 plated Betas at once (< 1 s), a
random walk of 100 sites. Seconds: the fastest and the median of the rounds, in one process; the first counts too.
Error: the difference of the log evidence from the formula, nats.
"""

import math
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch

import credo


class Task(NamedTuple):
    """wanted: seconds, or None. evidence: log p(data) by the formula, nats."""

    name: str
    model: Callable[..., Any]
    data: tuple[torch.Tensor, ...]
    wanted: float | None
    evidence: float


def coin(n: int = 1_000_000) -> Task:
    def model(flips: torch.Tensor) -> None:
        p = pyro.sample("p", dist.Beta(2.0, 3.0))
        with pyro.plate("N", len(flips)):
            pyro.sample("flip", dist.Bernoulli(p), obs=flips)

    flips = (torch.rand(n) < 0.3).float()
    heads = flips.double().sum()
    evidence = _log_beta(2 + heads, 3 + n - heads) - _log_beta(torch.tensor(2.0), torch.tensor(3.0))
    return Task(f"coin, {n:,} flips", model, (flips,), 1.0, evidence.item())


def betas(n: int = 1000) -> Task:
    def model(trials: torch.Tensor, hits: torch.Tensor) -> None:
        with pyro.plate("N", len(hits)):
            p = pyro.sample("p", dist.Beta(2.0, 3.0))
            pyro.sample("hits", dist.Binomial(trials, p), obs=hits)

    trials = torch.randint(1, 30, (n,)).double()
    hits = torch.distributions.Binomial(trials, torch.rand(n).double()).sample()
    ways = torch.lgamma(trials + 1) - torch.lgamma(hits + 1) - torch.lgamma(trials - hits + 1)
    log_beta = _log_beta(2 + hits, 3 + trials - hits) - _log_beta(torch.tensor(2.0), torch.tensor(3.0))
    return Task(f"{n:,} Betas in a plate", model, (trials, hits), 1.0, (ways + log_beta).sum().item())


def regression(n: int = 100_000, d: int = 100) -> Task:
    """log p(y) by the determinant lemma: log det(s^2 I + X X') = (n - d) log s^2 + log det(s^2 I + X'X)."""

    def model(X: torch.Tensor, y: torch.Tensor) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(X.shape[1], dtype=X.dtype), 1.0).to_event(1))
        with pyro.plate("N", len(X)):
            pyro.sample("y", dist.Normal(X @ w, 0.7), obs=y)

    X = torch.randn(n, d, dtype=torch.float64)
    y = X @ torch.randn(d, dtype=torch.float64) + 0.7 * torch.randn(n, dtype=torch.float64)
    precision = X.T @ X / 0.49 + torch.eye(d, dtype=torch.float64)
    m = torch.linalg.solve(precision, X.T @ y / 0.49)
    misfit = ((y - X @ m) ** 2).sum() / 0.49 + (m**2).sum()
    evidence = -0.5 * (n * math.log(2 * math.pi * 0.49) + torch.logdet(precision) + misfit)
    return Task(f"regression, N = {n:,}, D = {d}", model, (X, y), 5.0, evidence.item())


def walk(n: int = 100) -> Task:
    """A latent random walk, a site a step; log p(y) by the filter (Särkkä 2013, theorem 4.2)."""

    def model(y: torch.Tensor) -> None:
        z: Any = 0.0
        for i in range(len(y)):
            z = pyro.sample(f"z{i}", dist.Normal(z, 0.3))
            pyro.sample(f"y{i}", dist.Normal(z, 0.5), obs=y[i])

    y = 0.3 * torch.randn(n, dtype=torch.float64).cumsum(0) + 0.5 * torch.randn(n, dtype=torch.float64)
    mean, variance, evidence = 0.0, 0.0, 0.0
    for value in y.tolist():
        variance += 0.09
        total = variance + 0.25
        evidence -= 0.5 * (math.log(2 * math.pi * total) + (value - mean) ** 2 / total)
        mean, variance = mean + variance / total * (value - mean), variance * 0.25 / total
    return Task(f"random walk, {n} sites", model, (y,), None, evidence)


def _log_beta(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = a.double(), b.double()
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


def main(rounds: int) -> None:
    versions = f"torch {torch.__version__}, Pyro {pyro.__version__}, Python {platform.python_version()}"
    print(f"{versions}, {platform.machine()}, {torch.get_num_threads()} threads")
    print(f"{'':30} {'fastest s':>10} {'median s':>10} {'wanted s':>10} {'error, nats':>12}")
    pyro.set_rng_seed(0)
    missed = 0
    for make in (coin, regression, betas, walk):
        task = make()
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            exact = credo.exact(task.model, *task.data)
            seconds.append(time.perf_counter() - start)
        error = abs(exact.log_evidence - task.evidence)
        late = task.wanted is not None and statistics.median(seconds) >= task.wanted
        missed += late or error > 1e-6
        wanted = "" if task.wanted is None else f"{task.wanted:g}"
        print(
            f"{task.name:30} {min(seconds):10.3f} {statistics.median(seconds):10.3f} {wanted:>10} {error:12.1e}"
            f"{'  MISSED' if late or error > 1e-6 else ''}",
            flush=True,
        )
    print(f"{'PASS' if not missed else 'MISSED'}: {missed} of 4 outside their bounds")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)

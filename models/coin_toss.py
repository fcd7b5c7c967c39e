"""Coin toss: how probable is heads?

    p      ~ Beta(alpha, beta)
    x_i    ~ Bernoulli(p),   i = 1..N

Conjugate (Laplace 1774; Gelman et al., Bayesian Data Analysis, 3rd ed. 2013, section 2.1): with h heads of N flips

    p | x            ~ Beta(alpha + h, beta + N - h)
    log p(x)         = log B(alpha + h, beta + N - h) - log B(alpha, beta)
    p(next is heads) = (alpha + h) / (alpha + beta + N)           full Bayes
    argmax p(p | x)  = (alpha + h - 1) / (alpha + beta + N - 2)   MAP
    argmax p(x | p)  = h / N                                      MLE

Data: 350,757 recorded flips, of which 178,079 landed on the side they started from (Bartoš et al. 2023, "Fair coins
tend to land on the same side they started: evidence from 350,757 flips", arXiv:2310.04153). Heads here is "same side".
"""

import math

import pandas as pd
import pyro
import pyro.distributions as dist
import torch

from ._posterior import Posterior

FLIPS, SAME_SIDE = 350_757, 178_079
# The prior says that a coin is nearly fair, as if one head and one tail had been seen before the data.
ALPHA, BETA = 2.0, 2.0


def model(flips: torch.Tensor, alpha: float = ALPHA, beta: float = BETA) -> torch.Tensor:
    """flips: shape (N,), 0 or 1. alpha, beta: of the prior, in pseudo-counts. Returns p, a scalar."""
    _check(flips)
    one = flips.new_ones((), dtype=flips.dtype if flips.is_floating_point() else torch.get_default_dtype())
    p = pyro.sample("p", dist.Beta(alpha * one, beta * one))
    logit = torch.logit(p, eps=torch.finfo(p.dtype).eps)  # once: Bernoulli(p) would compute it for each of the N flips
    with pyro.plate("N", len(flips)):
        pyro.sample("flips", dist.Bernoulli(logits=logit), obs=flips.to(p.dtype))
    return p


def posterior(flips: torch.Tensor, alpha: float = ALPHA, beta: float = BETA) -> Posterior:
    """The exact posterior in double precision, for any number of flips, also for none."""
    _check(flips)
    heads, n = flips.double().sum().item(), len(flips)
    a, b = torch.tensor([alpha + heads, beta + n - heads], dtype=torch.float64)
    evidence = _log_beta(a.item(), b.item()) - _log_beta(alpha, beta)
    return Posterior({"p": dist.Beta(a, b)}, evidence, lambda: dist.Bernoulli(a / (a + b)))


def data(table: pd.DataFrame | None = None) -> tuple[torch.Tensor]:
    """The recorded flips in the order of a fixed shuffle, or the column `flips` of a table.

    Raises ValueError if the table has no such column, or text in it.
    """
    if table is not None:
        if "flips" not in table.columns:
            raise ValueError(f"the table has no column 'flips': got {list(table.columns)}; wanted 0s and 1s in 'flips'")
        if not pd.api.types.is_numeric_dtype(table["flips"]):
            raise ValueError(
                f"column 'flips' holds {table['flips'].dtype}, wanted numbers: 1 for heads and 0 for tails"
            )
        return (table["flips"],)
    flips = torch.zeros(FLIPS)
    flips[:SAME_SIDE] = 1.0
    return (flips[torch.randperm(FLIPS, generator=torch.Generator().manual_seed(0))],)


def lesson(flips: torch.Tensor, alpha: float = ALPHA, beta: float = BETA) -> pd.DataFrame:
    """Three answers to "will the next flip be heads?" after 0, 1, 3, 10, 100, ... flips of the data.

    Rows: flips seen. Columns: heads, mle, map, bayes (predictive probabilities; NaN where an answer does not exist),
    sd (of the posterior of p). A point estimate has no uncertainty even after one flip; after many all three agree.
    """
    _check(flips)
    sizes = [0, 1, 3] + [10**k for k in range(1, 20) if 10**k < len(flips)] + [len(flips)]
    rows = {}
    for n in sorted({n for n in sizes if n <= len(flips)}):
        heads = flips[:n].double().sum().item()
        a, b = alpha + heads, beta + n - heads
        rows[n] = {
            "heads": int(heads),
            "mle": heads / n if n else math.nan,
            "map": (a - 1) / (a + b - 2) if a >= 1 and b >= 1 and a + b > 2 else math.nan,
            "bayes": a / (a + b),
            "sd": math.sqrt(a * b / (a + b + 1)) / (a + b),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "flips"
    return table


def _check(flips: torch.Tensor) -> None:
    shape = tuple(getattr(flips, "shape", ()))
    if not isinstance(flips, torch.Tensor) or len(shape) != 1:
        got = f"a tensor of shape {shape}" if isinstance(flips, torch.Tensor) else type(flips).__name__
        raise ValueError(f"flips: got {got}, wanted a tensor of shape (N,) of 0s and 1s")


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

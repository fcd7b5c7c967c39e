"""Scores of predictive draws of numbers: errors, log density, CRPS, coverage, probability integral transform.

    rmse = sqrt(mean (m_i - y_i)²),  mae = mean |median_i - y_i|
    crps = mean_s |x_s - y| - Σ_s<t |x_s - x_t| / (S (S - 1))     S draws x_s of one number y (Gneiting and Raftery
                                                                  2007, eq. 21; S (S - 1), not S²: Ferro 2014)
    pit  = (#{x_s < y} + u (#{x_s = y} + 1)) / (S + 1),  u ~ U(0, 1)          (Czado, Gneiting and Held 2009, eq. 1)

If y is one more draw from the same distribution, pit is uniform whatever the number of draws. The expectation of crps
does not depend on their number. Draws have shape (S, *shape of y). Everything is computed in double precision.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

LEVELS = (0.5, 0.9, 0.95)
FEWEST = 4  # draws: the variance of the estimated nll is infinite with fewer
CHUNK = 2**20  # draws in memory at once, in double precision


def regression(draws: Any, y: Any, *, log_likelihood: Any = None) -> pd.Series:
    """Errors, negative log density, CRPS and coverage of predictive draws: how near and how honest predictions are.

        rmse = sqrt(mean (m_i - y_i)²),  mae = mean |median_i - y_i|,  nll = -mean log p(y_i)
        crps = mean_i ∫ (F_i(v) - [v ≥ y_i])² dv,  F_i the predictive distribution (Gneiting and Raftery 2007, eq. 20)

    draws: shape (S, N), or (S, *shape of y), such as `fit.predict(1000, x)["y"]`. y: shape (N,), the true values.
    log_likelihood: log p(y_i | data) in nats, shape (N,), what `credo.log_likelihood` returns; or shape (K, N), for
        each of K draws of the latents. Draws have no density, so without it `nll` is an approximation: the log density
        of a normal with the mean and the variance of the draws, without the bias of their number (Siegert et al.
        2019). It is NaN for counts, and infinite where all draws of a number are equal.
    Returns a Series: rmse, mae and crps in the units of y; nll in nats per number, or per row with log_likelihood;
        "coverage 50%", "coverage 90%" and "coverage 95%", see `coverage`; "pit distance", the largest distance of the
        distribution of `pit` from the uniform one: for N calibrated rows it is below 1.36 / √N 95 times in 100.
    Raises ValueError for shapes that do not match, NaN or infinite numbers, and fewer than 4 draws.

    >>> import torch
    >>> draws = torch.randn(4000, 500, generator=torch.Generator().manual_seed(0))
    >>> y = torch.randn(500, generator=torch.Generator().manual_seed(1))
    >>> scores = credo.metrics.regression(draws, y)
    >>> scores.index.tolist()
    ['rmse', 'mae', 'nll', 'crps', 'coverage 50%', 'coverage 90%', 'coverage 95%', 'pit distance']
    >>> bool(abs(scores["coverage 90%"] - 0.9) < 0.04)
    True
    """
    x, truth = predictive(draws, y)
    sums = torch.zeros(4, dtype=torch.float64)
    counts = _whole(truth)
    for part, of in _parts(x, truth):
        part = part.sort(0).values
        counts = counts and _whole(part)
        mean, variance = part.mean(0), part.var(0)
        errors = (mean - of).square(), (_median(part) - of).abs(), _normal_nll(mean, variance, of, len(part))
        sums += torch.stack([e.sum() for e in (*errors, _crps(part, of))])
    square, absolute, nll, crps = (sums / truth.numel()).tolist()
    if log_likelihood is not None:
        nll = -_of_rows(log_likelihood, len(y) if np.ndim(y) else 1).mean().item()
    elif counts:
        nll = float("nan")
    grid, below = pit_distribution(draws, y)
    shares = _inside(grid, below, LEVELS)
    return pd.Series(
        {
            "rmse": square**0.5,
            "mae": absolute,
            "nll": nll,
            "crps": crps,
            **{f"coverage {level:.0%}": share for level, share in zip(LEVELS, shares, strict=True)},
            "pit distance": float(np.abs(below - grid).max()),
        }
    )


def coverage(draws: Any, y: Any, levels: float | Sequence[float] = LEVELS) -> pd.Series:
    """The share of the true values inside of the central predictive intervals of these probabilities.

        share of (1 - p) / 2 ≤ pit ≤ (1 + p) / 2,   averaged over the u of `pit`

    If y is one more draw from the same distribution, it is inside with probability p, whatever the number of draws; so
    are counts, which are inside in part at the edge of their interval (a closed interval of counts holds more than p).

    draws, y: as for `regression`, with its errors. levels: probabilities p between 0 and 1, or one.
    Returns a Series: the index holds the levels.

    >>> import torch
    >>> draws = torch.arange(1.0, 100.0)[:, None].expand(99, 3)  # quantiles of 1 % to 99 %
    >>> credo.metrics.coverage(draws, torch.tensor([50.0, 10.0, 97.0]), [0.5, 0.9]).round(3).to_dict()
    {0.5: 0.333, 0.9: 0.667}
    """
    every: list[Any] = np.atleast_1d(np.array(levels, dtype=object)).tolist()
    for level in every:
        if not isinstance(level, float) or not 0 < level < 1:
            raise ValueError(f"levels: got {level!r}, wanted probabilities between 0 and 1, such as 0.9")
    shares = _inside(*pit_distribution(draws, y), every)
    return pd.Series(shares, index=pd.Index(every, name="level"), name="coverage", dtype=float)


def pit(draws: Any, y: Any, *, seed: int = 0) -> torch.Tensor:
    """The probability integral transform of each number, shape of y: uniform on (0, 1) if predictions are calibrated.

        pit = (#{x_s < y} + u (#{x_s = y} + 1)) / (S + 1),   u ~ U(0, 1)        (Czado, Gneiting and Held 2009, eq. 1)

    The rank of y among its draws, spread evenly over its place: also exact for counts and for few draws. Values near 0
    and 1 together mean predictions that are too narrow, values near 1/2 too wide ones, values near 1 too low ones.

    draws, y: as for `regression`, with its errors; one draw is enough. seed: of u.

    >>> import torch
    >>> draws = torch.arange(1.0, 100.0)[:, None].expand(99, 2)
    >>> (100 * credo.metrics.pit(draws, torch.tensor([49.5, 200.0]))).floor().tolist()
    [49.0, 99.0]
    """
    x, truth = predictive(draws, y, fewest=1)
    below, above = places(x, truth)
    u = torch.rand(truth.numel(), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return ((below + u * (above - below)) / (len(x) + 1)).reshape(truth.shape)


def pit_distribution(draws: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """(v, F(v)): the distribution function of `pit`, averaged over u, at v = k / (S + 1): linear in between."""
    x, truth = predictive(draws, y)
    below, above = places(x, truth)
    slope = torch.zeros(len(x) + 2, dtype=torch.float64)  # each number spreads its mass evenly over its places
    mass = 1 / (above - below).double()
    slope.index_add_(0, below, mass).index_add_(0, above, -mass)
    heights = torch.cat([slope.new_zeros(1), slope[:-1].cumsum(0).cumsum(0)]) / truth.numel()
    return np.arange(len(x) + 2) / (len(x) + 1), heights.numpy()


def _inside(grid: np.ndarray, below: np.ndarray, levels: Sequence[float]) -> list[float]:
    low, high = (np.interp([0.5 + sign * level / 2 for level in levels], grid, below) for sign in (-1, 1))
    return [float(share) for share in high - low]


def places(x: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(number of draws below y, the same plus the number of draws equal to y plus 1), shape (M,), of M numbers y."""
    found = [torch.stack([(p < of).sum(0), (p <= of).sum(0) + 1]) for p, of in _parts(x, truth)]
    below, above = torch.cat(found, 1)
    return below, above


def predictive(draws: Any, y: Any, fewest: int = FEWEST) -> tuple[torch.Tensor, torch.Tensor]:
    """The draws, shape (S, *shape of y), and y, on the CPU, or ValueError, which names the one that is wrong."""
    x, truth = numbers("draws", draws), numbers("y", y)
    if x.dim() == 0 or x.shape[1:] != truth.shape or not x.numel():
        remedy = ""
        if x.numel() and x.dim() > 1 and x.squeeze(-1).shape[1:] == truth.squeeze(-1).shape:
            remedy = "; use .squeeze(-1) on the one that has a dimension of size 1 more"
        elif x.dim() > 1 and x.shape[:-1] == truth.shape:
            remedy = "; the draws come first: use draws.T"
        elif x.shape == truth.shape:
            remedy = "; a point prediction is not enough, pass all draws"
        elif truth.shape[1:] == x.shape:
            remedy = "; give the draws first, then y"
        raise ValueError(
            f"draws: got shape {tuple(x.shape)} for y of shape {tuple(truth.shape)}, wanted (S, *shape of y): "
            f"S predictive draws of each number{remedy}"
        )
    if len(x) < fewest:
        raise ValueError(f"draws: got {len(x)} of each number, wanted at least {fewest}; fit.predict(1000) has 1,000")
    return x, truth


def numbers(name: str, values: Any) -> torch.Tensor:
    """An array of any library as a tensor on the CPU; ValueError for what is no array of finite numbers."""
    if isinstance(values, Mapping):
        keys = ", ".join(repr(key) for key in values)
        raise ValueError(f"{name}: got a dictionary of {keys or 'nothing'}, wanted an array: one of its entries")
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(float), np.nan)
    try:
        found = values.detach().cpu() if isinstance(values, torch.Tensor) else torch.as_tensor(np.array(values))
    except (TypeError, ValueError):
        raise ValueError(f"{name}: got {type(values).__name__}, wanted an array of numbers") from None
    if found.is_complex():
        raise ValueError(f"{name}: got complex numbers, wanted real ones")
    rows = max(1, CHUNK * len(found) // max(1, found.numel())) if found.dim() else 1
    parts = found.split(rows) if found.dim() else (found,)
    if bad := sum(int((~part.isfinite()).sum()) for part in parts):
        remedy = "; leave these rows out: draws[:, y.isfinite()], y[y.isfinite()]" if name == "y" else ""
        raise ValueError(
            f"{name}: {bad:,} of {found.numel():,} numbers are NaN or infinite, wanted finite ones{remedy}"
        )
    return found


def _parts(x: torch.Tensor, truth: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Some numbers after the other, in double precision: their draws, shape (S, m), and their true values (m,)."""
    x, truth = x.flatten(1) if x.dim() > 1 else x[:, None], truth.flatten()
    size = max(1, CHUNK // len(x))
    for part, of in zip(x.split(size, 1), truth.split(size), strict=True):
        yield part.double(), of.double()


def _crps(ordered: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The fair CRPS of each number, shape (m,), of sorted draws (S, m): Σ_s<t |x_s - x_t| = Σ_k (2 k - S - 1) x_(k)."""
    n = len(ordered)
    weights = 2 * torch.arange(1, n + 1, dtype=torch.float64) - n - 1
    return (ordered - y).abs().mean(0) - (weights @ (ordered - ordered[n // 2])) / (n * (n - 1))


def _normal_nll(mean: torch.Tensor, variance: torch.Tensor, y: torch.Tensor, n: int) -> torch.Tensor:
    """-log N(y; mean, variance), shape (m,), without the bias of moments of n normal draws (Siegert et al. 2019)."""
    half = torch.tensor((n - 1) / 2, dtype=torch.float64)
    log_variance = variance.log() - half.digamma() + half.log()
    square = (n - 3) / (n - 1) * (y - mean).square() / variance - 1 / n
    nll = 0.5 * (np.log(2 * np.pi) + log_variance + square)
    return torch.where(variance > 0, nll, torch.inf)


def _median(ordered: torch.Tensor) -> torch.Tensor:
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _whole(values: torch.Tensor) -> bool:
    return not values.is_floating_point() or bool((values == values.round()).all())


def _of_rows(log_likelihood: Any, rows: int) -> torch.Tensor:
    """log p(y_i | data) of each row: shape (rows,), from that, from (K, rows) of K draws, or from a LogLikelihood."""
    values = numbers("log_likelihood", log_likelihood[0] if isinstance(log_likelihood, tuple) else log_likelihood)
    if values.dim() == 2:
        values = values.double().logsumexp(0) - np.log(len(values))
    if values.shape != (rows,):
        raise ValueError(
            f"log_likelihood: got shape {tuple(values.shape)}, wanted ({rows},), nats for each row of y, "
            f"or (K, {rows}), for each of K draws of the latents"
        )
    return values.double()

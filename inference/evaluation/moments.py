"""Means and sds of draws of a guide beside weighted draws of the posterior, scalar by scalar, with their errors."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from ..distributions.summaries import EMPTY, Labels, scalars

TOLERATED = 0.1  # error of a mean in sds, and of a log sd
ROUNDED = 4.0  # times the rounding of a number, that a scalar which is the same in all draws may differ by
SURE = 3.0  # standard errors beyond which a difference is no accident


class Difference(NamedTuple):
    """How far the draws of a guide are from the posterior, at one scalar."""

    label: str
    mean: float  # (mean of the guide - mean of the posterior) / sd of the posterior
    ratio: float  # sd of the guide / sd of the posterior
    noise: float  # the standard error of both
    size: float  # the larger of the two errors, less what noise explains

    @property
    def error(self) -> float:
        """The larger of the two errors, of the mean in sds and of the log sd."""
        return max(abs(self.mean), abs(math.log(max(self.ratio, 1e-300))))

    @property
    def words(self) -> str:
        """The larger of the two errors in words."""
        if abs(self.mean) > abs(math.log(max(self.ratio, 1e-300))):
            return f"{self.label}: its mean is {abs(self.mean):.2g} sds too {'large' if self.mean > 0 else 'small'}"
        if self.ratio > 2:
            return f"{self.label}: its sd is {self.ratio:.2g} times the true one"
        return f"{self.label}: its sd is {abs(self.ratio - 1):.0%} too {'small' if self.ratio < 1 else 'large'}"


def differences(
    q: dict[str, torch.Tensor],
    p: dict[str, torch.Tensor],
    log_weights: torch.Tensor,
    transforms: Mapping[str, Any],
    named: Labels = EMPTY,
) -> list[Difference]:
    """The differences, the largest first. q: {site: (n, *shape)}; p: {site: (S, *shape)} with normalised log weights.

    named: the labels of the entries of each site, as for `scalars`.
    Each scalar is compared as it is, and in unconstrained space, where its draws differ from it.
    """
    found: list[Difference] = []
    weights = log_weights.exp()
    for name in q.keys() & p.keys():
        one, two = q[name].to(weights), p[name].to(weights)
        rounding = ROUNDED * max(
            (torch.finfo(v.dtype).eps for v in (q[name], p[name]) if v.is_floating_point()), default=0.0
        )
        labels = [label for _, label in scalars(name, one.shape[1:], named.get(name))]
        flat, other = one.reshape(len(one), -1), two.reshape(len(two), -1)
        shared = one.shape == two.shape and torch.equal(one, two)
        found += _compared(labels, flat, other, weights, shared, rounding)
        transform = transforms.get(name)
        if transform is not None:
            a, b = (transform.inv(each).reshape(len(each), -1) for each in (one, two))
            if a.shape != flat.shape or not torch.equal(b, other):
                same = a.shape[1] == len(labels)
                names = labels if same else [name] * a.shape[1]
                found += _compared([f"{each} (unconstrained)" for each in names], a, b, weights, shared)
    return sorted(found, key=lambda each: -each.size)


def not_finite(q: dict[str, torch.Tensor]) -> list[str]:
    """In words how many draws of each site {site: (n, *shape)} are NaN or infinite; nothing of those that never are."""
    bad = {name: int((~v.reshape(len(v), -1).isfinite()).any(1).sum()) for name, v in q.items()}
    return [f"{name}: NaN or infinite in {count:,} of {len(q[name]):,} draws" for name, count in bad.items() if count]


def _compared(
    labels: list[str], q: torch.Tensor, p: torch.Tensor, weights: torch.Tensor, shared: bool, rounding: float = 0.0
) -> list[Difference]:
    """q (n, k), p (S, k), weights (S,). shared: whether q and p are the same draws, whose noise then cancels.
    rounding: of the draws, relative to their mean.

    Of q the finite draws of each scalar are compared: see `not_finite` for the others.
    """
    weights = torch.where(p.isfinite().all(1), weights, 0.0)
    weights = weights / weights.sum()
    p = torch.where(p.isfinite(), p, 0.0)
    base = p[:1]  # where all draws are the same, their sd is then exactly zero
    q, p = q - base, p - base
    mean = weights @ p
    away = p - mean
    sd = (weights @ away.square()).sqrt()
    z = away / sd
    spread = (weights - 1 / len(q) if shared else weights).square()
    mean_noise, sd_noise = (spread @ z.square()).sqrt(), (spread @ (z.square() - 1).square()).sqrt() / 2
    finite = q.isfinite()
    n = finite.sum(0)
    q_mean = torch.where(finite, q, 0.0).sum(0) / n
    q_away = torch.where(finite, q - q_mean, 0.0)
    q_sd = (q_away.square().sum(0) / (n - 1)).sqrt()
    error, ratio = (q_mean - mean) / sd, q_sd / sd
    kurtosis = ((q_away / q_sd).pow(4).sum(0) / n).nan_to_num(nan=3.0)
    of_q = (0.0, 0.0) if shared else (ratio.square() / n, (kurtosis - 1) / 4 / n)
    noise = torch.maximum((mean_noise.square() + of_q[0]).sqrt(), (sd_noise.square() + of_q[1]).sqrt())
    far = torch.maximum(error.abs(), ratio.log().abs()).nan_to_num(nan=math.inf)
    sizes = far - SURE * noise.nan_to_num(nan=0.0)
    least = rounding * (base[0] + mean).abs()
    constant = (sd <= least) & (q_sd <= least) & ((q_mean - mean).abs() <= least)  # as the first entry of a factor
    known = ((sd > 0) & sd.isfinite() | ~ratio.isnan()) & ~constant
    rows = zip(labels, error.tolist(), ratio.tolist(), noise.tolist(), sizes.tolist(), strict=True)
    return [Difference(*row) for row, there in zip(rows, known.tolist(), strict=True) if there]

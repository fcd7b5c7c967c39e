"""Compares a KL in closed form with its definition.

KL(q || p) = E_q[log q(z) - log p(z)]

The expectation is a sum over a finite support; for a few scalars the trapezoid rule in the unconstrained coordinate
x = T^-1(z), T: torch's `biject_to`, on a grid x = m + s sinh(v) that reaches far into both tails; for all others the
mean over seeded draws of q. A registered KL may be wrong, or right at some parameters only.
"""

from typing import Any, NamedTuple

import torch
from torch.distributions import Independent, biject_to

from .divergence import divergence
from .unwrap import without_parameters

POINTS, REACH = 1025, 11.0  # of the trapezoid rule over v
FEW, MANY = 64, 4096  # scalars of a site: up to the first the grid is cheaper than draws, beyond the second too large
MOST_IN_DOUBLE = 2**17
FEWEST = 32  # numbers behind a standard error
HEAVY = 0.2  # share of one draw in the sum of squares, from which the mean of the draws says nothing
UNLIKELY = 1e-12  # mass of a step of the grid, below which nothing should come of it
INFINITE = 1e30  # nats
MASS = 1e-3  # by how much the integral of a density may differ from 1


class Agreement(NamedTuple):
    """The KL by its closed form and by its definition, nats: of each row, or summed over the rows."""

    claimed: torch.Tensor
    found: torch.Tensor
    error: torch.Tensor  # standard error of `found`
    numbers: int  # in a draw of such a row


def agreement(q: Any, p: Any, numbers: int) -> Agreement | None:
    """Both values of KL(q || p), in double precision where the distributions allow it and the numbers are not many.

    numbers: about how many are drawn. None where the expectation cannot be found: no draws, or tails so heavy that the
    mean of the draws says nothing of it.
    """
    few = (q.batch_shape + q.event_shape).numel() <= MOST_IN_DOUBLE
    for in_double in (True, False) if few else (False,):
        try:
            with torch.no_grad():
                one, two = (without_parameters(fn, in_double=in_double, validated=False) for fn in (q, p))
                claimed = divergence(one, two)
                one, two = _rows(one, two)
                if one.batch_shape.numel() > FEW:
                    return _by_draws(one, two, numbers, claimed) or _on_a_grid(one, two, claimed)
                return _on_a_grid(one, two, claimed) or _by_draws(one, two, numbers, claimed)
        except Exception:  # a density or a draw that works in single precision alone, or for no other value
            continue
    return None


def by_definition(q: Any, p: Any) -> torch.Tensor | None:
    """E_q[log q - log p] of each scalar, nats, to six digits; None for vectors, and where the grid does not do.

    Draws of q say where the grid lies: the caller fixes the noise.
    """
    try:
        with torch.no_grad():
            one, two = (without_parameters(fn, in_double=True, validated=False) for fn in (q, p))
            found = _on_a_grid(one, two, one.mean)
    except Exception:  # a density that has no value for some of the points
        return None
    return None if found is None else found.found


def integral(fn: Any) -> torch.Tensor | None:
    """The integral of a density over its support, for each scalar; None for vectors, discrete values, many scalars."""
    fn = without_parameters(fn, in_double=True, validated=False)
    fn, _ = _rows(fn, fn)
    if fn.event_shape or fn.batch_shape.numel() > MANY or fn.support.is_discrete:
        return None
    return _grid(fn)[1].sum(0)


def _rows(q: Any, p: Any) -> tuple[Any, Any]:
    """Both without the Independent around them as far as both have it: more rows that are independent draws."""
    if type(q).__name__ == type(p).__name__ == "Independent":
        n = min(q.reinterpreted_batch_ndims, p.reinterpreted_batch_ndims)
        return _rows(*(_reinterpreted(fn.base_dist, fn.reinterpreted_batch_ndims - n) for fn in (q, p)))
    return q, p


def _reinterpreted(fn: Any, n: int) -> Any:
    return Independent(fn, n, validate_args=False) if n else fn


def _grid(q: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(values z, their weights q(z) dz) that integrate over the support, both (points, *rows)."""
    if q.has_enumerate_support:
        z = q.enumerate_support(expand=False)
        return z, q.log_prob(z).exp()
    to = biject_to(q.support)
    drawn = to.inv(q.sample((FEWEST,)))
    middle = drawn.median(0).values
    spread = (drawn - middle).abs().median(0).values.clamp(min=1e-30)
    v = torch.linspace(-REACH, REACH, POINTS, dtype=drawn.dtype, device=drawn.device)
    v = v.reshape(-1, *[1] * middle.dim())
    x = middle + spread * v.sinh()
    z = to(x)
    log_q = q.log_prob(z) + to.log_abs_det_jacobian(x, z)
    return z, (log_q.exp() * spread * v.cosh() * (2 * REACH / (POINTS - 1))).nan_to_num(0.0, 0.0, 0.0)


def _on_a_grid(q: Any, p: Any, claimed: torch.Tensor) -> Agreement | None:
    """E_q[log q - log p] of each row of `claimed`; None for vectors and for infinitely many discrete values."""
    size = q.batch_shape.numel()
    if q.event_shape or p.event_shape or size > MANY or not (q.has_enumerate_support or not q.support.is_discrete):
        return None
    z, weight = _grid(q)
    if ((weight.sum(0) - 1).abs() > MASS).any():
        return None
    gap = q.log_prob(z) - p.log_prob(z)
    outside = (weight * ~(gap.isfinite() & p.support.check(z))).sum(0) > MASS  # values that q has and p lacks
    terms = (weight * gap).nan_to_num(0.0, 0.0, 0.0)
    found = terms.sum(0)
    unlikely = (terms.abs() * (weight < UNLIKELY)).sum(0)  # large where the integral diverges, or nearly so
    if not q.has_enumerate_support and (~outside & (unlikely > MASS * (1 + found.abs()))).any():
        return None
    found = torch.where(outside | (found > INFINITE), torch.inf, found)
    found = found.reshape(*claimed.shape, -1).sum(-1)
    return Agreement(claimed, found, torch.zeros_like(found), size // found.numel())


def _by_draws(q: Any, p: Any, numbers: int, claimed: torch.Tensor) -> Agreement | None:
    """The same by draws of q; of many rows, which are independent, the sum."""
    rows, size = q.batch_shape.numel(), (q.batch_shape + q.event_shape).numel()
    n = max(2, numbers // size, -(-FEWEST // rows))
    z = q.sample((n,))
    edges = ((z == z.amin(0)) | (z == z.amax(0))).double().mean()
    if not q.support.is_discrete and edges > 2 / n + 0.01:
        return None  # draws at the edge of what the precision holds
    gap = (q.log_prob(z) - p.log_prob(z)).double()
    if not p.event_shape:
        gap = torch.where(p.support.check(z), gap, torch.inf)
    gap = gap.reshape(n, -1)
    if not gap.isfinite().all():
        outside = (gap == torch.inf).double().mean() > 0.01
        return (
            Agreement(claimed, torch.full_like(claimed, torch.inf), torch.zeros_like(claimed), size)
            if outside
            else None
        )
    square = (gap - gap.mean(0)) ** 2
    if square.max() > (HEAVY + 10 / gap.numel()) * square.sum() and n * rows > FEWEST:
        return None
    if rows <= FEW:
        gap = gap.reshape(n, *claimed.shape, -1).sum(-1)
        return Agreement(claimed, gap.mean(0), gap.std(0) / n**0.5, size // claimed.numel())
    error = (square.sum(0) / (n - 1) / n).sum().sqrt()
    return Agreement(claimed.sum(), gap.mean(0).sum(), error, size)

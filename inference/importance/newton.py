"""The mode of all rows, by Newton's steps that read the data once each.

    u <- u + |H|^-1 g      g, H: gradient and Hessian of log p(data, u), all rows

It stops where a further step gains next to nothing: the normal there is a proposal, whose draws are weighed. A step
that went too far is halved. Source: Nocedal and Wright 2006, chapter 3.
"""

import functools
from typing import NamedTuple

import torch

from ..gaussian.ascent import inverted
from ..gaussian.density import Density
from ..gaussian.full_rank_normal import FullRankNormal
from ..gaussian.laplace import curved
from .all_rows import AllRows
from .chart import Chart

STEPS = 20  # passes at most
DONE = 1e-3  # nats that a further step would gain
ROUNDING = 1e-9  # of a log density


class Quadratic(NamedTuple):
    """log p(u) up to second order around a point, nats."""

    at: torch.Tensor  # u0 (D,)
    value: torch.Tensor  # log p(data, u0)
    gradient: torch.Tensor  # (D,)
    hessian: torch.Tensor  # (D, D)

    def values(self, us: torch.Tensor) -> torch.Tensor:
        """At us (n, D), nats (n,)."""
        d = (us - self.at).double()
        return self.value + d @ self.gradient + (d @ self.hessian * d).sum(1) / 2

    @property
    def step(self) -> torch.Tensor:
        """From the point to the maximum, as far as the curvature tells (D,)."""
        return inverted(self.hessian[None])[0] @ self.gradient

    @property
    def normal(self) -> FullRankNormal:
        """The normal with this maximum and curvature. Raises ValueError where it has no maximum."""
        found = curved(self.at + self.step.to(self.at), self.hessian.to(self.at))
        if found is None:
            raise ValueError("the quadratic has no maximum")
        return found


def second_order(density: Density, u: torch.Tensor, rows: AllRows) -> Quadratic:
    """The quadratic of a density around u (D,), in double precision."""
    chart = Chart(density, by=rows.by)
    values, gradients = chart.scores(u[None])
    return Quadratic(u, values[0].double(), gradients[0].double(), chart.hessians(u[None])[0].double())


def _terms(density: Density, u: torch.Tensor, rows: AllRows) -> tuple[torch.Tensor, ...]:
    return second_order(density, u, rows)[1:]


def mode_of_all_rows(rows: AllRows, start: torch.Tensor) -> Quadratic | None:
    """The quadratic of all rows where steps from `start` (D,) come to rest; None where they come to no maximum.

    Raises OutOfTime at the deadline of the rows.
    """
    u = start
    best: Quadratic | None = None
    for _ in range(STEPS):
        here = Quadratic(u, *rows.summed(functools.partial(_terms, u=u, rows=rows)))
        if best is not None and not here.value >= best.value - ROUNDING * best.value.abs():
            u = (u + best.at) / 2  # closer to the point from which the step went too far
            continue
        if not (here.gradient.isfinite().all() and here.hessian.isfinite().all()):
            return None
        best = here
        step = here.step
        if here.gradient @ step / 2 < DONE:
            return here if curved(u, here.hessian.to(u)) is not None else None
        u = u + step.to(u)
    return None

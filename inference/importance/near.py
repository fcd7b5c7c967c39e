"""log p of all rows at points near modes, from some chunks of rows: a quadratic of all rows, and what it leaves.

    log p(u) = l + g^T d + d^T H d / 2 + R(u),   d = u - u0      l, g, H of all rows, at the mode u0
    R(u) = N r(u) + R_c(u)      r: of a row, a mean over some rows; R_c: of what chunks share, the prior

R is of third order in d, of which the draws of a posterior by N rows have 1 / sqrt(N): some rows tell it, with an error
that the differences between chunks show. Where that is too large, or the rows tell another curvature than all of them
do (a latent of a small group), more rows are taken, and all of them leave no error.
Source: Quiroz, Kohn, Villani and Tran 2019, the difference estimator.
"""

import functools
import random
from typing import NamedTuple

import torch
from torch.utils._pytree import tree_map

from ..gaussian.density import Density
from .all_rows import AllRows
from .chart import Chart
from .newton import Quadratic, second_order

CHUNKS, ROWS = 16, 2048  # at first; of each chunk
ERROR = 0.05  # nats of a draw that matters
ALIKE = 0.3  # by how much, of its own, the curvature by some rows may be beside that by all
SURE = 3.0  # errors
FALL = 15.0  # nats below the best draw, beyond which a draw does not matter


class Near(NamedTuple):
    """The density of all rows near its modes."""

    rows: AllRows
    modes: list[Quadratic]
    exactly: bool  # whether more rows are taken, all of them in the end, until the error is below ERROR
    seed: int = 0

    @property
    def density(self) -> Density:
        """The density on the rows at hand."""
        return self.rows.density

    def values(self, us: torch.Tensor) -> torch.Tensor:
        """log p(data, u) at us (n, D), nats (n,), whatever the error."""
        return values_near(self, us, torch.zeros_like(us[:, 0]))[0]


def values_near(near: Near, us: torch.Tensor, log_q: torch.Tensor) -> tuple[torch.Tensor, float]:
    """(log p(data, u) at us (n, D), nats (n,); the largest error where p / q is large).

    log_q: the log density of what drew them (n,).
    Raises OutOfTime at the deadline of the rows.
    """
    rows, modes = near.rows, near.modes
    around, which = torch.stack([mode.values(us) for mode in modes]).max(0)
    n = rows.source.n
    left_by = functools.partial(_left, rows=rows, modes=modes, us=us, which=which)
    of_prior: _Left = rows.shared(left_by, rows.at_hand // 2)
    order = list(range(len(rows.source.chunks)))
    random.Random(near.seed).shuffle(order)
    nothing = (tree_map(torch.zeros_like, of_prior), torch.zeros_like(around), 0, 0)
    total, squares, taken, count = nothing
    while True:
        wanted = max(CHUNKS, 2 * count)
        each: int | None = ROWS
        if wanted >= len(order):  # all rows
            total, squares, taken, count = nothing
            wanted, each = len(order), None
        for density, size in rows.some(sorted(order[count:wanted]), each):
            left: _Left = tree_map(torch.sub, left_by(density), of_prior)
            total, taken = tree_map(torch.add, total, left), taken + size
            squares = squares + left.remainder.square() / size
        count, mean = wanted, total.remainder / taken
        spread = (squares / taken - mean.square()).clamp(min=0)  # of the mean of a chunk
        error = n * (spread / max(count - 1, 1) * (1 - taken / n)).sqrt()
        values = around + n * mean + of_prior.remainder
        ratios = values - log_q
        top = ratios.nan_to_num(nan=-torch.inf, posinf=-torch.inf).max()
        matters = ~(ratios + SURE * error < top - FALL)
        worst = error[matters].max().item()
        if not _represent(n / taken * total.hessians + of_prior.hessians, modes):
            worst = torch.inf
        if worst < ERROR or not near.exactly or each is None:
            return values, worst


class _Left(NamedTuple):
    """What the quadratics of a density around the modes leave of it at us, nats (n,), and their Hessians (K, D, D)."""

    remainder: torch.Tensor
    hessians: torch.Tensor


def _left(density: Density, rows: AllRows, modes: list[Quadratic], us: torch.Tensor, which: torch.Tensor) -> _Left:
    quadratics = [second_order(density, mode.at, rows) for mode in modes]
    around = torch.stack([quadratic.values(us) for quadratic in quadratics]).gather(0, which[None])[0]
    hessians = torch.stack([quadratic.hessian for quadratic in quadratics])
    return _Left(Chart(density, by=rows.by).values(us).double() - around, hessians)


def _represent(hessians: torch.Tensor, modes: list[Quadratic]) -> bool:
    """Whether Hessians (K, D, D) by some rows are about those of all: a latent of few rows is not known by others."""
    for mode, found in zip(modes, hessians, strict=True):
        factor = mode.normal.factor.double()
        away = factor.mT @ (found - mode.hessian) @ factor  # in the units of the posterior
        if not bool(torch.linalg.matrix_norm(away, 2) < ALIKE):
            return False
    return True

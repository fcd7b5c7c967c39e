"""Latents that are jointly Gaussian, in coordinates without constraints: log p(data, x) is quadratic in them.

    q(x) = N(mu, Lambda^-1),   Lambda = -(d/dx)^2 f,   mu = x + Lambda^-1 df/dx  at any x    (Newton, in one step)

Rows that are independent have a Lambda each, found by the curvature in the same few directions.
"""

import math

import pyro.distributions as dist
import torch

from .belief import Belief, Fitted, Point
from .blocks import Block
from .coordinates import REAL, Coordinates, Values, Variable
from .derivatives import LogDensity, curved, slope
from .marginals import marginal, placed, shaped, spread

REFINEMENTS = 2  # as a rule; a start at 1e60, of a vague prior, needs one for every 15 digits


AT_MOST = 8


MOST = 4096  # numbers, whose joint covariance is written out


def precision(
    f: LogDensity, x: torch.Tensor, indices: list[torch.Tensor], rows: int
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """(df/dx, [Lambda (R, k, k) of each index (R, k)]), all found at once."""
    widest = max(index.shape[1] for index in indices)
    directions = torch.zeros(widest, len(x), dtype=x.dtype)
    for index in indices:
        for j in range(index.shape[1]):
            directions[j, index[:, j]] = 1.0
    g, moved = curved(f, x, directions, rows)
    found = [-moved[: index.shape[1]][:, index].movedim(0, 1) for index in indices]
    return g, [(m + m.mT) / 2 for m in found]


def solve_gaussians(
    f: LogDensity, x: torch.Tensor, indices: list[torch.Tensor], rows: int
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
    """[(mu (R, k), Lambda (R, k, k), its Cholesky factor)] of each index; None where Lambda is not positive definite,
    and mu is then x.
    """
    g, found = precision(f, x, indices, rows)
    factors: list[torch.Tensor | None] = []
    for Lambda in found:
        L, bad = torch.linalg.cholesky_ex(Lambda)
        factors.append(None if bad.any() or not L.isfinite().all() else L)
    x = x.clone()
    for step in range(1 + AT_MOST):
        moved = 0.0  # sds
        for index, L in zip(indices, factors, strict=True):
            if L is not None:
                ahead = torch.cholesky_solve(g[index][..., None], L).squeeze(-1)
                x[index] += ahead
                moved = max(moved, (L.mT @ ahead[..., None]).abs().max().item())
        if step >= REFINEMENTS and not moved > 1e-6:
            break
        if step < AT_MOST and not (g := slope(f, x)).isfinite().all():
            break  # not quadratic
    return [(x[index], Lambda, L) for index, Lambda, L in zip(indices, found, factors, strict=True)]


def quadratic(Lambda: torch.Tensor, d: torch.Tensor) -> tuple[torch.Tensor, float]:
    """(-1/2 d' Lambda d, the magnitudes that it is a sum of). d: (R, k)."""
    value = -0.5 * (d * (Lambda @ d[..., None]).squeeze(-1)).sum()
    scale = Lambda.diagonal(dim1=-2, dim2=-1).abs().sqrt()
    return value, 0.5 * ((d.abs() * scale).sum(-1) ** 2).sum().item()


def gaussian(
    block: Block,
    where: Coordinates,
    mu: torch.Tensor,
    Lambda: torch.Tensor,
    L: torch.Tensor | None,
    tilt: torch.Tensor | None = None,
) -> Fitted:
    """The belief of a block with these mean and precision. tilt: df/dx at mu, where Lambda is not positive definite."""
    variables = [where.variables[name] for name in block.sites]
    bent = sorted({v.support for v in variables} - {REAL})
    family = "Normal" if block.width == 1 else "jointly Normal"
    family += f" after a bijection ({', '.join(bent)})" if bent else ""

    def kernel(x: torch.Tensor) -> tuple[torch.Tensor, float]:
        value, size = quadratic(Lambda, x[block.place] - mu)
        if tilt is not None:
            value = value + (tilt * (x[block.place] - mu)).sum()
        return value, size

    if L is None:
        return Fitted(family, block.sites, kernel, None, "a precision that is not positive definite")

    constant = L.diagonal(dim1=-2, dim2=-1).log().sum() - mu.numel() / 2 * math.log(2 * math.pi)
    covariance = torch.cholesky_inverse(L)

    def log_prob(values: Values) -> torch.Tensor:
        x = where.partly(values, block.sites)
        white = (L.mT @ (x[block.place] - mu)[..., None]).squeeze(-1)
        return constant - 0.5 * (white**2).sum() - where.only(block.sites).log_jacobian(x)

    def draw(n: int, width: float) -> Point:
        noise = torch.linalg.solve_triangular(L.mT, torch.randn(*mu.shape, n, dtype=mu.dtype), upper=True)
        return shaped(mu + width * noise.movedim(-1, 0), block.place, variables)

    def one(mean: torch.Tensor, sd: torch.Tensor, row: torch.Tensor) -> dist.Normal:
        return dist.Normal(mean, sd)

    def many(mean: torch.Tensor, matrix: torch.Tensor, row: torch.Tensor) -> dist.MultivariateNormal:
        return dist.MultivariateNormal(mean, matrix)

    belief = Belief(
        family=family,
        marginals={v.name: marginal(v, block, mu, covariance, one, many) for v in variables},
        log_prob=log_prob,
        size=lambda values: kernel(where.partly(values, block.sites))[1],
        sample=lambda n: draw(n, 1.0),
        widened=lambda width: {name: z[0] for name, z in draw(1, width).items()},
        gaussian=lambda: _all(block, mu, covariance, variables),
    )
    return Fitted(family, block.sites, kernel, belief, "")


def _all(
    block: Block, mu: torch.Tensor, covariance: torch.Tensor, variables: list[Variable]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """(mean, covariance) of all numbers of the block, site after site; None if some are not normal themselves."""
    if any(v.support != REAL for v in variables) or mu.numel() > MOST:
        return None
    at = torch.cat([placed(v, block).reshape(-1) for v in variables])
    return mu.reshape(-1)[at], spread(at // block.width, at % block.width, covariance)

"""Jointly Gaussian latents: f(x) = log p(data, x) is quadratic in their unconstrained coordinates.

    q(x) = N(mu, Lambda^-1),   Lambda = -(d/dx)^2 f,   mu = x + Lambda^-1 df/dx  at any x    (one step of Newton)

Independent rows have one Lambda each. The same k Hessian-vector products give the Lambda of every row.
"""

import math
from typing import NamedTuple

import pyro.distributions as dist
import torch

from .block_posterior import BlockPosterior, Candidate, Draws
from .blocks import Block
from .coordinates import REAL, Coordinates, Values, Variable
from .derivatives import gradient, hessian_products
from .marginals import matrix_of, positions, site_marginal, site_values
from .problem import Problem

FEWEST_STEPS = 2  # of refinement, by Newton
MOST_STEPS = 8  # a start at 1e60, drawn from a vague prior, needs one step for every 15 digits
LARGEST = 4096  # numbers in a block whose joint covariance is written out


class Newton(NamedTuple):
    """The quadratic in the coordinates of one block, R independent rows of k."""

    mu: torch.Tensor  # (R, k)
    Lambda: torch.Tensor  # (R, k, k)
    L: torch.Tensor | None  # Cholesky factor of Lambda (R, k, k); None if Lambda is not positive definite


def precision(
    problem: Problem, x: torch.Tensor, indices: list[torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """(df/dx (D,), [Lambda (R, k, k) of each index (R, k)]), from the same Hessian-vector products."""
    widest = max(index.shape[1] for index in indices)
    directions = torch.zeros(widest, len(x), dtype=x.dtype)
    for index in indices:
        for j in range(index.shape[1]):
            directions[j, index[:, j]] = 1.0
    g, moved = hessian_products(problem.log_density, x, directions, problem.rows)
    matrices = [-moved[: index.shape[1]][:, index].movedim(0, 1) for index in indices]
    return g, [(m + m.mT) / 2 for m in matrices]


def solve_gaussians(problem: Problem, x: torch.Tensor, indices: list[torch.Tensor]) -> list[Newton]:
    """Mean and precision for each index (R, k), by Newton from x; mu is x itself where Lambda is not definite."""
    g, matrices = precision(problem, x, indices)
    factors: list[torch.Tensor | None] = []
    for Lambda in matrices:
        L, bad = torch.linalg.cholesky_ex(Lambda)
        factors.append(None if bad.any() or not L.isfinite().all() else L)
    x = x.clone()
    for step in range(1 + MOST_STEPS):
        moved = 0.0  # sds
        for index, L in zip(indices, factors, strict=True):
            if L is not None:
                ahead = torch.cholesky_solve(g[index][..., None], L).squeeze(-1)
                x[index] += ahead
                moved = max(moved, (L.mT @ ahead[..., None]).abs().max().item())
        if step >= FEWEST_STEPS and not moved > 1e-6:
            break
        if step < MOST_STEPS and not (g := gradient(problem.log_density, x)).isfinite().all():
            break  # not quadratic
    return [Newton(x[index], Lambda, L) for index, Lambda, L in zip(indices, matrices, factors, strict=True)]


def quadratic(Lambda: torch.Tensor, d: torch.Tensor) -> tuple[torch.Tensor, float]:
    """(-1/2 d' Lambda d, the sum of its absolute terms). d: (R, k)."""
    value = -0.5 * (d * (Lambda @ d[..., None]).squeeze(-1)).sum()
    scale = Lambda.diagonal(dim1=-2, dim2=-1).abs().sqrt()
    return value, 0.5 * ((d.abs() * scale).sum(-1) ** 2).sum().item()


def gaussian_candidate(
    block: Block, coordinates: Coordinates, newton: Newton, tilt: torch.Tensor | None = None
) -> Candidate:
    """The normal with this mean and precision, for a block. tilt: df/dx at mu, where Lambda is not definite."""
    mu, Lambda, L = newton
    variables = [coordinates.variables[name] for name in block.sites]
    bijections = sorted({v.support for v in variables} - {REAL})
    family = "Normal" if block.width == 1 else "jointly Normal"
    family += f" after a bijection ({', '.join(bijections)})" if bijections else ""

    def kernel(x: torch.Tensor) -> tuple[torch.Tensor, float]:
        value, magnitude = quadratic(Lambda, x[block.place] - mu)
        if tilt is not None:
            value = value + (tilt * (x[block.place] - mu)).sum()
        return value, magnitude

    if L is None:
        return Candidate(family, block.sites, kernel, None, "a precision that is not positive definite")

    constant = L.diagonal(dim1=-2, dim2=-1).log().sum() - mu.numel() / 2 * math.log(2 * math.pi)
    covariance = torch.cholesky_inverse(L)

    def log_prob(values: Values) -> torch.Tensor:
        x = coordinates.flat_of(values, block.sites)
        white = (L.mT @ (x[block.place] - mu)[..., None]).squeeze(-1)
        return constant - 0.5 * (white**2).sum() - coordinates.only(block.sites).log_jacobian(x)

    def draw(n: int, width: float) -> Draws:
        noise = torch.linalg.solve_triangular(L.mT, torch.randn(*mu.shape, n, dtype=mu.dtype), upper=True)
        return site_values(mu + width * noise.movedim(-1, 0), block.place, variables)

    def one(mean: torch.Tensor, sd: torch.Tensor, row: torch.Tensor) -> dist.Normal:
        return dist.Normal(mean, sd)

    def many(mean: torch.Tensor, matrix: torch.Tensor, row: torch.Tensor) -> dist.MultivariateNormal:
        return dist.MultivariateNormal(mean, matrix)

    posterior = BlockPosterior(
        family=family,
        marginals={v.name: site_marginal(v, block, mu, covariance, one, many) for v in variables},
        log_prob=log_prob,
        magnitude=lambda values: kernel(coordinates.flat_of(values, block.sites))[1],
        sample=lambda n: draw(n, 1.0),
        sample_wider=lambda width: {name: z[0] for name, z in draw(1, width).items()},
        made=(gaussian_posterior, (block, coordinates, newton)),
        gaussian=lambda: _mean_and_covariance(block, mu, covariance, variables),
    )
    return Candidate(family, block.sites, kernel, posterior, "")


def gaussian_posterior(block: Block, coordinates: Coordinates, newton: Newton) -> BlockPosterior | None:
    """The posterior of a `gaussian_candidate` without a tilt."""
    return gaussian_candidate(block, coordinates, newton).posterior


def _mean_and_covariance(
    block: Block, mu: torch.Tensor, covariance: torch.Tensor, variables: list[Variable]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """(mean, covariance) of all numbers of the block, site after site; None unless every site is real."""
    if any(v.support != REAL for v in variables) or mu.numel() > LARGEST:
        return None
    at = torch.cat([positions(v, block).reshape(-1) for v in variables])
    return mu.reshape(-1)[at], matrix_of(at // block.width, at % block.width, covariance)

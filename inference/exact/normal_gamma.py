"""Normal-gamma and normal-inverse-gamma posteriors: real latents whose precisions are scaled by one positive latent.

    tau = s^p ~ Gamma(a, b),   u | s ~ N(m, (tau V)^-1),   u ~ t_2a(m, (b / a) V^-1)      (Murphy 2012, section 4.6.3)

s is a precision for p = 1, a variance for p = -1, a standard deviation for p = -2. With xi = log s, at u = m,

    log q(m, xi) = (a + k / 2) p xi - b exp(p xi) + const

is linear in a + k/2 and b; tau V = -d^2 f / du^2, and its growth with xi gives p.
"""

import math
from typing import NamedTuple

import pyro.distributions as dist
import torch

from .block_posterior import BlockPosterior, Candidate, Draws
from .blocks import Block
from .coordinates import POSITIVE, REAL, Coordinates, Values
from .derivatives import gradient
from .families import GAMMAS, match
from .gaussian import precision, quadratic, solve_gaussians
from .marginals import site_marginal, site_values
from .problem import Problem


class NormalGamma(NamedTuple):
    """The parameters of R independent rows; V are their precisions of u for tau = 1."""

    power: int  # p
    a: torch.Tensor  # (R,)
    b: torch.Tensor  # (R,)
    m: torch.Tensor  # (R, k)
    V: torch.Tensor  # (R, k, k)


def may_be_normal_gamma(block: Block, coordinates: Coordinates) -> bool:
    """Whether each row has one positive number, and all its other numbers are real."""
    variables = [coordinates.variables[name] for name in block.sites]
    positive = [v for v in variables if v.support == POSITIVE]
    rest = [v for v in variables if v.support != POSITIVE]
    one = len(positive) == 1 and positive[0].free.numel() == block.rows
    return one and bool(rest) and all(v.support == REAL for v in rest)


def normal_gamma_candidate(problem: Problem, x: torch.Tensor, block: Block) -> Candidate | None:
    """The best normal-gamma for this block, with the other blocks at x; None if u given s is not normal."""
    variables = [problem.coordinates.variables[name] for name in block.sites]
    scale = next(v for v in variables if v.support == POSITIVE)
    is_scale = (block.place >= scale.start) & (block.place < scale.start + scale.free.numel())
    xi_at = block.place[is_scale]  # (R,)
    u_at = block.place[~is_scale].reshape(block.rows, -1)  # (R, k)
    k = u_at.shape[1]
    x = x.clone()
    power, fit, m, V = 0, None, None, None
    for _ in range(2):  # at a first s, and again at its posterior mode
        ((m, Lambda, L),) = solve_gaussians(problem, x, [u_at])
        if L is None:
            return None
        x[u_at] = m
        xi = x[xi_at]
        farther = x.clone()
        farther[xi_at] = xi + 1.0
        _, (grown,) = precision(problem, farther, [u_at])
        ratio = (grown.diagonal(dim1=-2, dim2=-1).sum() / Lambda.diagonal(dim1=-2, dim2=-1).sum()).log().item()
        power = min(GAMMAS, key=lambda p: abs(p - ratio))
        V = Lambda * (-power * xi).exp()[:, None, None]
        points = torch.stack([x.clone() for _ in range(5)])
        points[:, xi_at] += torch.linspace(-2, 2, 5, dtype=x.dtype)[:, None]
        gradients = torch.stack([gradient(problem.log_density, point) for point in points])
        fit = match(GAMMAS[power], points[:, xi_at], gradients[:, xi_at], torch.zeros(()))
        good = (fit.a > 0) & (fit.b > 0)
        x[xi_at] = torch.where(good, (fit.a / fit.b).log() / power, xi)
    assert fit is not None and m is not None and V is not None
    return candidate(block, problem.coordinates, NormalGamma(power, fit.a - k / 2, fit.b, m, V), u_at, xi_at)


def candidate(
    block: Block, coordinates: Coordinates, parameters: NormalGamma, u_at: torch.Tensor, xi_at: torch.Tensor
) -> Candidate:
    """The candidate with these parameters. u_at (R, k), xi_at (R,): the indices of u and xi in x."""
    power, a, b, m, V = parameters
    variables = [coordinates.variables[name] for name in block.sites]
    k = m.shape[1]
    names = {1: "normal-gamma", -1: "normal-inverse-gamma", -2: "normal-inverse-gamma of the variance"}
    family = names.get(power, "normal with a gamma square")

    def terms(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The terms of xi, (R,) each, and the precision and value of u given it."""
        xi = x[xi_at]
        tau = (power * xi).exp()
        return (a + k / 2) * power * xi, b * tau, tau[:, None, None] * V, x[u_at] - m

    def kernel(x: torch.Tensor) -> tuple[torch.Tensor, float]:
        one, two, Lambda, d = terms(x)
        value, magnitude = quadratic(Lambda, d)
        return (one - two).sum() + value, magnitude + (one.abs() + two.abs()).sum().item()

    if not ((a > 0) & (b > 0) & a.isfinite() & b.isfinite()).all():
        shown = f"shape {a.min().item():.4g} and rate {b.min().item():.4g}"
        return Candidate(family, block.sites, kernel, None, shown)
    L = torch.linalg.cholesky(V)
    half_log_det = L.diagonal(dim1=-2, dim2=-1).log().sum()
    constant = half_log_det - m.numel() / 2 * math.log(2 * math.pi)
    constant = constant + (a * b.log() - torch.lgamma(a)).sum() + len(a) * math.log(abs(power))

    def log_prob(values: Values) -> torch.Tensor:
        x = coordinates.flat_of(values, block.sites)
        one, two, Lambda, d = terms(x)
        total = (one - two).sum() - 0.5 * (d * (Lambda @ d[..., None]).squeeze(-1)).sum()
        return total + constant - coordinates.only(block.sites).log_jacobian(x)

    def draw(n: int, width: float) -> Draws:
        tau = dist.Gamma(a / width**2, b / width**2).sample((n,)).clamp(min=1e-300)  # (n, R)
        noise = torch.linalg.solve_triangular(L.mT, torch.randn(*m.shape, n, dtype=m.dtype), upper=True)
        u = m + width * tau.rsqrt()[..., None] * noise.movedim(-1, 0)
        rows = torch.cat([u, (tau.log() / power)[..., None]], -1)
        return site_values(rows, torch.cat([u_at, xi_at[:, None]], 1), variables)

    def one(location: torch.Tensor, scale: torch.Tensor, row: torch.Tensor) -> dist.StudentT:
        return dist.StudentT(2 * a[row], location, scale)

    def many(location: torch.Tensor, square: torch.Tensor, row: torch.Tensor) -> dist.MultivariateStudentT:
        return dist.MultivariateStudentT(2 * a[row], location, torch.linalg.cholesky(square))

    squares = torch.cholesky_inverse(L) * (b / a)[:, None, None]
    order = xi_at.argsort()
    marginals = {}
    for v in variables:
        if v.support == POSITIVE:
            fn = GAMMAS[power].make(a[order].reshape(v.shape), b[order].reshape(v.shape))
            marginals[v.name] = fn.to_event(v.event_dim) if v.event_dim else fn
        else:
            marginals[v.name] = site_marginal(v, Block(block.sites, u_at), m, squares, one, many)
    posterior = BlockPosterior(
        family=family,
        marginals=marginals,
        log_prob=log_prob,
        magnitude=lambda values: kernel(coordinates.flat_of(values, block.sites))[1],
        sample=lambda n: draw(n, 1.0),
        sample_wider=lambda width: {name: z[0] for name, z in draw(1, width).items()},
        made=(normal_gamma_posterior, (block, coordinates, parameters, u_at, xi_at)),
    )
    return Candidate(family, block.sites, kernel, posterior, "")


def normal_gamma_posterior(
    block: Block, coordinates: Coordinates, parameters: NormalGamma, u_at: torch.Tensor, xi_at: torch.Tensor
) -> BlockPosterior | None:
    """The posterior of a `candidate`."""
    return candidate(block, coordinates, parameters, u_at, xi_at).posterior

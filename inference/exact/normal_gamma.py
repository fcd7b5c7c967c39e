"""Real latents whose precisions are all scaled by one more latent: normal-gamma and normal-inverse-gamma.

    tau = s^p ~ Gamma(a, b),   u | s ~ N(m, (tau V)^-1),   u ~ t_2a(m, (b / a) V^-1)      (Murphy 2012, section 4.6.3)

s is a precision for p = 1, a variance for p = -1, a standard deviation for p = -2. With xi = log s, at u = m,

    log q(m, xi) = (a + k / 2) p xi - b exp(p xi) + const

is linear in a + k/2 and b; V is the curvature in u, and p how it grows with xi.
"""

import math

import pyro.distributions as dist
import torch

from .belief import Belief, Fitted, Point
from .blocks import Block
from .coordinates import POSITIVE, REAL, Coordinates, Values
from .derivatives import LogDensity, slope
from .families import GAMMAS, match
from .gaussian import precision, quadratic, solve_gaussians
from .marginals import marginal, shaped


def may_be_normal_gamma(block: Block, where: Coordinates) -> bool:
    """Whether each row has one positive number, and real ones."""
    variables = [where.variables[name] for name in block.sites]
    positive = [v for v in variables if v.support == POSITIVE]
    rest = [v for v in variables if v.support != POSITIVE]
    one = len(positive) == 1 and positive[0].free.numel() == block.rows
    return one and bool(rest) and all(v.support == REAL for v in rest)


def normal_gamma(f: LogDensity, x: torch.Tensor, block: Block, where: Coordinates, rows: int) -> Fitted | None:
    """The best of the family for this block, others held at x; None where u is not normal at all given s."""
    variables = [where.variables[name] for name in block.sites]
    scale = next(v for v in variables if v.support == POSITIVE)
    is_scale = (block.place >= scale.start) & (block.place < scale.start + scale.free.numel())
    xi_at = block.place[is_scale]  # (R,)
    u_at = block.place[~is_scale].reshape(block.rows, -1)  # (R, k)
    k = u_at.shape[1]
    x = x.clone()
    power, found, m, V = 0, None, None, None
    for _ in range(2):  # at a first s, and again at its posterior
        ((m, Lambda, L),) = solve_gaussians(f, x, [u_at], rows)
        if L is None:
            return None
        x[u_at] = m
        xi = x[xi_at]
        farther = x.clone()
        farther[xi_at] = xi + 1.0
        _, (grown,) = precision(f, farther, [u_at], rows)
        ratio = (grown.diagonal(dim1=-2, dim2=-1).sum() / Lambda.diagonal(dim1=-2, dim2=-1).sum()).log().item()
        power = min(GAMMAS, key=lambda p: abs(p - ratio))
        V = Lambda * (-power * xi).exp()[:, None, None]
        points = torch.stack([x.clone() for _ in range(5)])
        points[:, xi_at] += torch.linspace(-2, 2, 5, dtype=x.dtype)[:, None]
        slopes = torch.stack([slope(f, point) for point in points])
        found = match(GAMMAS[power], points[:, xi_at], slopes[:, xi_at], torch.zeros(()))
        good = (found.a > 0) & (found.b > 0)
        x[xi_at] = torch.where(good, (found.a / found.b).log() / power, xi)
    assert found is not None and m is not None and V is not None
    return _fitted(block, where, power, found.a - k / 2, found.b, m, V, u_at, xi_at)


def _fitted(
    block: Block,
    where: Coordinates,
    power: int,
    a: torch.Tensor,  # (R,)
    b: torch.Tensor,  # (R,)
    m: torch.Tensor,  # (R, k)
    V: torch.Tensor,  # (R, k, k)
    u_at: torch.Tensor,
    xi_at: torch.Tensor,
) -> Fitted:
    variables = [where.variables[name] for name in block.sites]
    k = m.shape[1]
    word = {1: "normal-gamma", -1: "normal-inverse-gamma", -2: "normal-inverse-gamma of the variance"}
    family = word.get(power, "normal with a gamma square")

    def kernel(x: torch.Tensor) -> tuple[torch.Tensor, float]:
        xi, d = x[xi_at], x[u_at] - m
        tau = (power * xi).exp()
        one, two = (a + k / 2) * power * xi, b * tau
        value, size = quadratic(tau[:, None, None] * V, d)
        return (one - two).sum() + value, size + (one.abs() + two.abs()).sum().item()

    if not ((a > 0) & (b > 0) & a.isfinite() & b.isfinite()).all():
        return Fitted(family, block.sites, kernel, None, f"shape {a.min().item():.4g} and rate {b.min().item():.4g}")
    L = torch.linalg.cholesky(V)
    half_log_det = L.diagonal(dim1=-2, dim2=-1).log().sum()
    constant = half_log_det - m.numel() / 2 * math.log(2 * math.pi)
    constant = constant + (a * b.log() - torch.lgamma(a)).sum() + len(a) * math.log(abs(power))

    def log_prob(values: Values) -> torch.Tensor:
        x = where.partly(values, block.sites)
        return kernel(x)[0] + constant - where.only(block.sites).log_jacobian(x)

    def draw(n: int, width: float) -> Point:
        tau = dist.Gamma(a / width**2, b / width**2).sample((n,)).clamp(min=1e-300)  # (n, R)
        noise = torch.linalg.solve_triangular(L.mT, torch.randn(*m.shape, n, dtype=m.dtype), upper=True)
        u = m + width * tau.rsqrt()[..., None] * noise.movedim(-1, 0)
        rows = torch.cat([u, (tau.log() / power)[..., None]], -1)
        return shaped(rows, torch.cat([u_at, xi_at[:, None]], 1), variables)

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
            marginals[v.name] = marginal(v, Block(block.sites, u_at), m, squares, one, many)
    belief = Belief(
        family=family,
        marginals=marginals,
        log_prob=log_prob,
        size=lambda values: kernel(where.partly(values, block.sites))[1],
        sample=lambda n: draw(n, 1.0),
        widened=lambda width: {name: z[0] for name, z in draw(1, width).items()},
    )
    return Fitted(family, block.sites, kernel, belief, "")

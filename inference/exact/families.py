"""Families of one number each, whose parameters a log density is linear in.

    log q(x) = a t_1(x) + b t_2(x) + const      x: the coordinate without constraints, the Jacobian included

so slopes at a few points give (a, b) by least squares, for all rows of a block at once. z ~ Gamma, InverseGamma and
powers of a gamma have t = (p x, -exp(p x)) with x = log z; Beta has the logarithms of z and 1 - z with x = logit z;
normals, of z or of a bijection of it, have (x, -x^2/2). A Dirichlet is a beta in each coordinate of its stick-breaking
(Connor and Mosimann 1969, J. Am. Stat. Assoc. 64, eq. 10).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch.distributions.transforms import AffineTransform
from torch.nn.functional import logsigmoid

from ..distributions.transformed import GammaPower, Transformed
from .belief import Belief, Fitted
from .blocks import Block
from .coordinates import INTERVAL, POSITIVE, SIMPLEX, Coordinates, Variable

Make = Callable[[torch.Tensor, torch.Tensor], Any]


class Family(NamedTuple):
    """name: as in Pyro. terms: t_1 and t_2 of x. make: the distribution of z with these a > 0, b > 0."""

    name: str
    terms: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    make: Make


class Match(NamedTuple):
    """A family held against slopes. a, b: of each column of the block. misfit: of the slopes, relative."""

    family: Family
    a: torch.Tensor
    b: torch.Tensor
    misfit: float


def _gamma(power: int, name: str, make: Make) -> Family:
    return Family(name, lambda x: (power * x, -(power * x).exp()), make)


NORMAL = Family("Normal", lambda x: (x, -(x**2) / 2), lambda a, b: dist.Normal(a / b, b.rsqrt()))


BETA = Family("Beta", lambda x: (logsigmoid(x), logsigmoid(-x)), dist.Beta)


DIRICHLET = BETA._replace(name="Dirichlet")


GAMMAS = {  # by the power of z that is a gamma
    1: _gamma(1, "Gamma", dist.Gamma),
    -1: _gamma(-1, "InverseGamma", dist.InverseGamma),
    2: _gamma(2, "Gamma of its square", lambda a, b: GammaPower(a, b, 2.0)),
    -2: _gamma(-2, "Gamma of its inverse square", lambda a, b: GammaPower(a, b, -2.0)),
}


def families_on(support: str) -> tuple[Family, ...]:
    """Those that live there; NORMAL stands for a bijection of a normal."""
    return {POSITIVE: (*GAMMAS.values(), NORMAL), INTERVAL: (BETA, NORMAL), SIMPLEX: (DIRICHLET,)}.get(
        support, (NORMAL,)
    )


def match(family: Family, xs: torch.Tensor, slopes: torch.Tensor, shift: torch.Tensor) -> Match:
    """Least squares over points. xs, slopes: (K, *columns). shift: of the coordinates, see `stick_shift`."""
    usable = slopes.isfinite() & xs.isfinite()
    x = (torch.where(usable, xs, 0.0) - shift).requires_grad_()
    design = torch.stack([torch.autograd.grad(t.sum(), x)[0] for t in family.terms(x)], -1)  # (K, *columns, 2)
    wanted = torch.where(usable, slopes, 0.0)
    weight = usable / (1.0 + wanted.abs() / wanted.abs().median(0).values.clamp(min=1e-300))
    design, wanted = design.movedim(0, -2) * weight.movedim(0, -1)[..., None], (wanted * weight).movedim(0, -1)
    length = design.norm(dim=-2, keepdim=True).clamp(min=1e-300)
    found = torch.linalg.lstsq(design / length, wanted[..., None]).solution
    left = (design / length @ found).squeeze(-1) - wanted
    a, b = (found / length.mT).squeeze(-1).unbind(-1)
    misfit = left.norm(dim=-1) / wanted.norm(dim=-1).clamp(min=1e-300)
    return Match(family, a, b, misfit.max().item())


def centre(found: Match, shift: torch.Tensor) -> torch.Tensor:
    """The mode of the coordinate x, 0 where there is none."""
    a, b, name = found.a, found.b, found.family.name
    if found.family is NORMAL:
        x = torch.where(b != 0, a / b, 0.0)
    elif name in (BETA.name, DIRICHLET.name):
        x = torch.where((a > 0) & (b > 0), (a / b).log(), 0.0)
    else:
        power = next(p for p, family in GAMMAS.items() if family is found.family)
        x = torch.where((a > 0) & (b > 0), (a / b).log() / power, 0.0)
    return x.nan_to_num(0.0) + shift


def stick_shift(v: Variable) -> torch.Tensor:
    """What torch's stick-breaking subtracts from its coordinates, shape `free`; nothing for other supports."""
    shift = torch.zeros(v.free, dtype=torch.float64)
    if v.support == SIMPLEX:
        shift += torch.arange(v.free[-1], 0, -1, dtype=torch.float64).log()
    return shift


def fitted(found: Match, block: Block, where: Coordinates) -> Fitted:
    """The family with these parameters, as the belief of a block of one site."""
    v = where.variables[block.sites[0]]
    shift = stick_shift(v).reshape(-1)[block.place - v.start]

    def kernel(x: torch.Tensor) -> tuple[torch.Tensor, float]:
        one, two = found.family.terms(x[block.place] - shift)
        return (found.a * one + found.b * two).sum(), ((found.a * one).abs() + (found.b * two).abs()).sum().item()

    a, b = (_placed(t, block, v) for t in (found.a, found.b))
    least = [min(t.min().item() for t in (a, b)), max(t.max().item() for t in (a, b))]
    shown = f"parameters from {least[0]:.4g} to {least[1]:.4g}"
    if not all((t > 0).all() and t.isfinite().all() for t in (a, b)):
        return Fitted(found.family.name, block.sites, kernel, None, shown)
    return Fitted(found.family.name, block.sites, kernel, _belief(found, kernel, v, a, b, where), shown)


def _placed(t: torch.Tensor, block: Block, v: Variable) -> torch.Tensor:
    out = torch.empty(v.free.numel(), dtype=t.dtype)
    out[(block.place - v.start).reshape(-1)] = t.reshape(-1)
    return out.reshape(v.free)


def _belief(
    found: Match,
    kernel: Callable[[torch.Tensor], tuple[torch.Tensor, float]],
    v: Variable,
    a: torch.Tensor,
    b: torch.Tensor,
    where: Coordinates,
) -> Belief:
    def make(width: float) -> Any:
        one, two = a / width**2, b / width**2
        if v.support == SIMPLEX:
            return dist.Dirichlet(torch.cat([one, two[..., -1:]], -1))
        fn = found.family.make(one, two)
        if v.support == INTERVAL and (v.low, v.high) != (0.0, 1.0):
            fn = Transformed(fn, AffineTransform(v.low, v.high - v.low))
        return fn.to_event(v.event_dim) if v.event_dim else fn

    q = make(1.0)
    return Belief(
        family=found.family.name,
        marginals={v.name: q},
        log_prob=lambda values: q.log_prob(values[v.name]).sum(),
        size=lambda values: kernel(where.partly(values, [v.name]))[1],
        sample=lambda n: {v.name: q.sample((n,))},
        widened=lambda width: {v.name: make(width).sample()},
    )

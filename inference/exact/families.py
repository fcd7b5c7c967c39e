"""Exponential families with two natural parameters, fitted to the gradient of the log density by least squares.

    log q(x) = a t_1(x) + b t_2(x) + const      x: the unconstrained coordinate, the Jacobian included

    Gamma, InverseGamma, powers of a gamma    t = (p x, -exp(p x)),            x = log z
    Beta                                      t = (log z, log(1 - z)),         x = logit z
    Normal, or a bijection of a normal        t = (x, -x^2 / 2)

A Dirichlet is a beta in each coordinate of its stick-breaking (Connor and Mosimann 1969, J. Am. Stat. Assoc. 64, eq.
10). All rows of a block are fitted at once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch.distributions.transforms import AffineTransform
from torch.nn.functional import logsigmoid

from ..distributions.transformed import GammaPower, Transformed
from .block_posterior import BlockPosterior, Candidate
from .blocks import Block
from .coordinates import INTERVAL, POSITIVE, SIMPLEX, Coordinates, Values, Variable

Make = Callable[[torch.Tensor, torch.Tensor], Any]


class Family(NamedTuple):
    """An exponential family with natural parameters a > 0 and b > 0."""

    name: str  # as in Pyro
    terms: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]  # x -> (t_1, t_2)
    make: Make  # (a, b) -> the distribution of z


class Match(NamedTuple):
    """A family fitted to gradients."""

    family: Family
    a: torch.Tensor  # (R, k), for each coordinate of the block
    b: torch.Tensor  # (R, k)
    misfit: float  # largest relative residual of the gradients


def _gamma(power: int, name: str, make: Make) -> Family:
    return Family(name, lambda x: (power * x, -(power * x).exp()), make)


NORMAL = Family("Normal", lambda x: (x, -(x**2) / 2), lambda a, b: dist.Normal(a / b, b.rsqrt()))
BETA = Family("Beta", lambda x: (logsigmoid(x), logsigmoid(-x)), dist.Beta)
DIRICHLET = BETA._replace(name="Dirichlet")
GAMMAS = {  # by the power p for which z^p is a gamma
    1: _gamma(1, "Gamma", dist.Gamma),
    -1: _gamma(-1, "InverseGamma", dist.InverseGamma),
    2: _gamma(2, "Gamma of its square", lambda a, b: GammaPower(a, b, 2.0)),
    -2: _gamma(-2, "Gamma of its inverse square", lambda a, b: GammaPower(a, b, -2.0)),
}


FAMILIES = {family.name: family for family in (NORMAL, BETA, DIRICHLET, *GAMMAS.values())}


def families_on(support: str) -> tuple[Family, ...]:
    """The families with this support; NORMAL stands for a bijection of a normal."""
    return {POSITIVE: (*GAMMAS.values(), NORMAL), INTERVAL: (BETA, NORMAL), SIMPLEX: (DIRICHLET,)}.get(
        support, (NORMAL,)
    )


def match(family: Family, xs: torch.Tensor, gradients: torch.Tensor, shift: torch.Tensor) -> Match:
    """The family fitted by least squares to the gradients at K points.

    xs, gradients: (K, R, k). shift: of the coordinates, see `stick_shift`.
    """
    usable = gradients.isfinite() & xs.isfinite()
    x = (torch.where(usable, xs, 0.0) - shift).requires_grad_()
    design = torch.stack([torch.autograd.grad(t.sum(), x)[0] for t in family.terms(x)], -1)  # (K, R, k, 2)
    wanted = torch.where(usable, gradients, 0.0)
    weight = usable / (1.0 + wanted.abs() / wanted.abs().median(0).values.clamp(min=1e-300))
    design, wanted = design.movedim(0, -2) * weight.movedim(0, -1)[..., None], (wanted * weight).movedim(0, -1)
    length = design.norm(dim=-2, keepdim=True).clamp(min=1e-300)
    solution = torch.linalg.lstsq(design / length, wanted[..., None]).solution
    residual = (design / length @ solution).squeeze(-1) - wanted
    a, b = (solution / length.mT).squeeze(-1).unbind(-1)
    misfit = residual.norm(dim=-1) / wanted.norm(dim=-1).clamp(min=1e-300)
    return Match(family, a, b, misfit.max().item())


def mode(fit: Match, shift: torch.Tensor) -> torch.Tensor:
    """The mode of x, shape (R, k); zero before the shift where there is none."""
    a, b, name = fit.a, fit.b, fit.family.name
    if fit.family is NORMAL:
        x = torch.where(b != 0, a / b, 0.0)
    elif name in (BETA.name, DIRICHLET.name):
        x = torch.where((a > 0) & (b > 0), (a / b).log(), 0.0)
    else:
        power = next(p for p, family in GAMMAS.items() if family is fit.family)
        x = torch.where((a > 0) & (b > 0), (a / b).log() / power, 0.0)
    return x.nan_to_num(0.0) + shift


def stick_shift(v: Variable) -> torch.Tensor:
    """The offset that torch's stick-breaking subtracts from its coordinates, shape `free`; zero for other supports."""
    shift = torch.zeros(v.free, dtype=torch.float64)
    if v.support == SIMPLEX:
        shift += torch.arange(v.free[-1], 0, -1, dtype=torch.float64).log()
    return shift


def family_candidate(fit: Match, block: Block, coordinates: Coordinates) -> Candidate:
    """The fitted family as the candidate for a block of one site."""
    v = coordinates.variables[block.sites[0]]
    shift = stick_shift(v).reshape(-1)[block.place - v.start]

    def kernel(x: torch.Tensor) -> tuple[torch.Tensor, float]:
        one, two = fit.family.terms(x[block.place] - shift)
        return (fit.a * one + fit.b * two).sum(), ((fit.a * one).abs() + (fit.b * two).abs()).sum().item()

    a, b = (_in_site_order(t, block, v) for t in (fit.a, fit.b))
    low, high = min(t.min().item() for t in (a, b)), max(t.max().item() for t in (a, b))
    parameters = f"parameters from {low:.4g} to {high:.4g}"
    posterior = None
    if all((t > 0).all() and t.isfinite().all() for t in (a, b)):
        made = (family_posterior, (fit.family.name, fit.a, fit.b, block, coordinates))
        posterior = _posterior(
            fit.family, v, a, b, lambda values: kernel(coordinates.flat_of(values, [v.name]))[1], made
        )
    return Candidate(fit.family.name, block.sites, kernel, posterior, parameters)


def family_posterior(
    family: str, a: torch.Tensor, b: torch.Tensor, block: Block, coordinates: Coordinates
) -> BlockPosterior | None:
    """The posterior of a `family_candidate`, by the name of the family and its parameters (R, k)."""
    return family_candidate(Match(FAMILIES[family], a, b, 0.0), block, coordinates).posterior


def _in_site_order(t: torch.Tensor, block: Block, v: Variable) -> torch.Tensor:
    """Parameters (R, k) of a block in the shape of the coordinates of its site."""
    out = torch.empty(v.free.numel(), dtype=t.dtype)
    out[(block.place - v.start).reshape(-1)] = t.reshape(-1)
    return out.reshape(v.free)


def _posterior(
    family: Family, v: Variable, a: torch.Tensor, b: torch.Tensor, magnitude: Callable[[Values], float], made: Any
) -> BlockPosterior:
    def make(width: float) -> Any:
        one, two = a / width**2, b / width**2
        if v.support == SIMPLEX:
            return dist.Dirichlet(torch.cat([one, two[..., -1:]], -1))
        fn = family.make(one, two)
        if v.support == INTERVAL and (v.low, v.high) != (0.0, 1.0):
            fn = Transformed(fn, AffineTransform(v.low, v.high - v.low))
        return fn.to_event(v.event_dim) if v.event_dim else fn

    q = make(1.0)
    return BlockPosterior(
        family=family.name,
        marginals={v.name: q},
        log_prob=lambda values: q.log_prob(values[v.name]).sum(),
        magnitude=magnitude,
        sample=lambda n: {v.name: q.sample((n,))},
        sample_wider=lambda width: {v.name: make(width).sample()},
        made=made,
    )

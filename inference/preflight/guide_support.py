"""Compares the support of the guide with that of the model at each latent: draws outside, values never drawn.

KL(q || p) is infinite where q draws values on which the model has no density.
q cannot be the posterior where the model has a density on values that q never draws.
"""

import math
from typing import Any

import torch
from pyro import poutine

from ..distributions.unwrap import unwrapped
from ..runtime.generators import noise
from ..runtime.sites import Site, latent, quoted

DRAWS, NUMBERS = 100, 100_000  # of the guide at each site: so many, but no more than so many numbers
ROUNDING = 1e-5  # of two probabilities

_BOUNDED = (
    *("_GreaterThan", "_GreaterThanEq", "_LessThan", "_Interval", "_HalfOpenInterval"),
    *("_IntegerInterval", "_IntegerGreaterThan", "_IntegerLessThan"),
)


def refuse_other_support(model: dict[str, Site], guide: dict[str, Site]) -> None:
    """Raises ValueError for a latent whose guide draws values outside of the support that it has in the model.

    model, guide: the latent sites of both, with the same names.
    """
    with torch.no_grad(), noise(0):
        for name, site in model.items():
            if not _is_point(guide[name]["fn"]):
                _refuse_at(name, unwrapped(site["fn"]), guide[name]["fn"])


def fixed_beside_the_prior(model: poutine.Trace, guide: poutine.Trace) -> list[str]:
    """A warning for flips of one probability in the prior and another in the guide, neither of which is trained.

    Masks of dropout, say, whose rate was given to one of the two programs. What differs from flip to flip, or is
    computed, may be right: the posterior of a model, by hand.
    """
    found: dict[tuple[float, float], list[str]] = {}
    priors = latent(model)
    for name, site in latent(guide).items():
        q: Any = unwrapped(site["fn"])
        p: Any = unwrapped(priors[name]["fn"]) if name in priors else None
        if type(q).__name__ != "Bernoulli" or type(p).__name__ != "Bernoulli":
            continue
        if q.probs.requires_grad or p.probs.requires_grad or site["value"].numel() < 2:
            continue
        (low, high), (least, most) = (torch.aminmax(fn.probs.detach()) for fn in (q, p))
        if low == high and least == most and abs(float(low - least)) > ROUNDING:
            found.setdefault((float(least), float(low)), []).append(name)
    return [
        f"{quoted(names)}: each flip is 1 with probability {prior:.4g} in the model and {given:.4g} in the guide, and "
        f"neither is a parameter, so that their divergence stays; give both programs the same number (rate= of a pair "
        f"with dropout), or make it a parameter (learn=True)"
        for (prior, given), names in found.items()
    ]


def _refuse_at(name: str, p: Any, q: Any) -> None:
    """p: the distribution of the model without its wrappers. q: that of the guide."""
    discrete = [_is_discrete(fn) for fn in (p, unwrapped(q))]
    if None not in discrete and discrete[0] != discrete[1]:
        kinds = ["discrete" if d else "continuous" for d in discrete]
        raise ValueError(
            f"site {name!r}: the guide's {_shown(q)} is {kinds[1]}, the model's {_shown(p)} is {kinds[0]}; {_remedy(p)}"
        )
    try:
        if _bounds(p.support) == (-math.inf, math.inf):
            return
        some = max(1, min(DRAWS, NUMBERS // max(1, q.batch_shape.numel() * q.event_shape.numel())))
        inside = p.support.check(q.sample((some,)))
    except (NotImplementedError, AttributeError, RuntimeError, ValueError):  # no support or no draws: not known
        return
    share = (~inside).double().mean().item()  # a mean of ones can be below 1 on a GPU
    if share > 0:
        raise ValueError(
            f"site {name!r}: the model's {_shown(p)} has no density (log_prob is -inf) at {share:.0%} of the draws "
            f"from the guide's {_shown(q)}; {_remedy(p)}, or give the guide starting values for which the model has a "
            f"density"
        )


def narrower(model: dict[str, Site], guide: dict[str, Site]) -> list[str]:
    """A warning for each latent to which the guide gives a smaller support than the model, by the wrong family.

    A guide whose bounds are parameters, and one that truncates infinitely many values, are taken as meant.
    """
    found = []
    for name, site in model.items():
        p, q = unwrapped(site["fn"]), unwrapped(guide[name]["fn"])
        if _is_point(guide[name]["fn"]) or _is_circular(p):
            continue
        try:
            wide, narrow = _bounds(p.support), _bounds(q.support)
        except (NotImplementedError, AttributeError):
            continue
        if wide is None or narrow is None or any(_trains(b) for b in narrow):
            continue
        if _is_discrete(p) and math.inf in map(_number_high, wide):
            continue
        low, high = ((torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(wide, narrow, strict=True))
        slack = 1e-6
        if (low[1] > low[0] + slack).any() or (high[1] < high[0] - slack).any():
            found.append(
                f"site {name!r}: the guide's {_shown(q)} never draws some values on which the model's {_shown(p)} has "
                f"a density, so that it cannot become the posterior; {_remedy(p)}"
            )
    return found


def _bounds(constraint: Any) -> tuple[Any, Any] | None:
    """(the least value, the greatest) of a support of single numbers; None for other supports."""
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    kind = type(constraint).__name__
    if kind == "_Real":
        return -math.inf, math.inf
    if kind == "_Boolean":
        return 0, 1
    if kind in _BOUNDED:
        return getattr(constraint, "lower_bound", -math.inf), getattr(constraint, "upper_bound", math.inf)
    return None


def _number_high(bound: Any) -> float:
    return math.inf if not isinstance(bound, torch.Tensor) and bound == math.inf else 0.0


def _trains(bound: Any) -> bool:
    return isinstance(bound, torch.Tensor) and bound.requires_grad


def _is_point(fn: Any) -> bool:
    """Whether the guide holds the site at a point, as for MAP."""
    return type(unwrapped(fn)).__name__ in ("Delta", "Empirical")


def _is_circular(fn: Any) -> bool:
    return type(fn).__name__.startswith(("VonMises", "Projected"))


def _is_discrete(fn: Any) -> bool | None:
    """None for a distribution that does not say."""
    try:
        return bool(fn.support.is_discrete)
    except (NotImplementedError, AttributeError):
        return None


def _shown(fn: Any) -> str:
    """A distribution and its support in words: "Gamma (values > 0)"."""
    fn = unwrapped(fn)
    try:
        bounds = _bounds(fn.support)
    except (NotImplementedError, AttributeError):
        return type(fn).__name__
    if bounds is None:
        return f"{type(fn).__name__} ({fn.support})"
    low, high = map(_extreme, bounds)
    if (low, high) == (-math.inf, math.inf):
        return f"{type(fn).__name__} (all real values)"
    if high == math.inf:
        return f"{type(fn).__name__} (values above {low:g})"
    if low == -math.inf:
        return f"{type(fn).__name__} (values below {high:g})"
    return f"{type(fn).__name__} (values between {low:g} and {high:g})"


def _extreme(bound: Any) -> float:
    return float(bound.detach().flatten()[0]) if isinstance(bound, torch.Tensor) and bound.numel() else float(bound)


def _remedy(p: Any) -> str:
    """What to draw in the guide for a latent that has this distribution in the model."""
    if _is_discrete(p):
        return "draw it from a discrete distribution with the same values, or leave it out of the guide if it is finite"
    try:
        bounds = _bounds(p.support)
    except (NotImplementedError, AttributeError):
        bounds = None
    if bounds is None:
        return f"draw it from a distribution on the support of {type(p).__name__}, or take guide=None"
    low, high = map(_extreme, bounds)
    if (low, high) == (-math.inf, math.inf):
        return "draw it from a distribution on all real values (Normal, say), or take guide=None"
    if low == 0 and high == math.inf:
        return "draw it from a distribution on positive values (LogNormal, Gamma), or take guide=None"
    if (low, high) == (0, 1):
        return "draw it from a distribution between 0 and 1 (Beta, say), or take guide=None"
    return "draw it from a distribution on the same values (a transformed Normal, say), or take guide=None"

"""Draws of a guide and their importance weights, whatever the guide: nothing but a run of the pair is needed.

z_s ~ q,   log w_s = log p(data, z_s) - log q(z_s)      nats; finite latents of the model summed out
"""

import dataclasses
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..pair.costs import DATA, PRIOR, WEIGHT, run
from ..posterior.approximation import Approximation, pair_of
from ..runtime.sites import counts_once, latent
from ..runtime.state import reading, snapshot
from ..runtime.traced import traced
from ..runtime.vectorise import draw
from .budget import TICK, Deadline, clock

MOST = 4000  # draws, where they are cheap
FEWEST = 200
CERTAIN = 1e-6  # nats, minus the log probability of a finite value that is always drawn, up to rounding
FEW = 20  # draws that tell the price of one


class GuideDraws(NamedTuple):
    """S draws of a guide."""

    values: dict[str, torch.Tensor]  # {latent of the model: (S, *shape of the site)}
    log_weights: torch.Tensor  # (S,), nats, not normalised


def guide_draws_weighed(fit: Approximation, n: int, seed: int) -> GuideDraws:
    """n draws of the guide of a fit and their log weights."""
    pair = pair_of(fit)

    def one() -> GuideDraws:
        found = run(pair)
        total = torch.zeros((), dtype=torch.float64)
        for (side, _), cost in found.costs.items():
            if side != WEIGHT:
                total = total + (1 if side in (DATA, PRIOR) else -1) * cost.sum(dtype=torch.float64)
        return GuideDraws({name: found.z[name] for name in names}, total)

    with reading(fit.state, seed), torch.no_grad():
        q = traced(pair.guide, pair.data)
        p = poutine.trace(poutine.replay(pair.model, trace=q)).get_trace(*pair.data)
        names = [name for name in latent(p) if name in latent(q)]
        return draw(one, n)


def point_estimates(fit: Approximation) -> bool:
    """Whether no latent of the guide differs between its draws: point estimates have no density."""
    with reading(fit.state, 1), torch.no_grad():
        one, two = (latent(traced(fit.guide, fit.data)) for _ in range(2))
        return all(_is_point(site, two[name]["value"]) for name, site in one.items() if name in two)


def counted_once(fit: Approximation) -> list[str]:
    """The latents of rows whose log densities are averaged over the rows, as masks of dropout with `once=True`."""
    with reading(fit.state, 1), torch.no_grad():
        return [name for name, site in latent(traced(fit.guide, fit.data)).items() if counts_once(site)]


def _is_point(site: dict[str, Any], again: torch.Tensor) -> bool:
    """Whether another draw is the same; finite latents may be so by chance, unless the value has probability 1."""
    if not torch.equal(site["value"], again):
        return False
    finite = getattr(site["fn"], "has_enumerate_support", False)
    return not finite or bool((site["fn"].log_prob(again) > -CERTAIN).all())


def guide_draws_within(fit: Approximation, by: Deadline, seed: int) -> GuideDraws | None:
    """As many draws of the guide as a quarter of the time that is left pays for, from FEWEST to MOST; None where FEWEST
    would take more than half of it. Draws that are made together cost less each.
    """
    share = by.left / 4

    def seconds(n: int) -> float:
        begun = clock(by.device)
        guide_draws_weighed(fit, n, seed + 1)
        return clock(by.device) - begun

    if (one := seconds(1)) * FEW / 4 > share:  # a call runs the pair several times
        return None
    each = max((many := seconds(FEW)) - one, many / FEW, TICK) / FEW
    if FEWEST * each > by.left / 2:
        return None
    n = max(FEWEST, min(MOST, int((share - one - many) / each)))
    return guide_draws_weighed(fit, n, seed)


def in_double(fit: Any) -> Any:
    """The fit in double precision if its model supports that: log densities of large data cancel many digits."""
    data = tuple(v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for v in fit.data)
    guide = fit.guide
    if dataclasses.is_dataclass(guide) and not isinstance(guide, type) and hasattr(guide, "dtype"):  # in closed form
        guide = dataclasses.replace(guide, dtype=torch.float64)
    double = dataclasses.replace(fit, guide=guide, data=data, state=snapshot(fit.state, torch.float64))
    try:
        guide_draws_weighed(double, 1, 0)
    except (RuntimeError, ValueError):  # constants of the model in single precision
        return fit
    return double

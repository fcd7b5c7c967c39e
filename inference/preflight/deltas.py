"""Finds Delta sites of a guide that are computed from auxiliary noise, and whose log_density is not theirs.

    z = f(e), e ~ q(e):     log q(z) = log q(e) - log |det df/de|

The guide counts log q(e) at the auxiliary site, so the Delta must have log_density = -log |det df/de|. Pyro's default
of 0 is right for a shift of the noise alone; with a trained scale it drops the entropy, and the scale shrinks to 0.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide

from ..distributions.unwrap import unwrapped
from ..runtime.generators import noise
from ..runtime.held import HeldSites
from ..runtime.probes import PLACES, look_near
from ..runtime.sites import Site, latent, observed, quoted

MOST = 128  # numbers of noise whose Jacobian is computed as a matrix; of more only if each moves one number of a latent
SLACK = 1e-3  # nats a number


class _Differs(NamedTuple):
    """Delta sites, their log_density in all, and the one that they should have; nats."""

    points: list[str]
    given: float
    wanted: float


def wrong_density(guide: Callable[..., Any], trace: poutine.Trace, data: tuple[Any, ...]) -> list[str]:
    """A warning if the log_density of Delta sites is not that of the noise they are computed from.

    trace: of the guide. It runs once more, with its parameters moved a little, if it has auxiliary and Delta sites.
    Nothing is known, and warned of, where noise and latents have not as many numbers: a simplex, say.
    """
    drawn = latent(trace, auxiliary=True)
    held = {name: site["value"].detach() for name, site in drawn.items()}
    free = [n for n in held if drawn[n]["infer"].get("is_auxiliary") and not _is_point(drawn[n])]
    noises = [n for n in free if held[n].is_floating_point()]
    points = [name for name, site in latent(trace).items() if _is_point(site)]
    if not noises or not points or isinstance(guide, AutoGuide):  # Pyro's own are tested in Pyro
        return []
    try:
        with torch.enable_grad(), noise(0), pyro.validation_enabled(False):
            # Off the start too: a scale of 1 has the density of a shift.
            found = look_near(lambda: _compare(guide, data, held, noises, points), PLACES[-1])
    except Exception:  # of a guide that cannot run at its own draws, or of noise without a gradient: it is not known
        return []
    if found is None:
        return []
    return [
        f"{quoted(found.points)}: a Delta of the guide is computed from the draw of {quoted(noises)}, and its "
        f"log_density is not -log|det| of this computation ({found.given:.4g} for {found.wanted:.4g} where parameters "
        f"are moved a little), so that the density of the guide is wrong: without a log_density sds shrink to 0. Draw "
        f"it from its distribution, dist.Normal(loc, scale), or pass dist.Delta(loc + scale * noise, "
        f"log_density=-scale.log())"
    ]


def _compare(
    guide: Callable[..., Any],
    data: tuple[Any, ...],
    held: dict[str, torch.Tensor],
    noises: list[str],
    points: list[str],
) -> _Differs | None:
    """Runs the guide at these draws and compares log_density with the Jacobian; None if they agree, or cannot."""
    leaves = [held[name].clone().requires_grad_() for name in noises]
    free = {n: v for n, v in held.items() if n not in points} | dict(zip(noises, leaves, strict=True))
    with poutine.trace() as tracer, HeldSites(free):
        guide(*data)
    sites: dict[str, Site] = {name: tracer.trace.nodes[name] for name in points}
    values = {name: site["value"] for name, site in sites.items() if site["value"].requires_grad}
    moved = {n: v for n, v in values.items() if any(g is not None for g in _pulled(v.sum(), leaves))}
    if not moved or any(_is_masked(sites[name]) for name in moved):
        return None
    log_det, numbers = _log_det(list(moved.values()), leaves)
    given = sum(_density(sites[name]) for name in moved)
    factors = sum(_density(site) for site in observed(tracer.trace).values())  # pyro.factor may hold it as well
    if log_det is None or min(abs(given + log_det), abs(given + factors + log_det)) <= SLACK * numbers:
        return None
    return _Differs(list(moved), given, -log_det)


def _is_point(site: Site) -> bool:
    return type(unwrapped(site["fn"])).__name__ == "Delta" and site["value"].is_floating_point()


def _is_masked(site: Site) -> bool:
    fn, masks = site["fn"], [site["mask"]]
    while hasattr(fn, "base_dist"):
        masks.append(getattr(fn, "_mask", None))
        fn = fn.base_dist
    return any(mask is not None and mask is not True for mask in masks)


def _density(site: Site) -> float:
    return float(site["fn"].log_prob(site["value"]).detach().double().sum())


def _pulled(value: torch.Tensor, leaves: list[torch.Tensor]) -> tuple[torch.Tensor | None, ...]:
    pulled: tuple[torch.Tensor | None, ...] = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
    return pulled


def _log_det(values: list[torch.Tensor], leaves: list[torch.Tensor]) -> tuple[float | None, int]:
    """(log |det| of the Jacobian of the values in the leaves that move them, its rows). None: it has no determinant."""
    out = torch.cat([v.flatten() for v in values])
    first = _pulled(out.sum(), leaves)
    used = [leaf for leaf, pulled in zip(leaves, first, strict=True) if pulled is not None]
    n = len(out)
    if sum(leaf.numel() for leaf in used) != n:
        return None, n
    if n <= MOST:
        rows = torch.stack([_one_row(entry, used) for entry in out])
        sign, log_det = torch.linalg.slogdet(rows.double())
        return (float(log_det) if sign else None), n
    slopes = [_one_row((out * ways).sum(), used) for ways in (torch.ones_like(out), torch.linspace(1, 2, n).to(out))]
    # A Jacobian of one number a row and a column: weights of the rows come back as they were, in some order.
    ratios = slopes[1] / slopes[0]
    apart = torch.allclose(ratios.sort().values, torch.linspace(1, 2, n).to(out), rtol=1e-4)
    return (float(slopes[0].abs().double().log().sum()) if apart else None), n


def _one_row(value: torch.Tensor, leaves: list[torch.Tensor]) -> torch.Tensor:
    pulled = zip(leaves, _pulled(value, leaves), strict=True)
    return torch.cat([(torch.zeros_like(leaf) if g is None else g).flatten() for leaf, g in pulled])

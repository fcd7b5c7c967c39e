"""Fits of guides that hold some normals only, without steps of SVI: mean field, and the normals of Pyro's autoguides.

    "mean_field", AutoNormal, AutoDiagonalNormal     independent normals in unconstrained space
    AutoLowRankMultivariateNormal                    normals of a diagonal and few factors

Each is the normal of least KL(q || p) in its family (`gaussian/smaller_family.py`), and is looked at as one of full
rank is. Networks, whose posteriors have as many modes as their units have orders, are left to SVI.
"""

import dataclasses
from functools import partial
from typing import Any

import torch
from pyro import poutine
from pyro.infer.autoguide import AutoDiagonalNormal, AutoLowRankMultivariateNormal, AutoNormal
from torch.distributions import biject_to, constraints

from ..gaussian.density import Density
from ..gaussian.families import few_factors, mean_field
from ..gaussian.full_rank import IN_A_LOOP, FullRank, another_mode
from ..gaussian.normal_guide import place_in
from ..gaussian.smaller_family import best_in_family
from ..importance.affordable import POINTS, counted
from ..importance.budget import clock
from ..importance.correct_fit import GOOD, look_at_normal
from ..pair.mean_field import MeanField
from ..planning.plan import NO_STEPS
from ..runtime.defaults import default_dtype
from ..runtime.reachable import find_modules
from ..runtime.sites import latent, observed
from ..runtime.state import entered
from ..stepping.begin import Begun, begin
from ..stepping.settings import Settings
from ..variational.result import Fit, finished
from .check import concluded
from .gaussian_fit import NotThisWay, fixed_density, searching, seconds_of_look

MEAN_FIELD, FACTORS = "mean field, by fixed draws", "low rank, by fixed draws"
FAMILIES: dict[type, str] = {
    MeanField: MEAN_FIELD,
    AutoNormal: MEAN_FIELD,
    AutoDiagonalNormal: MEAN_FIELD,
    AutoLowRankMultivariateNormal: FACTORS,
}
MOST = 200  # latents: with more SVI is faster
GRADIENTS, LONGEST = 10_000, 10.0  # gradients that a search takes, about, and the seconds of them by counting
LITTLE = {MEAN_FIELD: 1e-4, FACTORS: 2e-3}  # nats gained in 8 steps, below which an ascent ends
LARGE = 0.1  # error of a mean in sds, or of a log sd, of a search that did not converge, from which SVI is tried
REMEDY = (
    "another guide or parametrisation (non-centred: z = mean + sd * e) usually helps; credo.check(fit) says how far off"
)
MATRICES = 2  # real matrices among the latents, from which a model is taken for a network


def family_fit(begun: Begun, guide: Any, settings: Settings, data: tuple[Any, ...], warnings: list[str]) -> Fit:
    """The fit of a guide whose class is in `FAMILIES`. warnings: for the user, at the end of the call.

    begun: the pair of the model and this guide. Raises NotThisWay for what SVI is to fit, with the reason.
    """
    method, started = FAMILIES[type(guide)], clock(begun.state.device)
    if why := _why_svi(settings.model, begun):
        raise NotThisWay(why)
    density, state = fixed_density(settings, data, begun)
    _refuse_other_latents(guide, begun, density)
    if (D := len(density.first)) > (MOST if density.vectorised else IN_A_LOOP):
        raise NotThisWay(f"{D:,} latents, whose density cannot be taken at enough points at once")
    rank = getattr(guide, "rank", None) or round(D**0.5)
    family = mean_field if method == MEAN_FIELD else partial(few_factors, rank=rank)
    with entered(state), default_dtype(density.first.dtype):
        together = min(POINTS, density.chunk) if density.vectorised else 1
        if GRADIENTS * counted(lambda: density.at(density.first), together, begun.state.device) > LONGEST:
            raise NotThisWay("a gradient of its density takes too long for a search on fixed draws")
        with searching():
            found = best_in_family(density, family, LITTLE[method], settings.seed)
        if found is None or (not found.converged and not found.error < LARGE):
            raise NotThisWay("no best normal of this family was found")
        spent = clock(begun.state.device) - started
        look = _looked_at(density, found, spent, settings.seed)
    placed = begin(settings.model, guide, settings, data)
    stopped = (
        f"{'converged' if found.converged else 'not converged'}: at the largest ELBO of the family on fixed draws, "
        f"{found.gradients:,} gradients, means and log sds within {found.error:.2g} by other draws"
    )
    with entered(placed.state):
        place_in(placed.pair.guide, found.normal)
        fit = finished(settings.model, placed.pair, [], NO_STEPS, stopped, settings.seed, begun.given)
    warnings += begun.warnings
    if not found.converged:
        warnings.append(f"{stopped}: {REMEDY}")
    fit = dataclasses.replace(fit, method=method, importance=found.weighed.importance)
    return concluded(fit, look)


def _looked_at(density: Density, found: FullRank, spent: float, seed: int) -> Any:
    """The look at the normal, by mixtures that also have the dense normals of the search, where its own draws fail."""
    normal, weights = found.normal, found.weighed.importance
    mode = another_mode(normal, weights.log_evidence, found.paths)
    others = [] if weights.leaves(GOOD) and mode is None else [found.paths[0].normal]
    others += [mode.normal] if mode is not None and mode is not found.paths[0] else []
    return look_at_normal(density, normal.dense(), found.weighed, others, seconds=seconds_of_look(spent), seed=seed)


def _why_svi(model: Any, begun: Begun) -> str:
    """Why SVI has to fit this pair, found without a density; "" if it need not."""
    if begun.fixed_part is not None:
        return begun.fixed_part
    if begun.pair.followers:
        return "latents with masked entries follow the model"
    with entered(begun.state), torch.no_grad():
        p = poutine.trace(poutine.replay(begun.pair.model, trace=begun.q)).get_trace(*begun.pair.data)
    latents, rows = latent(p).values(), sum(site["value"].numel() for site in observed(p).values())
    if sum(site["fn"].event_dim >= 2 and _real(site["fn"].support) for site in latents) >= MATRICES:
        return "matrices of weights, as in a network"
    numbers = sum(site["value"].numel() for site in latents)
    nets = any(next(net.parameters(), None) is not None for net in find_modules((model, begun.pair.data)))
    if nets and (numbers > rows or sum(site["value"].dim() > 1 for site in latents) >= MATRICES):
        return f"a network with {numbers:,} latents and {rows:,} observations"
    return ""


def _real(support: Any) -> bool:
    return getattr(support, "base_constraint", support) is constraints.real


def _refuse_other_latents(guide: Any, begun: Begun, density: Density) -> None:
    """Raises NotThisWay unless the guide draws the latents of the density, in its order and with its supports."""
    with entered(begun.state):
        sites = dict(guide.prototype_trace.iter_stochastic_nodes())
    if list(sites) != list(density.names):
        raise NotThisWay("the autoguide draws other latents, or in another order")
    parts = density.first.split([shape.numel() for shape in density.shapes])
    for name, shape, u in zip(density.names, density.shapes, parts, strict=True):
        own, value = biject_to(sites[name]["fn"].support), sites[name]["value"].to(u)
        if own.inv(value).shape != shape:
            raise NotThisWay(f"site {name!r}: the autoguide draws it in another shape")
        point = u.reshape(shape)
        if not torch.allclose(own(point), density.transforms[name](point), rtol=1e-4, atol=1e-6):
            raise NotThisWay(f"site {name!r}: the autoguide draws it on another support")

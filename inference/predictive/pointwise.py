"""Draws of a fit with all that belongs to each of them: log densities, log likelihoods of rows, deterministic sites.

    z ~ q(z),   log q(z),   log p(data, z),   log p(x_n | z) for each row n

Finite latents k that were summed out of the model are summed out of the likelihood too: log sum_k p(x_n, k | z). Other
latents of rows, which the guide draws, are held at their draw, as in PyMC.
"""

from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..pair.backward import determined
from ..pair.costs import DATA, PRIOR, run
from ..pair.masked import MaskedSites
from ..posterior.approximation import Approximation, pair_of
from ..posterior.sample import MOST, Values, beyond_the_guide
from ..posterior.source import DrawsOfModel
from ..posterior.weighted_guide import held_points
from ..runtime.sites import Site, is_factor, is_index, latent, observed, refuse_subsampled, temperature
from ..runtime.traced import traced
from ..runtime.vectorise import draw, draw_each
from .streamed import RUNS

LOG_Q = ""  # the name of log q among the draws of a guide


class Points(NamedTuple):
    """Draws of the latents of a guide."""

    values: Values  # {site: (n, *shape of the site)}
    size: int  # n
    log_q: torch.Tensor | None = None  # log q(z), nats (n,); None for a guide whose draws have no density at hand
    log_evidence: float | None = None  # log p(data), nats, where q is the posterior
    others: Values | None = None  # the other sites at these draws, if they are known
    stats: Mapping[str, torch.Tensor] = {}  # what else is known of each draw (n,)
    chains: int = 1  # that the draws come from, one after another


class AtPoints(NamedTuple):
    """What belongs to draws."""

    values: Values  # of sites beyond the guide, and of latents whose masked entries follow the model
    log_joint: torch.Tensor  # log p(data, z), nats (n,)
    log_likelihood: Values  # {observed site: (n, *shape of its plates)}, nats


def guide_points(fit: Approximation, n: int) -> Points:
    """n draws of the latents of the guide, with their density. The state of the fit has been entered."""
    if (many := getattr(fit.guide, "joint_draws", None)) is not None:
        return Points(many(n), n)

    def one() -> Values:
        guide = traced(fit.guide, fit.data)
        sites = latent(guide)
        refuse_subsampled(sites)
        guide.compute_log_prob(site_filter=lambda name, site: not is_index(site))
        total = [site["log_prob_sum"] for site in guide.nodes.values() if "log_prob_sum" in site]
        return {name: site["value"] for name, site in sites.items()} | {LOG_Q: torch.as_tensor(sum(total)).double()}

    drawn = draw(one, n)
    return Points({name: value for name, value in drawn.items() if name != LOG_Q}, n, drawn[LOG_Q])


def at_points(fit: Approximation, points: Points, wanted: Set[str], rows: bool = True) -> AtPoints:
    """What belongs to draws of the latents of the guide. The state of the fit has been entered.

    wanted: the sites of the model to compute besides, of those `beyond_the_guide`. rows: whether the likelihood of each
    row is wanted.
    """
    pair = pair_of(fit)._replace(followers=frozenset())
    program = poutine.replay(fit.model, trace=traced(fit.guide, fit.data))
    nodes: dict[str, Site] = dict(poutine.trace(program).get_trace(*fit.data).nodes)

    def one(values: Values) -> AtPoints:
        values = {name: value for name, value in values.items() if name != RUNS}
        others = {name: value for name, value in values.items() if name not in fit.followers}
        with MaskedSites({name: values[name] for name in fit.followers}):
            found = determined(fit.model, fit.data, fit.summed, others, wanted | fit.followers)
        held = {name: found.get(name, value) for name, value in values.items()}
        scored = run(pair._replace(guide=held_points(held)))
        costs = {key: cost for key, cost in scored.costs.items() if key[0] in (DATA, PRIOR)}
        total = sum((cost.double().sum() for cost in costs.values()), torch.zeros((), dtype=torch.float64))
        each = {
            name: _of_plates(cost, scored.dims[side, name], nodes[name]) * temperature(nodes[name])
            for (side, name), cost in costs.items()
            if rows and side == DATA and not is_factor(nodes[name])
        }
        return AtPoints(found, total, each)

    return draw_each(one, {**points.values, RUNS: torch.zeros(points.size)})


def points_of(found: DrawsOfModel, sites: Values, stats: Values) -> Points:
    """The draws of all chains, one after another. sites: {site: (chains, draws, *shape)}; stats: (chains, draws)."""
    flat = {name: values.flatten(0, 1) for name, values in sites.items()}
    latents = {name: flat[name] for name in found.guide.values}
    chains, draws = next(iter(sites.values())).shape[:2]
    return Points(
        latents,
        chains * draws,
        others={name: values for name, values in flat.items() if name not in latents},
        stats={name: values.flatten(0, 1) for name, values in stats.items()},
        chains=chains,
    )


def wanted_beyond(fit: Approximation, n: int, seed: int) -> frozenset[str]:
    """The sites beyond the guide that n draws of do not fill the memory."""
    return frozenset(name for name, site in beyond_the_guide(fit, seed).items() if n * site["value"].numel() <= MOST)


def observations(fit: Approximation, data: tuple[Any, ...] | None = None) -> dict[str, Site]:
    """The observed sites of the model at a draw of the guide. The state of the fit has been entered.

    data: in the place of the data of the fit.
    """
    data = fit.data if data is None else data
    guide = traced(fit.guide, data)
    sites = observed(poutine.trace(poutine.replay(fit.model, trace=guide)).get_trace(*data))
    return {name: site for name, site in sites.items() if not is_factor(site)}


def _of_plates(cost: torch.Tensor, dims: Mapping[str, int], site: Any) -> torch.Tensor:
    """A log density in the shape of the plates of its site. Where sites were summed out it has theirs, to the left."""
    shape = torch.Size(site["fn"].batch_shape)
    if cost.shape == shape:
        return cost
    if cost.numel() == shape.numel():
        return cost.reshape(shape)
    kept = {dim for dim in dims.values() if cost.dim() >= -dim}
    return cost.reshape([size for d, size in enumerate(cost.shape) if d - cost.dim() in kept or size != 1])

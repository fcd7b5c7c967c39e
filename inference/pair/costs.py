"""What one run of a pair costs, site by site.

log p(x, z) - log q(z) = sum over sites of log-densities, each with a value for every row of its plates
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask

from ..distributions.divergence import divergence
from ..distributions.finite import one_flip_neighbours
from ..distributions.unwrap import unmasked, without_parameters
from ..runtime.held import Held
from ..runtime.sites import Site, drawn, has_rsample, is_index, plates
from .local_reparam import per_row_noise
from .pair import Pair, Program
from .summed_out import Group, eliminated, enumerating

# The sides of a cost: log p of data, log p of a latent, log q of the guide (or KL in their stead), and log q once
# more, without scale, where it is to weight other costs.
DATA, PRIOR, GUIDE, WEIGHT = "data", "prior", "guide", "weight"


Key = tuple[str, str]  # (side, site)


Costs = dict[Key, torch.Tensor]  # nats, shape of the site's plates


Plates = dict[Key, frozenset[str]]  # the names of those plates


Dims = dict[Key, dict[str, int]]  # the dimension of each of these plates, counted from -1


class Terms(NamedTuple):
    """How sites enter the costs.

    kl: {site of the guide: that of the model} whose KL(q || p) takes the place of log q - log p. sticking: sites whose
    log q is not differentiated in its parameters; `again`: those among them whose distribution depends on other draws,
    or is not made of plain tensors. weights: sites whose log q is wanted without scale and mask too. flips: sites whose
    one-flip neighbours are wanted. local: {site: "local" or "flipout"}, weights that act on each row with noise of its
    own; their log q must enter by its KL. known: the sites that a plan was made for, None for any; another one of the
    guide is refused where its draws carry no gradient.
    """

    kl: Mapping[str, str] = {}
    sticking: frozenset[str] = frozenset()
    again: frozenset[str] = frozenset()
    weights: frozenset[str] = frozenset()
    flips: frozenset[str] = frozenset()
    local: Mapping[str, str] = {}
    known: frozenset[str] | None = None


PLAIN = Terms()


class Run(NamedTuple):
    """The draws z ~ q, the cost of each site, its plates and their dimensions, and the neighbours of some draws with
    their probabilities.
    """

    z: dict[str, torch.Tensor]
    costs: Costs
    plates: Plates
    dims: Dims
    neighbours: dict[str, tuple[torch.Tensor, torch.Tensor]]


def run(pair: Pair, held: Mapping[str, torch.Tensor] | None = None, terms: Terms = PLAIN) -> Run:
    """One run of guide and model. held: values of latents that are not drawn."""
    q = poutine.trace(Held(held)(pair.guide) if held else pair.guide).get_trace(*pair.data)
    how = {name: word for name, word in terms.local.items() if name not in (held or {})}
    with per_row_noise(q.nodes, how) if how else nullcontext():
        p = poutine.trace(poutine.replay(summed_model(pair), trace=q)).get_trace(*pair.data)
    z = {name: site["value"] for name, site in drawn(q).items()}
    fixed = Held({name: value.detach() for name, value in z.items()}) if terms.again else None
    still = poutine.trace(fixed(pair.guide)).get_trace(*pair.data) if fixed else q
    costs: Costs = {}
    where: Plates = {}
    dims: Dims = {}
    in_model = set(terms.kl.values())
    in_guide = in_model | terms.kl.keys() | terms.sticking
    p.compute_log_prob(site_filter=lambda name, site: name not in in_model)
    q.compute_log_prob(site_filter=lambda name, site: name not in in_guide)
    groups: dict[str, Group] = {}
    if pair.summed is not None:
        groups = {name: group for group in eliminated(p, pair.summed) for name in group.sites}
    for trace, latent_side, left_out in ((p, PRIOR, in_model), (q, GUIDE, in_guide)):
        nodes: dict[str, Site] = dict(trace.nodes)
        for name, site in nodes.items():
            if site["type"] != "sample" or site["infer"].get("_deterministic") or is_index(site):
                continue
            if trace is p and name in groups:
                group = groups[name]  # one cost, where its last site stands: all that it depends on comes before
                if name == group.sites[-1] and group.name is not None:
                    key = (DATA if group.observed else PRIOR, group.name)
                    costs[key], where[key], dims[key] = group.cost, group.plates, group.dims
                continue
            side = DATA if trace is p and site["is_observed"] else latent_side
            if side == GUIDE and terms.known is not None and name not in terms.known and not has_rsample(site):
                raise ValueError(
                    f"site {name!r}: the guide draws it now and did not when the run met its data, so no estimator was "
                    f"chosen for it; begin another run (credo.SVI) for data of this kind"
                )
            if side == GUIDE and name in terms.kl:
                costs[side, name] = _kl(site, p.nodes[terms.kl[name]])
            elif side == GUIDE and name in terms.sticking:
                costs[side, name] = _sticking(site, still.nodes[name]["fn"] if name in terms.again else None)
            elif name not in left_out:
                costs[side, name] = site["log_prob"]
            else:
                continue
            where[side, name] = plates(site)
            dims[side, name] = {f.name: f.dim for f in site["cond_indep_stack"] if f.vectorized}
            if name in terms.weights and side == GUIDE:
                costs[WEIGHT, name] = unmasked(site["fn"]).log_prob(z[name])
                where[WEIGHT, name], dims[WEIGHT, name] = where[side, name], dims[side, name]
    near = {name: one_flip_neighbours(q.nodes[name]["fn"], z[name]) for name in sorted(terms.flips)}
    return Run(z, costs, where, dims, near)


def _kl(q: Site, p: Site) -> torch.Tensor:
    value: torch.Tensor = scale_and_mask(divergence(q["fn"], p["fn"]), q["scale"], q["mask"])
    return value


def _sticking(site: Site, still: Any) -> torch.Tensor:
    """log q at its draw, the parameters held (Roeder, Wu and Duvenaud 2017): its mean derivative by them is zero."""
    fn, value = site["fn"], site["value"]
    if still is None:
        density = without_parameters(fn).log_prob(value)
    else:
        held = still.log_prob(value.detach())
        density = fn.log_prob(value) - held + held.detach()
    return scale_and_mask(density, site["scale"], site["mask"])


def summed_model(pair: Pair) -> Program:
    """The model, run with all values of its summed sites at once."""
    return pair.model if pair.summed is None else enumerating(pair.model, pair.summed)

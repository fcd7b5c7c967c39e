"""The log densities of a model and a guide, site by site, from one run of both: the terms of the ELBO.

log p(x, z) - log q(z) = sum over sites of log densities, each with a value for every row of its plates
"""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask

from ..distributions.divergence import divergence, pushforward
from ..distributions.finite import one_flip_neighbours
from ..distributions.unwrap import unmasked, without_parameters
from ..runtime.held import HeldSites
from ..runtime.sites import Site, drawn_sites, has_rsample, is_index, plates
from ..runtime.traced import traced
from .local_reparam import per_row_noise
from .masked import mask_guide
from .pair import Pair, Program, Summed
from .summed_out import Group, eliminated, enumerating

# The sides of a cost: log p of data, log p of a latent, log q of the guide (or the KL in place of the latter two), and
# log q without scale and mask, for a site whose density weighs other costs.
DATA, PRIOR, GUIDE, WEIGHT = "data", "prior", "guide", "weight"
Key = tuple[str, str]  # (side, site)
Costs = dict[Key, torch.Tensor]  # nats, shape of the site's plates
Plates = dict[Key, frozenset[str]]  # the names of those plates
Dims = dict[Key, dict[str, int]]  # the dimension of each of these plates, counted from -1


class Terms(NamedTuple):
    """Which term each latent site contributes. A site that no field names contributes log p - log q at its draw."""

    kl: Mapping[str, str] = {}  # {site of the guide: site of the model}: their KL(q || p) replaces log q - log p
    sticking: frozenset[str] = frozenset()  # sites whose log q is not differentiated in its parameters
    rerun: frozenset[str] = frozenset()  # sticking sites whose q depends on other draws, or is not of plain tensors
    unscaled: frozenset[str] = frozenset()  # sites whose log q is wanted without scale and mask too, as a WEIGHT
    flips: frozenset[str] = frozenset()  # sites whose one-flip neighbours are wanted
    local: Mapping[str, str] = {}  # {site: "local" or "flipout"}: weights with noise for each row; they must be in kl
    planned: frozenset[str] | None = None  # the sites that a plan names; others must have rsample. None: any site


PLAIN = Terms()


class Run(NamedTuple):
    """What one run of a pair returns: the draws and what each of them costs."""

    z: dict[str, torch.Tensor]  # the draws of the guide
    costs: Costs
    plates: Plates
    dims: Dims
    neighbours: dict[str, tuple[torch.Tensor, torch.Tensor]]  # {site: (one-flip neighbours, their probabilities)}


class _Score(NamedTuple):
    """One cost, the plates that hold its site and their dimensions."""

    cost: torch.Tensor
    plates: frozenset[str]
    dims: dict[str, int]


def run(pair: Pair, held: Mapping[str, torch.Tensor] | None = None, terms: Terms = PLAIN) -> Run:
    """Runs the guide, then the model at its draws, and scores every site. held: values of latents that are not drawn.

    Raises ValueError for a site that the guide draws without rsample and that the plan does not know.
    """
    q, p = _run_both(pair, held or {}, terms.local)
    z = {name: site["value"] for name, site in drawn_sites(q).items()}
    distributions = _at_held_parameters(pair, q, z, terms.rerun)
    in_kl = set(terms.kl.values())
    elsewhere = in_kl | terms.kl.keys() | terms.sticking  # sites of the guide whose own log q is not wanted
    p.compute_log_prob(site_filter=lambda name, site: name not in in_kl)
    q.compute_log_prob(site_filter=lambda name, site: name not in elsewhere)
    scores = _score_model(p, pair.summed, in_kl)
    for name, site in _scored_sites(q):
        if terms.planned is not None and name not in terms.planned and not has_rsample(site):
            raise ValueError(
                f"site {name!r}: the guide draws it now and did not when the run met its data, so no estimator was "
                f"chosen for it; begin another run (credo.SVI) for data of this kind"
            )
        if name in terms.kl:
            scores[GUIDE, name] = _score(site, _kl(site, p.nodes[terms.kl[name]]))
        elif name in terms.sticking:
            scores[GUIDE, name] = _score(site, _sticking(site, distributions.get(name)))
        elif name not in elsewhere:
            scores[GUIDE, name] = _score(site, site["log_prob"])
        else:
            continue
        if name in terms.unscaled:
            scores[WEIGHT, name] = _score(site, unmasked(site["fn"]).log_prob(z[name]))
    return Run(
        z,
        {key: score.cost for key, score in scores.items()},
        {key: score.plates for key, score in scores.items()},
        {key: score.dims for key, score in scores.items()},
        {name: one_flip_neighbours(q.nodes[name]["fn"], z[name]) for name in sorted(terms.flips)},
    )


def summed_model(pair: Pair) -> Program:
    """The model, run with all values of its summed sites at once."""
    return pair.model if pair.summed is None else enumerating(pair.model, pair.summed)


def _run_both(
    pair: Pair, held: Mapping[str, torch.Tensor], local: Mapping[str, str]
) -> tuple[poutine.Trace, poutine.Trace]:
    """Traces of the guide and of the model at the guide's draws, weights in `local` with noise for each row."""
    q = traced(HeldSites(held)(pair.guide) if held else pair.guide, pair.data)
    how = {name: word for name, word in local.items() if name not in held}
    with per_row_noise(q.nodes, how) if how else nullcontext():
        p = traced(poutine.replay(summed_model(pair), trace=q), pair.data)
    if pair.followers:
        mask_guide(q, p, pair.followers)
    return q, p


def _at_held_parameters(
    pair: Pair, q: poutine.Trace, z: Mapping[str, torch.Tensor], rerun: frozenset[str]
) -> dict[str, Any]:
    """The distributions of these sites in another run of the guide, at the same draws without their gradients."""
    if not rerun:
        return {}
    fixed = HeldSites({name: value.detach() for name, value in z.items()})
    again = traced(fixed(pair.guide), pair.data)
    return {name: again.nodes[name]["fn"] for name in rerun & q.nodes.keys()}


def _score_model(p: poutine.Trace, summed: Summed | None, in_kl: set[str]) -> dict[Key, _Score]:
    """log p of each site whose log p is computed; sites that are summed out together have one cost.

    That cost stands where the last site of the group stands: all that it depends on comes before.
    """
    found = [] if summed is None else eliminated(p, summed)
    groups: dict[str, Group] = {name: group for group in found for name in group.sites}
    scores: dict[Key, _Score] = {}
    for name, site in _scored_sites(p):
        if name in groups:
            group = groups[name]
            if name == group.sites[-1] and group.name is not None:
                scores[DATA if group.observed else PRIOR, group.name] = _Score(group.cost, group.plates, group.dims)
        elif name not in in_kl:
            scores[DATA if site["is_observed"] else PRIOR, name] = _score(site, site["log_prob"])
    return scores


def _scored_sites(trace: poutine.Trace) -> Iterator[tuple[str, Site]]:
    """The sample sites that have a density: without deterministic sites and the indices of plates."""
    nodes: dict[str, Site] = dict(trace.nodes)
    for name, site in nodes.items():
        if site["type"] == "sample" and not site["infer"].get("_deterministic") and not is_index(site):
            yield name, site


def _score(site: Site, cost: torch.Tensor) -> _Score:
    return _Score(cost, plates(site), {f.name: f.dim for f in site["cond_indep_stack"] if f.vectorized})


def _kl(q: Site, p: Site) -> torch.Tensor:
    """KL(q || p), nats. A site of another name than its prior's is an auxiliary draw, which the guide maps."""
    fn, prior = q["fn"] if q["name"] == p["name"] else pushforward(q["fn"], p["fn"]), p["fn"]
    if not torch.is_grad_enabled():  # a measurement, whose rounding would hide what it measures: lgamma(1e5) is 1e6
        fn, prior = (without_parameters(each, in_double=True) for each in (fn, prior))
    value: torch.Tensor = scale_and_mask(divergence(fn, prior), q["scale"], q["mask"])
    return value


def _sticking(site: Site, held: Any) -> torch.Tensor:
    """log q at its draw, differentiated along the draw but not in the parameters of q.

    The mean of the part left out is zero (Roeder, Wu and Duvenaud 2017). held: the distribution of the site at draws
    without gradients, whose log density is that part; None: `site` has a copy of its parameters without gradients.
    """
    fn, value = site["fn"], site["value"]
    if held is None:
        density = without_parameters(fn).log_prob(value)
    else:
        in_parameters = held.log_prob(value.detach())
        density = fn.log_prob(value) - in_parameters + in_parameters.detach()
    return scale_and_mask(density, site["scale"], site["mask"])

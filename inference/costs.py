"""What one run of a pair costs, site by site.

log p(x, z) - log q(z) = sum over sites of log-densities, each with a value for every row of its plates
"""

from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch.distributions import kl_divergence

from .marginal import Group, Program, Summed, eliminated, enumerating
from .sites import Site, drawn, plates, same_scale, unmoved, unwrapped


class Pair(NamedTuple):
    """A model and a guide with the data they are functions of. summed: the finite latents the guide leaves out."""

    model: Program
    guide: Program
    data: tuple[Any, ...]
    summed: Summed | None = None


# The sides of a cost: log p of data, log p of a latent, log q of the guide (or KL in their stead), and log q once
# more, without scale, where it is to weight other costs.
DATA, PRIOR, GUIDE, WEIGHT = "data", "prior", "guide", "weight"
Costs = dict[tuple[str, str], torch.Tensor]  # (side, site) -> nats, shape of the site's plates
Plates = dict[tuple[str, str], frozenset[str]]  # (side, site) -> the names of those plates
Dims = dict[tuple[str, str], dict[str, int]]  # (side, site) -> the dimension of each of these plates, counted from -1


def run(
    pair: Pair,
    held: Mapping[str, torch.Tensor] | None = None,
    kl: frozenset[str] = frozenset(),
    weights: frozenset[str] = frozenset(),
    dims: Dims | None = None,
) -> tuple[dict[str, torch.Tensor], Costs, Plates]:
    """(z ~ q, the cost of each site, its plates).

    held: values of latents that are not drawn. kl: sites whose KL(q || p) takes the place of log q - log p.
    weights: sites whose log q is wanted without scale too. dims: is filled, if given.
    """
    q = poutine.trace(_Held(held)(pair.guide) if held else pair.guide).get_trace(*pair.data)
    p = poutine.trace(poutine.replay(_model(pair), trace=q)).get_trace(*pair.data)
    costs, where = {}, {}
    groups: dict[str, Group] = {}
    for trace, latent_side in ((p, PRIOR), (q, GUIDE)):
        trace.compute_log_prob(site_filter=lambda name, site: name not in kl)
        if pair.summed is not None and trace is p:
            groups = {name: group for group in eliminated(p, pair.summed) for name in group.sites}
        nodes: dict[str, Site] = dict(trace.nodes)
        for name, site in nodes.items():
            if site["type"] != "sample" or site["infer"].get("_deterministic"):
                continue
            if trace is p and name in groups:
                group = groups[name]  # one cost, where its last site stands: all that it depends on comes before
                if name == group.sites[-1] and group.name is not None:
                    key = (DATA if group.observed else PRIOR, group.name)
                    costs[key], where[key] = group.cost, group.plates
                    if dims is not None:
                        dims[key] = group.dims
                continue
            side = DATA if trace is p and site["is_observed"] else latent_side
            if name in kl:
                if side != GUIDE:
                    continue
                prior: Any = p.nodes[name]["fn"]
                value = site["scale"] * kl_divergence(site["fn"], prior)
            else:
                value = site["log_prob"]
            costs[side, name], where[side, name] = value, plates(site)
            if dims is not None:
                dims[side, name] = {f.name: f.dim for f in site["cond_indep_stack"] if f.vectorized}
            if name in weights and side == GUIDE:
                costs[WEIGHT, name], where[WEIGHT, name] = site["unscaled_log_prob"], where[side, name]
                if dims is not None:
                    dims[WEIGHT, name] = dims[side, name]
    return {name: site["value"] for name, site in drawn(q).items()}, costs, where


def _model(pair: Pair) -> Program:
    return pair.model if pair.summed is None else enumerating(pair.model, pair.summed)


def log_q(pair: Pair, z: dict[str, torch.Tensor]) -> torch.Tensor:
    """log q(z) of the whole guide, a scalar in nats and double precision."""
    trace = poutine.trace(poutine.condition(pair.guide, z)).get_trace(*pair.data)
    trace.compute_log_prob()
    sites = [site for site in trace.nodes.values() if site["type"] == "sample"]
    return sum((s["log_prob"].sum(dtype=torch.float64) for s in sites), torch.zeros((), dtype=torch.float64))


def kl_is_known(pair: Pair, values: Mapping[str, torch.Tensor] | None = None) -> tuple[frozenset[str], bool]:
    """(the sites whose KL(q || prior) is known in closed form and right: their prior depends on no draw; whether one
    of these priors is improper, so that KL is all that can be said of it).
    """
    with torch.no_grad():
        q, p = _traces(pair, {})
        still = unmoved(p, _traces(pair, {})[1])
        depth = 0 if pair.summed is None else pair.summed.nesting
        for name, prior in list(still.items()):
            by_value = pair.summed is not None and len(prior["fn"].batch_shape) > depth  # it depends on a summed site
            if name not in q.nodes or by_value or not _kl_is_legal(q.nodes[name], prior):
                del still[name]
        if still and values:  # two coins may fall alike: every value of a finite site is tried
            for combination in product(*values.values()):
                moved = _traces(pair, dict(zip(values, combination, strict=True)))[1]
                still = {name: still[name] for name in unmoved(p, moved).keys() & still.keys()}
        improper = any(_is_improper(prior["fn"]) for prior in still.values())
    return frozenset(still), improper


def _traces(pair: Pair, held: Mapping[str, torch.Tensor]) -> tuple[poutine.Trace, poutine.Trace]:
    q = poutine.trace(_Held(held)(pair.guide)).get_trace(*pair.data)
    return q, poutine.trace(poutine.replay(_model(pair), trace=q)).get_trace(*pair.data)


def _kl_is_legal(q: Site, p: Site) -> bool:
    alike = q["mask"] is None and p["mask"] is None and same_scale(q["scale"], p["scale"]) and plates(q) == plates(p)
    if not alike or not getattr(q["fn"], "has_rsample", False) or type(unwrapped(q["fn"])).__name__ == "Delta":
        return False
    try:
        return bool(torch.isfinite(kl_divergence(q["fn"], p["fn"])).all())
    except NotImplementedError:  # no closed form
        return False


def _is_improper(fn: Any) -> bool:
    try:
        fn.sample()
    except NotImplementedError:
        return True
    return False


class _Held(Messenger):
    """Gives each named site its value, in all its rows, instead of drawing it."""

    def __init__(self, values: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            value = self.values[msg["name"]]
            msg["value"] = value.expand(msg["fn"].shape()) if hasattr(msg["fn"], "shape") else value
            msg["done"] = True

"""Sums finite latents that the guide does not sample out of the model exactly, without draws.

    log p(x | theta) = log sum_z p(x, z | theta)     by variable elimination: a mixture, a hidden Markov chain, topics

The model is run once with all values of these sites at once, each site along a dimension of its own to the left of all
plates (Pyro's parallel enumeration). Sites that share such a dimension are one group and become one cost, by Pyro's
tensor variable elimination (Obermeyer et al. 2019, Algorithm 1): rows of a plate that share no z stay apart, and a
chain of T steps of K values costs T K^2, not K^T.
"""

from collections import OrderedDict
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.ops import packed
from pyro.ops.contract import contract_tensor_tree
from pyro.poutine.enum_messenger import EnumMessenger

from ..distributions.finite import values_of
from ..runtime.components import connected
from ..runtime.sites import Site, latent, plates, quoted, same_scale
from .elimination import LogSums
from .pair import Program, Summed

SUMMED_OUT = "summed out"  # the plan's word for it


class Group(NamedTuple):
    """Sites that are summed over together, and the log density that remains."""

    sites: tuple[str, ...]  # in the order of the model
    name: str | None  # the first observed one; else the first that the guide has; None: their sum is 1
    observed: bool  # whether one of them is
    cost: torch.Tensor  # log sum_z p(.., z), nats, shape of the plates
    plates: frozenset[str]  # that hold all of the sites
    dims: dict[str, int]  # of these plates, counted from -1


def to_sum_out(model: poutine.Trace, guide: poutine.Trace) -> Summed | None:
    """The finite latents of the model that the guide does not sample, from a trace of each; None if there are none."""
    sites = frozenset(name for name, site in latent(model).items() if name not in guide.nodes and values_of(site["fn"]))
    if not sites:
        return None
    nesting = 0
    for trace in (model, guide):
        for site in trace.nodes.values():
            if site["type"] == "sample":
                depths = [-f.dim for f in site["cond_indep_stack"] if f.vectorized and f.dim is not None]
                nesting = max(nesting, len(getattr(site["fn"], "batch_shape", ())), *depths)
    return Summed(sites, nesting)


def enumerating(model: Program, summed: Summed) -> Program:
    """The model with all values of these sites at once, each site along a dimension left of the plates."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with _AllAtOnce(summed):
            return model(*args, **kwargs)

    return run


def eliminated(trace: poutine.Trace, summed: Summed) -> list[Group]:
    """The groups of sites that are summed over together, from an enumerated trace with its log probabilities.

    The mask of a summed site is ignored, so that its probabilities add up to one; masks of sites that depend on it
    count. A scale multiplies the logarithm of the sum, so all sites of a group must have the same.
    Raises ValueError naming sites that have not, and sites whose sum would take K^rows terms.
    """
    tables = tables_of(trace, summed)
    nodes: dict[str, Site] = dict(trace.nodes)
    groups = []
    for names in together(trace, tables, summed):
        left = contracted(trace, {name: tables[name] for name in names}, summed, LogSums())
        sites = {name: nodes[name] for name in names}
        others = [name for name in names if name not in summed.sites]
        seen = [name for name in others if sites[name]["is_observed"]]
        shared = frozenset.intersection(*(plates(site) for site in sites.values()))
        frames = next(iter(sites.values()))["cond_indep_stack"]
        dims = {f.name: f.dim for f in frames if f.vectorized and f.name in shared}
        cost = packed.unpack(left, trace.symbol_to_dim)
        cost = cost.reshape([1] * (max((-d for d in dims.values()), default=0) - cost.dim()) + list(cost.shape))
        groups.append(
            Group(tuple(names), next(iter(seen + others), None), bool(seen), _scaled(cost, sites), shared, dims)
        )
    return groups


def tables_of(trace: poutine.Trace, summed: Summed) -> dict[str, Any]:
    """{site: its log density at all values of the summed sites, with its mask}, from an enumerated trace.

    The masks of summed sites are left out. The log probabilities of the trace have been computed.
    """
    trace.symbolize_dims()
    nodes: dict[str, Site] = dict(trace.nodes)
    tables = densities(trace)
    for name in tables.keys() - summed.sites:
        if (mask := nodes[name]["mask"]) is not None:
            tables[name] = packed.scale_and_mask(
                tables[name], mask=packed.pack(mask, nodes[name]["infer"]["_dim_to_symbol"])
            )
    return tables


def together(trace: poutine.Trace, tables: dict[str, Any], summed: Summed) -> list[list[str]]:
    """The groups of sites that are summed over together: those whose tables share a summed site."""
    letters = _letters(trace, tables, summed)
    return connected({name: letters & set(table._pyro_dims) for name, table in tables.items()})


def contracted(trace: poutine.Trace, tables: dict[str, Any], summed: Summed, ring: LogSums) -> Any:
    """log sum_z of the product of the tables of one group. Raises ValueError for a sum of K^rows terms."""
    nodes: dict[str, Site] = dict(trace.nodes)
    tree: OrderedDict[frozenset[str], list[Any]] = OrderedDict()
    for name, table in tables.items():
        rows = frozenset(trace.plate_to_symbol[f.name] for f in nodes[name]["cond_indep_stack"] if f.vectorized)
        tree.setdefault(rows, []).append(table)
    try:
        ((_, (left,)),) = contract_tensor_tree(tree, _letters(trace, tables, summed), ring=ring).items()
    except NotImplementedError as error:
        raise ValueError(
            f"{quoted(tables)}: summed out of the model together, and all rows of a plate at once, which would take "
            f"a term for every combination of values in its rows ({error}); sample one of them in the guide"
        ) from None
    return left


def densities(trace: poutine.Trace) -> dict[str, Any]:
    """log p of each site, without scale and mask, as Pyro's packed tensors: `symbolize_dims` has been called."""
    nodes: dict[str, Site] = dict(trace.nodes)
    return {
        name: packed.pack(site["unscaled_log_prob"], site["infer"]["_dim_to_symbol"])
        for name, site in nodes.items()
        if "log_prob" in site and not site["infer"].get("_deterministic")
    }


def _letters(trace: poutine.Trace, tables: dict[str, Any], summed: Summed) -> set[str]:
    """The letters of the summed sites among these."""
    nodes: dict[str, Site] = dict(trace.nodes)
    return {nodes[name]["infer"]["_enumerate_symbol"] for name in summed.sites & tables.keys()}


def _scaled(cost: torch.Tensor, sites: dict[str, Site]) -> torch.Tensor:
    (first, one), *others = ((name, site["scale"]) for name, site in sites.items())
    for name, scale in others:
        if not same_scale(scale, one):
            raise ValueError(
                f"{quoted(sites)}: summed out of the model together, but {first!r} is scaled by {_shown(one)} and "
                f"{name!r} by {_shown(scale)}, and no scale of a sum's terms is one of its logarithm: let the same "
                f"poutine.scale, batch or subsampled plate hold them all, or sample the finite ones in the guide"
            )
    if isinstance(one, torch.Tensor) and torch.broadcast_shapes(one.shape, cost.shape) != cost.shape:
        raise ValueError(
            f"{quoted(sites)}: summed out of the model together, over rows that have a scale each (shape "
            f"{tuple(one.shape)}); scale them alike, or sample the finite ones in the guide"
        )
    return scale_and_mask(cost, scale=one)


def _shown(scale: Any) -> str:
    return (
        f"a tensor of shape {tuple(scale.shape)}" if isinstance(scale, torch.Tensor) and scale.dim() else f"{scale:g}"
    )


class _AllAtOnce(EnumMessenger):
    """Pyro's parallel enumeration for these sites alone, whatever the model asks for; works under `vmap` too."""

    def __init__(self, summed: Summed) -> None:
        super().__init__(first_available_dim=-1 - summed.nesting)
        self.sites = summed.sites

    def _pyro_sample(self, msg: Any) -> None:
        asked = "parallel" if msg["name"] in self.sites and not msg["is_observed"] else None
        msg["infer"] = {**msg["infer"], "enumerate": asked, "expand": False, "num_samples": None}
        super()._pyro_sample(msg)

    def _pyro_post_sample(self, msg: Any) -> None:
        if isinstance(msg["value"], torch.Tensor):  # Pyro reads the shape of `value.data`, which `vmap` hides
            super()._pyro_post_sample({**msg, "value": torch.empty(msg["value"].shape, device="meta")})

"""Draws the finite latents that were summed out of a model, jointly, given the data and the other latents.

    z ~ p(z | x, theta)         forward sums by variable elimination, then draws in the opposite order

The variable that was summed out last is drawn first, from the table that it was summed out of, with the variables that
were drawn before it put in: for a chain it is forward filtering, backward sampling (Scott 2002, section 2.1).
"""

import math
from collections.abc import Set
from typing import Any

import torch
from pyro import poutine
from pyro.ops import packed

from ..runtime.held import HeldSites
from ..runtime.sites import Site
from .elimination import LogSums
from .pair import Program, Summed
from .summed_out import contracted, enumerating, tables_of, together


def draw_summed(
    model: Program, others: poutine.Trace, data: tuple[Any, ...], summed: Summed, unseen: Set[str] = frozenset()
) -> dict[str, torch.Tensor]:
    """One joint draw of the summed sites given the data and the other latents, {site: shape of its plates and event}.

    others: a trace with the values of the model's other latents. unseen: sites of the model whose value is not given,
    observations to predict, say: they tell nothing about the summed sites. `vmap` can batch it.
    Raises ValueError for sites whose sum would take K^rows terms.
    """
    trace = poutine.trace(poutine.replay(enumerating(model, summed), trace=others)).get_trace(*data)
    trace.compute_log_prob(site_filter=lambda name, site: name not in unseen)
    tables = {name: _doubled(table) for name, table in tables_of(trace, summed).items()}
    ring = LogSums()
    for names in together(trace, tables, summed):
        contracted(trace, {name: tables[name] for name in names}, summed, ring)
    drawn: dict[str, Any] = {}  # letter of a variable -> the index of its value, over the letters of its plates
    for letter, table in reversed(ring.joined):
        for other in drawn.keys() & set(table._pyro_dims):
            table = packed.gather(table, drawn[other], other)
        drawn[letter] = _index(table, letter)
    nodes: dict[str, Site] = dict(trace.nodes)
    return {name: _value(nodes[name], drawn, trace.symbol_to_dim) for name in nodes if name in summed.sites}


def determined(
    model: Program, data: tuple[Any, ...], summed: Summed | None, values: dict[str, torch.Tensor], wanted: Set[str]
) -> dict[str, torch.Tensor]:
    """One draw of the wanted sites of the model that follow from its other latents: summed out, or deterministic.

    values: of the other latents. `vmap` can batch it.
    """
    if not wanted:
        return {}
    program = HeldSites(values)(model)
    if summed is not None:
        others = poutine.trace(program).get_trace(*data)
        for name in summed.sites:
            others.remove_node(name)
        program = HeldSites(draw_summed(model, others, data, summed))(program)
    nodes: dict[str, Site] = dict(poutine.trace(program).get_trace(*data).nodes)
    return {name: nodes[name]["value"] for name in nodes if name in wanted}


def _doubled(table: Any) -> Any:
    """In double precision: sums over thousands of rows leave single precision too few digits for a probability."""
    double = table.double()
    double._pyro_dims = table._pyro_dims
    return double


def _index(table: Any, letter: str) -> Any:
    """Indices drawn with the probabilities whose logarithms, up to a constant, stand along one dimension of a table."""
    at = table._pyro_dims.index(letter)
    below = table.softmax(at).cumsum(at)
    uniform = torch.rand_like(below.select(at, 0)) * below.select(at, -1)
    index = (below <= uniform.unsqueeze(at)).sum(at).clamp(max=table.shape[at] - 1)
    index._pyro_dims = table._pyro_dims.replace(letter, "")
    return index


def _value(site: Site, drawn: dict[str, Any], dims: dict[str, int]) -> torch.Tensor:
    """The value of a site at the index that was drawn, in the shape of its plates and event."""
    sizes = {f.dim: f.size for f in site["cond_indep_stack"] if f.vectorized}
    shape = tuple(sizes.get(dim, 1) for dim in range(min(sizes, default=0), 0))
    values = site["value"].reshape(-1, *site["fn"].event_shape)  # all of them, (K, *event)
    letter = site["infer"]["_enumerate_symbol"]
    # a site of one value has no letter in any table
    index = packed.unpack(drawn[letter], dims) if letter in drawn else torch.zeros(shape, dtype=torch.int64)
    if index.numel() != math.prod(shape):
        raise ValueError(
            f"site {site['name']!r}: a site outside of its plate depends on all of its rows, which were summed over as "
            f"one; sample it in the guide"
        )
    return values.index_select(0, index.flatten()).reshape(shape + site["fn"].event_shape)

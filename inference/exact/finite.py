"""Finite latents alone: summed over by variable elimination, rows of plates apart.

    log p(data) = log sum_z p(data, z),      p(z_i = k | data) = d log p(data) / d phi_i(k)

phi is zero and stands beside the log density of each site (Darwiche 2003, J. ACM 50(3), section 4.3: marginals are
derivatives). Draws go backwards through the elimination: what was summed out last is drawn first.
"""

from collections import OrderedDict
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.ops import packed
from pyro.ops.contract import contract_tensor_tree

from ..distributions.finite import finite_marginal, indicator, support
from ..pair.elimination import LogSums
from ..pair.pair import Summed
from ..pair.summed_out import connected, enumerating, to_sum_out
from ..preflight.broadcast import refuse_unbroadcast
from ..runtime.generators import noise
from ..runtime.sites import Site, is_index, quoted
from .belief import Belief, Point
from .coordinates import Values
from .inspection import Inspection
from .log_joint import LogJoint, values_in
from .no_closed_form import NoClosedForm

ROUNDING = 1e-12  # relative


DRAWS = 8  # of the posterior, at which the tables are held against the model


class Tables(NamedTuple):
    """The model with all values at once. tables: log densities, packed; phi: zeros beside those of the latents."""

    trace: poutine.Trace
    tables: dict[str, Any]
    phi: dict[str, torch.Tensor]


class Step(NamedTuple):
    """A variable, and the table it was summed out of, with a letter for each dimension."""

    letter: str
    dims: str
    table: torch.Tensor


def eliminate(f: LogJoint, looks: Inspection) -> tuple[Belief, float]:
    """(what is believed of all finite sites, log p(data) in nats), of a model that has no other latents.

    Raises NoClosedForm where the model does not broadcast over their values, or where a sum would be too long.
    """
    summed = to_sum_out(looks.traces[0], poutine.Trace())
    assert summed is not None
    summed = summed._replace(guided=False)
    try:
        refuse_unbroadcast(f.model, poutine.Trace(), f.data, summed)
        found = _tables(f, summed)
        log_evidence, joined = _summed(found)
    except ValueError as error:
        raise NoClosedForm(str(error)) from error
    if not log_evidence.isfinite():
        raise NoClosedForm(
            f"{quoted(summed.sites)}: the data is impossible for all of their values, log p(data) is -inf"
        )
    order = list(found.phi)
    slopes = torch.autograd.grad(log_evidence, [found.phi[name] for name in order])
    values, marginals = {}, {}
    for name, slope in zip(order, slopes, strict=True):
        fn = looks.finite[name]["fn"]
        values[name] = support(fn)
        if (off := (slope.sum(0) - 1).abs().max().item()) > 1e-9:
            raise NoClosedForm(f"site {name!r}: summed out of the model its probabilities are off from 1 by {off:.3g}")
        marginals[name] = finite_marginal(fn, values[name], slope.reshape(len(values[name]), *fn.batch_shape))
    steps = [Step(letter, table._pyro_dims, table.detach()) for letter, table in joined]
    with torch.no_grad():
        belief = Belief(
            family="finite",
            marginals={name: marginals[name] for name in looks.finite},
            log_prob=lambda z: _at(found, z, values) - log_evidence.detach(),
            size=lambda z: 0.0,
            sample=lambda n: _draw(n, found, steps, values, looks),
            widened=lambda width: {name: z[0] for name, z in _draw(1, found, steps, values, looks).items()},
        )
        _prove(f, belief, log_evidence.item(), looks)
    return belief, log_evidence.item()


def _tables(f: LogJoint, summed: Summed) -> Tables:
    with noise(0):
        trace = poutine.trace(enumerating(f.model, summed)).get_trace(*f.data)
    trace.compute_log_prob(site_filter=lambda name, site: not is_index(site))
    trace.symbolize_dims()
    tables, phi = {}, {}
    nodes: dict[str, Site] = dict(trace.nodes)
    for name, site in nodes.items():
        if "log_prob" not in site:
            continue
        log_prob = site["log_prob"]
        if name in summed.sites:
            if site["mask"] is not None and not torch.as_tensor(site["mask"]).all():
                raise ValueError(f"site {name!r}: a mask leaves out the probabilities of its values")
            at = site["infer"]["_enumerate_dim"]
            rows = {f.dim: f.size for f in site["cond_indep_stack"] if f.vectorized}
            shape = [log_prob.shape[at], *(rows.get(d, 1) for d in range(at + 1, 0))]
            phi[name] = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
            log_prob = log_prob + phi[name]
        tables[name] = packed.pack(log_prob, site["infer"]["_dim_to_symbol"])
    return Tables(trace, tables, phi)


def _summed(found: Tables) -> tuple[torch.Tensor, list[tuple[str, Any]]]:
    """(log p(data), what was summed out of what)."""
    trace, tables = found.trace, found.tables
    nodes: dict[str, Site] = dict(trace.nodes)
    letters = {nodes[name]["infer"]["_enumerate_symbol"] for name in found.phi}
    groups = connected({name: letters & set(t._pyro_dims) for name, t in tables.items()})
    together = {name for names in groups for name in names}
    total = sum((tables[name].sum() for name in tables if name not in together), torch.zeros((), dtype=torch.float64))
    ring = LogSums()
    for names in groups:
        tree: OrderedDict[frozenset[str], list[Any]] = OrderedDict()
        for name in names:
            rows = frozenset(trace.plate_to_symbol[p.name] for p in nodes[name]["cond_indep_stack"] if p.vectorized)
            tree.setdefault(rows, []).append(tables[name])
        try:
            ((_, (left,)),) = contract_tensor_tree(tree, letters, ring=ring).items()
        except NotImplementedError as error:
            raise ValueError(f"{quoted(names)}: their sum has a term for every combination of rows ({error})") from None
        total = total + left.sum()
    return total, ring.joined


def _draw(n: int, found: Tables, steps: list[Step], values: dict[str, torch.Tensor], looks: Inspection) -> Point:
    drawn: dict[str, tuple[torch.Tensor, list[str]]] = {}  # letter -> (indices (n, *plates), plates)
    for letter, dims, table in reversed(steps):
        others = [d for d in dims if d in drawn]
        plates = [d for d in dims if d not in drawn and d != letter]
        size = dict(zip(dims, table.shape, strict=True))
        index = [_aligned(drawn[d], plates) for d in others]
        for i, p in enumerate(plates):
            index.append(torch.arange(size[p]).reshape([1] + [-1 if j == i else 1 for j in range(len(plates))]))
        logits = table.permute([dims.index(d) for d in (*others, *plates, letter)])[tuple(index)]
        drawn[letter] = (dist.Categorical(logits=logits.expand(n, *[size[p] for p in plates], -1)).sample(), plates)
    result = {}
    for name, site in looks.finite.items():
        node: Site = found.trace.nodes[name]
        which, plates = drawn[node["infer"]["_enumerate_symbol"]]
        depth = {found.trace.plate_to_symbol[p.name]: p.dim for p in node["cond_indep_stack"] if p.vectorized}
        order = sorted(range(len(plates)), key=lambda i: depth[plates[i]])
        if which.numel() != n * site["fn"].batch_shape.numel():
            raise NoClosedForm(
                f"site {name!r}: with all values at once its {site['fn'].batch_shape.numel()} rows are one to what "
                f"depends on it, which stands in another plate and not in theirs"
            )
        which = which.permute(0, *(1 + i for i in order)).reshape(n, *site["fn"].batch_shape)
        result[name] = values[name][which]
    return result


def _aligned(drawn: tuple[torch.Tensor, list[str]], plates: list[str]) -> torch.Tensor:
    """Indices (n, *their own plates) with a dimension for each of these plates, of size 1 where they have none."""
    index, mine = drawn
    index = index.permute(0, *(1 + mine.index(p) for p in plates if p in mine))
    for i, p in enumerate(plates):
        if p not in mine:
            index = index.unsqueeze(1 + i)
    return index


def _at(found: Tables, z: Values, values: dict[str, torch.Tensor]) -> torch.Tensor:
    """log p(data, z), read off the tables."""
    nodes: dict[str, Site] = dict(found.trace.nodes)
    total = torch.zeros((), dtype=torch.float64)
    indices = {}
    for name in found.phi:
        same = indicator(z[name], values[name])
        site = nodes[name]
        indices[site["infer"]["_enumerate_symbol"]] = packed.pack(same.int().argmax(0), site["infer"]["_dim_to_symbol"])
    for table in found.tables.values():
        for letter, index in indices.items():
            if letter in table._pyro_dims:
                table = packed.gather(table, index, letter)
        total = total + table.detach().sum()
    return total


def _prove(f: LogJoint, belief: Belief, log_evidence: float, looks: Inspection) -> None:
    """The tables must say what the model says with one value at a time."""
    with noise(1):
        points = [belief.widened(1.0) for _ in range(DRAWS)]
    points += [values_in(trace, looks.finite) for trace in looks.traces]
    for z in points:
        total, size = f(z)
        off = abs(total.item() - belief.log_prob(z).item() - log_evidence)
        if total.isfinite() and not off <= 1e-9 + ROUNDING * size:
            raise NoClosedForm(
                f"{quoted(looks.finite)}: with all values at once the model's log density is off by {off:.3g} nats "
                f"from that with one value at a time"
            )

"""Models whose latents are all finite: exact sums by variable elimination, with independent rows of plates kept apart.

    log p(data) = log sum_z p(data, z),      p(z_i = k | data) = d log p(data) / d phi_i(k)

phi is zero and is added to the log density of each latent (Darwiche 2003, J. ACM 50(3), section 4.3: marginals are
derivatives). Draws run backwards through the elimination: the variable that was summed out last is drawn first.
"""

from collections import OrderedDict
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.ops import packed
from pyro.ops.contract import contract_tensor_tree

from ..distributions.finite import finite_marginal, index_of, support
from ..pair.elimination import LogSums
from ..pair.pair import Summed
from ..pair.summed_out import enumerating, to_sum_out
from ..preflight.broadcast import refuse_unbroadcast
from ..runtime.components import connected
from ..runtime.generators import noise
from ..runtime.sites import Site, is_index, quoted
from .block_posterior import BlockPosterior, Draws
from .coordinates import Values
from .inspection import Inspection
from .log_joint import LogJoint, values_in
from .no_closed_form import NoClosedForm

ROUNDING = 1e-12  # relative
DRAWS = 8  # of the posterior, at which the tables are compared with the model


class Tables(NamedTuple):
    """The log densities of a model with all values of its finite latents enumerated."""

    trace: poutine.Trace
    tables: dict[str, Any]  # {site: packed log density}
    phi: dict[str, torch.Tensor]  # {latent: zeros (K, *plates)}, whose gradient is its marginal


class Eliminated(NamedTuple):
    """A variable that was summed out of a table."""

    letter: str  # of the variable
    dims: str  # a letter for each dimension of the table
    table: torch.Tensor  # log densities


class Letters(NamedTuple):
    """How a latent stands in the tables."""

    letter: str  # of the latent
    dims: dict[int, str]  # {dimension of its values: letter}
    plates: dict[str, int]  # {letter of a plate: its dimension}
    shape: torch.Size  # of its plates


class Factors(NamedTuple):
    """All that the posterior of finite latents is made of."""

    sites: dict[str, Letters]
    values: dict[str, torch.Tensor]  # {site: its values (K, *event)}
    tables: tuple[Eliminated, ...]  # of each site of the model
    steps: tuple[Eliminated, ...]  # in the order of elimination
    log_evidence: torch.Tensor  # nats
    marginals: dict[str, Any]


def eliminate(f: LogJoint, inspection: Inspection) -> tuple[BlockPosterior, float]:
    """(the posterior of all finite sites, log p(data) in nats), for a model without other latents.

    Raises NoClosedForm if the model does not broadcast over their values, or if a sum has too many terms.
    """
    summed = to_sum_out(inspection.traces[0], poutine.Trace())
    assert summed is not None
    summed = summed._replace(guided=False)
    try:
        refuse_unbroadcast(f.model, poutine.Trace(), f.data, summed)
        tables = _tables(f, summed)
        log_evidence, joined = _summed(tables)
    except ValueError as error:
        raise NoClosedForm(str(error)) from error
    if not log_evidence.isfinite():
        raise NoClosedForm(f"{quoted(summed.sites)}: the data is impossible for all of their values: log p is -inf")
    order = list(tables.phi)
    gradients = torch.autograd.grad(log_evidence, [tables.phi[name] for name in order])
    values, marginals = {}, {}
    for name, p in zip(order, gradients, strict=True):
        fn = inspection.finite[name]["fn"]
        values[name] = support(fn)
        if (off := (p.sum(0) - 1).abs().max().item()) > 1e-9:
            raise NoClosedForm(f"site {name!r}: its probabilities add up to 1 only within {off:.3g}")
        marginals[name] = finite_marginal(fn, values[name], p.reshape(len(values[name]), *fn.batch_shape))
    factors = Factors(
        sites={name: _letters(tables.trace, name, inspection) for name in tables.phi},
        values=values,
        tables=tuple(Eliminated("", table._pyro_dims, table.detach()) for table in tables.tables.values()),
        steps=tuple(Eliminated(letter, table._pyro_dims, table.detach()) for letter, table in joined),
        log_evidence=log_evidence.detach(),
        marginals={name: marginals[name] for name in inspection.finite},
    )
    posterior = finite_posterior(factors)
    with torch.no_grad():
        _check(f, posterior, log_evidence.item(), inspection)
    return posterior, log_evidence.item()


def finite_posterior(factors: Factors) -> BlockPosterior:
    """The posterior that the tables of an elimination are."""
    return BlockPosterior(
        family="finite",
        marginals=factors.marginals,
        log_prob=lambda z: _log_joint_at(factors, z) - factors.log_evidence,
        magnitude=lambda z: 0.0,
        sample=lambda n: _draw(n, factors),
        sample_wider=lambda width: {name: z[0] for name, z in _draw(1, factors).items()},
        made=(finite_posterior, (factors,)),
    )


def _letters(trace: poutine.Trace, name: str, inspection: Inspection) -> Letters:
    node: Site = trace.nodes[name]
    return Letters(
        letter=node["infer"]["_enumerate_symbol"],
        dims=dict(node["infer"]["_dim_to_symbol"]),
        plates={trace.plate_to_symbol[p.name]: p.dim for p in node["cond_indep_stack"] if p.vectorized},
        shape=torch.Size(inspection.finite[name]["fn"].batch_shape),  # a tuple, where Pyro has expanded the site
    )


def _tables(f: LogJoint, summed: Summed) -> Tables:
    """The model run once with all values of its finite latents."""
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


def _summed(tabled: Tables) -> tuple[torch.Tensor, list[tuple[str, Any]]]:
    """(log p(data), [(letter of a variable, the table it was summed out of)], in the order of elimination)."""
    trace, tables = tabled.trace, tabled.tables
    nodes: dict[str, Site] = dict(trace.nodes)
    letters = {nodes[name]["infer"]["_enumerate_symbol"] for name in tabled.phi}
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
            raise ValueError(
                f"{quoted(names)}: their sum needs a term for every combination of rows ({error})"
            ) from None
        total = total + left.sum()
    return total, ring.joined


def _draw(n: int, factors: Factors) -> Draws:
    """n joint draws of the finite sites, {site: (n, *shape)}."""
    drawn: dict[str, tuple[torch.Tensor, list[str]]] = {}  # letter -> (indices (n, *plates), plates)
    for letter, dims, table in reversed(factors.steps):
        others = [d for d in dims if d in drawn]
        plates = [d for d in dims if d not in drawn and d != letter]
        size = dict(zip(dims, table.shape, strict=True))
        index = [_aligned(drawn[d], plates) for d in others]
        for i, p in enumerate(plates):
            index.append(torch.arange(size[p]).reshape([1] + [-1 if j == i else 1 for j in range(len(plates))]))
        logits = table.permute([dims.index(d) for d in (*others, *plates, letter)])[tuple(index)]
        drawn[letter] = (dist.Categorical(logits=logits.expand(n, *[size[p] for p in plates], -1)).sample(), plates)
    result = {}
    for name in factors.marginals:
        letter, _, depth, shape = factors.sites[name]
        which, plates = drawn[letter]
        order = sorted(range(len(plates)), key=lambda i: depth[plates[i]])
        if which.numel() != n * shape.numel():
            raise NoClosedForm(
                f"site {name!r}: a site outside of its plate depends on all its {shape.numel()} rows, "
                f"which cannot be enumerated apart"
            )
        which = which.permute(0, *(1 + i for i in order)).reshape(n, *shape)
        result[name] = factors.values[name][which]
    return result


def _aligned(drawn: tuple[torch.Tensor, list[str]], plates: list[str]) -> torch.Tensor:
    """Indices (n, *own plates) with one dimension for each of these plates, of size 1 for the others."""
    index, mine = drawn
    index = index.permute(0, *(1 + mine.index(p) for p in plates if p in mine))
    for i, p in enumerate(plates):
        if p not in mine:
            index = index.unsqueeze(1 + i)
    return index


def _log_joint_at(factors: Factors, z: Values) -> torch.Tensor:
    """log p(data, z), nats, looked up in the tables."""
    total = torch.zeros((), dtype=torch.float64)
    indices = {
        site.letter: packed.pack(index_of(z[name], factors.values[name]), site.dims)
        for name, site in factors.sites.items()
    }
    for _, dims, table in factors.tables:
        table = table.clone()
        table._pyro_dims = dims  # type: ignore[attr-defined]
        for letter, index in indices.items():
            if letter in table._pyro_dims:  # type: ignore[attr-defined]
                table = packed.gather(table, index, letter)
        total = total + table.sum()
    return total


def _check(f: LogJoint, posterior: BlockPosterior, log_evidence: float, inspection: Inspection) -> None:
    """Raises NoClosedForm if the tables differ from the model run with one value at a time."""
    with noise(1):
        points = [posterior.sample_wider(1.0) for _ in range(DRAWS)]
    points += [values_in(trace, inspection.finite) for trace in inspection.traces]
    for z in points:
        total, magnitude = f(z)
        off = abs(total.item() - posterior.log_prob(z).item() - log_evidence)
        if total.isfinite() and not off <= 1e-9 + ROUNDING * magnitude:
            raise NoClosedForm(
                f"{quoted(inspection.finite)}: with all values enumerated at once, the model's log density "
                f"differs by {off:.3g} nats from its log density at one value"
            )

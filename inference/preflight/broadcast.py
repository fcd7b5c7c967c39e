"""Checks that a model has the same density with all values of a finite site at once as with one value at a time.

Summing a latent out needs a model that broadcasts: `loc[z]` does, `if z:` and `z.item()` raise, and `z.sum()` is wrong
without an error. So the model is run both ways, and the densities are compared.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyro import poutine
from pyro.ops import packed

from ..distributions.finite import index_of, support
from ..pair.pair import Program, Summed
from ..pair.summed_out import Group, densities, eliminated, enumerating
from ..runtime.generators import noise
from ..runtime.probes import nearly_equal, probing
from ..runtime.sites import Site, exists_for_some, quoted

DRAWS = 2  # of the latents, at which the densities are compared


def refuse_unbroadcast(model: Program, guide: poutine.Trace, data: tuple[Any, ...], summed: Summed) -> list[Group]:
    """The groups of sites that are summed out together, with their costs. guide: a trace of it.

    Raises ValueError naming a site whose density differs, or with the error of the model as its cause; and for a summed
    site whose probabilities do not add up to one.
    """
    for seed in range(DRAWS):
        with probing((model, data)):
            with noise(seed):
                draw = poutine.trace(poutine.replay(model, trace=guide)).get_trace(*data)
            with noise(0):
                plain = poutine.trace(poutine.replay(model, trace=draw)).get_trace(*data)
            enumerated = all_at_once(model, plain, data, summed)
            plain.compute_log_prob()
            with _explained(summed):
                enumerated.compute_log_prob()
                enumerated.symbolize_dims()
                tables = densities(enumerated)
            for name, table in tables.items():
                _same_density(name, table, plain, enumerated, summed)
    return eliminated(enumerated, summed)


def all_at_once(model: Program, plain: poutine.Trace, data: tuple[Any, ...], summed: Summed) -> poutine.Trace:
    """A trace of the model with all values of the summed sites at once, its other latents as in the trace `plain`.

    Raises ValueError for a model that does not broadcast, with its own error as the cause.
    """
    rest = plain.copy()
    for name in summed.sites:
        rest.remove_node(name)
    with noise(0), _explained(summed):
        return poutine.trace(poutine.replay(enumerating(model, summed), trace=rest)).get_trace(*data)


@contextmanager
def _explained(summed: Summed) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
        raise ValueError(f"{_remedy(summed)}. There the model raised {said}") from error


def _same_density(name: str, log_prob: Any, plain: poutine.Trace, enumerated: poutine.Trace, summed: Summed) -> None:
    site: Site = enumerated.nodes[name]
    if name not in plain.nodes:
        raise ValueError(f"{_remedy(summed)}. There {exists_for_some(name, 'values')}")
    letters = site["infer"]["_dim_to_symbol"]
    if name in summed.sites and site["infer"]["_enumerate_symbol"] in log_prob._pyro_dims:
        total = log_prob.logsumexp(log_prob._pyro_dims.index(site["infer"]["_enumerate_symbol"]))
        if not (total.abs() < 1e-3).all():
            raise ValueError(
                f"site {name!r}: summed out of the model, but the probabilities of its values do not add up to one (a "
                f"mask on its distribution?); use poutine.mask around it and what depends on it"
            )
    for other in summed.sites:
        node: Site = enumerated.nodes[other]
        if node["infer"]["_enumerate_symbol"] in log_prob._pyro_dims:
            log_prob = packed.gather(log_prob, _index(plain.nodes[other], node), node["infer"]["_enumerate_symbol"])
    one, two = packed.broadcast_all(log_prob, packed.pack(plain.nodes[name]["unscaled_log_prob"], letters))
    if not nearly_equal(one, two):
        raise ValueError(f"{_remedy(summed)}. There the density of {name!r} is not what it is with one value at a time")


def _index(plain: Site, enumerated: Site) -> Any:
    """The index of the value that a summed site had, as Pyro's packed tensor."""
    return packed.pack(index_of(plain["value"], support(plain["fn"])), enumerated["infer"]["_dim_to_symbol"])


def _remedy(summed: Summed) -> str:
    why, instead = ("not in the guide, so summed", "; or sample it in the guide") if summed.guided else ("summed", "")
    return (
        f"{quoted(sorted(summed.sites))}: {why} out of the model, whose code must broadcast over "
        f"all values at once: index with loc[z], or Vindex(table)[i, z] for several indices, write no if and no "
        f".item() of it, step through a chain with pyro.markov{instead}"
    )

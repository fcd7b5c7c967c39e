"""Runs of a prediction on some of the rows, and whether two runs agree at the rows that both have.

Runs are compared at the same latents: each row must keep its density and its deterministic values.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from ..distributions.unwrap import unwrapped
from ..pair.pair import Pair
from ..posterior.continued import ContinuedSites
from ..posterior.local_latents import Sources
from ..runtime.anew import Anew
from ..runtime.held import HeldSites
from ..runtime.probes import nearly_equal
from ..runtime.sites import Site, deterministic, exists_for_some, is_index, latent
from ..runtime.traced import first_line

REMEDY = "so batches would differ from all rows at once; leave out batch="
Sites = dict[str, Site]


def run_on_rows(
    pair: Pair,
    values: tuple[Any, ...],
    found: Sources,
    kept: Mapping[str, torch.Tensor],
    size: int,
    n: int,
    held_rows: Messenger | None = None,
) -> Sites:
    """The sites of one prediction on `size` of n rows, those of the guide first.

    values: the arguments, cut to these rows. held_rows: gives sites the values that they have in another run.
    Raises ValueError where the model does not run on so many rows.
    """
    held: dict[str, Any] = dict(kept)
    sites: Sites = {}
    try:
        if found.computed:
            with held_rows or Grown({}, 0, 0):
                guide = poutine.trace(HeldSites(held)(pair.guide)).get_trace(*values)
            computed = {name: site for name, site in guide.nodes.items() if name in found.computed}
            sites = {f"{name} of the guide": site for name, site in computed.items()}
            held |= {name: site["value"] for name, site in computed.items()}
        with ContinuedSites(held, found), held_rows or Grown({}, 0, 0):
            model = poutine.trace(Anew()(pair.model)).get_trace(*values)
    except (RuntimeError, IndexError, ValueError) as error:
        if str(error).startswith("site '"):  # an error of credo's
            raise
        raise ValueError(
            f"batch: the model does not run on {size} of the {n} rows ({first_line(error)}): pass what it holds with "
            f"an entry for each row as an argument, or leave out batch="
        ) from error
    return sites | {name: site for name, site in (latent(model) | deterministic(model)).items() if not is_index(site)}


class Grown(Messenger):
    """Gives sites the values of a run on `size` rows, one fewer. at: 1 if the new row comes first, 0 if last."""

    def __init__(self, before: Mapping[str, torch.Tensor], size: int, at: int) -> None:
        super().__init__()
        self.before, self.size, self.at = before, size, at

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["is_observed"] or msg["name"] not in self.before:
            return
        value, before = msg["value"], self.before[msg["name"]]
        if value.shape == before.shape:
            msg["value"] = before
        elif (dim := rows_dim(before, value, self.size)) is not None:
            own = value.narrow(dim, 0 if self.at else self.size, 1)
            msg["value"] = torch.cat([own, before] if self.at else [before, own], dim)


def rows_dim(value: torch.Tensor, more: torch.Tensor, size: int) -> int | None:
    """The only dimension that has grown, from `size` by one; None if there is none, or several."""
    if value.dim() != more.dim():
        return None
    dims = [d for d, (one, two) in enumerate(zip(value.shape, more.shape, strict=True)) if one != two]
    return dims[0] if len(dims) == 1 and (value.shape[dims[0]], more.shape[dims[0]]) == (size, size + 1) else None


class OfRows(Messenger):
    """Gives sites the values of a run on more rows. index: which of its rows these are. dims: where a site has them."""

    def __init__(self, together: Mapping[str, torch.Tensor], dims: Mapping[str, int], index: Sequence[int]) -> None:
        super().__init__()
        self.together, self.dims, self.index = together, dims, torch.tensor(index)

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["is_observed"] or msg["name"] not in self.dims or msg["name"] not in self.together:
            return
        value = self.together[msg["name"]]
        own = value.index_select(self.dims[msg["name"]], self.index.to(value.device))
        msg["value"] = own if own.shape == msg["value"].shape else msg["value"]


def dims_of_rows(one: Sites, more: Sites, size: int) -> dict[str, int]:
    """{site: the dimension of its value that has grown}, of a run on `size` rows and a run with one more row."""
    dims = {name: rows_dim(site["value"], more[name]["value"], size) for name, site in one.items() if name in more}
    return {name: dim for name, dim in dims.items() if dim is not None}


def compare(one: Sites, more: Sites, dims: Mapping[str, int], index: Sequence[int], n: int, held: Any) -> None:
    """Raises ValueError unless rows have the same density and deterministic values in both runs.

    dims: where a site has its rows. index: where the rows of `one` are among the n rows of `more`. held: the names of
    sites that have the same value in all batches.
    """
    size = len(index)
    for name in one.keys() ^ more.keys():
        raise ValueError(
            f"{exists_for_some(name, 'batches')}, {REMEDY}, or write the rows as a plate, pyro.plate('N', len(x))"
        )
    for name, site in one.items():
        value, grown, dim = site["value"], more[name]["value"], dims.get(name)
        if name in held:
            continue
        if dim is None and value.shape != grown.shape:
            raise ValueError(
                f"site {name!r}: it has shape {tuple(value.shape)} for {size} rows and {tuple(grown.shape)} for "
                f"{n}, {REMEDY}"
            )
        a, b = (value, grown) if site["infer"].get("_deterministic") else (_density(site), _density(more[name]))
        if dim is not None:
            if a.dim() <= dim or a.shape[dim] != size or b.dim() <= dim or b.shape[dim] != n:
                raise ValueError(f"site {name!r}: one joint draw of all rows, {REMEDY}")
            b = b.index_select(dim, torch.tensor(index, device=b.device))
        if a.shape != b.shape or not nearly_equal(a, b):
            what = "a row depends on the other rows" if dim is not None else "it depends on which rows are given"
            raise ValueError(f"site {name!r}: {what}, {REMEDY}, or prepare the data beforehand (x - x.mean())")


def _density(site: Site) -> torch.Tensor:
    """The log density of a site, entry by entry where they are independent."""
    density: torch.Tensor = unwrapped(site["fn"]).log_prob(site["value"])
    return density


def is_drawn(site: Site, kept: torch.Tensor | None) -> bool:
    """Whether the model draws a site, or some entries of it."""
    return not site["infer"].get("_deterministic") and (kept is None or kept.shape != site["value"].shape)

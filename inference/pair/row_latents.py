"""The latents of the rows of the data: those whose posterior, given the latents that all rows share, is of one row.

    p(z_1, ..., z_N | x, theta) = prod_n p(z_n | x_n, theta)

They stand in a plate over rows, and no density of a row depends on the latents of another: a chain of latents over time
does, as z_n is a neighbour of z_(n+1). Found by runs with one more row, and with other latents at some rows.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch.distributions import biject_to

from ..runtime.generators import noise
from ..runtime.held import HeldSites
from ..runtime.probes import nearly_equal
from ..runtime.sites import Site, frames, is_subsampled, latent, plates, quoted
from ..runtime.traced import first_line
from .batches import cut, rows_of
from .pair import Program

INSTEAD = "guide='mean_field' has parameters of its own for each"
SD = 0.3  # of the moves of latents, in unconstrained space


class RowLatents(NamedTuple):
    """The latents of rows, as sites of a run on n rows, and where their rows are."""

    sites: dict[str, Site]
    plate: str  # over rows
    arguments: tuple[int, ...]  # positions of those that have rows


def row_latents(model: Program, data: tuple[Any, ...]) -> RowLatents:
    """The latents of the rows of a model. Raises ValueError, which names the site, where one network cannot infer them.

    model: without its finite latents. data: its arguments, with rows.
    """
    try:
        arguments, n = rows_of(data)
    except ValueError:
        raise _refused("the data holds no tensor with rows for a network to read") from None
    more = torch.cat([torch.arange(n), torch.tensor([n - 1])])
    longer = cut(data, arguments, more)
    with torch.no_grad(), noise(0), poutine.block():  # nobody outside sees these runs
        here = poutine.trace(model).get_trace(*data)
        try:
            there = poutine.trace(model).get_trace(*longer)
        except Exception as error:  # of the user's program, which knows its number of rows
            said = first_line(error)
            raise _refused(f"the model does not run on one more row than it was given ({said})") from error
    after = frames(there)
    over = {name for name, frame in frames(here).items() if frame.size == n and name in after}
    over = {name for name in over if after[name].size == n + 1}
    sites, longer_sites = latent(here), latent(there)
    _refuse_alone(sites, longer_sites, n)
    inside = {name: site for name, site in sites.items() if plates(site) & over}
    for name, site in sites.items():
        if is_subsampled(site):
            raise _refused(
                f"site {name!r} stands in a plate that the model subsamples itself; leave subsample_size out, and give "
                f"credo.fit(..., batch_size=...)"
            )
        if fixed := [f.name for f in site["cond_indep_stack"] if f.size == n > 1 and name not in inside]:
            raise _refused(
                f"site {name!r} stands in plate {fixed[0]!r} of size {n}, whatever the data; if it is over the rows, "
                f"write its size as their number, pyro.plate({fixed[0]!r}, len(x)); else {INSTEAD}"
            )
    if not inside:
        raise _refused(
            f"no continuous latent stands in a plate over the {n} rows of the data, pyro.plate('N', {n}), so that "
            f"there is none for a network to infer; guide='mean_field' has a normal for each latent, and finite "
            f"latents are summed out"
        )
    for name, site in inside.items():
        if any(not frame.vectorized for frame in site["cond_indep_stack"]):
            raise _refused(f"site {name!r} stands in a loop over a plate; write 'with pyro.plate(...)'")
        if len(plates(site) & over) > 1:
            raise _refused(f"site {name!r} stands in two plates over rows, so it belongs to pairs of rows; {INSTEAD}")
    found = RowLatents(inside, next(iter(plates(next(iter(inside.values()))) & over)), arguments)
    if n > 1:
        _refuse_coupled(model, data, found, n)
    return found


def _refuse_alone(sites: Mapping[str, Site], longer: Mapping[str, Site], n: int) -> None:
    """Raises ValueError for latents of rows that stand in no plate: in a site for each row, or along an event."""
    for name, site in longer.items():
        if name not in sites:
            raise _refused(
                f"site {name!r} exists with {n + 1} rows and not with {n}: a latent of a row by its name, whose row "
                f"nobody can tell. A chain over time has no network here; {INSTEAD}; else write a plate over the rows"
            )
        if site["fn"].event_shape != sites[name]["fn"].event_shape:
            raise _refused(
                f"site {name!r} has an entry for each row along its event: one joint draw, whose posterior at a row "
                f"depends on the other rows; {INSTEAD}"
            )


def _refuse_coupled(model: Program, data: tuple[Any, ...], found: RowLatents, n: int) -> None:
    """Raises ValueError if the density of a row depends on the latents of another row."""
    changed = [0, n // 2, n - 1] if n >= 5 else [n // 2]
    with torch.no_grad(), noise(1):
        before: dict[str, torch.Tensor] = {}
        after: dict[str, torch.Tensor] = {}
        for name, site in found.sites.items():
            transform = biject_to(site["fn"].support)
            u = transform.inv(site["value"])
            one, two = (u + SD * torch.randn_like(u) for _ in range(2))
            dim = row_dim(site, found.plate) - (u.dim() - len(site["fn"].batch_shape))
            other = torch.zeros(n, dtype=torch.bool, device=u.device)
            other[changed] = True
            here = other.reshape([n if d == u.dim() + dim else 1 for d in range(u.dim())])
            before[name], after[name] = transform(one), transform(torch.where(here, two, one))
    kept = [i for i in range(n) if i not in changed] if n < 1000 else [1, n // 2 - 1, n // 2 + 1, n - 2, n // 3]
    one_run, other_run = (_densities(model, data, values) for values in (before, after))
    for name, site in one_run.items():
        if name not in other_run or not torch.is_tensor(site["log_prob"]):
            continue
        dims = [frame.dim for frame in site["cond_indep_stack"] if frame.name == found.plate]
        pair = site["log_prob"], other_run[name]["log_prob"]
        if dims:
            pair = tuple(_at(cost, dims[0], n, kept) for cost in pair)  # type: ignore[assignment]
        if not nearly_equal(*pair):
            raise _refused(
                f"site {name!r} depends on the latents of other rows ({quoted(found.sites)}), as in a chain over time, "
                f"so that the posterior of a row is no function of its own data; {INSTEAD}, without batch_size"
            )


def _densities(model: Program, data: tuple[Any, ...], values: Mapping[str, torch.Tensor]) -> dict[str, Site]:
    with torch.no_grad(), noise(2), poutine.block():
        trace = poutine.trace(HeldSites(values)(model)).get_trace(*data)
        trace.compute_log_prob()
    nodes: dict[str, Site] = dict(trace.nodes)
    return {name: site for name, site in nodes.items() if site["type"] == "sample" and "log_prob" in site}


def _at(cost: torch.Tensor, dim: int, n: int, kept: list[int]) -> torch.Tensor:
    """The densities of these rows; all of them, where rows share one."""
    if cost.dim() < -dim or cost.shape[dim] != n:
        return cost
    return cost.index_select(dim, torch.tensor(kept, device=cost.device))


def row_dim(site: Site, plate: str) -> int:
    """The dimension of the rows among the batch dimensions of a site, negative."""
    return next(int(frame.dim) for frame in site["cond_indep_stack"] if frame.name == plate)


def _refused(why: str) -> ValueError:
    return ValueError(f"guide='amortised': {why}")

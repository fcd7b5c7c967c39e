"""The sites of a Pyro trace: latent, observed and drawn sites, their plates, and how messages name them."""

from collections.abc import Iterable
from typing import Any

import torch
from pyro import poutine


def quoted(names: Iterable[str]) -> str:
    """The names of sites in words: `site 'z'`, `sites 'z', 'x'`; of many the first four and how many more."""
    quoted = [repr(name) for name in names]
    some = ", ".join(quoted[:4]) + (f" and {len(quoted) - 4} more" if len(quoted) > 4 else "")
    return f"site{'s' if len(quoted) > 1 else ''} {some}"


Site = Any  # Pyro's message: a mapping with "fn", "value", "infer", "cond_indep_stack", ...


def latent(trace: poutine.Trace, auxiliary: bool = False) -> dict[str, Site]:
    """The latent sites by name, without subsample indices; auxiliary sites (of an autoguide) only if asked for."""
    return {
        name: site
        for name, site in _samples(trace).items()
        if not site["is_observed"] and (auxiliary or not site["infer"].get("is_auxiliary"))
    }


def drawn_sites(trace: poutine.Trace) -> dict[str, Site]:
    """Every site that the program drew: latent sites, auxiliary sites, and the indices of subsampled plates."""
    nodes: dict[str, Site] = dict(trace.nodes)
    return {n: s for n, s in nodes.items() if s["type"] == "sample" and not s["is_observed"] and not _whole(s)}


def observed(trace: poutine.Trace) -> dict[str, Site]:
    """The observed sites by name, without deterministic sites."""
    return {
        name: site
        for name, site in _samples(trace).items()
        if site["is_observed"] and not site["infer"].get("_deterministic")
    }


def deterministic(trace: poutine.Trace) -> dict[str, Site]:
    """The deterministic sites by name: values that `pyro.deterministic` computes from others."""
    return {name: site for name, site in _samples(trace).items() if site["infer"].get("_deterministic")}


def is_factor(site: Site) -> bool:
    """Whether a site is made by pyro.factor, which adds a number to the log density and observes no data."""
    return type(site["fn"]).__name__ == "Unit"


def is_index(site: Site) -> bool:
    """Whether a site is the one that Pyro adds for a plate, the indices of its rows."""
    return type(site["fn"]).__name__ == "_Subsample"


def _whole(site: Site) -> bool:
    """Whether a site is the indices of a plate that takes all of its rows, so that nothing is drawn."""
    return is_index(site) and site["fn"].subsample_size in (None, site["fn"].size)


def plates(site: Site) -> frozenset[str]:
    """The names of the plates that hold a site."""
    return frozenset(frame.name for frame in site["cond_indep_stack"])


def frames(*traces: poutine.Trace) -> dict[str, Any]:
    """The plates in these traces: {name: the frame that Pyro keeps of it, with its size}."""
    sites = (site for trace in traces for site in trace.nodes.values())
    return {frame.name: frame for site in sites for frame in site.get("cond_indep_stack", ())}


def independent_of_draws(one: poutine.Trace, two: poutine.Trace) -> dict[str, Site]:
    """The latent sites whose distribution depends on no draw: it is the same in two traces with different noise."""
    found: dict[str, Site] = {}
    others = latent(two)
    for name, site in latent(one).items():
        if name not in others:
            continue
        fn, other, value = site["fn"], others[name]["fn"], site["value"]
        same = fn.batch_shape == other.batch_shape and fn.event_shape == other.event_shape
        if same and torch.equal(fn.log_prob(value), other.log_prob(value)):
            found[name] = site
    return found


def exists_for_some(name: str, cases: str) -> str:
    """The words for a site that the program does not always have, which credo cannot handle. cases: "batches", say."""
    return f"site {name!r} exists for some {cases} only"


def same_scale(one: Any, two: Any) -> bool:
    """Whether two scales of sites are equal. A scale is a number, or a tensor with a value for each row."""
    if isinstance(one, torch.Tensor) or isinstance(two, torch.Tensor):
        return torch.equal(torch.as_tensor(one), torch.as_tensor(two))
    return bool(one == two)


def plates_of_rows(trace: poutine.Trace, n: int) -> set[str]:
    """The names of the plates of n that hold observations."""
    return {f.name for site in observed(trace).values() for f in site["cond_indep_stack"] if f.size == n}


def is_subsampled(site: Site) -> bool:
    """Whether a plate that holds the site is subsampled."""
    return any(plate.full_size is not None and plate.full_size > plate.size for plate in site["cond_indep_stack"])


def refuse_subsampled(sites: dict[str, Site]) -> None:
    """Raises ValueError naming a subsampled plate: draws from it would lack or mix rows."""
    for name, site in sites.items():
        for plate in site["cond_indep_stack"]:
            if plate.full_size is not None and plate.full_size > plate.size:
                raise ValueError(
                    f"site {name!r}: plate {plate.name!r} is subsampled to {plate.size} of {plate.full_size} rows, so "
                    f"draws would lack or mix rows; make subsample_size an argument of the pair and leave it out here"
                )


def has_rsample(site: Site) -> bool:
    """Whether a draw of the site can be differentiated; False for an object that does not say."""
    return bool(getattr(site["fn"], "has_rsample", False))


def temperature(site: Site) -> float:
    """T of an observed site that says `infer={"temperature": T}`, whose scale holds 1 / T; 1 where it says nothing."""
    return float((site["infer"] or {}).get("temperature", 1))


def counts_once(site: Site) -> bool:
    """Whether a guide's latent of rows says `infer={"counts_once": True}`: log densities are averaged over the rows.

    So its KL is that of one latent which all rows share, and its density is no weight of a row.
    """
    return bool((site["infer"] or {}).get("counts_once", False))


def shown_plates(site: Site, none: str = "-") -> str:
    """The plates that hold a site and their sizes, in words: "N (100)". none: the words where there is no plate."""
    return ", ".join(f"{f.name} ({f.size})" for f in site["cond_indep_stack"]) or none


def _samples(trace: poutine.Trace) -> dict[str, Site]:
    nodes: dict[str, Site] = dict(trace.nodes)
    return {n: s for n, s in nodes.items() if s["type"] == "sample" and not is_index(s)}

"""The latent sites of a model, found by running it, and what rules out a closed form: moving supports, masks, noise."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine

from ..distributions.agreement import integral
from ..distributions.finite import values_of
from ..distributions.unwrap import is_masked, kind, unwrapped
from ..preflight.support import is_meant, refuse_outside
from ..runtime.generators import noise
from ..runtime.sites import Site, exists_for_some, latent, observed, refuse_subsampled
from .coordinates import coordinates_of
from .log_joint import LogJoint, scored, without_wishart_warning
from .no_closed_form import NoClosedForm

RUNS = 3
UNSURE = 0.01  # by how much the integral of a density may differ from 1


class Inspection(NamedTuple):
    """The latent sites of a model, and the traces in which they were found."""

    traces: list[poutine.Trace]  # draws of the prior
    finite: dict[str, Site]
    continuous: dict[str, Site]

    @property
    def latents(self) -> dict[str, Site]:
        return {**self.finite, **self.continuous}


def inspect_model(model: Callable[..., Any], data: tuple[Any, ...]) -> Inspection:
    """Runs the model a few times. Raises NoClosedForm unless its density is a function of a fixed set of latents."""
    traces = []
    for seed in range(RUNS):
        with noise(seed), torch.no_grad(), without_wishart_warning():
            traces.append(poutine.trace(model).get_trace(*data))
    first = traces[0]
    try:
        refuse_subsampled(latent(first) | observed(first))
    except ValueError as error:
        raise NoClosedForm(f"{error}; a random part of the rows has another posterior than the data") from None
    for other in traces[1:]:
        refuse_other_sites(first, other)
    finite = {name: site for name, site in latent(first).items() if values_of(site["fn"])}
    for name, site in latent(first).items():
        if name not in finite:
            _refuse_discrete(name, site)
    continuous = {name: site for name, site in latent(first).items() if name not in finite}
    for name, site in finite.items():
        _refuse_masked(name, site)
    coordinates_of(continuous)  # refuses supports without a family
    _refuse_moving_supports(traces, continuous)
    _refuse_noise(model, data, first)
    for name in observed(first):
        if not _moves([trace.nodes[name] for trace in traces]):
            try:
                refuse_outside(name, first.nodes[name])
            except ValueError:
                if not _is_meant(model, data, name):
                    raise
        elif not finite:
            raise NoClosedForm(
                f"site {name!r} ({kind(first.nodes[name]['fn'])}): its support depends on latents, so the data "
                f"truncates their posterior, and credo knows no conjugate family that is truncated"
            )
    return Inspection(traces, finite, continuous)


def improper_priors(inspection: Inspection) -> tuple[str, ...]:
    """The continuous latents whose prior does not integrate to 1: masked, scaled, or a density of the user's own."""
    return tuple(name for name, site in inspection.continuous.items() if _is_improper(site))


def _is_improper(site: Site) -> bool:
    fn, mask = site["fn"], site["mask"]
    if is_masked(fn) or (mask is not None and not torch.as_tensor(mask).all()):
        return True
    if (torch.as_tensor(site["scale"]) != 1).any():
        return True
    own = type(unwrapped(fn)).__module__.split(".")[0] not in ("torch", "pyro")
    total = integral(fn) if own else None
    return total is not None and bool(((total - 1).abs() > UNSURE).any())


def refuse_other_sites(one: poutine.Trace, two: poutine.Trace) -> None:
    """Raises NoClosedForm naming a site that only one of the traces has, or that differs in shape between them."""
    first, second = (latent(t) | observed(t) for t in (one, two))
    if differ := sorted(first.keys() ^ second.keys()):
        raise NoClosedForm(
            f"{exists_for_some(differ[0], 'values of the latents')}, so the posterior is no single family; sample it "
            f"in every run, and ignore it in the branch that does not need it"
        )
    for name, site in first.items():
        if site["fn"].shape() != second[name]["fn"].shape():
            raise NoClosedForm(
                f"site {name!r} has shape {tuple(site['fn'].shape())} in one run of the model and "
                f"{tuple(second[name]['fn'].shape())} in another: its size depends on the latents"
            )


def _refuse_discrete(name: str, site: Site) -> None:
    fn = site["fn"]
    if getattr(fn.support, "is_discrete", False):
        why = (
            "its units are one event, which has too many values to list: put them into a plate"
            if fn.event_shape
            else "it has no finite list of values"
        )
        raise NoClosedForm(f"site {name!r}: {kind(fn)} is discrete, and {why}")


def _refuse_noise(model: Callable[..., Any], data: tuple[Any, ...], trace: poutine.Trace) -> None:
    """Refuses randomness outside of sample sites, such as dropout: the density is then no function of the latents."""
    values = {name: site["value"] for name, site in latent(trace).items()}
    with noise(RUNS), torch.no_grad():
        again = scored(LogJoint(model, data).trace(values))
        scored(trace)
    for name, site in (latent(trace) | observed(trace)).items():
        if not torch.equal(site["log_prob"].nan_to_num(), again.nodes[name]["log_prob"].nan_to_num()):
            raise NoClosedForm(
                f"site {name!r}: its density differs between two runs with the same latents, so the model draws "
                f"random numbers outside of sample sites (dropout, torch.rand); call .eval() on its networks, or use "
                f"pyro.sample"
            )


def _refuse_masked(name: str, site: Site) -> None:
    values = site["fn"].enumerate_support()
    total = site["fn"].log_prob(values).logsumexp(0)
    masked = site["mask"] is not None and not torch.as_tensor(site["mask"]).all()
    if masked or not (total.abs() < 1e-6).all():
        raise NoClosedForm(
            f"site {name!r}: a mask leaves out the probabilities of its {len(values)} values in some rows, so that "
            f"they do not add up to one; put poutine.mask around the sites that depend on it, not around this site"
        )


def _refuse_moving_supports(traces: list[poutine.Trace], sites: Mapping[str, Site]) -> None:
    for name in sites:
        if ends := _moves([trace.nodes[name] for trace in traces]):
            raise NoClosedForm(
                f"site {name!r}: its support depends on other latents ({ends[0]} in one run, {ends[1]} in another)"
            )


def _moves(nodes: list[Site]) -> tuple[Any, Any] | None:
    """A bound of a support in two runs, if it differs."""
    bounds = ("lower_bound", "upper_bound")
    try:
        ends = [[getattr(_inner(node["fn"].support), end, None) for end in bounds] for node in nodes]
    except NotImplementedError:  # no support declared
        return None
    for other in ends[1:]:
        for one, two in zip(ends[0], other, strict=True):
            if one is not None and not torch.equal(torch.as_tensor(one), torch.as_tensor(two)):
                return one, two
    return None


def _inner(support: Any) -> Any:
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support


def _is_meant(model: Callable[..., Any], data: tuple[Any, ...], name: str) -> bool:
    """Whether the model itself switches the validation of an observed site off, for values between those it draws."""
    try:
        with noise(0), torch.no_grad(), pyro.validation_enabled(True):
            trace = poutine.trace(model).get_trace(*data)
    except ValueError:  # of the validation
        return False
    return is_meant(dict[str, Site](trace.nodes)[name])

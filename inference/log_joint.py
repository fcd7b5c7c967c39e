"""log p(data, z) as a function of z, in double precision; and what keeps a model from being such a function.

Every site is scored at values that are given; nothing is drawn but the first look at the prior.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from pyro import poutine

from .coordinates import Values, coordinates
from .costs import Held
from .marginal import named, values_of
from .no_closed_form import NoClosedForm
from .preflight import refuse_outside
from .scope import noise
from .sites import Site, is_index, kind, latent, observed, refuse_subsampled

LOOKS = 3


class Density(NamedTuple):
    """total: log p(data, z), nats. size: the sum of the magnitudes that were added up for it, of which it has the
    rounding error.
    """

    total: torch.Tensor
    size: float


@dataclasses.dataclass(frozen=True)
class LogJoint:
    """f(z) = log p(data, z), with some sites held. log_prior: takes the place of the densities of the latents."""

    model: Callable[..., Any]
    data: tuple[Any, ...]
    held: Values = dataclasses.field(default_factory=dict)
    log_prior: Callable[[Values], torch.Tensor] | None = None

    def __call__(self, z: Values) -> Density:
        """At these values of all latents that are not held. The total may be infinite or NaN."""
        values = {**self.held, **z}
        try:
            trace = scored(self.trace(values))
        except (RuntimeError, ValueError, ArithmeticError) as error:
            shown = ", ".join(f"{name!r}: {v.flatten()[0].item():.4g}" for name, v in [*values.items()][:3])
            raise NoClosedForm(
                f"{named(values)}: at values inside the supports ({shown}, ...) the model raises "
                f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            ) from error
        total, size = torch.zeros((), dtype=torch.float64), 0.0
        nodes: dict[str, Site] = dict(trace.nodes)
        for site in nodes.values():
            if "log_prob" in site and (self.log_prior is None or site["is_observed"]):
                total = total + site["log_prob"].sum()
                size += site["log_prob"].detach().abs().sum().item()
        if self.log_prior is not None:
            prior = self.log_prior(values)
            total, size = total + prior, size + abs(prior.item())
        return Density(total, size)

    def trace(self, values: Values) -> poutine.Trace:
        """The model run with these latents."""
        return poutine.trace(Held(values)(self.model)).get_trace(*self.data)

    def holding(self, values: Values) -> "LogJoint":
        return dataclasses.replace(self, held={**self.held, **values})


@contextmanager
def unsaid() -> Iterator[None]:
    """Without torch's warning of Wishart draws, which are refused for their support."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Singular sample detected")
        yield


def values_in(trace: poutine.Trace, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """The values of these sites in a run."""
    nodes: dict[str, Site] = dict(trace.nodes)
    return {name: nodes[name]["value"] for name in names}


def scored(trace: poutine.Trace) -> poutine.Trace:
    """The trace with the log densities of all its sites; plates have none."""
    trace.compute_log_prob(site_filter=lambda name, site: not is_index(site))
    return trace


def culprit(trace: poutine.Trace) -> str:
    """The first site whose log density is not finite, and what it is, in words."""
    nodes: dict[str, Site] = dict(trace.nodes)
    for name, site in nodes.items():
        if "log_prob" in site and not site["log_prob"].isfinite().all():
            bad = site["log_prob"][~site["log_prob"].isfinite()].flatten()[0].item()
            return f"site {name!r} ({kind(site['fn'])}) has log density {bad}"
    return "the log density is not finite"


class Looks(NamedTuple):
    """What runs of the model on its own have shown. traces: of the prior, scored on the data."""

    traces: list[poutine.Trace]
    finite: dict[str, Site]
    continuous: dict[str, Site]

    @property
    def latents(self) -> dict[str, Site]:
        return {**self.finite, **self.continuous}


def look(model: Callable[..., Any], data: tuple[Any, ...]) -> Looks:
    """Run the model a few times. Raises NoClosedForm for what is no function of the latents; see the messages."""
    traces = []
    for seed in range(LOOKS):
        with noise(seed), torch.no_grad(), unsaid():
            traces.append(poutine.trace(model).get_trace(*data))
    first = traces[0]
    try:
        refuse_subsampled(latent(first) | observed(first))
    except ValueError as error:
        raise NoClosedForm(f"{error}; the posterior of a random part of the rows is not that of the data") from None
    for other in traces[1:]:
        refuse_other_sites(first, other)
    finite = {name: site for name, site in latent(first).items() if values_of(site["fn"])}
    for name, site in latent(first).items():
        if name not in finite:
            _refuse_discrete(name, site)
    continuous = {name: site for name, site in latent(first).items() if name not in finite}
    for name, site in finite.items():
        _refuse_masked(name, site)
    coordinates(continuous)  # refuses supports that no family lives on
    _refuse_moving_supports(traces, continuous)
    _refuse_noise(model, data, first)
    for name in observed(first):
        if not _moves([trace.nodes[name] for trace in traces]):
            refuse_outside(name, first.nodes[name])
        elif not finite:
            raise NoClosedForm(
                f"site {name!r} ({kind(first.nodes[name]['fn'])}): its support depends on latents, so what is possible "
                f"does, and no family of closed forms is cut off by the data"
            )
    return Looks(traces, finite, continuous)


def refuse_other_sites(one: poutine.Trace, two: poutine.Trace) -> None:
    """Raises NoClosedForm naming a site that is in one run and not in the other, or has another shape there."""
    first, second = (latent(t) | observed(t) for t in (one, two))
    if differ := sorted(first.keys() ^ second.keys()):
        raise NoClosedForm(
            f"site {differ[0]!r} is there for some values of the latents only: the posterior is no one family; draw it "
            f"in every run and let the branch leave it unread"
        )
    for name, site in first.items():
        if site["fn"].shape() != second[name]["fn"].shape():
            raise NoClosedForm(
                f"site {name!r} has shape {tuple(site['fn'].shape())} in one run of the model and "
                f"{tuple(second[name]['fn'].shape())} in another: its size depends on what was drawn"
            )


def _refuse_discrete(name: str, site: Site) -> None:
    fn = site["fn"]
    if getattr(fn.support, "is_discrete", False):
        why = (
            "its units are one event, whose values are too many to list: put them into a plate"
            if fn.event_shape
            else "it has no finite list of values"
        )
        raise NoClosedForm(f"site {name!r}: {kind(fn)} is discrete, and {why}")


def _refuse_noise(model: Callable[..., Any], data: tuple[Any, ...], trace: poutine.Trace) -> None:
    """Randomness that no site holds, such as dropout: f would not be a function of the latents."""
    values = {name: site["value"] for name, site in latent(trace).items()}
    with noise(LOOKS), torch.no_grad():
        again = scored(LogJoint(model, data).trace(values))
        scored(trace)
    for name, site in (latent(trace) | observed(trace)).items():
        if not torch.equal(site["log_prob"].nan_to_num(), again.nodes[name]["log_prob"].nan_to_num()):
            raise NoClosedForm(
                f"site {name!r}: its density differs between two runs with all latents held, so the model draws "
                f"randomness that is no site (dropout, torch.rand); call .eval() on its networks, or sample it"
            )


def _refuse_masked(name: str, site: Site) -> None:
    values = site["fn"].enumerate_support()
    total = site["fn"].log_prob(values).logsumexp(0)
    masked = site["mask"] is not None and not torch.as_tensor(site["mask"]).all()
    if masked or not (total.abs() < 1e-6).all():
        raise NoClosedForm(
            f"site {name!r}: a mask leaves out the probabilities of its {len(values)} values in some rows, so that "
            f"they do not add up to one; put poutine.mask around what depends on it and not around the site itself"
        )


def _refuse_moving_supports(traces: list[poutine.Trace], sites: Mapping[str, Site]) -> None:
    for name in sites:
        if ends := _moves([trace.nodes[name] for trace in traces]):
            raise NoClosedForm(
                f"site {name!r}: its support depends on other latents ({ends[0]} in one run, {ends[1]} in another)"
            )


def _moves(nodes: list[Site]) -> tuple[Any, Any] | None:
    """An end of a support in two runs, if it differs."""
    try:
        ends = [[getattr(_inner(node["fn"].support), end, None) for end in _ENDS] for node in nodes]
    except NotImplementedError:  # no support declared
        return None
    for other in ends[1:]:
        for one, two in zip(ends[0], other, strict=True):
            if one is not None and not torch.equal(torch.as_tensor(one), torch.as_tensor(two)):
                return one, two
    return None


_ENDS = ("lower_bound", "upper_bound")


def _inner(support: Any) -> Any:
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support

"""log p(data, z) as a function of z, in double precision; and what keeps a model from being such a function.

Every site is scored at values that are given; nothing is drawn but the first look at the prior.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..distributions.unwrap import kind
from ..runtime.held import Held
from ..runtime.sites import Site, is_index, quoted
from .coordinates import Values
from .no_closed_form import NoClosedForm


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
                f"{quoted(values)}: at values inside the supports ({shown}, ...) the model raises "
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

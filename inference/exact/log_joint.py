"""The log joint density log p(data, z) as a function of z, in double precision.

Every latent is held at a given value, so nothing is drawn.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..distributions.unwrap import kind
from ..runtime.held import HeldSites
from ..runtime.sites import Site, is_index, quoted
from .coordinates import Values
from .no_closed_form import NoClosedForm


class JointDensity(NamedTuple):
    """The log joint density at one point, in nats."""

    total: torch.Tensor  # log p(data, z), a scalar
    magnitude: float  # sum of the absolute terms of total: its rounding error is relative to this


@dataclasses.dataclass(frozen=True)
class LogJoint:
    """f(z) = log p(data, z). held: {site: value} of latents that are fixed. log_prior: replaces the prior of z."""

    model: Callable[..., Any]
    data: tuple[Any, ...]
    held: Values = dataclasses.field(default_factory=dict)
    log_prior: Callable[[Values], torch.Tensor] | None = None

    def __call__(self, z: Values) -> JointDensity:
        """The density at these values of all latents that are not held. The total may be infinite or NaN."""
        values = {**self.held, **z}
        try:
            return self._density(values)
        except (RuntimeError, ValueError, ArithmeticError) as error:
            shown = ", ".join(f"{name!r}: {v.flatten()[0].item():.4g}" for name, v in [*values.items()][:3])
            raise NoClosedForm(
                f"{quoted(values)}: at values inside their supports ({shown}, ...) the model raises "
                f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            ) from error

    def _density(self, values: Values) -> JointDensity:
        terms = self._terms(values)
        return JointDensity(_sum(terms), sum(term.detach().abs().sum().item() for term in terms))

    def total(self, z: Values) -> torch.Tensor:
        """The density alone, a scalar: it reads no value from Python, so that `vmap` accepts it."""
        return _sum(self._terms({**self.held, **z}))

    def _terms(self, values: Values) -> list[torch.Tensor]:
        nodes: dict[str, Site] = dict(scored(self.trace(values)).nodes)
        sites = [site for site in nodes.values() if "log_prob" in site]
        terms = [site["log_prob"] for site in sites if self.log_prior is None or site["is_observed"]]
        return terms if self.log_prior is None else [*terms, self.log_prior(values)]

    def trace(self, values: Values) -> poutine.Trace:
        """A trace of the model with its latents at these values."""
        return poutine.trace(HeldSites(values)(self.model)).get_trace(*self.data)

    def holding(self, values: Values) -> "LogJoint":
        """The same function with these latents fixed as well."""
        return dataclasses.replace(self, held={**self.held, **values})


def _sum(terms: Iterable[torch.Tensor]) -> torch.Tensor:
    return sum((term.sum() for term in terms), torch.zeros((), dtype=torch.float64))


@contextmanager
def without_wishart_warning() -> Iterator[None]:
    """Ignores torch's warning about singular Wishart draws: that support is refused anyway."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Singular sample detected")
        yield


def values_in(trace: poutine.Trace, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """The values of these sites in a trace."""
    nodes: dict[str, Site] = dict(trace.nodes)
    return {name: nodes[name]["value"] for name in names}


def scored(trace: poutine.Trace) -> poutine.Trace:
    """The same trace, with the log density of each site computed; plates have none."""
    trace.compute_log_prob(site_filter=lambda name, site: not is_index(site))
    return trace


def first_not_finite(trace: poutine.Trace) -> str:
    """A sentence that names the first site whose log density is not finite."""
    nodes: dict[str, Site] = dict(trace.nodes)
    for name, site in nodes.items():
        if "log_prob" in site and not site["log_prob"].isfinite().all():
            bad = site["log_prob"][~site["log_prob"].isfinite()].flatten()[0].item()
            return f"site {name!r} ({kind(site['fn'])}) has log density {bad}"
    return "the log density is not finite"

"""Coordinates of a posterior: those of its density, or with the latents of groups decentred.

    z = loc(w) + scale(w) e,   log p(data, w, e) = log p(data, w, z) + log |scale(w)|

Here z ~ D(loc(w), scale(w)) is a site whose location or scale depends on other latents w. Where the scale is a latent,
z has the shape of a funnel, which no mixture of normals fits, and (w, e) often has none.
Source: Papaspiliopoulos, Roberts and Sköld 2007.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch.distributions import constraints
from torch.utils._pytree import tree_map

from ..distributions.unwrap import unwrapped
from ..gaussian.density import Density, Scored
from ..runtime.held import HeldSites
from ..runtime.sites import Site, independent_of_draws, latent
from ..runtime.vectorise import is_out_of_memory
from .budget import Deadline

ERRORS = (ValueError, RuntimeError, ArithmeticError)  # of the user's model, at some points
Values = dict[str, torch.Tensor]


class Chart(NamedTuple):
    """A density of fixed latents and the sites that are decentred in its coordinates.

    Its calls raise OutOfTime where a part of their points would begin after the deadline.
    """

    density: Density
    decentred: frozenset[str] = frozenset()
    by: Deadline | None = None

    def log_joint(self, u: torch.Tensor) -> torch.Tensor:
        """The log density at u (D,), nats."""
        return self._scored(u)[0]

    def values(self, us: torch.Tensor) -> torch.Tensor:
        """The log density at us (n, D), nats (n,), without gradients; NaN where the model raises an error."""
        nan = us.new_full((), math.nan)
        found: torch.Tensor = self._at_each(self.log_joint, us, 2 * self.density.chunk, lambda u: nan)
        return found

    def scores(self, us: torch.Tensor) -> Scored:
        """(log densities (n,), gradients (n, D)) at us (n, D); NaN where the model raises an error."""
        if not self.decentred:
            self._begin()
            return self.density.at_each(us)
        one = torch.func.grad_and_value(self.log_joint)
        nan = us.new_full((), math.nan)
        gradients, values = self._at_each(one, us, self.density.chunk, lambda u: (torch.full_like(u, math.nan), nan))
        return values.detach(), gradients.detach()

    def hessians(self, us: torch.Tensor) -> torch.Tensor:
        """d^2 log p / du^2 (n, D, D) at us (n, D), where no site is decentred."""
        self._begin()
        return self.density.hessians(us)

    def sites(self, us: torch.Tensor) -> Values:
        """The continuous latents at us (n, D), whatever the time: {site: (n, *shape of the site)}.

        Decentred ones are NaN where the model raises an error.
        """
        if not self.decentred:
            return self.density.constrained(us)

        def nan(u: torch.Tensor) -> Values:
            return {name: torch.full_like(x, math.nan) for name, x in self.density.constrained(u).items()}

        def one(u: torch.Tensor) -> Values:
            values = self._scored(u)[1]
            return {name: values[name] for name in self.density.names}

        found: Values = self._replace(by=None)._at_each(one, us, 2 * self.density.chunk, nan)
        return found

    def _at_each(self, one: Callable[[torch.Tensor], Any], us: torch.Tensor, size: int, failed: Any) -> Any:
        """`one` at each of us (n, D), `size` of them at once; `failed(u)` where the model raises an error."""
        parts = []
        with torch.no_grad():
            for some in us.split(size):
                self._begin()
                found = self._together(one, some) if self.density.vectorised else None
                if found is None:  # an error at one of the points, or a model that `vmap` does not take
                    each = [self._alone(one, u, failed) for u in some]
                    found = tree_map(lambda *values: torch.stack(values), *each)
                parts.append(found)
        return parts[0] if len(parts) == 1 else tree_map(lambda *values: torch.cat(values), *parts)

    def _together(self, one: Callable[[torch.Tensor], Any], us: torch.Tensor) -> Any:
        try:
            return torch.func.vmap(one)(us)
        except ERRORS as error:
            if is_out_of_memory(error):
                raise
            return None

    def _alone(self, one: Callable[[torch.Tensor], Any], u: torch.Tensor, failed: Any) -> Any:
        self._begin()
        try:
            return one(u)
        except ERRORS as error:
            if is_out_of_memory(error):
                raise
            return failed(u)

    def _begin(self) -> None:
        if self.by is not None:
            self.by.check()

    def _scored(self, u: torch.Tensor) -> tuple[torch.Tensor, Values]:
        """(log density, the values of the latents)."""
        density = self.density
        values, noise, total = {}, {}, u.new_zeros(())
        for name, x in density._parts(u).items():
            if name in self.decentred:
                noise[name] = x
            else:
                values[name] = density.transforms[name](x)
                total = total + density.transforms[name].log_abs_det_jacobian(x, values[name]).sum()
        if not noise:
            return density.log_joint(u), values
        with _Decentred(noise) as moved:
            total = total + density.log_prob(values)
        total = total + moved.log_det
        return total, values | moved.values


class _Decentred(Messenger):
    """Gives sites the value loc + scale e for their noise e."""

    def __init__(self, noise: Values) -> None:
        super().__init__()
        self.noise = noise
        self.values: Values = {}
        self.log_det: Any = 0.0

    def _pyro_sample(self, msg: Site) -> None:
        if msg["name"] in self.noise:
            fn = unwrapped(msg["fn"])
            noise = self.noise[msg["name"]]
            value = fn.loc + fn.scale * noise
            if value.shape != noise.shape:
                raise ValueError(f"site {msg['name']!r} has shape {tuple(value.shape)}, its noise {tuple(noise.shape)}")
            msg["value"], msg["done"] = value, True
            self.values[msg["name"]] = value
            self.log_det = self.log_det + fn.scale.expand(noise.shape).log().sum()


def decentred(density: Density, by: Deadline | None = None) -> Chart | None:
    """The chart with all sites decentred whose location or scale depends on other latents; None if there are none."""
    if not density.vectorised:
        return None
    u = density.first
    with torch.no_grad():
        one, two = (
            poutine.trace(HeldSites(density.constrained(x))(density.model)).get_trace(*density.data)
            for x in (u, 0.5 * u + 0.1)
        )
        still = independent_of_draws(one, two)
        sites = {name: site for name, site in latent(one).items() if name in density.names and name not in still}
        names = frozenset(name for name, site in sites.items() if _has_scale(site["fn"]))
        if not names:
            return None
        chart = Chart(density, names, by)
        fine = chart.values(torch.stack([u, 0.9 * u])).isfinite().all()
    return chart if fine else None


def _has_scale(fn: Any) -> bool:
    fn = unwrapped(fn)
    real = fn.support is constraints.real or getattr(fn.support, "base_constraint", None) is constraints.real
    return (
        real
        and isinstance(getattr(fn, "loc", None), torch.Tensor)
        and isinstance(getattr(fn, "scale", None), torch.Tensor)
    )

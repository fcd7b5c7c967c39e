"""Coordinates of a posterior: those of its density, or with the latents of groups decentred.

    z = loc(w) + scale(w) e,   log p(data, w, e) = log p(data, w, z) + log |scale(w)|

Here z ~ D(loc(w), scale(w)) is a site whose location or scale depends on other latents w. Where the scale is a latent,
z has the shape of a funnel, which no mixture of normals fits, and (w, e) often has none.
Source: Papaspiliopoulos, Roberts and Sköld 2007.
"""

from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch.distributions import constraints

from ..distributions.unwrap import unwrapped
from ..gaussian.density import Density, Scored
from ..runtime.held import HeldSites
from ..runtime.sites import Site, independent_of_draws, latent

Values = dict[str, torch.Tensor]


class Chart(NamedTuple):
    """A density of fixed latents and the sites that are decentred in its coordinates."""

    density: Density
    decentred: frozenset[str] = frozenset()

    def log_joint(self, u: torch.Tensor) -> torch.Tensor:
        """The log density at u (D,), nats."""
        return self._scored(u)[0]

    def values(self, us: torch.Tensor) -> torch.Tensor:
        """The log density at us (n, D), nats (n,), without gradients; NaN where the model raises an error."""
        if not self.density.vectorised:
            return self.density.at_each(us)[0]
        parts = []
        with torch.no_grad():
            for some in us.split(2 * self.density.chunk):
                try:
                    parts.append(torch.func.vmap(self.log_joint)(some))
                except (ValueError, RuntimeError, ArithmeticError):  # at one of the points
                    parts.append(torch.stack([_or_nan(self, u) for u in some]))
        return torch.cat(parts)

    def scores(self, us: torch.Tensor) -> Scored:
        """(log densities (n,), gradients (n, D)) at us (n, D)."""
        if not self.decentred:
            return self.density.at_each(us)
        one = torch.func.grad_and_value(self.log_joint)
        parts = [torch.func.vmap(one)(some) for some in us.split(self.density.chunk)]
        return torch.cat([v for _, v in parts]).detach(), torch.cat([g for g, _ in parts]).detach()

    def sites(self, us: torch.Tensor) -> Values:
        """The continuous latents at us (n, D): {site: (n, *shape of the site)}."""
        if not self.decentred:
            return self.density.constrained(us)
        with torch.no_grad():
            return torch.func.vmap(lambda u: self._scored(u)[1])(us)

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


def decentred(density: Density) -> Chart | None:
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
        chart = Chart(density, names)
        try:
            fine = chart.values(torch.stack([u, 0.9 * u])).isfinite().all()
        except (ValueError, RuntimeError, ArithmeticError):
            return None
    return chart if fine else None


def _has_scale(fn: Any) -> bool:
    fn = unwrapped(fn)
    real = fn.support is constraints.real or getattr(fn.support, "base_constraint", None) is constraints.real
    return (
        real
        and isinstance(getattr(fn, "loc", None), torch.Tensor)
        and isinstance(getattr(fn, "scale", None), torch.Tensor)
    )


def _or_nan(chart: Chart, u: torch.Tensor) -> torch.Tensor:
    try:
        return chart.log_joint(u)
    except (ValueError, RuntimeError, ArithmeticError):
        return u.new_full((), torch.nan)

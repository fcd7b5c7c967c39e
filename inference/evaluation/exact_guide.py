"""A guide that draws from a posterior in closed form, so that what is asked of a fit can be asked of it.

    q(z) = prod_b q_b(z_b)     a block b of sites that depend on each other; a mixture of these over finite latents

A block of one site is that site's distribution. The sites of other blocks are points, drawn together, and the density
of the block stands at an auxiliary site, as in Pyro's AutoMultivariateNormal.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import pyro
import pyro.distributions as dist
import torch

from ..distributions.unwrap import cast, is_plain
from ..exact.block_posterior import Draws
from ..exact.closed_form import Exact
from ..exact.mixture import Component, sample
from ..runtime.generators import noise
from ..runtime.held import HeldSites
from ..runtime.sites import Site

Plates = dict[str, Any]  # {name: plate}


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class ExactGuide:
    """The guide: a function of the data, which it does not read. Draws are in the precision of the fit."""

    exact: Exact
    sites: tuple[str, ...]  # of the guide: finite latents beside others are summed out, as in any fit
    rows: dict[str, int]  # {site: how many batch dimensions it has}
    frames: dict[str, tuple[tuple[str, int, int], ...]]  # {site: (name, size, dim) of each of its plates}
    alone: dict[str, Any]  # {site: its distribution}, of blocks of one site
    dtype: torch.dtype

    @property
    def marginals(self) -> dict[str, Any]:
        """{site: its marginal distribution}, in double precision."""
        return {name: self.exact.marginals[name] for name in self.sites}

    def __call__(self, *data: Any, **named: Any) -> dict[str, torch.Tensor]:
        """One draw, {site: value}."""
        device = torch.get_default_device()
        together = [name for name in self.sites if name not in self.alone]
        plates: Plates = {}
        drawn = {name: self._drawn(name, cast(fn, self.dtype, device), plates) for name, fn in self.alone.items()}
        if together:
            values = {name: self._cast(value[0]) for name, value in sample(self.exact.components, 1).items()}
            values = {name: values[name] for name in together}
            point = dist.Delta(torch.zeros((), device=device), log_density=self._log_prob(values).to(device))
            pyro.sample("_exact_latent", point, infer={"is_auxiliary": True})
            drawn |= {name: self._point(name, value.to(device), plates) for name, value in values.items()}
        return {name: drawn[name] for name in self.sites}

    def joint_draws(self, n: int) -> Draws:
        """n draws at once, {site: (n, *shape)}."""
        device = torch.get_default_device()
        with torch.no_grad():
            drawn = sample(self.exact.components, n)
        return {name: self._cast(drawn[name]).to(device) for name in self.sites}

    def holding(self, values: Draws) -> Callable[..., Draws]:
        """A guide that has one of the `joint_draws`, without the density of sites that depend on each other."""

        def guide(*data: Any, **named: Any) -> Draws:
            device = torch.get_default_device()
            plates: Plates = {}
            with HeldSites(values):
                fns = {name: cast(fn, self.dtype, device) for name, fn in self.alone.items()}
                return {
                    name: self._drawn(name, fns[name], plates)
                    if name in fns
                    else self._point(name, values[name], plates)
                    for name in self.sites
                }

        return guide

    def _point(self, name: str, value: torch.Tensor, plates: Plates) -> torch.Tensor:
        return self._drawn(name, dist.Delta(value, event_dim=value.dim() - self.rows[name]), plates)

    def _cast(self, value: torch.Tensor) -> torch.Tensor:
        return value.to(self.dtype) if value.is_floating_point() else value

    def _drawn(self, name: str, fn: Any, plates: Plates) -> torch.Tensor:
        """plates: those of the sites before, since a program may make a plate of one name only once."""
        with ExitStack() as stack:
            for plate, size, dim in self.frames[name]:
                if plate not in plates:
                    plates[plate] = pyro.plate(plate, size, dim=dim)
                stack.enter_context(plates[plate])
            value: torch.Tensor = pyro.sample(name, fn)
        return value

    def _log_prob(self, values: Draws) -> torch.Tensor:
        """log q of the sites that are not alone, nats; finite latents that the guide does not have are summed out."""
        wide = {name: value.double() if value.is_floating_point() else value for name, value in values.items()}
        alike = [c for c in self.exact.components if _agree(c, wide)]
        logs = [
            sum((b.log_prob(wide) for b in c.blocks if not b.marginals.keys() <= self.alone.keys()), c.log_weight)
            for c in alike
        ]
        return torch.stack([torch.as_tensor(log, dtype=torch.float64) for log in logs]).logsumexp(0)


def _agree(component: Component, values: Draws) -> bool:
    return all(torch.equal(values[name], held) for name, held in component.held.items() if name in values)


def exact_guide(exact: Exact, sites: dict[str, Site], dtype: torch.dtype) -> ExactGuide:
    """The guide of a posterior. sites: those of the guide, as the model has them on its data."""
    names = tuple(name for name in exact.marginals if name in sites)
    rows = {name: len(sites[name]["fn"].batch_shape) for name in names}
    frames = {name: tuple(_frames(sites[name]["cond_indep_stack"])) for name in names}
    return ExactGuide(exact, names, rows, frames, _alone(exact, sites), dtype)


def _frames(stack: Iterable[Any]) -> Iterable[tuple[str, int, int]]:
    return ((frame.name, frame.size, frame.dim) for frame in stack if frame.vectorized)


def _alone(exact: Exact, sites: dict[str, Site]) -> dict[str, Any]:
    """{site: its distribution}, where the site is a block of its own: the block has its density, in its shape."""
    found: dict[str, Any] = {}
    if len(exact.components) > 1:
        return found
    for block in exact.components[0].blocks:
        if len(block.marginals) > 1:
            continue
        ((name, fn),) = block.marginals.items()
        with noise(0):
            z = block.sample(1)[name][0]
        same = fn.batch_shape == sites[name]["fn"].batch_shape and is_plain(fn)
        if same and math.isclose(fn.log_prob(z).sum(), block.log_prob({name: z}), rel_tol=1e-9, abs_tol=1e-9):
            found[name] = fn
    return found

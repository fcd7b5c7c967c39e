"""Chains of Pyro's No-U-Turn sampler on a posterior density, in unconstrained space and in one vector.

    u ~ p(z(u) | data) |dz/du|         Hoffman and Gelman 2014; Pyro's NUTS with multinomial sampling (Betancourt 2017)

Finite latents are summed out by Pyro, and drawn afterwards given the others (forward filtering, backward sampling).
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.infer import config_enumerate, infer_discrete
from pyro.infer.mcmc import NUTS
from pyro.infer.mcmc.util import initialize_model

from ..capture.record import NotCaptured, record
from ..distributions.finite import values_of
from ..distributions.unwrap import kind
from ..pair.pair import Summed
from ..pair.summed_out import Program
from ..runtime.generators import noise
from ..runtime.sites import latent

WIDE = 2.0  # starts are uniform on (-WIDE, WIDE) in unconstrained space, as Stan's


TRIES = 100


DENSE = 50  # numbers up to which the mass matrix is dense: it learns correlations, and costs D^2


CHECKS = 20  # draws at which a captured density is held against the model


Density = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]  # u (D,) -> (-log density in nats, its gradient)


class Target(NamedTuple):
    """The posterior density of a model on its data, as a function of one vector u."""

    model: Program
    data: tuple[Any, ...]
    summed: Summed | None
    names: tuple[str, ...]  # of the latents that are not finite
    shapes: tuple[torch.Size, ...]  # of their unconstrained values
    transforms: dict[str, Any]  # constrained to unconstrained
    values: dict[str, int]  # {site: K} of all latents in the order of the model, 0 unless it is on 0, ..., K-1
    first: torch.Tensor  # u (D,), a point of positive density
    eager: Density

    def constrained(self, u: torch.Tensor) -> dict[str, torch.Tensor]:
        """{site: shape (*batch, *shape of the site)} for u of shape (*batch, D)."""
        parts = u.split([shape.numel() for shape in self.shapes], dim=-1)
        whole = zip(self.names, self.shapes, parts, strict=True)
        return {name: self.transforms[name].inv(v.reshape(u.shape[:-1] + shape)) for name, shape, v in whole}

    def finite(self, u: torch.Tensor) -> dict[str, torch.Tensor]:
        """One draw of the finite latents given the others: z ~ p(z | u, data), for u of shape (D,)."""
        if self.summed is None:
            return {}
        given = poutine.condition(config_enumerate(self.model), self.constrained(u))
        draw = infer_discrete(given, first_available_dim=-1 - self.summed.nesting)
        with torch.no_grad():
            nodes = poutine.trace(draw).get_trace(*self.data).nodes
        return {name: nodes[name]["value"] for name in self.summed.sites if name in nodes}


def target(model: Program, data: tuple[Any, ...], summed: Summed | None) -> Target:
    """Meet the data; raises ValueError where no point of positive density is found."""
    nesting = None if summed is None else summed.nesting
    try:
        first, potential, transforms, trace = initialize_model(model, data, max_plate_nesting=nesting)
    except ValueError as error:
        if "initial params" not in str(error):
            raise
        raise ValueError(
            f"the density of the model is zero or not finite at each of {TRIES} starts (uniform on -2 to 2 in "
            f"unconstrained space); are observations possible under it, and the numbers of the order of 1?"
        ) from error
    names = tuple(sorted(first))
    shapes = tuple(first[name].shape for name in names)
    sizes = [shape.numel() for shape in shapes]

    def eager(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            u = u.detach().requires_grad_(True)
            parts = zip(names, shapes, u.split(sizes), strict=True)
            value = potential({name: v.reshape(shape) for name, shape, v in parts})
            (gradient,) = torch.autograd.grad(value, u)
        return value.detach(), gradient

    flat = torch.cat([first[name].detach().reshape(-1) for name in names]).to(torch.get_default_dtype())
    eager(flat)  # or the error of a model that does not work in this precision
    counted = {
        name: values_of(site["fn"]) if kind(site["fn"]) in ("Bernoulli", "Categorical") else 0
        for name, site in latent(trace).items()
    }
    return Target(model, data, summed, names, shapes, transforms, counted, flat, eager)


def captured_density(target: Target) -> Density | None:
    """The density recorded once as a graph, which is run without the model's Python; None where it cannot be."""
    u = target.first.clone()
    try:
        graph = record(lambda: list(target.eager(u)), [u])
    except NotCaptured:
        return None

    def replayed(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        value, gradient = graph.run(u.detach(), *graph.constants)[:2]
        return value, gradient

    return replayed


def same(target: Target, density: Density, points: torch.Tensor) -> bool:
    """Whether a captured density is that of the model, with other noise outside, at these points (n, D)."""
    for i, u in enumerate(points):
        with noise(i):
            (a, da), (b, db) = density(u), target.eager(u)
        slack = 1e-3 if u.dtype == torch.float32 else 1e-8
        scale = max(1.0, b.abs().item() if b.isfinite() else 1.0)
        if not torch.allclose(a, b, rtol=0, atol=slack * scale, equal_nan=True):
            return False
        if not torch.allclose(da, db, rtol=slack, atol=slack * scale, equal_nan=True):
            return False
    return True


def starts(target: Target, chains: int) -> torch.Tensor:
    """Where the chains begin, (chains, D): uniform at random, each second one at minus the one before.

    So no sign is begun with by all of them: a posterior with modes at z and -z is found out.
    """
    found: list[torch.Tensor] = []
    for _ in range(chains):
        tried = -found[-1] if len(found) % 2 else _uniform(target.first)
        for _ in range(TRIES):
            value, gradient = target.eager(tried)
            if value.isfinite() and gradient.isfinite().all():
                break
            tried = _uniform(target.first)
        else:
            tried = target.first
        found.append(tried)
    return torch.stack(found)


def chain(start: torch.Tensor, density: Density, warmup: int, accept: float) -> Iterator[tuple[torch.Tensor, int]]:
    """(u, divergent transitions since the warmup) after each transition, for ever."""

    def potential(z: dict[str, torch.Tensor]) -> torch.Tensor:
        value, gradient = density(z["u"])
        found: torch.Tensor = _Known.apply(z["u"], value, gradient)
        return found

    dense = len(start) <= DENSE
    kernel = NUTS(potential_fn=potential, full_mass=dense, target_accept_prob=accept)
    kernel.initial_params = {"u": start}
    kernel.setup(warmup)
    z, done = kernel.initial_params, 0
    while True:
        z = kernel.sample(z)
        done += 1
        yield z["u"].detach().clone(), len(kernel.diagnostics()["divergences"]) if done > warmup else 0


def _uniform(like: torch.Tensor) -> torch.Tensor:
    return (2 * torch.rand_like(like) - 1) * WIDE


class _Known(torch.autograd.Function):
    """A value whose gradient is known already."""

    @staticmethod
    def forward(ctx: Any, u: torch.Tensor, value: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, out: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return out * ctx.saved_tensors[0], None, None

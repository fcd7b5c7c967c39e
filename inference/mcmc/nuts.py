"""Chains of Pyro's No-U-Turn sampler on a posterior density, in one unconstrained vector u.

    u ~ p(z(u) | data) |dz/du|         Hoffman and Gelman 2014; Pyro's NUTS with multinomial sampling (Betancourt 2017)

Pyro sums finite latents out; they are drawn afterwards given the others (`pair/backward.py`).
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.infer.autoguide.initialization import init_to_uniform
from pyro.infer.mcmc import NUTS
from pyro.infer.mcmc.util import initialize_model

from ..capture.record import NotCaptured, record
from ..distributions.finite import values_of
from ..distributions.unwrap import kind
from ..pair.backward import draw_summed
from ..pair.pair import Program, Summed
from ..runtime.generators import noise
from ..runtime.held import HeldSites
from ..runtime.sites import Site, deterministic, latent
from ..runtime.vectorise import draw_each

WIDE = 2.0  # starting points are uniform on (-WIDE, WIDE) in unconstrained space, as in Stan
TRIES = 100
DENSE = 50  # largest D with a dense mass matrix, which learns correlations at a cost of D^2
MOST = 2**26  # numbers of a deterministic site in all draws
CHECKS = 20  # draws at which a captured potential is compared with the model
Potential = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]  # u (D,) -> (-log density, nats; its gradient)


class Target(NamedTuple):
    """The posterior density of a model on its data, as a function of one unconstrained vector u (D,)."""

    model: Program
    data: tuple[Any, ...]
    summed: Summed | None
    names: tuple[str, ...]  # of the continuous latents
    shapes: tuple[torch.Size, ...]  # of their unconstrained values
    transforms: dict[str, Any]  # constrained to unconstrained
    values: dict[str, int]  # {site: K} of all latents in the order of the model, 0 unless it is on 0, ..., K-1
    follow: dict[str, int]  # {finite latent that is summed out, or deterministic site: how many numbers it has}
    first: torch.Tensor  # u (D,), a point of positive density
    eager: Potential

    def constrained(self, u: torch.Tensor) -> dict[str, torch.Tensor]:
        """{site: shape (*batch, *shape of the site)} for u of shape (*batch, D)."""
        parts = u.split([shape.numel() for shape in self.shapes], dim=-1)
        whole = zip(self.names, self.shapes, parts, strict=True)
        return {name: self.transforms[name].inv(v.reshape(u.shape[:-1] + shape)) for name, shape, v in whole}

    def determined(self, u: torch.Tensor) -> dict[str, torch.Tensor]:
        """The sites that follow: one draw z ~ p(z | u, data) of finite latents, and deterministic sites there.

        {site: shape (draws, *shape of the site)} for u of shape (draws, D). Deterministic sites with more than 67
        million numbers in all draws are left out.
        """
        kept = {name for name, numbers in self.follow.items() if numbers * len(u) <= MOST or name in self.values}

        def one(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            program = HeldSites(values)(self.model)
            if self.summed is not None:
                others = poutine.trace(program).get_trace(*self.data)
                for name in self.summed.sites:
                    others.remove_node(name)
                program = HeldSites(draw_summed(self.model, others, self.data, self.summed))(program)
            nodes: dict[str, Site] = dict(poutine.trace(program).get_trace(*self.data).nodes)
            return {name: nodes[name]["value"] for name in nodes if name in kept}

        return draw_each(one, self.constrained(u)) if kept else {}


def target(model: Program, data: tuple[Any, ...], summed: Summed | None) -> Target:
    """The target of the sampler. Raises ValueError if no starting point with positive density is found."""
    nesting = None if summed is None else summed.nesting
    plain = None if summed is None else poutine.trace(model).get_trace(*data)

    def start(site: Site) -> torch.Tensor:
        """A starting value in the site's own shape, where Pyro would take one for each value of a summed site."""
        return init_to_uniform(site if plain is None else plain.nodes[site["name"]])  # type: ignore[arg-type]

    try:
        first, potential, transforms, trace = initialize_model(
            _parallel(model, summed), data, max_plate_nesting=nesting, init_strategy=start
        )
    except ValueError as error:
        if "initial params" not in str(error):
            raise
        raise ValueError(
            f"the density of the model is zero or not finite at each of {TRIES} starting points (uniform on -2 to 2 "
            f"in unconstrained space); check that the model can produce the observations, and scale them to order 1"
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
    eager(flat)  # raises for a model that does not work in this precision
    counted = {
        name: values_of(site["fn"]) if kind(site["fn"]) in ("Bernoulli", "Categorical") else 0
        for name, site in latent(trace).items()
    }
    finite = {name: site for name, site in latent(trace).items() if summed is not None and name in summed.sites}
    follow = {name: site["value"].numel() for name, site in (finite | deterministic(trace)).items()}
    return Target(model, data, summed, names, shapes, transforms, counted, follow, flat, eager)


def _parallel(model: Program, summed: Summed | None) -> Program:
    """The model, whose finite latents are summed over all at once, even where it asks for one value after another."""
    if summed is None:
        return model
    asked: Any = {"enumerate": "parallel", "expand": False, "num_samples": None}
    config_fn: Any = lambda site: asked if site["name"] in summed.sites else {}  # noqa: E731
    config: Program = poutine.infer_config(model, config_fn=config_fn)
    return config


def captured_potential(target: Target) -> Potential | None:
    """The potential recorded once as a graph, which runs without the model's Python; None if it cannot be recorded."""
    u = target.first.clone()
    try:
        graph = record(lambda: list(target.eager(u)), [u])
    except NotCaptured:
        return None

    def replayed(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        value, gradient = graph.run(u.detach(), *graph.constants)[:2]
        return value, gradient

    return replayed


def agrees(target: Target, potential: Potential, points: torch.Tensor) -> bool:
    """Whether a captured potential equals the model's at these points (n, D), for several random states."""
    for i, u in enumerate(points):
        with noise(i):
            (a, da), (b, db) = potential(u), target.eager(u)
        slack = 1e-3 if u.dtype == torch.float32 else 1e-8
        scale = max(1.0, b.abs().item() if b.isfinite() else 1.0)
        if not torch.allclose(a, b, rtol=0, atol=slack * scale, equal_nan=True):
            return False
        if not torch.allclose(da, db, rtol=slack, atol=slack * scale, equal_nan=True):
            return False
    return True


def starting_points(target: Target, chains: int) -> torch.Tensor:
    """Starting points (chains, D): uniform at random, each second one minus the one before.

    Chains therefore start on both sides of zero, which reveals a posterior with modes at z and -z.
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


def chain(start: torch.Tensor, function: Potential, warmup: int, accept: float) -> Iterator[tuple[torch.Tensor, int]]:
    """Yields (u, number of divergent transitions since the warmup) after each transition, without end."""

    def potential(z: dict[str, torch.Tensor]) -> torch.Tensor:
        value, gradient = function(z["u"])
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
    """A scalar function whose value and gradient are computed already."""

    @staticmethod
    def forward(ctx: Any, u: torch.Tensor, value: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, out: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return out * ctx.saved_tensors[0], None, None

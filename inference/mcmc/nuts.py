"""Chains of Pyro's No-U-Turn sampler on a posterior density, in one unconstrained vector u.

    u ~ p(z(u) | data) |dz/du|         Hoffman and Gelman 2014; Pyro's NUTS with multinomial sampling (Betancourt 2017)

The density is `gaussian/density.py`'s, without finite latents; they are drawn afterwards given the others.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from pyro.infer.mcmc import NUTS

from ..capture.record import NotCaptured, record
from ..gaussian.density import TRIES, Density, agree, uniform
from ..runtime.generators import noise

DENSE = 50  # largest D with a dense mass matrix, which learns correlations at a cost of D^2
CHECKS = 20  # draws at which a captured potential is compared with the model
Potential = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]  # u (D,) -> (-log density, nats; its gradient)


def potential_of(density: Density) -> Potential:
    """-log p(data, u) and its gradient, run by the model's own Python."""

    def eager(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        value, gradient = density.at(u)
        return -value, -gradient

    return eager


def captured_potential(density: Density) -> Potential | None:
    """The potential recorded once as a graph, which runs without the model's Python; None if it cannot be recorded."""
    u, eager = density.first.clone(), potential_of(density)
    try:
        graph = record(lambda: list(eager(u)), [u])
    except NotCaptured:
        return None

    def replayed(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        value, gradient = graph.run(u.detach(), *graph.constants)[:2]
        return value, gradient

    return replayed


def agrees(density: Density, potential: Potential, points: torch.Tensor) -> bool:
    """Whether a captured potential equals the model's at these points (n, D), for several random states."""
    eager = potential_of(density)
    for i, u in enumerate(points):
        with noise(i):
            if not agree(potential(u), eager(u)):
                return False
    return True


def starting_points(density: Density, chains: int) -> torch.Tensor:
    """Starting points (chains, D): uniform at random, each second one minus the one before.

    Chains therefore start on both sides of zero, which reveals a posterior with modes at z and -z.
    """
    found: list[torch.Tensor] = []
    for _ in range(chains):
        tried = -found[-1] if len(found) % 2 else uniform(density.first)
        for _ in range(TRIES):
            value, gradient = density.at(tried)
            if value.isfinite() and gradient.isfinite().all():
                break
            tried = uniform(density.first)
        else:
            tried = density.first
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


class _Known(torch.autograd.Function):
    """A scalar function whose value and gradient are computed already."""

    @staticmethod
    def forward(ctx: Any, u: torch.Tensor, value: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, out: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return out * ctx.saved_tensors[0], None, None

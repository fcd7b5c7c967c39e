"""Measurements on a running pair: what the ELBO gains between two points, and which form of a gradient is quieter.

Both leave the parameters and the generators as they were.
"""

from collections.abc import Callable

import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from .convergence import Gain
from .elbo import Pair, differentiable_loss, log_weights, stl_is_legal
from .plan import Plan
from .scope import noise, unconstrained

DRAWS = 32  # of the guide in a chunk; chunks are added while the sign of a gain is in doubt
CHUNKS = 4


def gain(pair: Pair, vectorised: bool, new: torch.Tensor, old: torch.Tensor, seed: int) -> Gain:
    """ELBO(new) - ELBO(old), from draws that share their noise. new, old: flat unconstrained parameters, (P,)."""
    leaves = list(unconstrained().values())
    now = parameters_to_vector(p.detach() for p in leaves)
    chunks: list[torch.Tensor] = []
    first = torch.zeros(0)
    try:
        with torch.no_grad():
            for chunk in range(CHUNKS):
                sides = []
                for point in (new, old):
                    vector_to_parameters(point, leaves)
                    with noise(seed + chunk):
                        sides.append(log_weights(pair, DRAWS, vectorised))
                first = sides[1] if chunk == 0 else first
                chunks.append(sides[0] - sides[1])
                d = torch.cat(chunks)
                error = (d.std() / len(d) ** 0.5).item()
                if d.mean().abs() > 4 * error:
                    break
            # What one unit in the last place of the parameters does to the ELBO is not gain but rounding.
            vector_to_parameters(old * (1 + 2 * torch.finfo(old.dtype).eps), leaves)
            with noise(seed):
                rounding = (log_weights(pair, DRAWS, vectorised) - first).mean().abs().item()
    finally:
        vector_to_parameters(now, leaves)
    return Gain(d.mean().item(), error, max(rounding, torch.finfo(now.dtype).eps * first.mean().abs().item()))


def quieter_term(pair: Pair, plan: Plan, particles: int, vectorised: bool) -> Plan:
    """The plan with log q in the form whose gradient has the smaller total variance here and now."""
    if plan.needs_score or not plan.entries or not stl_is_legal(pair):
        return plan

    def variance(candidate: Plan) -> float:
        draws = [
            flat_gradient(lambda: differentiable_loss(candidate, pair, particles, vectorised)[1]) for _ in range(16)
        ]
        return torch.stack(draws).var(0).sum().item()

    return min((plan.with_term(term) for term in ("log q", "STL")), key=variance)


def flat_gradient(loss: Callable[[], torch.Tensor]) -> torch.Tensor:
    """The gradient of `loss()` in all parameters, shape (P,); zero where a parameter is not used."""
    return torch.cat([g.flatten() for g in gradients(loss).values()])


def gradients(loss: Callable[[], torch.Tensor]) -> dict[str, torch.Tensor]:
    """{parameter: gradient of `loss()` in unconstrained space}; zeros where a parameter is not used."""
    leaves = unconstrained()
    found = torch.autograd.grad(loss(), list(leaves.values()), allow_unused=True)
    pairs = zip(leaves.items(), found, strict=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in pairs}

"""Mass that a proposal misses along single latents, though its weights look well.

    f(t) = p(data, u + t L_d),   g(t) = r(u + t L_d)     each normalised over t; L_d: an sd of r along latent d
    missed along d:   the integral of f over {t: g(t) < f(t) / RARE},   averaged over some weighted draws u

Among many latents a proposal that is too narrow in one of them is drawn there so seldom that no weight tells: draws and
weights agree with each other, and not with the posterior. A line costs a few points, and shows it.
"""

from collections.abc import Callable

import torch

from .adapted import Drawn

RARE = 20.0  # times f's density is g's, at least, where draws come
LATENTS = 16  # those whose weighted draws are least like the proposal
LINES = 2  # through weighted draws, along each
FAR, STEP = 6.0, 0.5  # sds of the proposal


def missed_along(values: Callable[[torch.Tensor], torch.Tensor], drawn: Drawn, noise: torch.Generator) -> float:
    """The largest share of the mass along a latent that the draws of a proposal seldom reach, 0 to 1.

    values: us (n, D) -> log p(data, u) in nats (n,).
    """
    mean, factor = drawn.proposal.means[0], drawn.proposal.factors[0]
    weights = drawn.importance.log_weights.exp().to(drawn.us)
    e = torch.linalg.solve_triangular(factor, (drawn.us - mean).T, upper=False).T
    centre = weights @ e
    sd = (weights @ (e - centre).square()).sqrt().clamp(min=1e-3)
    strange = (centre.abs() + sd.log().abs()).topk(min(LATENTS, e.shape[1])).indices
    through = drawn.us[torch.multinomial(weights, LINES, replacement=True, generator=noise)]
    t = torch.arange(-FAR, FAR + STEP, STEP, dtype=e.dtype, device=e.device)
    us = through[:, None] + t[:, None] * factor.T[strange][:, None, None]  # (latents, lines, points, D)
    f, g = (_along(log(us.flatten(0, 2)), us) for log in (values, drawn.proposal.log_prob))
    return float((f * (g < f / RARE)).sum(-1).mean(1).max())


def _along(logs: torch.Tensor, us: torch.Tensor) -> torch.Tensor:
    """Densities at points of lines, each line's with the sum 1; those of a line without a finite one are 0."""
    return logs.nan_to_num(-torch.inf).reshape(us.shape[:-1]).softmax(-1).nan_to_num(0.0)

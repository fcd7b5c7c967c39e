"""Measurements on a running pair: what the ELBO gains between two points, and gradients.

Both leave the parameters and the generators as they were.
"""

from collections.abc import Callable

import torch

from .convergence import TOLERANCE, Gain
from .costs import Pair
from .draws import at_once
from .elbo import log_weights
from .minibatch import Rows, batch
from .plan import Plan
from .scope import flat_parameters, noise, place_parameters, unconstrained

DRAWS = 32  # of the guide in a chunk; chunks are added while the sign of a gain is in doubt
# Eight times as many chunks for few latent numbers, whose ELBO can be told to a hundredth of a nat.
CHUNKS, FEW = 4, 150
WHOLE = 2**18  # numbers of data up to which a gain is measured on all rows, though the steps take batches


def gain(
    pair: Pair,
    rows: Rows | None,
    plan: Plan,
    vectorised: bool,
    new: torch.Tensor,
    old: torch.Tensor,
    *,
    seed: int,
    latents: int = 1,
) -> Gain:
    """ELBO(new) - ELBO(old), from draws that share their noise. new, old: flat unconstrained parameters, (P,).

    rows: how the data is cut into batches; if it is large, each draw sees a batch of its own.
    latents: how many latent numbers there are, for the tolerance.
    """
    leaves = list(unconstrained().values())
    now = flat_parameters(leaves)
    new, old = new.to(now.dtype), old.to(now.dtype)  # sums of iterates are in double precision
    if rows is not None and sum(v.numel() for v in pair.data if isinstance(v, torch.Tensor)) <= WHOLE:
        rows = None
    draws = DRAWS if rows is None else 1
    chunks = (CHUNKS if latents > FEW else 8 * CHUNKS) if rows is None else 2 * DRAWS
    quiet = plan.with_term("KL")

    def elbo(point: torch.Tensor, chunk: int) -> torch.Tensor:
        place_parameters(point, leaves)
        with noise(seed + chunk):
            part = pair if rows is None else batch(pair, rows, torch.randperm(rows.n)[: rows.size])
            parts = torch.ones(draws).split(fitting)  # as many draws at once as memory has room for
            return torch.cat([log_weights(part, len(p), vectorised, quiet) for p in parts])

    differences: list[torch.Tensor] = []
    try:
        with torch.no_grad():
            with noise(seed):
                fitting = at_once(lambda: log_weights(pair, 1, False, quiet)) if draws > 1 else 1
            first = elbo(old, 0)
            for chunk in range(chunks):
                differences.append(elbo(new, chunk) - (first if chunk == 0 else elbo(old, chunk)))
                d = torch.cat(differences)
                error = (d.std() / len(d) ** 0.5).item() if len(d) >= DRAWS else torch.inf
                if d.mean().abs() > 4 * error or error < TOLERANCE:
                    break
            # What one unit in the last place of the parameters does to the ELBO is not gain but rounding.
            rounding = (elbo(old * (1 + 2 * torch.finfo(old.dtype).eps), 0) - first).mean().abs().item()
    finally:
        place_parameters(now, leaves)
    rounding = max(rounding, torch.finfo(now.dtype).eps * first.mean().abs().item())
    return Gain(d.mean().item(), error, rounding, latents)


def flat_gradient(loss: Callable[[], torch.Tensor]) -> torch.Tensor:
    """The gradient of `loss()` in all parameters, shape (P,); zero where a parameter is not used."""
    return torch.cat([g.flatten() for g in gradients(loss).values()])


def gradients(loss: Callable[[], torch.Tensor]) -> dict[str, torch.Tensor]:
    """{parameter: gradient of `loss()` in unconstrained space}; zeros where a parameter is not used."""
    leaves = unconstrained()
    found = torch.autograd.grad(loss(), list(leaves.values()), allow_unused=True)
    pairs = zip(leaves.items(), found, strict=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in pairs}

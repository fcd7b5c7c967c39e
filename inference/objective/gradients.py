"""The gradient of a loss in all parameters of the current store."""

from collections.abc import Callable

import torch

from ..runtime.parameters import unconstrained


def flat_gradient(loss: Callable[[], torch.Tensor]) -> torch.Tensor:
    """The gradient of `loss()` in all parameters, shape (P,); zero where a parameter is not used."""
    return torch.cat([g.flatten() for g in gradients(loss).values()])


def gradients(loss: Callable[[], torch.Tensor]) -> dict[str, torch.Tensor]:
    """{parameter: gradient of `loss()` in unconstrained space}; zeros where a parameter is not used."""
    leaves = unconstrained()
    found = torch.autograd.grad(loss(), list(leaves.values()), allow_unused=True)
    pairs = zip(leaves.items(), found, strict=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in pairs}

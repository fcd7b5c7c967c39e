"""Draws from Beta and Dirichlet that `vmap` can batch: torch's own function for them has no rule for it.

The derivative is the implicit one, -(dF/dconcentration) / density (Figurnov, Mohamed and Mnih 2018), by torch's kernel.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from .sites import unwrapped


def is_on_simplex(fn: Any) -> bool:
    return type(unwrapped(fn)).__name__ in ("Beta", "Dirichlet")


def draw_on_simplex(fn: Any) -> torch.Tensor:
    """A draw from a Beta or Dirichlet, whatever wraps it."""
    base = unwrapped(fn)
    if type(base).__name__ == "Beta":
        both = torch.stack([base.concentration1, base.concentration0], -1).expand(*fn.shape(), 2)
        return _of(both).select(-1, 0)
    return _of(base.concentration.expand(fn.shape()))


def _of(concentration: torch.Tensor) -> torch.Tensor:
    """Under `vmap` with different randomness each run has a draw of its own, also where the concentration is shared."""
    found: torch.Tensor = _Simplex.apply(concentration + 0 * torch.rand_like(concentration))
    return found


class _Simplex(torch.autograd.Function):
    @staticmethod
    def forward(concentration: torch.Tensor) -> torch.Tensor:
        return torch._sample_dirichlet(concentration)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        ctx.save_for_backward(output, *inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        x, concentration = ctx.saved_tensors
        total = concentration.sum(-1, True).expand_as(concentration)
        along = torch._dirichlet_grad(x, concentration, total)
        return along * (gradient - (x * gradient).sum(-1, True))

    @staticmethod
    def vmap(info: Any, dims: tuple[int], concentration: torch.Tensor) -> tuple[torch.Tensor, int]:
        found: torch.Tensor = _Simplex.apply(concentration.movedim(dims[0], 0))
        return found, 0

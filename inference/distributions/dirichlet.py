"""Beta and Dirichlet draws in double precision, whatever the precision of the program.

torch's gradient of a draw in single precision is infinite for some draws of Beta(66036, 1.5) and twice too large for
Beta(1e7, 5) (PyTorch issue 127387). On a GPU, where draws are made in single precision too, it is wrong or NaN for
Beta(1e5, 1e5) (issue 57447), and draws with concentrations below .1 are biased (issue 15738).
"""

from typing import Any

import torch


class InDouble(torch.autograd.Function):
    """concentration (..., K) -> a draw (..., K) of the Dirichlet, differentiated implicitly (Figurnov et al. 2018)."""

    @staticmethod
    def forward(ctx: Any, concentration: torch.Tensor) -> torch.Tensor:
        limits = torch.finfo(concentration.dtype)
        x = torch._sample_dirichlet(concentration.double()).to(concentration.dtype)
        x = x.clamp(limits.tiny, 1 - limits.eps / 2)  # inside the simplex after rounding too
        ctx.save_for_backward(x, concentration)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        x, concentration = ctx.saved_tensors
        total = concentration.sum(-1, True).expand_as(concentration)
        slope = torch._dirichlet_grad(x.double(), concentration.double(), total.double()).to(x.dtype)
        return slope * (gradient - (x * gradient).sum(-1, True))

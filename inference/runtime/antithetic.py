"""Antithetic noise: the second half of the particles gets the noise of the first half with the sign turned.

    z_i = loc + scale eps_i,   z_{i + n/2} = loc - scale eps_i       each is a draw of q; terms odd in eps cancel

(Hammersley and Morton 1956.) The mean of the gradient stays as it is, its variance falls where the gradient is nearly
linear in the noise, and at worst doubles.
"""

from typing import Any

import torch


def antithetic(noise: torch.Tensor, run: torch.Tensor) -> torch.Tensor:
    """Antithetic standard normal noise, inside a `vmap` over n runs: run i + n // 2 gets minus the noise of run i.

    run: any tensor that this `vmap` batches and no inner `vmap` does.
    """
    found: torch.Tensor = _Mirror.apply(noise, run)
    return found


class _Mirror(torch.autograd.Function):
    @staticmethod
    def forward(noise: torch.Tensor, run: torch.Tensor) -> torch.Tensor:
        return noise.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        raise NotImplementedError("noise has no parameters")

    @staticmethod
    def vmap(
        info: Any, dims: tuple[int | None, int | None], noise: torch.Tensor, run: torch.Tensor
    ) -> tuple[torch.Tensor, int]:
        assert dims[0] is not None
        rows = noise.movedim(dims[0], 0)
        if dims[1] is None:  # another vmap inside: values of a finite site
            return antithetic(rows, run), 0
        half = info.batch_size // 2
        return torch.cat([rows[:half], -rows[:half], rows[2 * half :]]), 0

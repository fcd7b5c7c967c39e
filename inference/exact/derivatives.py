"""Gradients and Hessian-vector products of a log density in unconstrained coordinates."""

import warnings
from collections.abc import Callable

import torch

LogDensity = Callable[[torch.Tensor], torch.Tensor]  # x (D,) to a scalar, nats
_ELEMENTS = 2**24  # directions times rows of the data in one batch: bounds the memory
FEW = 8  # up to so many directions, a loop is as fast as vmap


def gradient(f: LogDensity, x: torch.Tensor) -> torch.Tensor:
    """df/dx, shape (D,)."""
    x = x.detach().requires_grad_()
    value = f(x)
    if not value.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(value, x, materialize_grads=True)[0]


def hessian_products(
    f: LogDensity, x: torch.Tensor, directions: torch.Tensor, rows: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """(gradient (D,), H v for each direction v, (m, D)). directions: (m, D). rows: of the data, bounds the memory.

    One forward pass and one backward pass serve a whole batch of directions.
    """
    x = x.detach().requires_grad_()
    value = f(x)
    if not value.requires_grad:
        return torch.zeros_like(x), torch.zeros_like(directions)
    (g,) = torch.autograd.grad(value, x, create_graph=True, materialize_grads=True)
    if not g.requires_grad:
        return g.detach(), torch.zeros_like(directions)
    chunk = max(1, _ELEMENTS // max(rows, len(x)))
    parts = [_products(g, x, some) for some in directions.split(chunk)]
    return g.detach(), torch.cat(parts)


def _products(g: torch.Tensor, x: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    def back(v: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(g, x, v, retain_graph=True, materialize_grads=True)[0]

    if len(directions) > FEW:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns where it falls back to a loop
                products: torch.Tensor = torch.vmap(back)(directions)
            return products
        except RuntimeError:  # an operation that has no batching rule
            return torch.stack([back(v) for v in directions])
    sums = [(g * v).sum() for v in directions]  # a scalar's gradient spares torch an import that takes a second
    return torch.stack([torch.autograd.grad(s, x, retain_graph=True, materialize_grads=True)[0] for s in sums])

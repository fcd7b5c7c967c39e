"""Slopes and curvatures of a log density in its coordinates."""

import warnings
from collections.abc import Callable

import torch

LogDensity = Callable[[torch.Tensor], torch.Tensor]  # x (D,) to a scalar, nats


_ELEMENTS = 2**24  # of one batch of directions times the rows of the data: bounds the memory


FEW = 8  # directions that one by one are as fast as at once


def slope(f: LogDensity, x: torch.Tensor) -> torch.Tensor:
    """df/dx, (D,)."""
    x = x.detach().requires_grad_()
    value = f(x)
    if not value.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(value, x, materialize_grads=True)[0]


def curved(
    f: LogDensity, x: torch.Tensor, directions: torch.Tensor, rows: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """(df/dx (D,), H v for each direction v, (m, D)): one pass, and one more backwards for many directions at once.

    rows: of the data, by which memory is judged.
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
                warnings.simplefilter("ignore")  # torch says so where it falls back to a loop
                products: torch.Tensor = torch.vmap(back)(directions)
            return products
        except RuntimeError:  # an operation that has no batching rule
            return torch.stack([back(v) for v in directions])
    sums = [(g * v).sum() for v in directions]  # a scalar's gradient spares torch an import that takes a second
    return torch.stack([torch.autograd.grad(s, x, retain_graph=True, materialize_grads=True)[0] for s in sums])

"""The marginals of sites whose numbers stand in the rows of a block, each in the shape of its site."""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch.distributions.transforms import ReshapeTransform

from ..distributions.transformed import Transformed
from .belief import Point
from .blocks import Block
from .coordinates import POSITIVE, REAL, Variable

Marginal = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]  # (location, scale, rows)


def marginal(
    v: Variable, block: Block, locations: torch.Tensor, squares: torch.Tensor, one: Marginal, many: Marginal
) -> Any:
    """The marginal of a site. locations (R, k) and squares (R, k, k): of each row, with squared scales.

    one(location, scale, row): of numbers apart. many(location, squared scale matrix, row): of a vector.
    """
    at = placed(v, block)
    rows, columns = at // block.width, at % block.width
    location = locations.reshape(-1)[at]
    ordered = rows.sort(-1).values
    if v.event_dim == 0 or (ordered.diff(dim=-1) != 0).all():
        scale = squares[rows, columns, columns].sqrt()
        fn = one(*(t.reshape(v.shape) for t in (location, scale, rows)))
        if v.support == POSITIVE and isinstance(fn, dist.Normal):
            fn = dist.LogNormal(fn.loc, fn.scale)
        elif v.support != REAL:
            fn = Transformed(fn, v.transform)
        return fn.to_event(v.event_dim) if v.event_dim else fn
    fn = many(location, spread(rows, columns, squares), rows[..., 0])
    if v.support != REAL:
        fn = Transformed(fn, v.transform)
    if v.event_dim > 1:
        fn = Transformed(fn, ReshapeTransform(location.shape[-1:], v.shape[len(v.shape) - v.event_dim :]))
    return fn


def placed(v: Variable, block: Block) -> torch.Tensor:
    """Where each number of a site stands in the block, counted row after row; shape (*batch, numbers of an event)."""
    place = torch.empty(int(block.place.max()) + 1, dtype=torch.int64)
    place[block.place.reshape(-1)] = torch.arange(block.place.numel())
    return place[v.part].reshape(*v.free[: len(v.free) - v.event_dim], -1)


def spread(rows: torch.Tensor, columns: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """The matrix (..., e, e) of these numbers, from those of the rows of the block: zero between different rows."""
    r, s = rows[..., :, None], rows[..., None, :]
    return torch.where(r == s, squares[r, columns[..., :, None], columns[..., None, :]], 0.0)


def shaped(rows: torch.Tensor, index: torch.Tensor, variables: list[Variable]) -> Point:
    """Draws (n, R, k) of the coordinates of a block as values of its sites, (n, *shape)."""
    n = len(rows)
    x = torch.zeros(n, int(index.max()) + 1, dtype=rows.dtype)
    x[:, index.reshape(-1)] = rows.reshape(n, -1)
    return {v.name: v.transform(x[:, v.part].reshape(n, *v.free)) for v in variables}

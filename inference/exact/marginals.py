"""Marginals of single sites from the rows of a block, each in the shape of its site."""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch.distributions.transforms import ReshapeTransform

from ..distributions.transformed import Transformed
from .block_posterior import Draws
from .blocks import Block
from .coordinates import POSITIVE, REAL, Variable

Make = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]  # (location, scale, row of the block)


def site_marginal(
    v: Variable, block: Block, locations: torch.Tensor, squares: torch.Tensor, one: Make, many: Make
) -> Any:
    """The marginal of a site from the location-scale distributions of the R rows of its block.

    locations: (R, k). squares: (R, k, k), squared scale matrices. one(location, scale, row): the distribution of
    independent numbers. many(location, squared scale matrix, row): the distribution of a vector.
    """
    at = positions(v, block)
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
    fn = many(location, matrix_of(rows, columns, squares), rows[..., 0])
    if v.support != REAL:
        fn = Transformed(fn, v.transform)
    if v.event_dim > 1:
        fn = Transformed(fn, ReshapeTransform(location.shape[-1:], v.shape[len(v.shape) - v.event_dim :]))
    return fn


def positions(v: Variable, block: Block) -> torch.Tensor:
    """The position of each number of a site in the block, counted row by row; shape (*batch, numbers of an event)."""
    place = torch.empty(int(block.place.max()) + 1, dtype=torch.int64)
    place[block.place.reshape(-1)] = torch.arange(block.place.numel())
    return place[v.part].reshape(*v.free[: len(v.free) - v.event_dim], -1)


def matrix_of(rows: torch.Tensor, columns: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """The matrix (..., e, e) of the numbers at these positions (..., e); zero between different rows of the block.

    squares: (R, k, k), one matrix for each row.
    """
    r, s = rows[..., :, None], rows[..., None, :]
    return torch.where(r == s, squares[r, columns[..., :, None], columns[..., None, :]], 0.0)


def site_values(rows: torch.Tensor, index: torch.Tensor, variables: list[Variable]) -> Draws:
    """Draws (n, R, k) of the coordinates of a block, with their indices (R, k) in x, as values of its sites."""
    n = len(rows)
    x = torch.zeros(n, int(index.max()) + 1, dtype=rows.dtype)
    x[:, index.reshape(-1)] = rows.reshape(n, -1)
    return {v.name: v.transform(x[:, v.part].reshape(n, *v.free)) for v in variables}

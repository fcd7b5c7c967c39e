"""Finds a column of shape (N, 1) that meets a vector of shape (N,): torch makes a matrix of N x N of the two.

Where the matrix is summed, its shape is lost and the density is silently that of all pairs of rows: of a column among
the data, or of one that the model makes itself and sums in a pyro.factor.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pyro
import torch
from pyro import poutine
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ..pair.pair import Pair
from ..runtime.generators import noise
from ..runtime.parameters import leaves_behind
from ..runtime.probes import at_a_draw, nearly_equal
from ..runtime.sites import is_factor, observed

PRODUCTS = ("linear", "addmm")  # of matrices: their vector is a bias, and a layer may have as many units as rows


def outer_column(pair: Pair, names: list[str]) -> str | None:
    """What is wrong where a column of the data and a vector make a matrix; None where they do not.

    names: of the data arguments. The pair runs once more, if one of them is a column. Its parameters exist.
    """
    columns = {name: value for name, value in zip(names, pair.data, strict=True) if _is_column(value)}
    if not columns:
        return None

    def look(_: int) -> None:
        guide = poutine.trace(pair.guide).get_trace(*pair.data)
        poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*pair.data).compute_log_prob()

    with noise(0), pyro.validation_enabled(False), torch.no_grad(), _Outer(columns) as watch:
        at_a_draw(look)
    if watch.found is None:
        return None
    n = len(columns[watch.found])
    return (
        f"{watch.found}: a column of shape ({n}, 1) meets a vector of shape ({n},), which makes a matrix of shape "
        f"({n}, {n}); pass {watch.found} as a vector, {watch.found}.squeeze(-1), or a single column of the table"
    )


def outer_factors(
    model: Callable[..., Any], trace: poutine.Trace, data: tuple[Any, ...], names: list[str]
) -> list[str]:
    """A warning if a factor of the model adds up all pairs of the rows of two arguments. trace: of the model, scored.

    A matrix of the two is made in the model, and the factor stays as it is when the rows of one change places. The
    model runs once more, if it has a factor.
    """
    factors = [name for name, site in observed(trace).items() if is_factor(site)]
    if not factors:
        return []
    leaves = {
        name: value.detach().clone().requires_grad_(value.is_floating_point())
        for name, value in zip(names, data, strict=True)
        if isinstance(value, torch.Tensor) and value.dim() and not value.is_complex()
    }
    densities = partial(_factors, model, trace, data, names, factors)
    with suppress(Exception):  # of a model that does not run on other rows: it is not known
        with torch.enable_grad(), _Pairs(leaves) as watch:
            before = densities(leaves)
        for column, vector in sorted(watch.met):
            for name in (column, vector):
                shuffled, replaced = _other_rows(leaves[name])
                moved, changed = densities(leaves | {name: shuffled}), densities(leaves | {name: replaced})
                for site in factors:
                    if nearly_equal(moved[site], before[site]) and not nearly_equal(changed[site], before[site]):
                        n = len(shuffled)
                        return [
                            f"site {site!r}: a column of shape ({n}, 1), computed from {column}, meets a vector of "
                            f"shape ({n},), of {vector}, and the factor adds up all pairs of their rows, where each "
                            f"row should meet its own; give both the shape ({n},): leave out [:, None], or write "
                            f".squeeze(-1). A factor that is meant to compare all pairs is right as it is"
                        ]
    return []


def _other_rows(value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(the same rows in another order, other rows: the first half of them becomes the last)."""
    order = torch.randperm(len(value), generator=torch.Generator().manual_seed(0))
    replaced = value.detach().clone()
    replaced[: (len(value) + 1) // 2] = replaced[-1].clone()
    return value.detach()[order.to(value.device)], replaced


def _factors(
    model: Callable[..., Any],
    trace: poutine.Trace,
    data: tuple[Any, ...],
    names: list[str],
    factors: list[str],
    values: dict[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """{site: log density} of these factors, at the draws of the trace, with these values of arguments."""
    given = [values.get(name, value) for name, value in zip(names, data, strict=True)]
    with noise(0), pyro.validation_enabled(False):
        again = observed(poutine.trace(poutine.replay(model, trace=trace)).get_trace(*given))
    return {name: again[name]["fn"].log_prob(again[name]["value"]).detach().sum() for name in factors}


class _Pairs(TorchFunctionMode):
    """Notes the arguments of which a column of N numbers and a vector of N make a matrix. met: (column, vector).

    arguments: leaves with a gradient, or whole numbers, which are known by their memory.
    """

    def __init__(self, arguments: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.arguments = arguments
        self.lengths = {len(value) for value in arguments.values() if len(value) > 1}
        self.met: set[tuple[str, str]] = set()

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        shapes = {tuple(made.shape) for made in tree_leaves(result) if isinstance(made, torch.Tensor)}
        sums = "loss" in getattr(function, "__name__", "")  # of a matrix that nobody sees
        for n in {n for n in self.lengths if sums or (n, n) in shapes}:
            tensors = [v for v in tree_leaves(args) if isinstance(v, torch.Tensor)]
            columns = [v for v in tensors if tuple(v.shape) == (n, 1)]
            vectors = [v for v in tensors if tuple(v.shape) in ((n,), (1, n))]
            if columns and vectors:
                column, vector = (self._behind(v[0]) for v in (columns, vectors))
                self.met |= {(one, two) for one in column - vector for two in vector - column}
        return result

    def _behind(self, tensor: torch.Tensor) -> set[str]:
        """The arguments that a tensor is computed from, as far as known."""
        leaves, memory = {id(leaf) for leaf in leaves_behind([tensor])}, tensor.untyped_storage().data_ptr()
        return {
            name
            for name, value in self.arguments.items()
            if id(value) in leaves or value.untyped_storage().data_ptr() == memory
        }


class _Outer(TorchFunctionMode):
    """Notes the first of these columns that meets a vector of its length, element by element. found: its name.

    A vector that is a view of the column itself belongs to a kernel: x - x.squeeze(-1) is meant as a matrix.
    """

    found: str | None = None

    def __init__(self, columns: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.columns = columns

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if getattr(function, "__name__", "") in PRODUCTS:
            return result
        if self.found is None and isinstance(result, torch.Tensor) and result.dim() == 2 and len(args) > 1:
            for name, column in self.columns.items():
                square = tuple(result.shape) == (len(column), len(column))
                if square and any(v is column for v in args) and any(_is_vector(v, column) for v in args):
                    self.found = name
        return result


def _is_column(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() == 2 and value.shape[1] == 1 and len(value) > 1


def _is_vector(value: Any, column: torch.Tensor) -> bool:
    if not isinstance(value, torch.Tensor) or tuple(value.shape) != (len(column),):
        return False
    return value.untyped_storage().data_ptr() != column.untyped_storage().data_ptr()

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
from ..runtime.held import HeldSites
from ..runtime.parameters import leaves_behind
from ..runtime.probes import at_a_draw, nearly_equal
from ..runtime.sites import Site, is_factor, latent, observed

PRODUCTS = ("linear", "addmm")  # of matrices: their vector is a bias, and a layer may have as many units as rows


def outer_column(pair: Pair, names: list[str]) -> str | None:
    """What is wrong where a column of the data and a vector make a matrix; None where they do not.

    names: of the data arguments. The pair runs once more, if one of them is a column. Its parameters exist.
    """
    columns = {name: value for name, value in zip(names, pair.data, strict=True) if _is_column(value)}
    if not columns:
        return None

    def look(_: int) -> poutine.Trace:
        watch.met.clear()
        guide = poutine.trace(pair.guide).get_trace(*pair.data)
        trace = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*pair.data)
        trace.compute_log_prob()
        return trace

    with noise(0), pyro.validation_enabled(False), torch.no_grad():
        with _Outer(columns) as watch:
            trace = at_a_draw(look)
        seen = [site["value"] for site in observed(trace).values()] if watch.met else []
        data = {name for name, column in columns.items() if any(value is column for value in seen)}
        found = next((name for name, _ in watch.met if name in data), None) or _of_rows(pair, trace, watch.met, columns)
    if found is None:
        return None
    n = len(columns[found])
    return (
        f"{found}: a column of shape ({n}, 1) meets a vector of shape ({n},), which makes a matrix of shape "
        f"({n}, {n}); pass {found} as a vector, {found}.squeeze(-1), or a single column of the table"
    )


def _of_rows(
    pair: Pair, trace: poutine.Trace, met: list[tuple[str, torch.Tensor]], columns: dict[str, torch.Tensor]
) -> str | None:
    """The first column that meets a vector of rows: one that changes when the rows of the data change places.

    Weights of units and centres of basis functions, which may be as many as there are rows, stay as they are.
    """
    for name in dict.fromkeys(name for name, _ in met):
        n = len(columns[name])
        order = torch.arange(n).roll(1)
        moved = [v[order.to(v.device)] if torch.is_tensor(v) and v.dim() and len(v) == n else v for v in pair.data]
        others = {other: moved[i] for i, v in enumerate(pair.data) for other in columns if v is columns[other]}
        values = {site: _in_order(fn, order) for site, fn in latent(trace).items()}
        with _Outer(others) as watch:
            try:
                poutine.trace(HeldSites(values)(pair.model)).get_trace(*moved).compute_log_prob()
            except Exception:  # the model does not run on rows in another order: it is not known
                return name
        before, now = ([vector for column, vector in each if column == name] for each in (met, watch.met))
        if len(before) != len(now) or not all(torch.equal(*vectors) for vectors in zip(before, now, strict=True)):
            return name
    return None


def _in_order(site: Site, order: torch.Tensor) -> torch.Tensor:
    """The value of a latent, its rows in this order if it lies in a plate of as many."""
    value: torch.Tensor = site["value"]
    for frame in site["cond_indep_stack"]:
        dim = (frame.dim or 0) - site["fn"].event_dim
        if frame.size == len(order) and -value.dim() <= dim < 0:
            value = value.index_select(dim, order.to(value.device))
    return value


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
    """Notes which of these columns meet a vector of their length, element by element. met: (column, vector).

    A vector that is a view of the column itself belongs to a kernel: x - x.squeeze(-1) is meant as a matrix.
    """

    def __init__(self, columns: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.columns, self.met = columns, list[tuple[str, torch.Tensor]]()

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if getattr(function, "__name__", "") in PRODUCTS:
            return result
        if isinstance(result, torch.Tensor) and result.dim() == 2 and len(args) > 1:
            for name, column in self.columns.items():
                if tuple(result.shape) == (len(column), len(column)) and any(v is column for v in args):
                    self.met += [(name, v) for v in args if _is_vector(v, column)]
        return result


def _is_column(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() == 2 and value.shape[1] == 1 and len(value) > 1


def _is_vector(value: Any, column: torch.Tensor) -> bool:
    if not isinstance(value, torch.Tensor) or tuple(value.shape) != (len(column),):
        return False
    return value.untyped_storage().data_ptr() != column.untyped_storage().data_ptr()

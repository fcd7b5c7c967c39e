"""Variable elimination: a sum of products over many finite variables, one variable after another.

    log sum_{z_1 .. z_T} exp(f_1 + ... + f_M)        f_m a table over some of the z, and over plates; nats

The next variable is the one whose table would be smallest (Koller and Friedman 2009, algorithm 9.4, with the min-weight
rule): for a chain of K values an end of it, K^2 numbers at a time. A table is Pyro's packed tensor, with a letter for
each dimension in `_pyro_dims`. An impossible value has the log density -inf, and its gradient is 0, not NaN.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from pyro.ops import packed

Table = Any  # a torch.Tensor with `_pyro_dims`, a string


class LogSums:
    """The ring for Pyro's `contract_tensor_tree`: sums over variables, products over the rows of plates.

    joined: (variable, the table that it was summed out of), in that order; `exact/finite.py` draws from these tables.
    """

    def __init__(self) -> None:
        self.joined: list[tuple[str, Table]] = []

    def sumproduct(self, terms: Iterable[Table], dims: Iterable[str]) -> Table:
        """log sum exp of the sum of the tables over these variables."""
        tables = dict(enumerate(terms))
        size: dict[str, int] = {}
        holders: dict[str, set[int]] = {dim: set() for dim in sorted(dims)}
        for i, table in tables.items():
            size.update(zip(table._pyro_dims, table.shape, strict=True))
            for dim in holders.keys() & set(table._pyro_dims):
                holders[dim].add(i)

        def weight(dim: str) -> int:
            return math.prod(size[d] for d in set().union(*(tables[i]._pyro_dims for i in holders[dim])))

        weights, new = {dim: weight(dim) for dim in holders}, len(tables)
        while weights:
            dim = min(weights, key=lambda d: weights[d])
            whole = _total(tables.pop(i) for i in sorted(holders[dim]))
            self.joined.append((dim, whole))
            joined = _log_sum(whole, dim)
            gone, new = holders.pop(dim), new + 1
            del weights[dim]
            tables[new] = joined
            for other in holders.keys() & set(joined._pyro_dims):
                holders[other] = holders[other] - gone | {new}
            for other in holders.keys() & set(joined._pyro_dims):
                weights[other] = weight(other)
        return _total(tables.values())

    def product(self, term: Table, plates: Iterable[str]) -> Table:
        """The sum of a table over the rows of these plates."""
        for dim in sorted(set(plates) & set(term._pyro_dims)):
            at = term._pyro_dims.index(dim)
            term = _named(term.sum(at), term._pyro_dims.replace(dim, ""))
        return term


def _total(tables: Iterable[Table]) -> Table:
    first, *others = packed.broadcast_all(*tables)
    total = first
    for table in others:
        total = total + table
    return _named(total, first._pyro_dims)


def _log_sum(table: Table, dim: str) -> Table:
    """log sum exp over one dimension; torch's own has NaN for a gradient where all values are -inf."""
    at = table._pyro_dims.index(dim)
    top = table.detach().amax(at, keepdim=True).clamp(min=torch.finfo(table.dtype).min)
    total = (table - top).exp().sum(at)
    impossible = total == 0  # and not "total > 0": NaN stays NaN
    log = torch.where(impossible, 1.0, total).log() + top.squeeze(at)
    return _named(torch.where(impossible, -math.inf, log), table._pyro_dims.replace(dim, ""))


def _named(table: Table, dims: str) -> Table:
    table._pyro_dims = dims
    return table

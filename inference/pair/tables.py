"""Tables: parameters with a row for each row of the data, of which a batch sees its own rows.

    q(z_n) = N(loc_n, scale_n^2),  n = 1 .. N        loc and scale: tables of N rows; a batch reads loc[index]

A parameter is a table if the densities of row n depend on its row n and on no other, and nothing outside of the plates
over rows depends on it. That is found by derivatives on all rows, never by a size: a weight for each of N columns has
N entries too.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch.distributions import transform_to

from ..runtime.generators import noise
from ..runtime.parameters import unconstrained
from ..runtime.probes import at_a_draw
from ..runtime.sites import frames
from .costs import Run, run
from .pair import Pair, Program

FEW = (2, 3)  # rows on which the model alone shows which of its plates follow the rows
LOOKED = 3  # rows whose derivatives are looked at
CLOSE = 1e-4  # relative to the largest derivative: what rounding may leave


def find_tables(pair: Pair, arguments: tuple[int, ...], n: int) -> frozenset[str]:
    """The names of the parameters that are tables; the others with N entries are left whole.

    arguments: positions of the arguments with n rows. The parameters exist; none is changed.
    """
    candidates = {name: p for name, p in unconstrained().items() if p.dim() and len(p) == n and n > max(FEW)}
    if not candidates:
        return frozenset()
    over = _row_plates(pair, arguments, n)
    try:
        return frozenset(at_a_draw(lambda number: _tables_at(pair, candidates, over, n, number)))
    except RuntimeError:  # a density that cannot be differentiated
        return frozenset()


def entry_of_each(n: int, length: int, tables: frozenset[str]) -> str | None:
    """What is wrong with a parameter that has an entry for each of n rows and is no table, on a batch of `length`."""
    for name, p in pyro.get_param_store().named_parameters():
        if n not in p.shape or name in tables:
            continue
        here = f"has an entry for each of the {n} rows, of which a batch of {length} cannot take its own"
        if not p.requires_grad:
            return f"constant {name!r} {here}; pass it as an argument, or compute it from the rows each time"
        return (
            f"parameter {name!r} {here}: rows must come first in its shape, and only densities of row n, in the plate "
            f"over rows, may read its row n. Write it so, with pyro.plate('N', len(x)) in the guide, or for an "
            f"autoguide of Pyro's with create_plates=lambda x: pyro.plate('N', len(x)); or take guide='mean_field' or "
            f"'amortised'; or leave out batch_size"
        )
    return None


def on_rows(pair: Pair, tables: Iterable[str], index: torch.Tensor, leaves: Mapping[str, torch.Tensor]) -> Pair:
    """The pair whose programs see, of each table, the rows of this index, shape (B,), of the present values.

    leaves: {table: its rows of this index, unconstrained, shape (B, ...)}, of which gradients are wanted; may be empty.
    """
    names = tuple(tables)
    model, guide = (_with_rows(program, names, index, leaves) for program in (pair.model, pair.guide))
    return pair._replace(model=model, guide=guide)


def _with_rows(
    program: Program, tables: tuple[str, ...], index: torch.Tensor, leaves: Mapping[str, torch.Tensor]
) -> Program:
    def with_rows(*args: Any, **kwargs: Any) -> Any:
        state = pyro.get_param_store().get_state()
        rows = {name: leaves.get(name) for name in tables if name in state["params"]}
        rows = {n: state["params"][n][index.to(state["params"][n].device)] if r is None else r for n, r in rows.items()}
        with _Rows({name: transform_to(state["constraints"][name])(r) for name, r in rows.items()}):
            return program(*args, **kwargs)

    return with_rows


class _Rows(Messenger):
    """Gives these values in the place of the parameters of the store."""

    def __init__(self, values: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_param(self, msg: Any) -> None:
        if msg["name"] in self.values:
            msg["value"] = self.values[msg["name"]]


def _row_plates(pair: Pair, arguments: tuple[int, ...], n: int) -> frozenset[str]:
    """The plates of n rows that follow the rows: the model alone shows it where it runs on a few, with its priors."""
    with torch.no_grad(), noise(0):
        model = poutine.trace(pair.model)
        try:
            sizes = [
                {name: frame.size for name, frame in frames(model.get_trace(*_first(pair, arguments, few))).items()}
                for few in FEW
            ]
            return frozenset(name for name, size in sizes[0].items() if (size, sizes[1].get(name)) == FEW)
        except Exception:  # of the user's program: it holds tables itself, or has a prior without draws
            guide = at_a_draw(lambda _: poutine.trace(pair.guide).get_trace(*pair.data))
            every = frames(guide, poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*pair.data))
            return frozenset(name for name, frame in every.items() if frame.size == n)


def _first(pair: Pair, arguments: tuple[int, ...], few: int) -> tuple[Any, ...]:
    return tuple(v[:few] if i in arguments else v for i, v in enumerate(pair.data))


def _tables_at(
    pair: Pair, candidates: Mapping[str, torch.Tensor], over: frozenset[str], n: int, number: int
) -> list[str]:
    """The tables among these parameters, by the derivatives at one draw.

    With c_i the densities of row i, sum_i u_i dc_i / dp_j is u_j dc_j / dp_j where no other row reads p_j: then it
    stays the same whatever the weights u_i of the others are.
    """
    with noise(number), torch.enable_grad():
        found = run(pair)
        of_rows, shared = _by_rows(found, over, n)
        looked = torch.linspace(0, n - 1, LOOKED).long()
        weights = torch.rand(2, n, dtype=of_rows.dtype) + 0.5
        weights[1, looked] = weights[0, looked]
    leaves = list(candidates.values())
    outside = _derivatives(shared, leaves)
    (one, two) = (_derivatives((of_rows * w.to(of_rows.device)).sum(), leaves) for w in weights)
    return [
        name
        for name, a, b, s in zip(candidates, one, two, outside, strict=True)
        if a is not None
        and b is not None
        and (s is None or not s.any())
        and bool(a.any())
        and (a[looked] - b[looked]).abs().max() <= CLOSE * a[looked].abs().max()
    ]


def _by_rows(found: Run, over: frozenset[str], n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(The densities of each row, summed over sites, shape (n,); the sum of all outside of these plates)."""
    rows: list[torch.Tensor] = []
    shared: list[torch.Tensor] = []
    for key, cost in found.costs.items():
        dims = [dim for name, dim in found.dims[key].items() if name in over and -dim <= cost.dim()]
        if len(dims) == 1 and cost.shape[dims[0]] == n:
            rows.append(cost.movedim(dims[0], 0).reshape(n, -1).sum(1))
        else:
            shared.append(cost.sum())
    zero = torch.zeros(())  # on the device of the run
    return (sum(rows[1:], rows[0]) if rows else zero.expand(n)), sum(shared, zero)


def _derivatives(value: torch.Tensor, leaves: list[torch.Tensor]) -> tuple[torch.Tensor | None, ...]:
    if not value.requires_grad:
        return (None,) * len(leaves)
    found: tuple[torch.Tensor | None, ...] = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
    return found

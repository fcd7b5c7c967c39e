"""The tables of a run under minibatches: they are trained by the rows of a batch alone, and judged by some rows.

    a step:   r = T[index],  r <- Adam(r, dL/dr),  T[index] <- r         (`capture/row_tables.py`)
    a look:   the panel, some rows at random, stands for the table: the data of these rows, and T[panel]

So a step costs the same for any number of rows, and so does a look at how far the run is: whoever compares iterates
sees the parameters outside of tables and the panel. The answer of each row is the average of its own last iterates.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import nn

from ..capture.row_tables import AVERAGE, TableRows, gather_rows, table_state, why_no_rows
from ..pair.batches import Rows, cut, scaled
from ..pair.pair import Pair
from ..runtime.generators import noise
from ..runtime.parameters import iterate, unconstrained

# Rows of the panel. The best value of a parameter that all rows share is another one there, by some N / PANEL / 2 nats:
# less than the tolerance of a run, which grows with N. Newton's steps would go there all the same, and are only tried
# where the panel is all rows: MANY of `convergence/newton.py` is less than PANEL.
PANEL = 5000


@dataclass
class Tables:
    """The tables of a run, by name in the order of the store, and the leaves that hold the rows of a batch."""

    wholes: dict[str, torch.Tensor]  # (N, ...), whose gradients are off
    leaves: dict[str, torch.Tensor]  # (B, ...)
    panel: torch.Tensor  # (M,)

    def rows(self, index: torch.Tensor) -> TableRows:
        """The rows of a batch, read into the leaves."""
        wholes, leaves = list(self.wholes.values()), list(self.leaves.values())
        index = index.to(wholes[0].device)
        gather_rows(wholes, leaves, index)
        return TableRows(wholes, leaves, index)

    def seen(self, total: torch.Tensor, count: int) -> torch.Tensor:
        """The iterates as looks see them, flat, in the order of the store: the panel in the place of a table.

        total: the sum of so many iterates of all parameters outside of tables. Rows of the panel are as they are now.
        """
        alone = {name: p.numel() for name, p in unconstrained().items()}
        pieces = dict(zip(alone, total.split(list(alone.values())), strict=True))
        for name, whole in self.wholes.items():
            pieces[name] = count * whole[self.panel.to(whole.device)].flatten().double()
        return torch.cat([pieces[name] for name in pyro.get_param_store().keys() if name in pieces])

    def iterate(self) -> torch.Tensor:
        """The present parameters as looks see them."""
        return self.seen(iterate() if unconstrained() else torch.zeros(0, dtype=torch.float64), 1)

    def outside(self, point: torch.Tensor) -> torch.Tensor:
        """What a point that looks have seen says of the parameters outside of tables, flat."""
        alone = unconstrained()
        names = [name for name in pyro.get_param_store().keys() if name in alone or name in self.wholes]
        numels = [alone[n].numel() if n in alone else self.wholes[n][0].numel() * len(self.panel) for n in names]
        found = [piece for name, piece in zip(names, point.split(numels), strict=True) if name in alone]
        return torch.cat(found) if found else point[:0]

    def on_panel(self, pair: Pair, rows: Rows) -> tuple[Pair, Rows | None]:
        """(the pair on the data of the panel, scaled to all rows; how to cut it into batches, None: not).

        It is run where `in_store` has the rows of the panel in place.
        """
        m = len(self.panel)
        here = scaled(pair._replace(data=cut(pair.data, rows.arguments, self.panel)), rows.plates, rows.n / m)
        return here, rows._replace(n=m) if rows.size < m else None

    @contextmanager
    def in_store(self, index: torch.Tensor, modules: Iterable[nn.Module]) -> Iterator[None]:
        """Inside, the store has these rows as parameters of their own; what they become is written back."""
        store = pyro.get_param_store()
        before = store.get_state()
        rows = {n: nn.Parameter(whole[index.to(whole.device)]) for n, whole in self.wholes.items()}
        names = {id(whole): name for name, whole in self.wholes.items()}
        owners = [(m, k, names[id(p)]) for m in modules for k, p in m._parameters.items() if id(p) in names]
        _replace(store, before, {**before["params"], **rows})
        try:
            yield
        finally:
            now = store.get_state()
            _replace(store, now, {name: self.wholes.get(name, p) for name, p in now["params"].items()})
            with torch.no_grad():
                for name, whole in self.wholes.items():
                    whole[index.to(whole.device)] = rows[name].detach()
            for module, key, name in owners:
                module._parameters[key] = self.wholes[name]  # type: ignore[assignment]

    @contextmanager
    def trained(self) -> Iterator[None]:
        """Inside, the tables are parameters like others, with gradients for all of their rows."""
        for whole in self.wholes.values():
            whole.requires_grad_(True)
        try:
            yield
        finally:
            for whole in self.wholes.values():
                whole.requires_grad_(False)

    def begin_averages(self, optimiser: torch.optim.Optimizer) -> None:
        """From here on each row averages anew, once it is visited; until then its average is that of before."""
        for whole in self.wholes.values():
            table_state(optimiser, whole)
            optimiser.state[whole]["visits"].zero_()

    def put_averages(self, optimiser: torch.optim.Optimizer) -> None:
        """Writes the average of its last iterates into each row."""
        with torch.no_grad():
            for whole in self.wholes.values():
                if AVERAGE in optimiser.state[whole]:
                    whole.copy_(optimiser.state[whole][AVERAGE])


def begin_tables(rows: Rows, optimiser: torch.optim.Optimizer) -> Tables:
    """The tables of a run before its first step; from here on they are no parameters for anybody else.

    optimiser: has them among its parameters. Raises ValueError for one that cannot update some rows of a parameter.
    Several processes have none (`stepping/shares.py`).
    """
    wholes = {name: p for name, p in unconstrained().items() if name in rows.tables}
    if why := why_no_rows(optimiser):
        raise ValueError(
            f"optim: {why}; parameter {next(iter(wholes))!r} has a row for each of the {rows.n:,} rows, of which a "
            f"step trains those of its batch"
        )
    leaves: dict[str, torch.Tensor] = {n: nn.Parameter(p.detach()[: rows.size].clone()) for n, p in wholes.items()}
    for whole in wholes.values():
        whole.requires_grad_(False)
    with noise(0):
        panel = torch.randperm(rows.n)[:PANEL].sort()[0]
    return Tables(wholes, leaves, panel)


def _replace(store: Any, state: Any, params: dict[str, torch.Tensor]) -> None:
    store.clear()
    store.set_state({"params": params, "constraints": state["constraints"]})

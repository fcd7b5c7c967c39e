"""What a pair computes from its rows when it first runs: a mean of x, the labels that occur, how many rows there are.

Where the first look saw some rows of many, such parameters are computed again from all that are at hand. They are those
that depend on the numbers of an argument (`derived.py`), or differ on one half of some rows and on the other. A number
that grows when every row comes twice counts the rows, and a window has some of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import nn

from ..pair.autoguide import start_elsewhere
from ..pair.batches import cut, rows_of
from ..pair.mean_field import MeanField
from ..pair.pair import Program
from ..predictive.derived import Derived
from ..runtime.reachable import find_modules
from ..runtime.retries import at_other_draws
from ..runtime.state import State, entered, new_state
from ..runtime.traced import traced
from .window_batches import entry_of_each_row

Values = dict[str, torch.Tensor]
COUNTS = 0.01  # of a number: by how much it changes at least, if it counts rows, when every row comes twice


class Programs(NamedTuple):
    """The programs of a run that has begun, and its state."""

    state: State
    model: Program
    guide: Program
    seed: int


class _Created(NamedTuple):
    """What one run of a pair created."""

    values: Values  # {parameter: its value, constrained}
    unconstrained: Values
    kept: dict[tuple[int, str], Any]  # tensors and numbers that modules keep besides, by module and attribute
    derived: frozenset[str]  # the parameters that depend on the numbers of an argument


class _All(Exception):
    """Every parameter that was asked for exists."""


class _Until(Messenger):
    """Ends a program when these parameters exist."""

    def __init__(self, names: set[str]) -> None:
        super().__init__()
        self.left = names

    def _pyro_post_param(self, msg: Any) -> None:
        self.left.discard(msg["name"])
        if not self.left:
            raise _All


def compute_from_all(run: Programs, some: tuple[Any, ...], every: tuple[Any, ...], n: int) -> bool:
    """Gives the parameters that were computed from some rows their values on all rows at hand.

    some, every: the data on some rows, and at hand, which may be a window of all. n: how many rows there are in all.
    Returns False where this does not do: a module keeps something of the rows, or a shape depends on them.
    Raises ValueError for a constant that counts the rows of a window, and for a parameter with an entry for each row.
    """
    positions, here = rows_of(some)
    half = max(1, here // 2)
    first = _created(run, some)
    halves = [_created(run, cut(some, positions, part), marked=True) for part in (slice(0, half), slice(half, here))]
    if any(one.kept != halves[0].kept for one in (halves[1], first)):
        return False
    differing = {name for one in halves for name, v in one.values.items() if not _same(v, first.values.get(name))}
    found = differing.union(*(one.derived for one in halves)) & first.values.keys()
    if not found:
        return True
    whole = len(every[positions[0]])
    if whole < n:
        for name in sorted(found):
            if here in first.values[name].shape and half in halves[0].values[name].shape:
                raise ValueError(entry_of_each_row(name))
        twice = _created(run, cut(some, positions, torch.arange(here).repeat(2)))
        counts = {name for name in found if not _same(first.values[name], twice.values[name], COUNTS)}
        if counts and (constant := sorted(counts - _learnt(run, some))):
            raise ValueError(
                f"parameter {constant[0]!r} is a constant that follows the number of rows that the run sees first, and "
                f"these are {whole:,} of {n:,} rows, which do not fit into memory; give the number as an argument, "
                f"functools.partial(model, rows={n}), or leave it out"
            )
    values = _created(run, every, until=found).unconstrained
    store = run.state.store["params"]
    if any(store[name].shape != values[name].shape for name in found):
        return False
    with torch.no_grad():
        for name in found:
            store[name].copy_(values[name])
    return True


def _learnt(run: Programs, data: tuple[Any, ...]) -> set[str]:
    """The parameters on which the loss of a pair depends differentiably. Any other is a constant, whatever it says."""

    def look(number: int) -> set[str]:
        with _entered(run, data, number):
            q, p = _traces(run, data)
            leaves = dict(pyro.get_param_store().named_parameters())
            trained = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
            loss = torch.as_tensor(p.log_prob_sum()) - q.log_prob_sum()
            if not trained or not loss.requires_grad:
                return set()
            gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
            return {name for name, gradient in zip(trained, gradients, strict=True) if gradient is not None}

    return at_other_draws(look)


def _created(run: Programs, data: tuple[Any, ...], *, marked: bool = False, until: set[str] | None = None) -> _Created:
    """What a new run creates on this data, but for the parameters of credo's own guide.

    marked: whether to find what depends on the numbers of the data. until: the parameters that are wanted; None: all.
    """
    own = f"{run.guide._pyro_name}." if isinstance(run.guide, MeanField) else "__baseline"

    def create(number: int) -> _Created:
        tensors = [v for v in data if isinstance(v, torch.Tensor)]
        with _entered(run, data, number) as modules, torch.no_grad():
            marks: Any = None
            if marked:
                copies = {id(v): v.clone() for v in tensors}
                given = tuple(copies.get(id(v), v) for v in data)
                marks = Derived(*copies.values())
                with marks:
                    _traces(run, given)
            else:
                with suppress(_All), _Until(set(until)) if until else nullcontext():
                    _traces(run, data)
            store = pyro.get_param_store()
            leaves = {k: p for k, p in store.named_parameters() if not k.startswith(("__baseline", own))}
            values = {name: store[name].detach().clone() for name in leaves}
            unconstrained = {name: p.detach().clone() for name, p in leaves.items()}
            derived = frozenset(name for name, p in leaves.items() if marks is not None and marks.holds([p]))
            return _Created(values, unconstrained, _kept(modules) if until is None else {}, derived)

    return at_other_draws(create)


def _traces(run: Programs, data: tuple[Any, ...]) -> tuple[poutine.Trace, poutine.Trace]:
    q = traced(run.guide, data)
    return q, traced(poutine.replay(run.model, trace=q), data)


@contextmanager
def _entered(run: Programs, data: tuple[Any, ...], number: int) -> Iterator[list[nn.Module]]:
    """A new run of these programs, at another start for another number. Yields its modules."""
    roots = (*run.state.modules, run.model, run.guide, data)
    with entered(new_state(roots, run.seed, run.state.device)):
        start_elsewhere(run.guide, number)
        yield find_modules(roots)


def _kept(roots: list[nn.Module]) -> dict[tuple[int, str], Any]:
    found: dict[tuple[int, str], Any] = {}
    for i, module in enumerate(dict.fromkeys(m for root in roots for m in root.modules())):
        for name, value in (module.__dict__ | module._buffers).items():
            if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
                found[i, name] = tuple(value.shape), value.detach().double().sum().nan_to_num().item()
            elif isinstance(value, (int, float)):
                found[i, name] = value
    return found


def _same(one: torch.Tensor, other: torch.Tensor | None, within: float = 1e-6) -> bool:
    if other is None or one.shape != other.shape:
        return False
    return torch.allclose(one, other, rtol=within, atol=0, equal_nan=True)

"""The parameters of the current store: unconstrained leaves, one flat vector, constrained values."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch

FEW = 2**14  # numbers that are copied into one tensor rather than looked at tensor by tensor


def unconstrained() -> dict[str, torch.Tensor]:
    """The trainable leaf tensors of the current store by name, without the running baselines that Pyro keeps there.

    A tensor that needs no gradient is a constant, which the first call of a program computed and later calls read.
    """
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for name, p in pyro.get_param_store().named_parameters():
        if p.requires_grad and not name.startswith("__baseline"):
            found.setdefault(id(p), (name, p))  # a module may name one tensor twice
    return dict(found.values())


def flat_parameters(leaves: Iterable[torch.Tensor]) -> torch.Tensor:
    """A copy of all these parameters as one vector, shape (P,)."""
    return torch.cat([p.detach().flatten() for p in leaves])  # torch's own wants them contiguous


def iterate() -> torch.Tensor:
    """The present parameters, flat, shape (P,), in double precision, since iterates are summed."""
    return flat_parameters(unconstrained().values()).double()


def place_parameters(point: torch.Tensor, leaves: Iterable[torch.Tensor]) -> None:
    """Writes one vector, shape (P,), into these parameters, each in its own precision."""
    leaves = list(leaves)
    with torch.no_grad():
        for leaf, piece in zip(leaves, point.split([p.numel() for p in leaves]), strict=True):
            leaf.copy_(piece.view(leaf.shape))


@contextmanager
def kept_in_place() -> Iterator[None]:
    """Parameters that are replaced in the store inside have the new values in their old tensors afterwards.

    The optimiser and recorded steps know those. Raises ValueError for a value of another shape; a parameter that was
    deleted stays as it was, and one that was added goes.
    """
    store = pyro.get_param_store()
    before = dict(store.named_parameters())
    yield
    now = dict(store.named_parameters())
    if now.keys() == before.keys() and all(now[name] is p for name, p in before.items()):
        return
    constraints = {name: c for name, c in store.get_state()["constraints"].items() if name in before}
    store.clear()
    store.set_state({"params": before, "constraints": constraints})
    for name, p in before.items():
        new = now.get(name, p)
        if new.shape != p.shape:
            raise ValueError(f"parameter {name!r}: got a value of shape {tuple(new.shape)}, wanted {tuple(p.shape)}")
        if new is not p:
            place_parameters(new.detach().flatten(), [p])


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether every number in these tensors is finite."""
    flat = [t.detach().coalesce().values() if t.is_sparse else t.detach().reshape(-1) for t in tensors]
    few = sum(map(len, flat)) < FEW
    total = torch.cat(flat).sum() if flat and few else sum(t.sum() for t in flat)
    # A sum is finite only where every term is; but it may overflow.
    return math.isfinite(total) or all(bool(torch.isfinite(t).all()) for t in flat)


def clip_gradients(leaves: Iterable[torch.Tensor], largest: float) -> None:
    """Scales the gradients of all leaves together, so that their norm as one vector is at most `largest`."""
    torch.nn.utils.clip_grad_norm_([p for p in leaves if p.grad is not None], largest)


def constrained() -> dict[str, torch.Tensor]:
    """The parameters of the current store in their constrained space, and its constants: detached copies by name."""
    store = pyro.get_param_store()
    constants = [name for name, p in store.named_parameters() if not p.requires_grad]
    return {name: store[name].detach().clone() for name in (*constants, *unconstrained())}


def leaves_behind(tensors: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """The leaf tensors that these tensors are computed from with a gradient; a leaf stands for itself."""
    tensors = list(tensors)
    yield from (t for t in tensors if t.is_leaf and t.requires_grad)
    todo: list[Any] = [t.grad_fn for t in tensors if t.grad_fn is not None]
    seen = set(todo)
    while todo:
        function = todo.pop()
        if (leaf := getattr(function, "variable", None)) is not None:
            yield leaf
        new = {f for f, _ in function.next_functions if f is not None} - seen
        seen |= new
        todo.extend(new)

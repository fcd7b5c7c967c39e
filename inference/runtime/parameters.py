"""The parameters of the current store: unconstrained leaves, one flat vector, constrained values."""

import math
from collections.abc import Iterable

import pyro
import torch


def unconstrained() -> dict[str, torch.Tensor]:
    """The trainable leaf tensors of the current store by name, without the running baselines that Pyro keeps there."""
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for name, p in pyro.get_param_store().named_parameters():
        if not name.startswith("__baseline"):
            found.setdefault(id(p), (name, p))  # a module may name one tensor twice
    return dict(found.values())


def flat_parameters(leaves: Iterable[torch.Tensor]) -> torch.Tensor:
    """A copy of all these parameters as one vector, shape (P,)."""
    return torch.cat([p.detach().flatten() for p in leaves])  # torch's own wants them contiguous


def place_parameters(point: torch.Tensor, leaves: Iterable[torch.Tensor]) -> None:
    """Writes one vector, shape (P,), into these parameters, each in its own precision."""
    leaves = list(leaves)
    with torch.no_grad():
        for leaf, piece in zip(leaves, point.split([p.numel() for p in leaves]), strict=True):
            leaf.copy_(piece.view(leaf.shape))


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether every number in these tensors is finite."""
    tensors = list(tensors)
    with torch.no_grad():
        if math.isfinite(sum(t.sum() for t in tensors)):  # then every term is; the sum alone may also overflow
            return True
        return all(bool(torch.isfinite(t.coalesce().values() if t.is_sparse else t).all()) for t in tensors)


def constrained() -> dict[str, torch.Tensor]:
    """The parameters of the current store in their constrained space: detached copies by name."""
    store = pyro.get_param_store()
    return {name: store[name].detach().clone() for name in unconstrained()}

"""Runs a model at given values of latents, on data for which some of them need more entries than were given."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from pyro.poutine.messenger import Messenger
from torch.nn.functional import pad

from ..distributions.unwrap import kind
from .joint_rows import NORMAL, draw_given_first


class Growth(Protocol):
    """Which sites may grow, and how not."""

    @property
    def along(self) -> frozenset[str]:
        """The sites that may grow along their event too, because it has an entry for each row."""
        ...

    @property
    def columns(self) -> frozenset[tuple[int, int]]:
        """The changes of size that are refused, (before, now), because the data changed so in another dimension."""
        ...


class ContinuedSites(Messenger):
    """Gives latent sites their values; entries that a larger plate adds are drawn from the model.

    Entries of a joint normal draw, as of a Gaussian process, are drawn given the others.
    A plate over groups that has grown keeps the groups it had, and one that has shrunk keeps the first of them. It must
    stand around the handler that traces the model, so that the trace holds the values of both.
    Raises ValueError for a value whose shape differs elsewhere.
    """

    def __init__(self, values: Mapping[str, torch.Tensor], growth: Growth) -> None:
        super().__init__()
        self.values, self.growth = values, growth

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            value = self.values[msg["name"]]
            if value.shape == _shape(msg, value):
                msg["value"], msg["done"] = value, True

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            value = self.values[msg["name"]]
            if value.shape != _shape(msg, value):
                msg["value"] = self._continued(msg, value)

    def _continued(self, msg: Any, value: torch.Tensor) -> torch.Tensor:
        """The value in the first entries of each dimension, the model's own draw in the others."""
        shape, fn = msg["value"].shape, msg["fn"]
        free = {f.dim - fn.event_dim for f in msg["cond_indep_stack"] if f.vectorized}
        if msg["name"] in self.growth.along:
            free |= set(range(-fn.event_dim, 0))
        changed = {d - len(shape): sizes for d, sizes in enumerate(zip(value.shape, shape, strict=False))}
        changed = {d: sizes for d, sizes in changed.items() if sizes[0] != sizes[1]}
        if value.dim() != len(shape) or changed.keys() - free or self.growth.columns & set(changed.values()):
            raise ValueError(
                f"site {msg['name']!r}: it has shape {tuple(value.shape)} in the fit and {tuple(shape)} with the new "
                f"data; give data that differs from the data of the fit in its number of rows only"
            )
        if set(changed) == {-1} and shape[-1] > value.shape[-1] and fn.event_dim == 1 and kind(fn) in NORMAL:
            return draw_given_first(fn, value)
        value = value[tuple(slice(size) for size in shape)]
        more = [amount for old, new in zip(value.shape[::-1], shape[::-1], strict=True) for amount in (0, new - old)]
        known = pad(torch.ones_like(value, dtype=torch.bool), more)
        return torch.where(known, pad(value, more), msg["value"])


def _shape(msg: Any, value: torch.Tensor) -> torch.Size:
    """The shape that the model wants; that of the value for an object that is no distribution with a shape."""
    fn = msg["fn"]
    return torch.Size(fn.shape()) if hasattr(fn, "shape") else value.shape

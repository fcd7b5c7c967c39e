"""Holds sites of a program at given values, as pyro.condition does, but they stay latent."""

from collections.abc import Mapping
from typing import Any

import torch
from pyro.poutine.messenger import Messenger


class HeldSites(Messenger):
    """Gives each named latent site its value, broadcast over its rows, instead of drawing it."""

    def __init__(self, values: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            value = self.values[msg["name"]]
            msg["value"] = _expanded(value, msg["fn"])
            msg["done"] = True


def _expanded(value: torch.Tensor, fn: Any) -> torch.Tensor:
    """The value in the shape of the distribution. A conditional flow draws more rows than its batch shape says."""
    if not hasattr(fn, "shape"):
        return value
    return value.expand(torch.broadcast_shapes(value.shape, fn.shape()))

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
            msg["value"] = value.expand(msg["fn"].shape()) if hasattr(msg["fn"], "shape") else value
            msg["done"] = True

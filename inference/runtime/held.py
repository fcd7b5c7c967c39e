"""Runs a program with some of its sites held at given values."""

from collections.abc import Mapping
from typing import Any

import torch
from pyro.poutine.messenger import Messenger


class Held(Messenger):
    """Gives each named site its value, in all its rows, instead of drawing it."""

    def __init__(self, values: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            value = self.values[msg["name"]]
            msg["value"] = value.expand(msg["fn"].shape()) if hasattr(msg["fn"], "shape") else value
            msg["done"] = True

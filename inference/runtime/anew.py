"""Draws the observed sites of a program anew, as `poutine.uncondition` does, but leaves deterministic sites alone.

Pyro keeps a deterministic site as an observed one. Drawn anew in a plate, it would get the plate's shape once more.
"""

from typing import Any

from pyro.poutine.messenger import Messenger


class Anew(Messenger):
    """Makes the observed sites of a program latent, so that they are drawn from their distributions."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] and not msg["infer"].get("_deterministic"):
            msg["is_observed"] = False
            msg["value"] = None
            msg["done"] = False

"""A model whose observations count once: where it was fitted at a temperature, rows still have p(x_n | z), not a power.

A site says its temperature T by `infer={"temperature": T}`, and its scale holds the factor 1 / T.
"""

from typing import Any

from pyro.poutine.messenger import Messenger

from ..pair.pair import Program
from ..runtime.sites import temperature


def untempered(model: Program) -> Program:
    """The model with log p(x_n | z) in the place of log p(x_n | z) / T at the sites that say their temperature."""

    def program(*args: Any, **named: Any) -> Any:
        with _Untempered():
            return model(*args, **named)

    return program


class _Untempered(Messenger):
    """Multiplies the scale of a site by its temperature, after the handlers within the model."""

    def _pyro_sample(self, msg: Any) -> None:
        if (t := temperature(msg)) != 1:
            msg["scale"] = msg["scale"] * t

"""How each latent site enters the objective."""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from ..pair.costs import Key, Terms


class Recipe(NamedTuple):
    """How each latent site enters the objective. The default draws every site and takes log q as it is.

    antithetic: whether particles come in pairs whose normal noise has opposite signs (see `mirror`).
    """

    terms: Terms = Terms()
    values: Mapping[str, torch.Tensor] = {}  # of the enumerated sites
    unmoved: Mapping[str, frozenset[Key]] = {}  # the costs that each of these does not move
    score: Mapping[str, list[Key]] = {}  # the costs that each draw moves
    seen: frozenset[Key] = frozenset()  # the costs that this is known of
    flips: Mapping[str, list[Key]] = {}
    redrawn: Mapping[str, frozenset[str]] = {}
    coupled: Mapping[str, frozenset[str]] = {}
    fixed: frozenset[str] = frozenset()
    antithetic: bool = False

    def valued(self) -> "Recipe":
        """The same values in expectation, nothing done for gradients."""
        return Recipe(terms=Terms(kl=self.terms.kl, local=self.terms.local), values=self.values)

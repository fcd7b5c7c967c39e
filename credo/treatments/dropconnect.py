"""DropConnect: layers leave out single weights, in training and in prediction; the pair `bnn_dropconnect`.

p(y | x) = 1/S Σ_s p(y | x, w keep_s)         (Wan et al. 2013, whose prediction is a normal with these moments)
"""

import functools
from typing import Any

import torch
from torch import nn

from credo.treatments.chosen import chosen_by_validation
from credo.treatments.dropout import Rate, fitted, shares_in_words
from credo.treatments.treatment import Budget, Trained

GRID = (0.05, 0.1, 0.25, 0.5)  # Wan et al. leave out half of the weights


def dropconnect(
    net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget, *, rate: Rate | None = None, **options: Any
) -> Trained:
    """DropConnect at a fixed rate, for classes; all rows of a step share its mask.

    rate: the share of weights left out, of all layers or one for each weight matrix. None: one of GRID, chosen by the
    NLL of validation rows within the budget (`chosen_by_validation`). options: further ones of `credo.fit`.
    Raises ValueError for numbers to be predicted.
    """
    if rate is None:
        grid = {f"{r} of the weights": functools.partial(dropconnect, rate=r, **options) for r in GRID}
        return chosen_by_validation(grid, net, x, y, budget)
    words = f"DropConnect of {shares_in_words(rate)}, a mask for each step, weight decay of the pair"
    return fitted("bnn_dropconnect", net, x, y, budget, words, {"rate": rate}, {}, options)

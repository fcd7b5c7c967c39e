"""Dropout: a network whose layers leave out inputs, in training and in prediction; the rate fixed, chosen, or learnt.

    p(y | x) = 1/S Σ_s p(y | x, w, keep_s)         (MC dropout: Gal and Ghahramani 2016, eq. 6)

For classes it is the pair `bnn_dropout`, with a mask for each row; where the rate is learnt, the KL divergence of the
masks from their prior counts once, whatever the rows. For numbers the network is trained by hand, without a prior.
"""

import copy
import functools
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from credo.inference.runtime.generators import noise
from credo.models._masks import has_inputs_by_row, layers_of, rates_of
from credo.pairs import load
from credo.treatments.chosen import chosen_by_validation
from credo.treatments.likelihood import evaluating, is_classes
from credo.treatments.mean_field import fit_within, numbers_of, predictive, said
from credo.treatments.points import predicted, size, train
from credo.treatments.treatment import Budget, Trained

Rate = float | Sequence[float]
PRIOR_RATE = 0.1  # of the masks' prior, where the rate is learnt
# (inputs of the first layer, of the others): the published pair of 0.2 and 0.5 (Srivastava et al. 2014), and less.
GRID = ((0.0, 0.05), (0.05, 0.1), (0.1, 0.25), (0.2, 0.5))


def dropout(
    net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget, *, rate: Rate | None = None, **options: Any
) -> Trained:
    """Dropout at a fixed rate. rate: the share of inputs left out, of all layers or one for each weight matrix.

    None: one of GRID, chosen by the NLL of validation rows within the budget (`chosen_by_validation`).
    Masks are drawn for each row where every layer can (`masked_by_row`), else all rows of a step share them. Numbers,
    y of floating point, take Linear and Conv layers alone. options: further ones of `credo.fit`, for classes.
    """
    if rate is None:
        layers = sum(w.dim() > 1 for w in net.parameters() if w.requires_grad)
        every = {f"{a} of the inputs, {b} of the hidden": (a, *[b] * (layers - 1)) for a, b in GRID}
        grid = {name: functools.partial(dropout, rate=r, **options) for name, r in every.items()}
        if layers == 1:
            grid = {f"{b} of the inputs": functools.partial(dropout, rate=b, **options) for _, b in GRID}
        return chosen_by_validation(grid, net, x, y, budget)
    if not is_classes(y):
        if options:
            raise ValueError(f"dropout: got {sorted(options)} for numbers, which are trained by hand; leave them out")
        return _numbers(net, x, y, budget, rate)
    apart = masked_by_row(net, x)
    words = f"dropout of {shares_in_words(rate)}, a mask for each {_which(apart)}, weight decay of the pair"
    return fitted("bnn_dropout", net, x, y, budget, words, {"rate": rate, "shared": not apart}, {}, options)


def dropout_learnt(
    net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget, *, rate: Rate = PRIOR_RATE, **options: Any
) -> Trained:
    """Dropout whose rates, one a layer, are chosen by the ELBO, which holds them near the prior's. Classes only.

    rate: of the prior, where the rates start. options: further ones of `credo.fit`. Masks are
        drawn for each row where every layer can (`masked_by_row`), else all rows of a step share them.
    Raises ValueError for numbers to be predicted.
    """
    apart = masked_by_row(net, x)
    shared = {"rate": rate, "shared": not apart, "once": apart}
    found = fitted("bnn_dropout", net, x, y, budget, "dropout of learnt rates", shared, {"learn": True}, options)
    numbers = found.numbers - apart  # less N
    return found._replace(numbers=numbers, words=f"{found.words}; a mask for each {_which(apart)}")


def masked_by_row(net: nn.Module, x: torch.Tensor) -> bool:
    """Whether every weight matrix that is learnt belongs to a Linear or Conv layer, which is given the rows of x.

    A layer that takes pieces of rows as rows of its own has no mask for each row of the data.
    """
    names = [name for name, w in net.named_parameters() if w.requires_grad and w.dim() > 1]
    layers = [layer for name in names for layer in layers_of(net, name)]
    if not all(name.endswith("weight") for name in names) or not all(map(has_inputs_by_row, layers)):
        return False
    given: list[int] = []
    hooks = [layer.register_forward_pre_hook(lambda _, inputs: given.append(len(inputs[0]))) for layer in layers]
    try:
        with evaluating(net), suppress(RuntimeError):  # of rows that the network does not take: the pair says so
            net(x[:2].to(next(net.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return all(rows == len(x[:2]) for rows in given)


def _which(apart: bool) -> str:
    return "row" if apart else "step"


def fitted(
    name: str,
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    budget: Budget,
    words: str,
    shared: dict[str, Any],
    of_guide: dict[str, Any],
    options: dict[str, Any],
) -> Trained:
    """A fit of a pair of masks for classes. shared: settings of the model and the guide. words: what it is."""
    if not is_classes(y):
        raise ValueError(
            f"y: got {y.dtype} for {words}, wanted classes as integers; for numbers take dropout(rate=...)"
        )
    pair = load(name)
    model, guide = functools.partial(pair.model, **shared), functools.partial(pair.guide, **shared, **of_guide)
    found = fit_within(budget, model, guide, net, x, y, **options)
    rates = {key.removesuffix(".rate"): float(v) for key, v in found.params.items() if key.endswith(".rate")}
    if rates:
        words += " " + ", ".join(f"{layer} {r:.2g}" for layer, r in rates.items())
    return Trained(predictive(found, net), numbers_of(found), f"{words}; {said(found)}")


def shares_in_words(rate: Rate) -> str:
    return f"{rate}" if isinstance(rate, (int, float)) else ", ".join(f"{r}" for r in rate)


def _numbers(net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget, rate: Rate) -> Trained:
    """Trained by hand on -log p(y | x, w, keep), a mask for each row; the masks stay on in prediction."""
    likely, trained, beside = train(_masked(net, rate), x, y, budget)

    def predict(x: torch.Tensor, draws: int) -> torch.Tensor:
        with noise(budget.seed):
            return torch.stack([predicted(likely, trained, beside, x) for _ in range(draws)])

    return Trained(predict, size(trained, beside), f"dropout of {shares_in_words(rate)}, a mask for each row, no prior")


def _masked(net: nn.Module, rate: Rate) -> nn.Module:
    """A copy of the network whose layers leave out a share of their inputs whenever it is run.

    Raises ValueError for a rate that is no share, and a weight matrix of another layer than Linear and Conv.
    """
    masked = copy.deepcopy(net)
    for name, share in rates_of(masked, rate).items():
        for layer in layers_of(masked, name):
            if not has_inputs_by_row(layer):
                raise ValueError(
                    f"{name!r}: got a weight of {type(layer).__name__}, wanted a linear layer or a convolution"
                )
            layer.register_forward_pre_hook(functools.partial(_left_out, share))
    return masked


def _left_out(share: float, layer: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    (x,) = inputs
    if isinstance(layer, nn.Linear):
        return (functional.dropout(x, share),)
    keep = functional.dropout(x.new_ones(x.shape[:2]), share)  # whole channels
    return (x * keep.reshape(*keep.shape, *[1] * (x.dim() - 2)),)

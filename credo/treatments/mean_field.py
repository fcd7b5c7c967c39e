"""Mean field: an independent normal for every weight, the guide of the pairs `bnn_classifier` and `bnn_regression`.

    q(w) = prod_i N(w_i; m_i, s_i^2)         (Blundell et al. 2015, section 3.2), fitted by `credo.fit`

The rate is ten times that of the budget, at most credo's own, 0.02: the sds of the weights have as far to go as their
logs say. On the digits, the ELBO after 2,000 steps at 0.001 is 5,900 nats below that at 0.01 (seed 0, the network of
`benchmarks/digits_treatments.py`).

The prior is that of the pair. Wider ones were tried on the digits (a fifth of the training rows held out, 3 seeds,
2,000 steps, `benchmarks/digits_treatments.py --validation`): three times as wide, .122 (.013) nats a row for .120
(.004), and with four times the steps .18 (.09) for .12 (.01), fewer errors but some rows that it is far too sure of.
`tuned` chooses for a network and rows of your own.
"""

import functools
from typing import Any

import torch
from torch import nn

from credo.inference.evaluation.fit import fit
from credo.inference.updates.optimiser import LR
from credo.inference.variational.loop import INTERRUPTED
from credo.inference.variational.result import Fit
from credo.pairs import load
from credo.treatments.likelihood import is_classes
from credo.treatments.treatment import Budget, Trained

FASTER = 10  # than the rate of the budget


def mean_field(
    net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget, *, prior_sd: Any = None, **options: Any
) -> Trained:
    """The pair's own guide, fitted by SVI with Adam. options: further ones of `credo.fit`.

    x: shape (N, ...). y: shape (N,), classes as integers or numbers as floating point. prior_sd: of the pair's model, a
        number in units of 1 / sqrt(fan-in) or a word; None: the pair's own.
    """
    found = fitted(net, x, y, budget, prior_sd=prior_sd, **options)
    words = f"mean-field normal, {prior_in_words(prior_sd)}; {said(found)}"
    return Trained(predictive(found, net), numbers_of(found), words)


def fitted(
    net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget, *, prior_sd: Any = None, **options: Any
) -> Fit:
    """The fit of `bnn_classifier` for classes, of `bnn_regression` for numbers, with the budget's steps.

    Raises KeyboardInterrupt where Ctrl-C ended the fit: half a treatment is none.
    """
    pair = load("bnn_classifier" if is_classes(y) else "bnn_regression")
    model, guide = pair.model, pair.guide
    if prior_sd is not None:
        model, guide = (functools.partial(program, prior_sd=prior_sd) for program in (model, guide))
    return fit_within(budget, model, guide, net, x, y, **({"lr": faster(budget)} | options))


def fit_within(
    budget: Budget, model: Any, guide: Any, net: nn.Module, x: torch.Tensor, y: torch.Tensor, **options: Any
) -> Fit:
    """`credo.fit` with the steps, batches, rate, seed and device of the budget. options: further ones, or others.

    Raises KeyboardInterrupt where Ctrl-C ended the fit: half a treatment is none.
    """
    settings: dict[str, Any] = {"lr": budget.lr, "progress": False, "seed": budget.seed, "device": budget.device}
    settings |= {"steps": budget.steps, "batch_size": budget.batch_size if budget.batch_size < len(x) else None}
    found = fit(model, guide, net, x, y, **(settings | options))
    if found.stopped.startswith(INTERRUPTED):
        raise KeyboardInterrupt(found.stopped)
    return found


def faster(budget: Budget, times: int = FASTER) -> float:
    """The rate of the budget times that, at most credo's own, and at least that of the budget."""
    return max(budget.lr, min(times * budget.lr, LR))


def predictive(found: Fit, net: nn.Module) -> Any:
    """predict(x, draws) of such a fit: shape (S, N, C), or (S, N, 2) with mean and sd."""

    def predict(x: torch.Tensor, draws: int) -> torch.Tensor:
        sites = found.predict(x=x, net=net, n=draws)
        if "probs" in sites:
            return sites["probs"]
        mean = sites["mean"]
        # Under the guide sigma is independent of the weights, so any draw of it belongs to any draw of them.
        sd = sites["sd"] if "sd" in sites else found.sample(draws)["sigma"]
        return torch.stack([mean, sd.reshape(len(mean), -1).expand_as(mean)], -1)

    return predict


def numbers_of(found: Fit) -> int:
    """How many numbers a fit keeps: its parameters, and the frozen parameters and the buffers of its networks."""
    return sum(value.numel() for value in found.params.values()) + sum(
        unfitted(net) for net in found.data if isinstance(net, nn.Module)
    )


def unfitted(net: nn.Module) -> int:
    """How many numbers of a network are no latents: frozen parameters and buffers. Predictions need them too."""
    return sum(v.numel() for v in (*(w for w in net.parameters() if not w.requires_grad), *net.buffers()))


def prior_in_words(prior_sd: Any) -> str:
    """Which prior it is, in words: a number is in units of 1 / sqrt(fan-in)."""
    if prior_sd is None:
        return "prior of the pair"
    return f"prior sd {f'{prior_sd:g} / sqrt(fan-in)' if isinstance(prior_sd, int | float) else prior_sd}"


def said(found: Fit) -> str:
    """How the fit ended, in words."""
    return f"{found.stopped}, loss {found.losses[-1]:,.0f} nats" if len(found.losses) else found.stopped

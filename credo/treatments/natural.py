"""Natural gradients: the normal of `mean_field` for every weight, found by IVON's update instead of Adam.

    h <- h (1 + x + x²/2),   m <- m - rate · g / h        see `credo.fit`, optim="natural" (Shen et al. 2024)

A step is a share of what the curvature asks for, 5 times the learning rate: 0.1 at credo's own rate, 0.02. The rate is
twenty times that of the budget, at most that: it is no length in the space of weights, which Adam's is. It falls to a
hundredth by a cosine, since the noise of batches of B of N rows moves a mean by sqrt(step · N / B / 2) of its sd.

A weight of classes has a prior sd of its own, learnt. Chosen on 2,000 validation rows of MNIST with a step written by
hand, the prior sds at their optimum: 784-100-100-10, 5,500 rows, five epochs of batches of 32. NLL in nats a row: 0.29
and 0.27 (2 seeds). One seed each: 1.2 at a constant rate under a prior sd of 10 / sqrt(fan-in); Adam with learnt prior
sds 0.34, and 0.22 in 20 epochs. So a quarter of Adam's steps is not enough.
"""

import functools
import math
from typing import Any

import torch
from torch import nn

from credo.inference.updates.optimiser import NATURAL
from credo.treatments.likelihood import is_classes
from credo.treatments.mean_field import faster, fitted, numbers_of, predictive, prior_in_words, said
from credo.treatments.treatment import Budget, Trained

FASTER = 20  # than the rate of the budget
FLOOR = 0.01  # of the rate: its last value


def natural(
    net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget, *, prior_sd: Any = None, **options: Any
) -> Trained:
    """The pair's own guide, fitted by natural gradients of its normals. options: further ones of `credo.fit`.

    The weight of the KL rises over a third of the steps, unless `kl_warmup` is given.
    x: shape (N, ...). y: shape (N,), classes as integers or numbers as floating point. prior_sd: of the pair's model, a
        number in units of 1 / sqrt(fan-in) or a word; None: "ard" for classes, the pair's own for numbers.
    """
    if prior_sd is None and is_classes(y):
        prior_sd = "ard"
    rate = functools.partial(falling, faster(budget, FASTER), budget.steps)
    settings = {"optim": NATURAL, "lr": rate, "kl_warmup": budget.steps // 3, **options}
    found = fitted(net, x, y, budget, prior_sd=prior_sd, **settings)
    words = f"mean-field normal by natural gradients, {prior_in_words(prior_sd)}; {said(found)}; {found.plan.updates}"
    return Trained(predictive(found, net), numbers_of(found), words)


def falling(rate: float, steps: int, step: int) -> float:
    """The rate of a step: `rate` at the first, a hundredth of it at the last, between them by a cosine."""
    return rate * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * min(step / max(steps, 1), 1.0))) / 2)

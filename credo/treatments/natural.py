"""Natural gradients: the normal of `mean_field` for every weight, found by IVON's update instead of Adam.

    h <- h (1 + x + x²/2),   m <- m - rate · g / h        see `credo.fit`, optim="natural" (Shen et al. 2024)

A step is a share of what the curvature asks for, 5 times the learning rate: 0.1 at credo's own rate, 0.02. The rate is
twenty times that of the budget, at most that: it is no length in the space of weights, which Adam's is.
"""

import torch
from torch import nn

from credo.inference.updates.optimiser import NATURAL
from credo.treatments.mean_field import faster, fitted, numbers_of, predictive, said
from credo.treatments.treatment import Budget, Trained

FASTER = 20  # than the rate of the budget


def natural(net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget, **options: object) -> Trained:
    """The pair's own guide, fitted by natural gradients of its normals. options: further ones of `credo.fit`.

    x: shape (N, ...). y: shape (N,), classes as integers or numbers as floating point.
    """
    found = fitted(net, x, y, budget, **{"optim": NATURAL, "lr": faster(budget, FASTER), **options})
    words = f"mean-field normal by natural gradients, prior of the pair; {said(found)}; {found.plan.updates}"
    return Trained(predictive(found, net), numbers_of(found), words)

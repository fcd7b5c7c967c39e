"""A warm start: a share of the steps trains the plain network, and the treatment starts at its weights.

    steps = share steps of `points`, then (1 - share) steps of the treatment, from the weights that these left

The guides of the pairs start at the network's own weights, so the means of a posterior start at a good network.
"""

import torch
from torch import nn

from credo.treatments.points import train
from credo.treatments.treatment import Budget, Trained, Treatment

SHARE = 0.25


def warm(treatment: Treatment, share: float = SHARE) -> Treatment:
    """A treatment that spends a share of its steps on the plain network first, at the same total of steps.

    share: between 0 and 1. It starts at the weights only; what else the plain network learns, the noise of numbers,
    the treatment learns anew. Raises ValueError for another share.

    >>> import credo, torch
    >>> from credo.treatments.mean_field import mean_field
    >>> from credo.treatments.treatment import Budget
    >>> x, y, *_ = credo.data.digits()
    >>> net = torch.nn.Linear(64, 10)
    >>> warm(mean_field)(net, x, y, Budget(40, 128, 1e-3)).words.partition(";")[0]
    '10 steps of the plain network first, then 30 of: mean-field normal, prior of the pair'
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        raise ValueError(f"share: got {share!r}, wanted the share of the steps for the plain network, between 0 and 1")

    def warmed(net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget) -> Trained:
        return _warm(treatment, share, net, x, y, budget)

    warmed.__name__ = f"warm {getattr(treatment, '__name__', repr(treatment))}"  # of its row in a table
    return warmed


def _warm(treatment: Treatment, share: float, net: nn.Module, x: torch.Tensor, y: torch.Tensor, b: Budget) -> Trained:
    first = round(share * b.steps)
    if not 0 < first < b.steps:
        return treatment(net, x, y, b)
    _, trained, _ = train(net, x, y, b._replace(steps=first))
    for name, weight in trained.named_parameters():  # frozen after training; a latent is what was none before
        weight.requires_grad_(net.get_parameter(name).requires_grad)
    for layer, own in zip(trained.modules(), net.modules(), strict=True):  # each in its own mode, as given
        layer.training = own.training
    found = treatment(trained, x, y, b._replace(steps=b.steps - first))
    return found._replace(
        words=f"{first:,} steps of the plain network first, then {b.steps - first:,} of: {found.words}"
    )

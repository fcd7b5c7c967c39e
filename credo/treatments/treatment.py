"""What every treatment of a network is given, and what it returns: a treatment is a function, one in each file.

treatment(net, x, y, budget) -> Trained
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn


class Budget(NamedTuple):
    """What every treatment may spend: the same number of gradient steps on batches of the same size."""

    steps: int
    batch_size: int
    lr: float
    seed: int = 0
    device: torch.device | None = None  # None: as for `credo.fit`


class Trained(NamedTuple):
    """A network under one treatment.

    predict: (x, draws) -> shape (S, N, C), class probabilities of each row, or (S, N, 2), mean and sd of a normal y of
        each row in the units of y. S is `draws`, or 1 for a treatment that predicts in one pass. The prediction is the
        average of the S distributions. Bounded memory is the caller's business: it passes rows in pieces.
    numbers: how many numbers the treatment keeps, for its size in bytes.
    words: what it is and what was chosen on the way, in one sentence.
    """

    predict: Callable[[torch.Tensor, int], torch.Tensor]
    numbers: int
    words: str


Treatment = Callable[[nn.Module, torch.Tensor, torch.Tensor, Budget], Trained]

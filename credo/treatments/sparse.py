"""Sparse variational dropout: the pair `bnn_sparse` by its published recipe, then the pruned network alone.

    q(w_i) = N(theta_i, sigma_i^2);   weights with log alpha_i = log sigma_i^2 - log theta_i^2 >= 3 are zero

Molchanov, Ashukha and Vetrov 2017. It predicts by the means of the weights that are left, in one pass, as in the paper:
fewer numbers, and no draws. The shares of the run are the paper's; the rate is as for `mean_field`.
"""

from functools import partial
from typing import Any

import torch
from torch import nn

from credo.guides.bnn_sparse import START, recipe
from credo.pairs import load
from credo.sparsity.compress import compress
from credo.treatments.likelihood import is_classes
from credo.treatments.mean_field import faster, fit_within
from credo.treatments.treatment import Budget, Trained


def sparse(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    budget: Budget,
    *,
    threshold: float | None = 3.0,
    start: float = START,
    **options: Any,
) -> Trained:
    """Weights that the data do not need are cut out, and the rest predicts by its means.

    x: shape (N, ...). y: shape (N,), classes as integers. threshold: as for `credo.compress`. start: log sigma^2 of
    every weight before the first step. options: further ones of `credo.fit`.
    Raises ValueError for numbers as y, and KeyboardInterrupt where Ctrl-C ended the fit: half a treatment is none.
    """
    if not is_classes(y):
        raise ValueError(
            f"y: got {y.dtype}, wanted classes as integers: the pair bnn_sparse has no likelihood of numbers"
        )
    pair, size = load("bnn_sparse"), min(budget.batch_size, len(x))
    published = recipe(len(x), budget.steps * size / len(x), batch_size=size, lr=faster(budget))
    settings = published | {"steps": budget.steps} | options
    found = fit_within(budget, pair.model, partial(pair.guide, start=start), net, x, y, **settings)
    small = compress(found, net, threshold=threshold)
    total = small.table.loc["total"]
    # What is not pruned is kept whole: biases, scales, and buffers, frozen ones too.
    others = [w for name, w in net.named_parameters() if name not in small.table.index]
    whole = sum(v.numel() for v in (*others, *net.buffers()))

    @torch.no_grad()
    def predict(x: torch.Tensor, draws: int) -> torch.Tensor:
        device = next((t.device for t in (*small.network.parameters(), *small.network.buffers())), x.device)
        logits: torch.Tensor = small.network(x.to(device))
        return logits.softmax(-1)[None]

    words = (
        f"{total['kept']:,} of {total['weights']:,} weights left at log alpha < {small.threshold:g}; {found.stopped}"
    )
    return Trained(predict, int(total["kept"]) + whole, words)

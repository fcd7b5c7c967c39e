"""Laplace's approximation at a trained network: a normal around its weights, and predictions of the linearised net.

    q(theta) = N(theta*, (GGN / sigma^2 + diag delta)^-1),     f(x) ~ N(f(x; theta*), J q's covariance J')

    log p(D) ~ log p(D | theta*) - 1/2 Σ_l delta_l |theta*_l|^2
               - 1/2 log det(GGN / sigma^2 + diag delta) + 1/2 log det diag delta

The prior precisions delta (one for a full GGN, one a layer for Kronecker factors) and the noise sigma maximise the last
formula (MacKay 1992). The GGN is full up to 2,000 weights, and for a last layer up to 6,000; else Kronecker-factored,
layer by layer, for nn.Linear and nn.Conv2d. Weights of other layers stay points. One pass predicts: numbers have the
variance diag(J S J') + sigma^2, classes E softmax(f). Where f is linear in theta and the noise is normal, all this is
exact. With few rows the predictions of a classifier are less sure than they should be: at the mode of a network that
is sure of its rows the GGN is nearly zero (digits: ECE 0.06 for the last layer, 0.14 for all weights).
Sources: Daxberger et al. 2021 (Laplace Redux, arXiv:2106.14806, sections 2 and 4); Immer, Korzepa and Bauer 2021
(arXiv:2008.08400) for the linearised prediction; Ritter, Botev and Barber 2018 for Kronecker factors.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from credo.inference.runtime.defaults import choose_device
from credo.models.bnn_last_layer import last_linear
from credo.treatments.curvature import Layer, Part, batches, ggn, kfac, layers_of, others, refuse_other_uses
from credo.treatments.evidence import best
from credo.treatments.likelihood import Likelihood
from credo.treatments.normal_logits import expected_softmax
from credo.treatments.one_pass import features
from credo.treatments.points import size, train
from credo.treatments.treatment import Budget, Trained

FULL, FULL_LAST = 2000, 6000  # weights


class Block(NamedTuple):
    """The curvature of some layers in its eigenvectors.

    values: eigenvalues of the GGN at unit noise: (P,), or (O, I) for Kronecker factors. vectors: (P, P), or those of
    the outputs and of the inputs, (O, O) and (I, I). layers: which ones, by number. square: |theta*|^2.
    """

    values: torch.Tensor
    vectors: tuple[torch.Tensor, ...]
    layers: tuple[int, ...]
    square: torch.Tensor


class Posterior(NamedTuple):
    """q(theta) of some layers of a network. precisions: delta of each block. noise: sigma in sds of y, 1 for classes.

    log_evidence: Laplace's estimate of log p(D), in nats, of standardised y.
    """

    layers: list[Layer]
    blocks: list[Block]
    precisions: list[float]
    noise: float
    log_evidence: float


def laplace(net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget) -> Trained:
    """The network trained as points (weight decay 1/N: a standard normal prior), and Laplace over all its weights.

    x: shape (N, ...). y: shape (N,), classes as integers, or numbers as floating point for a network of one output.
    """
    return _laplace(net, x, y, budget, last=False)


def laplace_last(net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget) -> Trained:
    """The same with Laplace over the weights of the last layer, the others points."""
    return _laplace(net, x, y, budget, last=True)


def _laplace(net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget, last: bool) -> Trained:
    device = choose_device(budget.device)
    learnt = {name for name, w in net.named_parameters() if w.requires_grad}
    likely, net, beside = train(net, x, y, budget, weight_decay=1 / len(x))
    for name, w in net.named_parameters():  # what the caller froze stays a point
        w.requires_grad_(name in learnt)
    found = posterior(net, likely, x.to(device), y.to(device), last=last)

    def predict(x: torch.Tensor, draws: int) -> torch.Tensor:
        return predicted(net, likely, found, x.to(device))[None]

    left = others(net, found.layers)
    which = "the last layer" if last else "all weights" if not left else f"all weights but {', '.join(left[:4])}"
    kind = "full GGN" if len(found.blocks[0].vectors) == 1 else "Kronecker factors"
    sds = ", ".join(f"{p**-0.5:.2g}" for p in found.precisions)
    kept = sum(b.values.numel() + sum(v.numel() for v in b.vectors) for b in found.blocks)
    words = f"Laplace on {which}, {kind}, prior sd {sds}, log evidence {found.log_evidence:,.0f} nats"
    return Trained(predict, size(net, beside) + kept, words)


def posterior(net: nn.Module, likely: Likelihood, x: torch.Tensor, y: torch.Tensor, *, last: bool = False) -> Posterior:
    """q(theta) at the weights of the network, which should be a mode, with the best prior precisions and noise.

    last: only of the last linear layer. Raises ValueError for a network without known layers, with weights that are
    used more than once, or with two outputs for numbers; with `last` for one that does not end in such a
    layer, or whose last one is frozen.
    """
    layers = layers_of(net)
    if last:
        layers = [layer for layer in layers if layer.module is last_linear(net)[1]]
    if not layers:
        raise ValueError(f"net: got {type(net).__name__} without nn.Linear or nn.Conv2d to be uncertain of, or frozen")
    if not likely.classes and not likely.noise:
        raise ValueError("net: got two outputs for numbers, wanted one: with the noise as an output use another guide")
    seen = likely.inputs(x)
    if last:
        features(net, seen[:2])  # refuses a net that ends in something else
    refuse_other_uses(net, layers, seen[:8])
    with torch.no_grad():
        f = torch.cat([net(part).reshape(len(part), -1) for part in seen.split(1024)]).double()
    matrices = [layer.matrix.double() for layer in layers]
    total = sum(matrix.numel() for matrix in matrices)
    if total <= (FULL_LAST if last else FULL):
        values, vectors = torch.linalg.eigh(ggn(net, layers, seen, likely.classes))
        square = sum((m.square().sum() for m in matrices), f.new_zeros(()))
        blocks = [Block(values.clamp(min=0), (vectors,), tuple(range(len(layers))), square)]
    else:
        blocks = []
        for i, (A, G) in enumerate(kfac(net, layers, seen, likely.classes)):
            (of_a, U), (of_g, V) = torch.linalg.eigh(A), torch.linalg.eigh(G)
            values = of_g.clamp(min=0)[:, None] * of_a.clamp(min=0)
            blocks.append(Block(values, (V, U), (i,), matrices[i].square().sum()))
    if likely.classes:
        log_likelihood = -functional.cross_entropy(f, y, reduction="sum")
        misfit = None
    else:
        misfit = ((y.double() - likely.of_y[0]) / likely.of_y[1] - f[:, 0]).square().sum()
        log_likelihood = f.new_zeros(())

    def evidence(logs: torch.Tensor) -> torch.Tensor:
        found, noise = log_likelihood, logs.new_zeros(())
        if misfit is not None:
            noise = logs[-1]
            found = -len(x) * (0.5 * math.log(2 * math.pi) + noise) - 0.5 * misfit * (-2 * noise).exp()
        for block, log in zip(blocks, logs, strict=False):
            ratio = block.values * (-2 * noise - log).exp()
            found = found - 0.5 * log.exp() * block.square - 0.5 * ratio.log1p().sum()
        return found

    start = [0.0] * len(blocks) + ([] if misfit is None else [0.5 * math.log(float(misfit) / len(x) + 1e-12)])
    logs, value = best(evidence, f.new_tensor(start))
    precisions = logs[: len(blocks)].exp().tolist()
    return Posterior(layers, blocks, precisions, 1.0 if misfit is None else float(logs[-1].exp()), value)


def covariance(found: Posterior, parts: list[Part]) -> torch.Tensor:
    """The covariance of the outputs of the linearised network, J S J', shape (N, C, C). parts: of `curvature.parts`."""
    total: Any = 0.0
    for block, precision in zip(found.blocks, found.precisions, strict=True):
        variance = 1 / (block.values / found.noise**2 + precision)
        mine = [parts[i] for i in block.layers]
        if len(block.vectors) == 1:
            sizes = [part.g.shape[-1] * part.a.shape[-1] for part in mine]
            pieces = block.vectors[0].to(mine[0].a).split(sizes)
            J: Any = sum(part.along(vectors) for part, vectors in zip(mine, pieces, strict=True))
            total = total + (J * variance.to(J)) @ J.mT
            continue
        a, g = mine[0].a @ block.vectors[1].to(mine[0].a), mine[0].g @ block.vectors[0].to(mine[0].g)
        if mine[0].of_one_place:  # of one place the Jacobian is an outer product, and need not be made
            weight = a[:, 0].square() @ variance.to(a).mT  # (N, O)
            total = total + torch.einsum("nco,no,ndo->ncd", g[:, :, 0], weight, g[:, :, 0])
        else:
            J = torch.einsum("ncto,nti->ncoi", g, a)
            total = total + torch.einsum("ncoi,oi,ndoi->ncd", J, variance.to(J), J)
    return total


def predicted(net: nn.Module, likely: Likelihood, found: Posterior, x: torch.Tensor) -> torch.Tensor:
    """Probabilities, shape (N, C), or mean and sd of y in its units, shape (N, 2), in one pass."""
    pieces = []
    for _, f, parts in batches(net, found.layers, likely.inputs(x)):
        spread = covariance(found, parts)
        if likely.classes:
            pieces.append(expected_softmax(f, spread))
        else:
            sd = (spread[:, 0, 0] + found.noise**2).sqrt()
            pieces.append(torch.stack([likely.of_y[0] + likely.of_y[1] * f[:, 0], likely.of_y[1] * sd], -1))
    return torch.cat(pieces)

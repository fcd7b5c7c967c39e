"""Residual network of unknown depth: the number of layers is a latent variable.

    z   ~ p(z) ∝ exp(-rate z),   z = 0..L        geometric: prefers few layers
    H_l = [l <= z] F_l(H_{l-1}) + H_{l-1},   l = 1..L,   H_0 = stem(x)
    y_n ~ Categorical(softmax(head(H_L))),   n = 1..N

The network has one z, or each input has its own. The layers above z pass H_z on unchanged, so one forward pass gives
the logits of every depth, and z can be summed over exactly. With fixed weights, by Bayes' rule

    p(z | y)  ∝ p(z) prod_n p(y_n | x_n, z)          (with one z for each input: without the product)

Sources: Huang et al. 2016 (stochastic depth); Antorán, Allingham and Hernández-Lobato 2020 (arXiv:2006.08437, eq. 4,
depth as a latent, one pass for all depths).

Data: handwritten digits of 8 by 8 pixels, which ship with scikit-learn; six blocks of two layers of 24 units.
The weights are point estimates; only the depth has a posterior, so the network is as sure about noise as a plain one.
"""

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from torch import nn

from ._digits import digits, labelled
from ._nets import categorical, taking
from ._posterior import Posterior

RATE = 1.0  # nats by which each further block is less probable under the prior
BLOCKS, WIDTH = 6, 24


def model(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor | None = None,
    *,
    rate: float = RATE,
    chooser: nn.Module | None = None,
) -> torch.Tensor:
    """net: a module with the parts `stem`, `blocks`, `head`. x: shape (N, ...). y: (N,), or None to predict.

    net is an nn.ModuleDict, or a class of one's own with these attributes; blocks is a list. Its forward is not used.
    chooser: None gives the whole network one depth; a network from x to (N, L + 1) logits gives each input its own.
        The guide uses it; pass it to both with functools.partial. Returns probabilities, (N, C).
    The weights are points, trained with the guide. A prediction of one draw runs only the blocks that it needs.
    """
    _check(net)
    pyro.module("net", net)
    prior = dist.Categorical(logits=_prior(net, x, rate))
    rows = pyro.plate("N", len(x))
    if chooser is None:
        z = pyro.sample("z", prior).expand(len(x))
    else:
        with rows:
            z = pyro.sample("z", prior)
    deepest = len(_blocks(net)) if y is not None else int(z.max())
    logits = every_depth(net, x, deepest)[z, torch.arange(len(x), device=x.device)]
    return categorical(logits, x, y, rows)


def every_depth(net: nn.Module, x: torch.Tensor, deepest: int | None = None) -> torch.Tensor:
    """Logits after 0, 1, ..., `deepest` blocks (None: all), shape (deepest + 1, N, C), in one forward pass.

    Raises ValueError for rows of a shape that the net does not take.
    """
    with taking(x, "net", module=_part(net, "stem")):
        head = _part(net, "head")
        h = _part(net, "stem")(x)
        logits = [head(h)]
        for block in _blocks(net)[:deepest]:
            h = block(h) + h
            logits.append(head(h))
    if logits[0].dim() != 2 or len(logits[0]) != len(x):
        raise ValueError(
            f"net: its head gives shape {tuple(logits[0].shape)} for x of shape {tuple(x.shape)}, wanted ({len(x)}, C) "
            f"for C classes"
        )
    return torch.stack(logits)


def posterior(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    rate: float = RATE,
    chooser: nn.Module | None = None,
) -> Posterior:
    """p(z | y) at the current weights, by Bayes' rule in double precision. See the formula at the top of this file."""
    _check(net)
    with torch.no_grad():
        rows = torch.arange(len(x), device=x.device)
        log_lik = every_depth(net, x).double().log_softmax(-1)[:, rows, y.long()]  # (L + 1, N)
        joint = _prior(net, x, rate).double().log_softmax(0)[:, None] + log_lik  # one z for each input
        if chooser is None:
            joint = joint[:, 0] + log_lik[:, 1:].sum(1)

    def predictive(new: torch.Tensor) -> dist.TorchDistribution:
        if chooser is not None:
            raise ValueError("the depth of a new input has no posterior: its label is not known")
        with torch.no_grad():
            return dist.Categorical(
                torch.einsum("l,lnc->nc", joint.softmax(0), every_depth(net, new).double().softmax(-1))
            )

    return Posterior({"z": dist.Categorical(logits=joint.movedim(0, -1))}, joint.logsumexp(0).sum().item(), predictive)


def data(table: pd.DataFrame | None = None) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y): the training digits, x (1437, 64), or a table with the classes in column `y`."""
    x, y, classes = labelled(table)
    return residual(x.shape[1], classes), x, y


def held_out(net: nn.Module, *_: torch.Tensor) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y) for the 360 held-out digits."""
    return net, *digits()[2:]


def residual(inputs: int, classes: int, width: int = WIDTH, blocks: int = BLOCKS) -> nn.ModuleDict:
    """A fully connected residual network with the same starting weights every time (seed 0)."""

    def block() -> nn.Module:
        return nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        parts = {"stem": nn.Linear(inputs, width), "head": nn.Linear(width, classes)}
        return nn.ModuleDict({**parts, "blocks": nn.ModuleList(block() for _ in range(blocks))})


def _part(net: nn.Module, name: str) -> nn.Module:
    """The part of this name: torch finds those of a ModuleDict as attributes too."""
    part: nn.Module = getattr(net, name)
    return part


def _blocks(net: nn.Module) -> list[nn.Module]:
    return list(_part(net, "blocks").children())


def _prior(net: nn.Module, x: torch.Tensor, rate: float) -> torch.Tensor:
    dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    return -rate * torch.arange(len(_blocks(net)) + 1, dtype=dtype, device=x.device)


def _check(net: nn.Module) -> None:
    parts = ("stem", "blocks", "head")
    have = dict(net.named_children()) if isinstance(net, nn.Module) else {}
    if missing := [part for part in parts if part not in have]:
        got = f"{type(net).__name__} with {sorted(have)}" if have else type(net).__name__
        raise ValueError(
            f"net: got {got}, wanted a torch.nn.Module with the modules {', '.join(parts)}, as attributes or as "
            f"an nn.ModuleDict; it lacks {', '.join(missing)} (a list of blocks must be an nn.ModuleList)"
        )

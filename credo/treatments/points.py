"""Points: the plain network, its weights trained by Adam on the negative log-likelihood.

w = argmin -1/N Σ_n log p(y_n | x_n, w) + weight decay/2 |w|²
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from credo.inference.runtime.defaults import choose_device
from credo.treatments.likelihood import Likelihood, adam, batches, likelihood, start
from credo.treatments.treatment import Budget, Trained

After = Callable[[int, nn.Module, dict[str, torch.Tensor]], None]


def points(net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget, *, weight_decay: float = 0.0) -> Trained:
    """The network at one value of its weights, from those that it has. One pass predicts.

    x: shape (N, ...). y: shape (N,), classes as integers or numbers as floating point. weight_decay: of Adam, added to
        the gradient of the loss in nats per row.
    """
    likely, trained, beside = train(net, x, y, budget, weight_decay=weight_decay)

    def predict(x: torch.Tensor, draws: int) -> torch.Tensor:
        return predicted(likely, trained, beside, x)[None]

    return Trained(predict, size(trained, beside), f"the plain network, {budget.steps:,} steps of Adam")


def train(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    budget: Budget,
    *,
    weight_decay: float = 0.0,
    after: After | None = None,
) -> tuple[Likelihood, nn.Module, dict[str, torch.Tensor]]:
    """(the likelihood, a trained copy of the network in evaluation mode, the parameters beside it).

    after: after(steps taken, network, parameters beside it), called after every step.
    """
    device = choose_device(budget.device)
    net, x, y = copy.deepcopy(net).to(device), x.to(device), y.to(device)
    likely = likelihood(net, x, y)
    beside = {name: value.requires_grad_() for name, value in start(likely, likely.of_y[0]).items()}
    weights = [w for w in net.parameters() if w.requires_grad]
    if not weights:
        raise ValueError(f"net: got {type(net).__name__} without parameters to train; wanted some that are not frozen")
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": weight_decay},
        {"params": list(beside.values())},
    ]
    optimiser = adam([group for group in groups if group["params"]], budget.lr)
    seen = likely.inputs(x)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):  # for dropout
        torch.manual_seed(budget.seed)
        to_train(net)
        for step, rows in enumerate(batches(len(x), budget.batch_size, budget.steps, budget.seed, device), start=1):
            loss = likely.loss(net(seen[rows]), y[rows], beside)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if after is not None:
                after(step, net, beside)
    refuse_infinite(loss)
    return likely, net.eval().requires_grad_(False), {name: value.detach() for name, value in beside.items()}


def to_train(net: nn.Module) -> None:
    """Training mode, but for batch normalisation in evaluation mode: it keeps its statistics, as in the pairs."""
    kept = [layer for layer in net.modules() if isinstance(layer, _BatchNorm) and not layer.training]
    net.train()
    for layer in kept:
        layer.eval()


def predicted(likely: Likelihood, net: nn.Module, beside: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Probabilities, shape (N, C), or mean and sd, shape (N, 2), of the network in evaluation mode."""
    x = x.to(likely.of_y[0].device)
    with torch.no_grad():
        return likely.predictive(net(likely.inputs(x)), beside)


def size(net: nn.Module, beside: dict[str, torch.Tensor]) -> int:
    """How many numbers a network keeps: its parameters, its buffers, and those beside it."""
    return sum(value.numel() for value in (*net.parameters(), *net.buffers(), *beside.values()))


def refuse_infinite(loss: torch.Tensor) -> None:
    """Raises ValueError unless every loss after the last step is a number."""
    if not bool(loss.isfinite().all()):
        raise ValueError(f"the loss is {float(loss.detach().max())} after the last step; lower the rate `lr`")

"""Networks in a model: any `nn.Module` with latent weights, and the likelihood that classifiers share.

    w_name ~ p(w_name),   y_n ~ Categorical(softmax(net(x_n; w))),   n = 1..N

The network is an argument and keeps its own weights: `functional_call` runs it with the drawn weights.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyro
import pyro.distributions as dist
import torch
from torch import nn
from torch.func import functional_call


def weights_of(net: nn.Module) -> dict[str, torch.Tensor]:
    """The network's parameters by name, one latent site each, except frozen ones (requires_grad=False).

    Raises ValueError for an argument that is not a network or has no such parameters.
    """
    parameters = net.named_parameters() if isinstance(net, nn.Module) else ()
    weights: dict[str, torch.Tensor] = {name: w for name, w in parameters if w.requires_grad}
    if not weights:
        raise ValueError(f"net: got {type(net).__name__}, wanted a torch.nn.Module with parameters that are not frozen")
    return weights


def fan_in(weight: torch.Tensor) -> int:
    """The number of inputs of each unit: the product of all dimensions of a weight except the first; 1 for a bias.

    (A transposed convolution has its inputs first: there the result is a number of outputs.)
    """
    return math.prod(weight.shape[1:]) if weight.dim() > 1 else 1


def is_matrix(weight: torch.Tensor) -> bool:
    """Whether a parameter is the weight of a linear layer or a convolution, not a bias or a scale."""
    return weight.dim() > 1


def outputs(net: nn.Module, weights: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """net(x) with these weights in place of its own. Raises ValueError if the net does not take the shape of x."""
    with taking(x, "net"):
        return functional_call(net, dict(weights), (x,))


@contextmanager
def taking(x: torch.Tensor, net: str, name: str = "x", remedy: str = "resize or flatten the rows") -> Iterator[None]:
    """A context around a call of a network on x; raises ValueError if the network does not take its shape or type."""
    try:
        yield
    except RuntimeError as error:
        message = str(error).splitlines()[0]
        if not x.is_floating_point():
            raise ValueError(f"{name}: got {x.dtype}, wanted floating point; pass {name}.float()") from error
        if "shape" not in message and "size" not in message:
            raise
        raise ValueError(
            f"{name}: got shape {tuple(x.shape)}, which the {net} does not take ({message}); {remedy}, or pass a {net} "
            f"made for it"
        ) from error


def categorical(
    logits: torch.Tensor, x: torch.Tensor, y: torch.Tensor | None, rows: pyro.plate | None = None
) -> torch.Tensor:
    """The categorical likelihood of labels. logits: shape (N, C). y: shape (N,), whole numbers from 0; None predicts.

    rows: the plate `N`, if the model has already made it.
    Sites: `probs` (deterministic), shape (N, C), and `y` in the plate. Returns the probabilities.
    Raises ValueError for logits that are not (N, C) with at least two classes, and for labels of another shape.
    """
    n = len(x)
    if not isinstance(logits, torch.Tensor):
        raise ValueError(f"net: its output is a {type(logits).__name__}, wanted a tensor of shape ({n}, C)")
    if logits.dim() != 2 or len(logits) != n or logits.shape[1] < 2:
        raise ValueError(
            f"net: its output has shape {tuple(logits.shape)} for x of shape {tuple(x.shape)}, wanted ({n}, C) for "
            f"C >= 2 classes"
        )
    if y is not None and tuple(y.shape) != (n,):
        raise ValueError(f"y: got shape {tuple(y.shape)} for {n} rows, wanted ({n},): one label a row")
    probs = pyro.deterministic("probs", logits.softmax(-1))
    with rows if rows is not None else pyro.plate("N", n):
        pyro.sample("y", dist.Categorical(logits=logits), obs=y)
    return probs


def perceptron(inputs: int, outputs: int, hidden: int = 100) -> nn.Module:
    """A network with one hidden layer of ReLUs and the same starting weights every time (seed 0)."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

"""Networks in a model: any `nn.Module` with latent weights, and the likelihood that classifiers share.

    w_name ~ p(w_name),   y_n ~ Categorical(softmax(net(x_n; w))),   n = 1..N

The network is an argument and keeps its own weights: `functional_call` runs it with the drawn weights.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd


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
    """net(x) with these weights in place of its own.

    Raises ValueError if the net does not take the shape of x, and for layers that `refuse_dependence` refuses.
    """
    refuse_dependence(net)
    with taking(x, "net", module=net):
        return functional_call(net, everywhere(net, weights), (x,), tie_weights=False)


def everywhere(net: nn.Module, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights under every name by which modules of the net hold them, each module once.

    For functional_call(..., tie_weights=False). Its own search for tied weights names a module that stands in two
    places twice, and leaves the net with drawn weights in place of its own.
    """
    owner = {id(w): name for name, w in net.named_parameters()}
    found = dict(weights)
    for path, module in net.named_modules():
        for part, w in module._parameters.items():
            if w is not None and (name := owner.get(id(w))) in weights:
                found[f"{path}.{part}" if path else part] = weights[str(name)]
    return found


def refuse_dependence(net: nn.Module) -> None:
    """Raises ValueError for layers under which rows are not independent given the weights, or y not given both.

    Batch normalisation in training mode makes a row depend on the others of its batch; dropout in training mode draws
    noise that is no site, which a prediction, in evaluation mode, has not.
    """
    for name, layer in net.named_modules():
        if isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None):
            raise ValueError(
                f"net: layer {name!r} is {type(layer).__name__}, which makes the density of a row depend on the other "
                f"rows, so no weights have a posterior given independent rows; use LayerNorm or GroupNorm, or keep the "
                f"statistics of a trained net: net.get_submodule({name!r}).eval()"
            )
        if layer.training and _share_left_out(layer) > 0:
            raise ValueError(
                f"net: layer {name!r} is {type(layer).__name__} in training mode with dropout, whose noise is no "
                f"latent of the model and is off in predictions; turn it off, net.get_submodule({name!r}).eval(): the "
                f"pair bnn_dropout has masks of its own, as latents, on a net without such layers"
            )


def _share_left_out(layer: nn.Module) -> float:
    """The rate of the dropout that a layer has in training mode, by itself or between its parts."""
    if isinstance(layer, _DropoutNd):
        return float(layer.p)
    return float(layer.dropout) if isinstance(layer, nn.MultiheadAttention | nn.RNNBase) else 0.0


@contextmanager
def taking(
    x: torch.Tensor, net: str, name: str = "x", remedy: str = "", module: nn.Module | None = None
) -> Iterator[None]:
    """A context around a call of a network on x; raises ValueError if the network does not take its shape or type.

    module: the network, whose first layer may say what shape it takes.
    """
    try:
        yield
    except RuntimeError as error:
        message = str(error).splitlines()[0] if str(error) else ""
        if not x.is_floating_point():
            raise ValueError(f"{name}: got {x.dtype}, wanted floating point; pass {name}.float()") from error
        if not any(word in message.lower() for word in ("shape", "size", "dimension", "channels")):
            raise
        remedy = remedy or (module is not None and reshaping(module, x, name)) or "resize or flatten the rows"
        raise ValueError(
            f"{name}: got shape {tuple(x.shape)}, which the {net} does not take ({message}); {remedy}, or pass a {net} "
            f"made for it"
        ) from error


def reshaping(net: nn.Module, x: torch.Tensor, name: str = "x") -> str:
    """How rows become what the first layer of a network takes, in words: images for a convolution, or flat rows.

    Empty where the first layer is neither linear nor a convolution over images, or no reshaping fits.
    """
    first = next((layer for layer in net.modules() if not list(layer.children()) and list(layer.parameters())), None)
    size = x[:1].numel()  # numbers of a row
    if isinstance(first, nn.Linear):
        if x.dim() == 1 and first.in_features == 1:
            return f"pass {name}[:, None]: rows of one number"
        if x.dim() > 2 and size == first.in_features:
            return f"flatten the images: {name}.flatten(1), or nn.Flatten() as the first layer"
        if x.dim() > 1:
            return f"its first layer takes rows of {first.in_features} numbers, and these have {size}"
    if isinstance(first, nn.Conv2d):
        channels = first.in_channels
        side = math.isqrt(size // channels)
        if x.dim() == 2 and channels * side**2 == size:
            shape = f"{channels}, {side}, {side}"
            return f"a convolution takes images: {name}.reshape(-1, {shape}), or nn.Unflatten(1, ({shape})) first"
        if x.dim() == 3 and channels == 1:
            return f"a convolution takes images with their channels: {name}[:, None], of shape (N, 1, height, width)"
        if x.dim() == 4 and x.shape[1] != channels and x.shape[-1] == channels:
            return f"a convolution takes the channels first: {name}.movedim(-1, 1), of shape (N, {channels}, ...)"
        if x.dim() == 4 and x.shape[1] != channels:
            return f"its first convolution takes images of {channels} channels, and these have {x.shape[1]}"
    return ""


def categorical(
    logits: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor | None,
    rows: pyro.plate | None = None,
    *,
    temperature: float = 1.0,
) -> torch.Tensor:
    """The categorical likelihood of labels. logits: shape (N, C). y: shape (N,), whole numbers from 0; None predicts.

    rows: the plate `N`, if the model has already made it. temperature: T, positive; the labels' density is raised to
    the power 1 / T, so that T < 1 is a cold posterior, which counts each row 1 / T times.
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
    with rows if rows is not None else pyro.plate("N", n), tempered(temperature):
        pyro.sample("y", dist.Categorical(logits=logits), obs=y)
    return probs


@contextmanager
def tempered(temperature: float) -> Iterator[None]:
    """A context in which the densities of observations are raised to the power 1 / temperature; `fit.verdict` says so.

        p_T(w | y) proportional to p(w) p(y | w)^(1 / T)

    At T = 1 it is the posterior and the context does nothing; at another T it is not the posterior. The ELBO then is
    that of the joint density above, whose nats are no log evidence.
    Raises ValueError for a temperature that is not positive. Source: Wenzel et al. 2020 (How Good is the Bayes
    Posterior in Deep Neural Networks Really?, eq. 2), with the prior at temperature 1 (their appendix on tempering).
    """
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not 0 < temperature < math.inf:
        raise ValueError(f"temperature: got {temperature!r}, wanted a positive number; 1 is the posterior")
    if temperature == 1:
        yield
        return
    said: Any = {"temperature": temperature}  # Pyro's type of these settings knows its own keys alone
    with poutine.scale(scale=1 / temperature), poutine.infer_config(config_fn=lambda _: said):
        yield


def perceptron(inputs: int, outputs: int, hidden: int = 100) -> nn.Module:
    """A network with one hidden layer of ReLUs and the same starting weights every time (seed 0)."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

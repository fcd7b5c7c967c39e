"""Inputs of layers that are left out, a mask for each row: what dropout draws while a network learns.

a_n -> W (a_n * keep_n / (1 - rate)),   n = 1..N        for each linear layer and each convolution
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ._nets import is_matrix, weights_of

Rate = float | Sequence[float]


def rates_of(net: nn.Module, rate: Rate) -> dict[str, float]:
    """{weight matrix: the share that is left out}, from one number for all or one for each, in the net's order.

    Raises ValueError for what is no share, at least 0 and below 1, and for another number of shares.
    """
    names = [name for name, w in weights_of(net).items() if is_matrix(w)]
    shares = [*rate] if isinstance(rate, Sequence) and not isinstance(rate, str) else [rate] * len(names)
    for share in shares:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1 or math.isnan(share):
            raise ValueError(f"rate: got {share!r}, wanted a share of inputs to leave out, at least 0 and below 1")
    if len(shares) != len(names):
        raise ValueError(
            f"rate: got {len(shares)} shares, wanted one number, or one for each of the {len(names)} weight matrices "
            f"{names}"
        )
    return dict(zip(names, shares, strict=True))


@contextmanager
def inputs_times(net: nn.Module, factors: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """A context in which the inputs of layers are multiplied, row by row. factors: {weight: shape (N, inputs)}.

    Inputs are the features of a linear layer, or the channels of a convolution (of each group, which share them).
    Layers that share a weight share its masks, as where the weight itself is masked.
    Raises ValueError for a weight that belongs to neither, and in a call with another number of rows.
    """
    with ExitStack() as hooks:
        for name, factor in factors.items():
            for layer in layers_of(net, name):
                if not has_inputs_by_row(layer) or not name.endswith("weight"):
                    raise ValueError(
                        f"{name!r}: a mask for each row multiplies the inputs of a linear layer or a convolution, and "
                        f"this is a weight of {type(layer).__name__}; pass shared=True"
                    )
                handle = layer.register_forward_pre_hook(_times(name, factor))
                hooks.callback(handle.remove)
        yield


def layers_of(net: nn.Module, name: str) -> list[nn.Module]:
    """The layers that have this parameter, more than one where they share it."""
    weight = net.get_parameter(name)
    return [layer for layer in net.modules() if any(weight is w for w in layer._parameters.values())]


def has_inputs_by_row(layer: nn.Module) -> bool:
    """Whether the inputs of a layer can be masked row by row: a linear layer or a convolution."""
    return isinstance(layer, (nn.Linear, _ConvNd)) and not isinstance(layer, _ConvTransposeNd)


def _times(name: str, factor: torch.Tensor) -> Any:
    def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        (x,) = inputs
        if x.dim() < 2 or len(x) != len(factor):
            raise ValueError(
                f"{name!r}: its layer is given {len(x)} rows where the data has {len(factor)}, so that a mask for each "
                f"row does not fit; pass shared=True"
            )
        if isinstance(layer, _ConvNd):
            every = factor.repeat(1, layer.groups)
            return (x * every.reshape(*every.shape, *[1] * (x.dim() - 2)),)
        return (x * factor.reshape(len(factor), *[1] * (x.dim() - 2), -1),)

    return hook


def counted(x: torch.Tensor, once: bool) -> Any:
    """A context for masks of the rows of x. once: their log densities count 1 / N, N the rows that the run saw first.

    N is a constant parameter, `masks.rows`: a batch has fewer rows, and new data others.
    Raises ValueError where the guide counts them in another way: the KL would be neither of one row nor of all.
    """
    if not once:
        if "masks.rows" in pyro.get_param_store():
            raise ValueError("once: got once=True for the guide and once=False for the model: pass once=True to both")
        return nullcontext()
    rows = pyro.param("masks.rows", lambda: torch.tensor(float(len(x)), device=x.device))
    if rows.requires_grad and rows.is_leaf:
        rows.requires_grad_(False)
    return poutine.scale(scale=1 / rows.detach())

"""What flows through a sequence of layers: which units are constant whatever the input, and which are read.

A unit whose weights are all zero, but those on constant units, is a constant: c = b + sum_j w_j c_j, then the
activation of c, and so on. A unit is read if a unit that stays has a weight on it that is not zero. What is neither
read nor an output can go; constants can go too, into the bias of whoever reads them.
"""

import copy
from typing import NamedTuple, TypeGuard

import torch
from torch import nn

ELEMENTWISE = (
    *(nn.ReLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Softplus, nn.ReLU6),
    *(nn.Hardtanh, nn.Hardswish, nn.Identity, nn.Dropout, nn.Dropout2d),
)


class Weighted(NamedTuple):
    """A linear layer or convolution on the way of the data.

    at: its place among the layers. known: float64, shape (inputs,), the values of the inputs that are constant, NaN for
    the others. spread: how many inputs each unit before it became by Flatten. free: whether its inputs are the units of
    the last such layer, which can then be cut. reads: bool, shape (inputs,), the inputs that stay. keeps: bool, shape
    (outputs,), the outputs that stay.
    """

    at: int
    layer: nn.Linear | nn.Conv2d
    known: torch.Tensor
    spread: int
    free: bool
    reads: torch.Tensor
    keeps: torch.Tensor


def flow(layers: list[nn.Module]) -> tuple[list[Weighted], list[int]]:
    """(the linear layers and convolutions with what they read and keep, the places of layers that nothing is known of).

    layers: those of an nn.Sequential in evaluation mode, to which rows come in batches. Units before and after a layer
    of which nothing is known stay.
    """
    found: list[Weighted] = []
    walls: list[int] = []
    known: torch.Tensor | None = None  # of the units at this place; None: they are not those of the last layer
    images = flattened = False  # whether the units are channels; whether they were, before Flatten
    for at, layer in enumerate(layers):
        if is_weighted(layer):
            inputs, free, spread = layer.weight.shape[1], False, 1
            if known is not None and isinstance(layer, nn.Conv2d):
                free = images and len(known) == inputs
            elif known is not None and not images and (flattened or len(known) == inputs):
                free, spread = inputs % len(known) == 0, max(1, inputs // len(known))
            if known is None or not free:
                here = torch.full((inputs,), torch.nan, dtype=torch.float64, device=layer.weight.device)
                spread = 1
            else:
                here = known.repeat_interleave(spread)
            if isinstance(layer, nn.Conv2d) and layer.padding not in (0, (0, 0), "valid"):
                here = _not_at_edges(here)
            every = here.new_ones(0, dtype=torch.bool)
            found.append(Weighted(at, layer, here, spread, free, every, every))
            known, images, flattened = _constants(layer, here), isinstance(layer, nn.Conv2d), False
        elif type(layer) in ELEMENTWISE and not _is_hooked(layer):
            known = None if known is None else _applied(layer, known)
        elif type(layer) is nn.MaxPool2d and not layer.return_indices and images and not _is_hooked(layer):
            pass  # the largest of equal numbers
        elif type(layer) is nn.AvgPool2d and images and not _is_hooked(layer):
            plain = layer.padding in (0, (0, 0)) and not layer.ceil_mode and layer.divisor_override is None
            known = known if known is None or plain else _not_at_edges(known)
        elif type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1) and not _is_hooked(layer):
            images, flattened = False, flattened or images
        else:
            walls.append(at)
            known, images, flattened = None, False, False
    return _read(found), walls


def is_weighted(layer: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Whether it is a linear layer or a convolution that is nothing else besides: no groups, no hooks."""
    if type(layer) is nn.Linear:
        return not _is_hooked(layer)
    return type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding_mode == "zeros" and not _is_hooked(layer)


def taps(layer: nn.Linear | nn.Conv2d) -> torch.Tensor:
    """The weight in double precision, shape (outputs, inputs, places of the kernel); 1 place for a linear layer."""
    return layer.weight.detach().double().reshape(*layer.weight.shape[:2], -1)


def _read(found: list[Weighted]) -> list[Weighted]:
    """The same layers with what each reads and keeps, found from the last to the first."""
    done: list[Weighted] = []
    wanted: torch.Tensor | None = None  # of the outputs of a layer, by the next one; None: all
    for here in reversed(found):
        weight = taps(here.layer)
        keeps = torch.ones_like(weight[:, 0, 0], dtype=torch.bool) if wanted is None else wanted
        reads = weight[keeps].ne(0).any(2).any(0) & here.known.isnan()
        if not reads.any():  # a layer must have an input; that of a constant or of zeros does
            reads = torch.arange(len(reads), device=reads.device) == 0
        wanted = reads.reshape(-1, here.spread).any(1) if here.free else None
        done.append(here._replace(reads=reads, keeps=keeps))
    return done[::-1]


def _constants(layer: nn.Linear | nn.Conv2d, known: torch.Tensor) -> torch.Tensor:
    """The values of the outputs that are constant, NaN for the others."""
    weight = taps(layer)
    varies = (weight.ne(0).any(2) & known.isnan()).any(1)
    value = weight.sum(2) @ known.nan_to_num(0.0)
    if layer.bias is not None:
        value = value + layer.bias.detach().double()
    return value.masked_fill(varies, torch.nan)


def _applied(layer: nn.Module, known: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        value = copy.deepcopy(layer).eval()(known.nan_to_num(0.0))  # of zeros in place of NaN, which some would lose
    return value.masked_fill(known.isnan(), torch.nan)


def _not_at_edges(known: torch.Tensor) -> torch.Tensor:
    """A constant other than 0 is none any more where zeros are padded to it."""
    return torch.where(known == 0, known, torch.nan)


def _is_hooked(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks)

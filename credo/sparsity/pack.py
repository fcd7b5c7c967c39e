"""The layers of a smaller network written as the program of a packed one, or why they cannot be."""

from typing import Any

import torch
from torch import nn

from .layers import Pick, SparseLinear
from .packed import COLUMNS, CONVOLUTION, LINEAR, POOL, RELU, SIGMOID, TANH, Operation, Packed

ACTIVATIONS: dict[type, int] = {nn.ReLU: RELU, nn.Tanh: TANH, nn.Sigmoid: SIGMOID}
NOTHING = (nn.Identity, nn.Dropout, nn.Dropout2d)  # in evaluation mode


def pack(network: nn.Module) -> Packed | str:
    """The network of `cut` as one function; a str says why it cannot be.

    A weight that is zero reads nothing, NaN neither. It takes Linear, sparse linear, Conv2d (stride, dilation 1, zeros
    as padding), MaxPool2d (no padding), Flatten, ReLU, Tanh and Sigmoid, of 32-bit numbers, with at most 65,536 inputs
    of an output, and ends in linear layers.
    """
    program: list[Operation] = []
    rows = [0]
    columns: list[torch.Tensor] = []
    values: list[torch.Tensor] = []
    biases: list[torch.Tensor] = []
    picked: Pick | None = None
    flattens = images = False  # whether x is flattened; whether units are channels of images here
    for layer in network if type(network) is nn.Sequential else [network]:
        why = _refused(layer, images, bool(program) or flattens)
        if why:
            return why
        kind = type(layer)
        if isinstance(layer, Pick):
            picked = layer
        elif isinstance(layer, nn.Flatten):
            flattens, images = flattens or not program, False
        elif kind in ACTIVATIONS:
            program.append(Operation(ACTIVATIONS[kind]))
        elif isinstance(layer, nn.MaxPool2d):
            program.append(Operation(POOL, kernel=_pair(layer.kernel_size), stride=_pair(layer.stride)))
        elif isinstance(layer, nn.Linear | nn.Conv2d | SparseLinear):
            images = isinstance(layer, nn.Conv2d)
            weight = layer.weight.detach().to_dense() if kind is SparseLinear else layer.weight.detach()
            weight, picked = weight if picked is None else _widened(weight, picked), None
            bias_at = -1 if layer.bias is None else sum(len(bias) for bias in biases)
            operation = Operation(LINEAR, weight.shape[1], len(weight), rows_at=len(rows) - 1, bias_at=bias_at)
            if isinstance(layer, nn.Conv2d):
                operation = operation._replace(
                    kind=CONVOLUTION, kernel=_pair(layer.kernel_size), pad=_pair(layer.padding)
                )
            flat = weight.flatten(1)
            if flat.shape[1] > COLUMNS:
                return f"{kind.__name__} has {flat.shape[1]:,} inputs of an output, more than {COLUMNS:,}"
            row, column = flat.nonzero(as_tuple=True)
            rows += (torch.bincount(row, minlength=len(flat)).cumsum(0) + rows[-1]).tolist()
            columns.append(column)
            values.append(flat[row, column])
            biases += [] if layer.bias is None else [layer.bias.detach()]
            program.append(operation)
    if images or not program:
        return "it does not end in linear layers"
    parts = {"values": torch.cat(values).clone(), "rows": torch.tensor(rows, dtype=torch.int32)}
    parts["biases"] = torch.cat(biases).clone() if biases else parts["values"].new_zeros(0)
    return Packed(program, torch.cat(columns), parts, flattens).to(parts["values"].device)


def _refused(layer: nn.Module, images: bool, begun: bool) -> str:
    """Why a layer cannot be packed; empty if it can."""
    kind = type(layer)
    name = kind.__name__
    if layer._forward_hooks or layer._forward_pre_hooks:
        return f"{name} has hooks"
    if kind in (nn.Linear, SparseLinear, nn.Conv2d):
        values: Any = layer.weight
        if values.dtype != torch.float32:
            return f"{name} has weights of {values.dtype}, not torch.float32"
        if images and kind is not nn.Conv2d:
            return f"{name} reads images, without nn.Flatten before it"
        if begun and not images and kind is nn.Conv2d:
            return "Conv2d reads the outputs of a linear layer"
    if kind is nn.Conv2d:
        if layer.stride != (1, 1) or layer.dilation != (1, 1) or layer.groups != 1:
            return "Conv2d has strides, dilation or groups"
        if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
            return f"Conv2d has padding={layer.padding!r}, {layer.padding_mode}"
        return ""
    if kind is nn.MaxPool2d:
        plain = layer.padding in (0, (0, 0)) and layer.dilation in (1, (1, 1))
        if not plain or layer.ceil_mode or layer.return_indices or not images:
            return "MaxPool2d has padding, dilation, ceil_mode or indices, or comes before convolutions"
        return ""
    if kind is nn.Flatten:
        whole = (layer.start_dim, layer.end_dim) == (1, -1) and (images or not begun)
        return "" if whole else "Flatten comes between linear layers, or keeps dimensions"
    if kind in ACTIVATIONS and not begun:
        return f"{name} comes before the first weights"
    known = kind in (nn.Linear, SparseLinear, Pick, *ACTIVATIONS, *NOTHING)
    return "" if known else f"{name} is none of the layers that can be packed"


def _widened(weight: torch.Tensor, picked: Pick) -> torch.Tensor:
    """The weight with zeros for the inputs that are not picked, so that nothing need be picked."""
    wide = weight.new_zeros(len(weight), picked.inputs, *weight.shape[2:])
    wide[:, picked.index.long()] = weight
    return wide


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))

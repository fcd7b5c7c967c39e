"""A network without its idle units: those that no one reads, and those that are constant.

W' = W[keeps][:, reads],     b' = b[keeps] + W[keeps][:, constant] c
"""

import copy
from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import nn

from .flow import Weighted, flow, is_weighted, taps
from .layers import Pick, SparseLinear, sparse_pays


class Layer(NamedTuple):
    """A weight before and after: shapes, numbers that are not zero, bytes with its bias, "dense" or "sparse"."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    kept: int
    bytes_before: int
    bytes_after: int
    layout: str


class Cut(NamedTuple):
    """network: in evaluation mode. layers: {name of a weight: what became of it}. why: what stays whole, and why."""

    network: nn.Module
    layers: dict[str, Layer]
    why: str


def cut(net: nn.Module) -> Cut:
    """The network without what the zeros among its weights make idle; its outputs are the same but for rounding.

    net: stays as it is. See `compress` for the layers that it knows.
    """
    net = copy.deepcopy(net).eval()
    named = _layers(net)
    found, walls = flow([layer for _, layer in named])
    weighted = {here.at: here for here in found}
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    layers: dict[str, Layer] = {}
    last: Weighted | None = None
    for at, (name, layer) in enumerate(named):
        label = _free(name.replace(".", "_") or "layer", parts)
        if at not in weighted:
            parts[label] = layer
            layers |= {f"{name}.{key}".lstrip("."): _whole(w) for key, w in layer.named_parameters() if w.dim() > 1}
            continue
        here = weighted[at]
        there = torch.ones_like(here.reads) if last is None or not here.free else last.keeps
        index = here.reads[there.repeat_interleave(here.spread)].nonzero()[:, 0] if here.free else None
        index = here.reads.nonzero()[:, 0] if index is None else index
        inputs = int(there.sum()) * here.spread if here.free else len(here.reads)
        extra = 0
        if len(index) < inputs:
            pick = Pick(index.int(), inputs, channels=isinstance(layer, nn.Conv2d))
            parts[_free(f"{label}_inputs", parts)], extra = pick, _bytes(pick)
            label = _free(label, parts)
        parts[label] = small = _smaller(here)
        shape = tuple(small.weight.shape)
        layers[f"{name}.weight".lstrip(".")] = Layer(
            tuple(here.layer.weight.shape),
            shape,
            int((here.layer.weight != 0).sum()),
            _bytes(layer),
            _bytes(small) + extra,
            "sparse" if isinstance(small, SparseLinear) else "dense",
        )
        last = here
    network = nn.Sequential(parts).eval().requires_grad_(False) if weighted else net.requires_grad_(False)
    return Cut(network, layers, _why([named[at] for at in walls]))


def _layers(net: nn.Module, name: str = "") -> list[tuple[str, nn.Module]]:
    """(dotted name, layer) in the order in which an nn.Sequential calls them; another network is one layer."""
    if type(net) is not nn.Sequential or net._forward_hooks or net._forward_pre_hooks:
        return [(name, net)]
    inner = [(f"{name}.{key}".lstrip("."), layer) for key, layer in net._modules.items() if layer is not None]
    return [pair for key, layer in inner for pair in _layers(layer, key)]


def _free(label: str, parts: OrderedDict[str, nn.Module]) -> str:
    while label in parts:
        label += "_"
    return label


def _smaller(here: Weighted) -> nn.Linear | nn.Conv2d | SparseLinear:
    """The layer with the inputs that it reads and the outputs that it keeps, constants in its bias."""
    layer, weight = here.layer, here.layer.weight.detach()
    constant = ~here.reads & ~here.known.isnan()
    moved = taps(layer)[here.keeps][:, constant].sum(2) @ here.known[constant]
    bias = None if layer.bias is None else layer.bias.detach()[here.keeps]
    if moved.any():
        bias = (moved if bias is None else moved + bias).to(weight.dtype)
    weight = weight[here.keeps][:, here.reads].contiguous()
    if isinstance(layer, nn.Linear):
        if sparse_pays(weight):
            return SparseLinear(weight, bias)
        small: nn.Linear | nn.Conv2d = nn.Linear(1, 1, bias is not None)
        small.in_features, small.out_features = weight.shape[1], len(weight)
    else:
        small = copy.deepcopy(layer)
        small.in_channels, small.out_channels = weight.shape[1], len(weight)
    small.weight = nn.Parameter(weight)
    small.bias = None if bias is None else nn.Parameter(bias)
    return small


def _whole(weight: torch.Tensor) -> Layer:
    """A weight of a layer that stays whole."""
    size, shape = weight.numel() * weight.element_size(), tuple(weight.shape)
    return Layer(shape, shape, int((weight != 0).sum()), size, size, "dense")


def _bytes(layer: nn.Module) -> int:
    parts = [t for whole in (*layer.parameters(), *layer.buffers()) for t in _parts(whole)]
    return sum(t.numel() * t.element_size() for t in parts)


def _parts(t: torch.Tensor) -> list[torch.Tensor]:
    return [t.values(), t.crow_indices(), t.col_indices()] if t.layout is torch.sparse_csr else [t]


def _why(walls: list[tuple[str, nn.Module]]) -> str:
    """What stays whole, in words. walls: the layers of which nothing is known, with their names."""
    if not walls:
        return ""
    words = ", ".join(f"{name or 'the network'} ({_word(layer)})" for name, layer in walls)
    return f"units before and after these layers stay, since what reads them is not known: {words}"


def _word(layer: nn.Module) -> str:
    if isinstance(layer, nn.Linear | nn.Conv2d) and not is_weighted(layer):
        groups = getattr(layer, "groups", 1)
        return f"{type(layer).__name__} with {groups} groups" if groups > 1 else f"{type(layer).__name__}, changed"
    return type(layer).__name__

"""The factors by which a model multiplies the inputs of a network's layers, as masks of each row do, put into weights.

    W (a * f) = (W f) a         f: one factor for each input, the same in all rows

A mask that all rows share is in the weight that the model runs the network with. A mask of each row is not: a hook of
the layer multiplies its inputs. At the mean of such masks each row has the same factors, and one network has them too.
"""

from functools import partial
from typing import Any

import torch
from pyro import poutine
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ..runtime.state import reading
from .approximation import Approximation
from .sample import Values

SAME = 1e-4  # of a factor, by which two rows may differ


def input_factors(fit: Approximation, net: nn.Module, weights: Values) -> dict[str, torch.Tensor]:
    """{path of a layer: the factor of each of its inputs or channels, shape (inputs,)} where the latents are `weights`.

    Layers without factors, and those whose rows have different ones, are left out. An input that is 0 in all rows has
    the factor of the others where these agree, else 1.
    """
    before: dict[str, torch.Tensor] = {}
    found: dict[str, torch.Tensor | None] = {}
    handles: list[Any] = []
    with reading(fit.state, 0), torch.no_grad():
        for path, layer in net.named_modules():
            if isinstance(layer, (nn.Linear, _ConvNd)) and not isinstance(layer, _ConvTransposeNd):
                handles.append(layer.register_forward_pre_hook(partial(_note, before, path), prepend=True))
                handles.append(layer.register_forward_hook(partial(_compare, before, found, path)))
        try:
            poutine.trace(poutine.condition(fit.model, weights)).get_trace(*fit.data)
        except Exception:  # of a model that does not run at the means of its latents
            return {}
        finally:
            for handle in handles:
                handle.remove()
    return {path: factor for path, factor in found.items() if factor is not None}


def fold(net: nn.Module, factors: dict[str, torch.Tensor]) -> None:
    """Multiplies the weights of these layers by the factors of their inputs, a weight of several layers once."""
    done: set[int] = set()
    for path, factor in factors.items():
        layer = net.get_submodule(path)
        weight: Any = layer.weight
        if id(weight) in done:
            continue
        done.add(id(weight))
        groups = getattr(layer, "groups", 1)
        parts = weight.data.reshape(groups, len(weight) // groups, weight.shape[1], -1)
        weight.data = (parts * factor.to(weight).reshape(groups, 1, -1, 1)).reshape(weight.shape)


def _note(before: dict[str, torch.Tensor], path: str, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    if inputs and isinstance(inputs[0], torch.Tensor):
        before[path] = inputs[0]


def _compare(
    before: dict[str, torch.Tensor],
    found: dict[str, torch.Tensor | None],
    path: str,
    layer: nn.Module,
    inputs: tuple[Any, ...],
    output: Any,
) -> None:
    """Compares the inputs of a layer before and after the hooks of its call."""
    one, two = before.pop(path, None), inputs[0] if inputs else None
    if one is None or two is None or one is two or one.shape != two.shape:
        return
    if isinstance(layer, _ConvNd) and one.dim() > layer.weight.dim() - 1:
        one, two = one.movedim(1, -1), two.movedim(1, -1)
    one, two = one.reshape(-1, one.shape[-1]).double(), two.reshape(-1, two.shape[-1]).double()
    known = one != 0
    ratios = torch.where(known, two / one, 0.0)
    factor = ratios.sum(0) / known.sum(0).clamp(min=1)
    apart = torch.where(known, (ratios - factor).abs() > SAME * factor.abs(), False)
    some = factor[known.any(0)]
    if path in found or apart.any() or not len(some):  # a layer that is called twice has two kinds of inputs
        found[path] = None
        return
    even = bool(some.max() - some.min() <= SAME * some.abs().max())
    found[path] = torch.where(known.any(0), factor, some.mean() if even else torch.ones_like(some.mean()))

"""The signature of a step: what it was recorded for. Another signature needs another recording."""

from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_flatten

from .record import NotCaptured
from .replay import StepInputs

PLAIN = (bool, int, float, complex, str, Enum, torch.dtype, torch.device)


class Signature(NamedTuple):
    """What a graph is captured for. outside: the numbers that the pair reads from outside of itself."""

    plan: tuple
    program: tuple
    outside: tuple
    data: tuple


def signature_of(
    plan: tuple, program: tuple, outside: tuple, live: StepInputs, data: Sequence[Any], modules: Sequence[nn.Module]
) -> Signature:
    """plan, program: whatever else the steps depend on. data: the arguments of the pair, those of `live` and others."""
    parts, structure = tree_flatten(tuple(data))
    ids = [id(part) for part in parts]
    leaves = tuple((id(p), p.shape) for p in live.leaves)
    modes = tuple(module.training for module in modules)
    forms = tuple((ids.index(id(part)), *_form(part)) for part in parts)
    shapes = tuple(t.shape for t in live.each)
    return Signature(plan, (program, leaves, modes, tuple(live.baselines), shapes), outside, (str(structure), forms))


def _form(value: Any) -> tuple:
    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided:
            raise NotCaptured("an argument is a sparse tensor")
        return tuple(value.shape), value.stride(), value.dtype, value.device
    if isinstance(value, nn.Module):
        return "network", id(value)
    if value is None or isinstance(value, PLAIN):
        return type(value), value
    raise NotCaptured(f"an argument is a {type(value).__name__}, which cannot be looked into: pass tensors and numbers")

"""The signature of a step: all that its recording depends on. Another signature needs another recording."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import is_dataclass
from enum import Enum
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from pyro.poutine.runtime import _PYRO_STACK
from torch import nn
from torch.utils._pytree import tree_flatten

from .record import NotCaptured
from .replay import StepInputs

PLAIN = (bool, int, float, complex, str, Enum, torch.dtype, torch.device)  # arguments that are compared by value


class Signature(NamedTuple):
    """What a step is recorded for; equal signatures share a recording."""

    choices: tuple  # of the caller; a recording for new choices drops all recordings for others
    settings: tuple  # other settings of the caller; parameters, training modes, names of baselines, per-step shapes
    outside: tuple  # the numbers that the program reads from outside of itself, see `outside`
    data: tuple  # the structure of the arguments; shapes, strides, types and devices of tensors; other values
    read: tuple = ()  # of a recording: the values that Python read from the data, see `reads`


def signature_of(
    choices: tuple,
    settings: tuple,
    outside: tuple,
    inputs: StepInputs,
    data: Sequence[Any],
    modules: Sequence[nn.Module],
) -> Signature:
    """The signature of a step on these inputs. data: all arguments of the program, tensors or not. Raises NotCaptured.

    choices, settings, outside: see `Signature`. modules: the networks, whose training modes count.
    """
    parts, structure = tree_flatten(tuple(data))
    ids = [id(part) for part in parts]
    leaves = tuple((id(p), p.shape) for p in inputs.leaves)
    modes = tuple(module.training for module in modules)
    forms = tuple((ids.index(id(part)), *_form(part)) for part in parts)
    shapes = tuple(t.shape for t in inputs.per_step)
    return Signature(
        choices, (settings, leaves, modes, tuple(inputs.baselines), shapes), outside, (str(structure), forms)
    )


def surroundings() -> tuple[Any, ...]:
    """What a step depends on beside its own program: torch's default dtype, autocast, Pyro's handlers around it."""
    return torch.get_default_dtype(), torch.is_autocast_enabled("cpu"), *map(id, _PYRO_STACK)


def _form(value: Any) -> tuple:
    """What counts of one argument."""
    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided:
            raise NotCaptured("an argument is a sparse tensor")
        return tuple(value.shape), value.stride(), value.dtype, value.device
    if isinstance(value, nn.Module):
        return "network", id(value)
    if value is None or isinstance(value, PLAIN):
        return type(value), value
    if isinstance(value, range | slice):
        return type(value), str(value)
    if isinstance(value, set | frozenset):
        return type(value), frozenset(map(_form, value))
    if isinstance(value, Namespace | SimpleNamespace) or (is_dataclass(type(value)) and hasattr(value, "__dict__")):
        parts, structure = tree_flatten(vars(value))
        return type(value), str(structure), tuple(map(_form_of_setting, parts))
    raise NotCaptured(f"an argument is a {type(value).__name__}, which cannot be compared: pass tensors and numbers")


def _form_of_setting(value: Any) -> tuple:
    """What counts of a part of an object of settings; of a tensor or network in it no data are taken."""
    if isinstance(value, torch.Tensor | nn.Module):
        raise NotCaptured(f"an argument holds a {type(value).__name__} in an object: pass it as an argument of its own")
    return _form(value)

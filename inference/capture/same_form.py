"""Whether the arguments of a call have the form of those of the call before it: other values of tensors at most.

The first call converts and checks its arguments (`inputs.arguments`). A call of the same form would be converted and
checked in the same way, so that its tensors can be read at once. Whatever is not known to be the same counts as
another form.
"""

import math
from argparse import Namespace
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ..inputs.arguments import UNSIGNED, Arguments

SCALARS = (bool, int, float, str, type(None))  # compared by type and value
ARRAYS = tuple(map(np.dtype, ("float64", "float32", "int64", "int32", "int16", "int8", "bool")))


class Call(NamedTuple):
    """A call of `svi.step(*data, rows=rows, **named)`."""

    data: tuple[Any, ...]
    named: Mapping[str, Any]
    rows: int | None

    @property
    def arguments(self) -> tuple[Any, ...]:
        """All arguments of the model, in the order of the call."""
        return *self.data, *self.named.values()


@dataclass
class KnownTensor:
    """A tensor or NumPy array among the arguments. seen, version: the last one, whose values were finite."""

    given: tuple[Any, ...]  # (shape, stride, dtype, device) as the user passes it
    dtype: torch.dtype  # as the program gets it
    may_have_gaps: bool
    seen: torch.Tensor | np.ndarray
    version: int | None  # None: it may change without a word


@dataclass
class SameForm:
    """The form of a call. other, changed, new: what the last call of `tensors` found."""

    known: list[KnownTensor | Callable[[Any], bool]]  # of each argument, in the order of the call; or: is it the same?
    named: tuple[str, ...]
    rows: int | None
    places: list[int]  # of the tensors among the arguments: the order in which the program gets them
    other: bool = False  # whether one was another tensor than in the call before
    changed: bool = False  # whether one may hold other values
    new: list[tuple[KnownTensor, Any, int | None]] = field(default_factory=list)  # those with their present versions

    def tensors(self, call: Call) -> list[torch.Tensor] | None:
        """The tensors among the arguments as the program gets them, in its order; None for another form.

        They count as seen once `accept` is called: a step that is not taken has seen nothing.
        """
        arguments = call.arguments
        if len(arguments) != len(self.known) or tuple(call.named) != self.named or call.rows != self.rows:
            return None
        found: list[torch.Tensor] = []
        self.new = []
        other = changed = False
        for value, known in zip(arguments, self.known, strict=True):
            if not isinstance(known, KnownTensor):
                if not known(value):
                    return None
                continue
            plain = _as_plain_tensor(value)
            if plain is None or _form_of(plain) != known.given:
                return None
            tensor = plain.to(known.dtype)  # the very tensor if it has this type; else converted anew at each call
            version = value._version if tensor is value else None
            found.append(tensor)
            if value is not known.seen or version is None or version != known.version:
                if not (known.may_have_gaps or _is_finite(tensor)):
                    return None
                self.new.append((known, value, version))
                changed, other = True, other or value is not known.seen
        if other and len(set(map(id, found))) < len(found):  # one tensor twice is another form
            return None
        self.other, self.changed = other, changed
        return [found[i] for i in self.places] if self.named else found

    def accept(self) -> None:
        """Notes the tensors of the last call as seen."""
        for known, value, version in self.new:
            known.seen, known.version = value, version


def same_form(call: Call, given: Arguments, gaps: Collection[str]) -> SameForm | None:
    """The form of this call; None if its arguments hold what cannot be compared at once (tables, lists).

    given: the arguments as they were converted. gaps: the names of those that may hold NaN or infinity.
    """
    named = [given.names.index(name) if name in given.names else -1 for name in call.named]
    places = [*range(len(call.data)), *named]
    if -1 in places or max(places, default=0) >= len(given.values):
        return None
    known: list[KnownTensor | Callable[[Any], bool]] = []
    for place, value in zip(places, call.arguments, strict=True):
        converted = given.values[place]
        if isinstance(value, torch.Tensor | np.ndarray):
            plain = _as_plain_tensor(value)
            if plain is None or not isinstance(converted, torch.Tensor) or plain.dtype in UNSIGNED:
                return None
            may_have_gaps = given.names[place] in gaps or not plain.is_floating_point()
            version = value._version if plain is value and plain.dtype is converted.dtype else None
            known.append(KnownTensor(_form_of(plain), converted.dtype, may_have_gaps, value, version))
        elif (comparison := _comparison(value)) is not None:
            known.append(comparison)
        else:
            return None
    tensors = [place for place, one in zip(places, known, strict=True) if isinstance(one, KnownTensor)]
    everything = [i for i, value in enumerate(given.values) if isinstance(value, torch.Tensor)]
    if not all(isinstance(value, SCALARS) for i, value in enumerate(given.values) if i not in places):  # defaults
        return None
    if sorted(tensors) != everything or len({id(given.values[i]) for i in everything}) < len(everything):
        return None
    return SameForm(known, tuple(call.named), call.rows, [tensors.index(place) for place in everything])


def _as_plain_tensor(value: Any) -> torch.Tensor | None:
    """A dense tensor of real numbers without a gradient, or such a NumPy array as a tensor with its memory; else None.

    torch must count the changes of a tensor, and take the type of an array as it is.
    """
    if type(value) is np.ndarray:
        sound = value.dtype in ARRAYS and value.flags.c_contiguous and value.flags.writeable
        return torch.from_numpy(value) if sound else None
    if type(value) is not torch.Tensor or value.layout is not torch.strided:
        return None
    return None if value.requires_grad or value.is_complex() or value.is_inference() else value


def _form_of(value: torch.Tensor) -> tuple[Any, ...]:
    return value.shape, value.stride(), value.dtype, value.device


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether all numbers are finite; a sum that overflows counts as not finite."""
    return math.isfinite(tensor.sum())


def _comparison(value: Any) -> Callable[[Any], bool] | None:
    """A function that says whether an argument is the same as this one; None if that takes more than a few reads."""
    if isinstance(value, SCALARS):
        return lambda new: new is value or (type(new) is type(value) and new == value)
    if isinstance(value, nn.Module | torch.dtype | torch.device):
        return lambda new: new is value
    if type(value) in (Namespace, SimpleNamespace) and all(isinstance(v, SCALARS) for v in vars(value).values()):
        before = dict(vars(value))
        return lambda new: new is value and _same_entries(vars(new), before)
    return None


def _same_entries(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return len(now) == len(before) and all(name in now and now[name] is old for name, old in before.items())

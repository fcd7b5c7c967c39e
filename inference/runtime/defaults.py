"""torch's default dtype and device, set for a while, so that programs which name none run in those of a run.

A model that says `dist.Normal(0.0, 5.0)` or `torch.zeros(2)`, or that closes over a tensor, then runs on a GPU as it
is: new tensors are made there, constants made elsewhere are moved.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch.distributions import dirichlet
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from ..distributions.dirichlet import InDouble
from ..distributions.unwrap import kind
from .replaced import attribute_replaced

CPU = torch.device("cpu")
OF_DTYPES = re.compile("dtype|scalar type|type of input|double|float", re.IGNORECASE)
MOST = 1000  # copies of constants that are kept
Moved = dict[int, tuple[torch.Tensor, int, torch.Tensor]]  # id: (a tensor on the CPU, its version, its copy elsewhere)


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device to run on; for None it is the accelerator (CUDA) if there is one, else the CPU.

    Raises ValueError for a device that this machine does not have.
    """
    if device is None:
        return accelerator() or CPU
    try:
        torch.zeros((), device=device).item()  # a meta tensor holds no number
    except (RuntimeError, AssertionError, TypeError, ValueError, OverflowError, NotImplementedError) as error:
        raise ValueError(f"device: {device!r} cannot be used here ({str(error).splitlines()[0]}); try 'cpu'") from None
    return torch.device(device)


def accelerator() -> torch.device | None:
    """This machine's accelerator, as torch calls it, if it computes in double precision (Apple's does not)."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return None if found is None or found.type == "mps" else found


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Sets torch's default dtype inside and puts back the one before, also after an error."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class Widened(Messenger):
    """Flips that are observed in torch's default dtype, where a program made them in a narrower one, `(y > 0).float()`.

    torch gives the density of a Bernoulli the precision of its value, whatever that of its logits: in single precision
    it is a staircase for a search in double precision, and `vmap`, which rounds otherwise, seems to disagree.
    """

    def _pyro_sample(self, msg: Any) -> None:
        value, dtype = msg["value"], torch.get_default_dtype()
        if msg["is_observed"] and isinstance(value, torch.Tensor) and value.is_floating_point():
            if torch.finfo(value.dtype).eps > torch.finfo(dtype).eps and kind(msg["fn"]) == "Bernoulli":
                msg["value"] = value.to(dtype)


def of_dtypes(error: BaseException) -> bool:
    """Whether an error is torch's word that an operation mixes dtypes, or does not take one."""
    return OF_DTYPES.search(str(error)) is not None


@contextmanager
def default_device(device: torch.device, moved: Moved) -> Iterator[None]:
    """Tensors that name no device are made on this one inside; Betas and Dirichlets draw in double precision.

    On the CPU operations are not looked at, since that costs time. moved: where the copies of constants are kept, so
    that each is copied once in a run.
    """
    with attribute_replaced(dirichlet, "_Dirichlet", InDouble):
        if device.type == "cpu":
            yield
            return
        with device, _Moving(device, moved):
            yield


@contextmanager
def on_cpu(device: torch.device) -> Iterator[None]:
    """Inside `default_device` of this device, tensors are made on the CPU again, as optimisers make their counters."""
    if device.type == "cpu":
        yield
        return
    with CPU:
        yield


class _Moving(TorchFunctionMode):
    """Moves tensors of the CPU to the device where an operation mixes the two; torch itself allows it of scalars."""

    def __init__(self, device: torch.device, moved: Moved) -> None:
        super().__init__()
        self.device, self.moved = device, moved

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        mixed = any(map(self._is_constant, tensors)) and any(t.device.type == self.device.type for t in tensors)
        if mixed and not _writes(func):
            args, kwargs = tree_map(self._there, (args, kwargs))
        return func(*args, **kwargs)

    @staticmethod
    def _is_constant(thing: Any) -> bool:
        return isinstance(thing, torch.Tensor) and thing.device.type == "cpu" and thing.dim() > 0

    def _there(self, thing: Any) -> Any:
        if not self._is_constant(thing):
            return thing
        known = self.moved.get(id(thing))
        if known is None or known[0] is not thing or known[1] != thing._version:
            if len(self.moved) >= MOST:  # a program that makes a new one in each step; a recording keeps its own
                self.moved.clear()
            known = self.moved[id(thing)] = (thing, thing._version, thing.to(self.device))
        return known[2]


def _writes(func: Any) -> bool:
    """Whether an operation changes a tensor in place: a write into a moved copy would be lost."""
    name = getattr(func, "__name__", "")
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))

"""A model in double precision, whatever tensors it was written with.

Tensors that the model creates are double by torch's default dtype. Tensors that it holds or requests in single
precision (a constant of a module, `.float()`) are converted on their way into and out of torch's functions, if any
exist.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from ..distributions.finite import values_of
from ..preflight.support import refuse_unscored
from ..runtime.defaults import default_dtype
from ..runtime.escapes import ESCAPES
from ..runtime.generators import noise
from ..runtime.sites import observed
from .log_joint import scored, without_wishart_warning
from .no_closed_form import NoClosedForm

TO_NARROW = {"float", "half", "bfloat16"}


@contextmanager
def in_double(narrow: bool = False) -> Iterator[None]:
    """New tensors are in double precision. narrow: inputs and outputs of torch's functions are converted as well."""
    with default_dtype(torch.float64), _Wide() if narrow else nullcontext():
        yield


def is_narrow(model: Callable[..., Any], data: tuple[Any, ...]) -> bool:
    """Whether the model uses tensors of less than double precision although torch's default dtype is double.

    Raises NoClosedForm for a model whose Python code reads the value of a continuous latent, for instance in a branch.
    """
    watch = _Watch()
    try:
        with noise(0), torch.no_grad(), without_wishart_warning(), watch:
            with _Marking(watch):
                trace = poutine.trace(model).get_trace(*data)
            watch.known.clear()  # reads by a distribution's own code are no branch of the model
            for name, site in observed(trace).items():
                refuse_unscored(name, site)
            scored(trace)
    except NotImplementedError as error:
        first_line = (str(error) or "it has no draws").splitlines()[0]
        raise NoClosedForm(f"the model cannot be drawn from its prior, which may be improper: {first_line}") from error
    except RuntimeError as error:
        if "dtype" not in str(error):
            raise
        watch.narrow = True
    if watch.escaped:
        name = sorted(watch.escaped)[0]
        raise NoClosedForm(
            f"site {name!r}: the model reads its value from Python (an if, an assert, .item(), float()), so its "
            f"density may be another function for other values; use tensor operations only, e.g. torch.where"
        )
    return watch.narrow


class _Watch(TorchFunctionMode):
    """Detects tensors of less than double precision, and values of latents that escape into Python."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = False
        self.escaped: set[str] = set()
        self.known: dict[int, tuple[torch.Tensor, frozenset[str]]] = {}  # keeps the tensor, so that its id stays unique

    def mark(self, value: torch.Tensor, names: frozenset[str]) -> None:
        self.known[id(value)] = value, names

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.narrow |= any(_narrow(t) for t in (*inputs, *outputs))
        names = frozenset().union(*(self.known[id(t)][1] for t in inputs if id(t) in self.known))
        if names:
            if getattr(func, "__name__", "") in ESCAPES:
                self.escaped |= names
            for t in outputs:
                self.mark(t, names)
        return out


class _Marking(Messenger):
    """Marks the draws of continuous latents for a _Watch."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and isinstance(msg["value"], torch.Tensor) and msg["value"].is_floating_point():
            if not values_of(msg["fn"]):
                self.watch.mark(msg["value"], frozenset([msg["name"]]))


class _Wide(TorchFunctionMode):
    """Every function takes and returns double precision; in-place operations keep the dtype of their tensor."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "__setitem__" or (name.endswith("_") and not name.endswith("__")):
            return func(*args, **(kwargs or {}))
        if name in TO_NARROW:
            return args[0].double()
        args, kwargs = tree_map(_widened, (args, kwargs or {}))
        return tree_map(_widened, func(*args, **kwargs))


def _narrow(t: torch.Tensor) -> bool:
    return t.is_floating_point() and t.dtype != torch.float64


def _widened(thing: Any) -> Any:
    if isinstance(thing, torch.dtype):
        return torch.float64 if thing.is_floating_point else thing
    return thing.double() if isinstance(thing, torch.Tensor) and _narrow(thing) else thing

"""A model in double precision, whatever tensors it was written with; and whether its code looks at its latents.

Tensors that the model makes are double by torch's default. Those that it holds or asks for in single precision (a
constant of a module, `.float()`) are widened on their way into and out of torch's functions, where there are any.
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
from ..runtime.generators import noise
from ..runtime.precision import default_dtype
from ..runtime.sites import observed
from .log_joint import scored, unsaid
from .no_closed_form import NoClosedForm

Program = Callable[..., Any]


TO_NARROW = {"float", "half", "bfloat16"}


INTO_PYTHON = {"__bool__", "item", "__int__", "__float__", "__index__", "tolist", "numpy", "__array__"}


@contextmanager
def in_double(narrow: bool = False) -> Iterator[None]:
    """Tensors that are made inside are in double precision; narrow: and so are all that go through a function."""
    with default_dtype(torch.float64), _Wide() if narrow else nullcontext():
        yield


def is_narrow(model: Program, data: tuple[Any, ...]) -> bool:
    """Whether the model, run and scored in double precision, still meets tensors of less.

    Raises NoClosedForm for a model whose code branches on the value of a continuous latent.
    """
    watch = _Watch()
    try:
        with noise(0), torch.no_grad(), unsaid(), watch:
            with _Marking(watch):
                trace = poutine.trace(model).get_trace(*data)
            watch.known.clear()  # what a distribution asks of a value when it is scored is no branch of the model
            for name, site in observed(trace).items():
                refuse_unscored(name, site)
            scored(trace)
    except NotImplementedError as error:
        raise NoClosedForm(
            f"the model cannot be drawn from its prior, which may be improper: {str(error).splitlines()[0]}"
        ) from error
    except RuntimeError as error:
        if "dtype" not in str(error):
            raise
        watch.narrow = True
    if watch.escaped:
        name = sorted(watch.escaped)[0]
        raise NoClosedForm(
            f"site {name!r}: the model's code looks at its value from Python (an if, an assert, .item(), float()), so "
            f"its density may be another function elsewhere; write it with tensors alone, e.g. torch.where"
        )
    return watch.narrow


class _Watch(TorchFunctionMode):
    """Sees tensors of less than double precision, and values of latents that escape into Python."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = False
        self.escaped: set[str] = set()
        self.known: dict[int, tuple[torch.Tensor, frozenset[str]]] = {}  # held, so that no other takes its id

    def mark(self, value: torch.Tensor, names: frozenset[str]) -> None:
        self.known[id(value)] = value, names

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.narrow |= any(_narrow(t) for t in (*inputs, *outputs))
        names = frozenset().union(*(self.known[id(t)][1] for t in inputs if id(t) in self.known))
        if names:
            if getattr(func, "__name__", "") in INTO_PYTHON:
                self.escaped |= names
            for t in outputs:
                self.mark(t, names)
        return out


class _Marking(Messenger):
    """Tells the watch what is drawn for continuous latents."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and isinstance(msg["value"], torch.Tensor) and msg["value"].is_floating_point():
            if not values_of(msg["fn"]):
                self.watch.mark(msg["value"], frozenset([msg["name"]]))


class _Wide(TorchFunctionMode):
    """Every function takes and returns double precision; what writes into a tensor writes into that tensor."""

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

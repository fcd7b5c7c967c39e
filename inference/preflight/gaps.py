"""Refuses values that are NaN or infinite, unless the pair leaves them out of its density itself.

Missing values are fine where the pair never decides by them, and its density and gradient are finite all the same.
Elsewhere they would become the answer in silence (NaN > 0 is False).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from torch.overrides import TorchFunctionMode

from ..pair.costs import run
from ..pair.pair import Pair
from ..runtime.generators import noise
from ..runtime.parameters import unconstrained

# What makes a number or a truth value of NaN: the answer is some value, and not the right one.
DECIDES = {"lt", "le", "gt", "ge", "eq", "ne", "less", "greater", "sort", "argsort", "argmax", "argmin", "topk"}
DECIDES |= {"searchsorted", "bucketize", "histc", "unique", "sign", "long", "int", "short", "bool", "bincount"}

_BUILT = re.compile(
    r"builds an? (?P<kind>\w+) whose (?P<argument>\w+) is .*?, wanted .*?(?P<place>, at \S+:\d+(: `.*`)?)?;"
)


@contextmanager
def naming_gaps(gaps: Mapping[str, str]) -> Iterator[None]:
    """Errors inside become the refusal of the first argument with values that are not finite, if there is one."""
    try:
        yield
    except ValueError as error:
        if not gaps:
            raise
        words = str(error).splitlines()[0]
        if built := _BUILT.search(words):  # the remedies for a parameter of a distribution are none here
            words = f"it builds a {built['kind']} whose {built['argument']} is not finite{built['place'] or ''}"
        raise _refusal(gaps, f"the model cannot use them: {words}") from error


def refuse_gaps(pair: Pair, gaps: Mapping[str, str]) -> None:
    """Raises ValueError for values that are not finite, unless the pair leaves them out of its density itself.

    gaps: {argument: the message that refuses it}. The parameters of the pair exist.
    """
    watch = _Decisions()
    with noise(0), pyro.validation_enabled(False):
        with watch, torch.no_grad():
            guide = poutine.trace(pair.guide).get_trace(*pair.data)
            poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*pair.data)
        if watch.found is not None:
            raise _refusal(gaps, f"the program decides by them ({watch.found} of NaN)")
        draws = {name: z.detach() for name, z in run(pair).z.items()}
        held = {name: z.requires_grad_() for name, z in draws.items() if z.is_floating_point()}
        total = torch.stack([cost.sum().double() for cost in run(pair, draws).costs.values()]).sum()
    if not torch.isfinite(total):
        raise _refusal(gaps, "the log density is not finite")
    leaves = [*held.values(), *unconstrained().values()]
    slopes = torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else ()
    if not all(torch.isfinite(slope).all() for slope in slopes if slope is not None):
        raise _refusal(gaps, "the gradient of the log density is not finite; fill them before they are scored")


def _refusal(gaps: Mapping[str, str], reason: str) -> ValueError:
    (name, message), *_ = gaps.items()
    return ValueError(
        f"{message}, or pass {name}.nan_to_num() and the mask {name}.isfinite() as two arguments of the model "
        f"({reason})"
    )


class _Decisions(TorchFunctionMode):
    """Notes the first function that makes a number or a truth value of NaN. found: its name."""

    found: str | None = None

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "").strip("_")
        if self.found is None and name in DECIDES and any(_has_nan(v) for v in args):
            if len(args) < 2 or args[0] is not args[1]:  # x != x asks for NaN
                self.found = name
        return function(*args, **(kwargs or {}))


def _has_nan(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and bool(torch.isnan(value).any())

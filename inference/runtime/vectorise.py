"""A stochastic program run n times: all at once under `vmap` where it can be, one after another where it cannot.

`vmap` batches whatever the program does, without asking its code for a plate (`z.sum(-1)` stays right). Programs that
look at values from Python, or sample what has no batching rule, run in a loop with the same distribution.
"""

import operator
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_structure

from ..distributions.simplex import draw_on_simplex, is_on_simplex
from .antithetic import antithetic

R = TypeVar("R")
T = TypeVar("T")
_ELEMENTS = 2**24  # of all outputs of a chunk, and of the largest tensor on the way: bounds the memory


def repeat(program: Callable[[], T], n: int, vectorised: bool, antithetic: bool = False) -> T:
    """n runs of `program`; each tensor it returns gains a leading dimension of length n.

    antithetic: runs in pairs that share their normal noise but for its sign (see `mirror`), where they are vectorised.
    """
    if vectorised and n > 1:

        def one(run: torch.Tensor) -> T:
            with _SampleBatched(run if antithetic else None):
                return program()

        return torch.vmap(one, randomness="different")(torch.zeros(n))
    return _stack([program() for _ in range(n)])


def each(program: Callable[[R], T], runs: R, vectorised: bool) -> T:
    """`program` applied to each run of a `repeat`: to the slices of its tensors along their first dimension."""
    if vectorised:
        around = (m.paired for m in reversed(_PYRO_STACK) if isinstance(m, _SampleBatched))
        with _SampleBatched(next(around, None)):
            return torch.vmap(program, randomness="different")(runs)
    n = len(tree_leaves(runs)[0])
    return _stack([program(tree_map(operator.itemgetter(i), runs)) for i in range(n)])


def draw(program: Callable[[], T], n: int) -> T:
    """n draws without gradients, in chunks of bounded memory, vectorised if the program allows it."""
    with torch.no_grad():
        if n == 1:
            return _stack([program()])
        chunk = min(n, at_once(program))
        vectorised = chunk > 1 and can_vectorise(program)
        counts = [chunk] * (n // chunk) + ([n % chunk] if n % chunk else [])
        parts = [repeat(program, count, vectorised) for count in counts]
        return parts[0] if len(parts) == 1 else tree_map(lambda *ts: torch.cat(ts), parts[0], *parts[1:])


def at_once(program: Callable[[], Any]) -> int:
    """How many runs without gradients fit into memory at once, by the largest tensor of one run, at least 1."""
    with _Largest() as seen:
        outputs = sum(leaf.numel() for leaf in tree_leaves(program()))
    return max(1, _ELEMENTS // max(seen.numel, outputs, 1))


def can_vectorise(program: Callable[[], Any]) -> bool:
    """Whether `vmap` accepts the program. A slow fallback of torch's (it warns of them) counts as no."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            repeat(program, 2, vectorised=True)
        except Exception:
            return False
    return True


class _SampleBatched(Messenger):
    """Draws each site with noise that `vmap` can batch, where the distribution is torch's or Pyro's own."""

    def __init__(self, paired: torch.Tensor | None) -> None:
        super().__init__()
        self.paired = paired  # of the runs that are to have antithetic noise, see `mirrored`

    def _pyro_sample(self, msg: Any) -> None:
        if msg["done"] or msg["is_observed"] or msg["value"] is not None:
            return
        if type(msg["fn"]).__module__.split(".")[0] in ("torch", "pyro"):
            if is_on_simplex(msg["fn"]):
                msg["value"] = draw_on_simplex(msg["fn"])
                return
            with _NewNoise(self.paired if getattr(msg["fn"], "has_rsample", False) else None):
                msg["value"] = msg["fn"](*msg["args"], **msg["kwargs"])


class _Largest(TorchDispatchMode):
    """Watches a program for the largest tensor that it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.numel = max(self.numel, leaf.numel())
        return out


class _NewNoise(TorchFunctionMode):
    """In-place calls of torch's samplers that `vmap` refuses, in a form it takes: they use what the calls return."""

    def __init__(self, paired: torch.Tensor | None) -> None:
        super().__init__()
        self.paired = paired

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.normal_:
            noise = torch.randn_like(args[0])
            return noise if self.paired is None else antithetic(noise, self.paired)
        if func is torch.Tensor.exponential_:
            return -torch.log1p(-torch.rand_like(args[0]))
        if func is torch.Tensor.clamp_:  # Gamma keeps its draws above zero with it; the same in two steps
            return args[0].copy_(torch.clamp(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))


class Differing(ValueError):
    """Two runs of a program do not return the same things: its sites depend on the values that it draws."""


def _stack(runs: list[T]) -> T:
    if any(tree_structure(run) != tree_structure(runs[0]) for run in runs[1:]):
        raise Differing("the program has other sites in one run than in another: they exist for some draws only")
    return tree_map(lambda *ts: torch.stack(ts), runs[0], *runs[1:])

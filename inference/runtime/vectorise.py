"""Runs a stochastic program n times: at once under `vmap` where that works, else one run after another.

`vmap` batches whatever the program does and needs no plate in its code (`z.sum(-1)` stays right). Programs that read
values from Python, or draw from a distribution without a batching rule, run in a loop with the same distribution.
"""

import operator
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
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
TRIES = 5  # pairs of draws, of a program that fails at some
# Of the outputs of a chunk, and of its largest intermediate tensor. It bounds the memory, and the time: the C library
# takes blocks of more than 32 MiB from the kernel anew each time, which costs more than what is computed in them.
_ELEMENTS = 2**22


def repeat(program: Callable[[], T], n: int, vectorised: bool, antithetic: bool = False) -> T:
    """n runs of `program`; each tensor it returns gains a leading dimension of length n.

    antithetic: vectorised runs come in pairs whose normal noise differs in its sign alone (see `antithetic.py`).
    """
    if vectorised and n > 1:

        def one(run: torch.Tensor) -> T:
            with _SampleBatched(run if antithetic else None):
                return program()

        return torch.vmap(one, randomness="different")(torch.zeros(n))
    return _stack([program() for _ in range(n)])


def each(program: Callable[[R], T], runs: R, vectorised: bool) -> T:
    """`program` applied to each run that `repeat` returned: to slices of its tensors along the first dimension."""
    if vectorised:
        around = (m.paired for m in reversed(_PYRO_STACK) if isinstance(m, _SampleBatched))
        with _SampleBatched(next(around, None)):
            return torch.vmap(program, randomness="different")(runs)
    n = len(tree_leaves(runs)[0])
    return _stack([program(tree_map(operator.itemgetter(i), runs)) for i in range(n)])


def draw(program: Callable[[], T], n: int) -> T:
    """n draws of a program without gradients, in chunks of bounded memory, vectorised if the program allows it."""
    with torch.no_grad():
        if n == 1:
            return _stack([program()])
        return draw_each(lambda run: program(), torch.zeros(n))


def draw_each(program: Callable[[R], T], runs: R) -> T:
    """One draw of `program`, as by `draw`, for each slice of the tensors of `runs` along their first dimension.

    Where the memory is too small for a chunk, chunks are halved. Raises MemoryError if a single draw does not fit, or
    not all draws together.
    """
    with refusing_too_many(len(tree_leaves(runs)[0])):
        parts = list(pieces(*ready_to_draw(program, runs), runs))
        return parts[0] if len(parts) == 1 else tree_map(lambda *ts: torch.cat(ts), parts[0], *parts[1:])


def ready_to_draw(program: Callable[[R], T], runs: R, elements: int = _ELEMENTS) -> tuple[Callable[[R], T], int, bool]:
    """(the program as `vmap` takes it, if it does; how many draws at once by numbers of a tensor; whether it does)."""
    with torch.no_grad():
        most = at_once(lambda: program(tree_map(operator.itemgetter(0), runs)), elements)
        chunk = min(len(tree_leaves(runs)[0]), most)
        two = tree_map(operator.itemgetter(slice(2)), runs)
        for form in (program, owning(program)) if chunk > 1 else ():
            if _accepted(partial(each, form, two, vectorised=True)):
                return form, most, True
        return program, most, False


def pieces(program: Callable[[R], T], chunk: int, vectorised: bool, runs: R) -> Iterator[T]:
    """The draws of `draw_each` in pieces of at most `chunk`; half of it where the memory is too small."""
    begun, n = 0, len(tree_leaves(runs)[0])
    while begun < n:
        part = operator.itemgetter(slice(begun, begun + chunk))
        try:
            with torch.no_grad():
                found = each(program, tree_map(part, runs), vectorised)
        except RuntimeError as error:
            if chunk == 1 or not is_out_of_memory(error):
                raise
            chunk = (chunk + 1) // 2
        else:
            begun += chunk
            yield tree_map(torch.Tensor.detach, found)  # an output that no draw moves keeps its gradient


@contextmanager
def refusing_too_many(n: int) -> Iterator[None]:
    """Raises MemoryError with a remedy where n draws do not fit into memory."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(f"draws: {n:,} do not fit into memory; ask for fewer draws, or for fewer rows") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is torch's word that memory is too small: on an accelerator, or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: " in str(error)


def at_once(program: Callable[[], Any], elements: int = _ELEMENTS) -> int:
    """How many runs without gradients fit into memory at once, estimated from the largest tensor of one; at least 1."""
    with _Largest() as seen:
        outputs = sum(leaf.numel() for leaf in tree_leaves(program()))
    return max(1, elements // max(seen.numel, outputs, 1))


def can_vectorise(program: Callable[[], Any]) -> bool:
    """Whether `vmap` accepts the program; False also where torch would fall back on a slow loop, with a warning.

    A few draws may raise an error of their own, a covariance without a Cholesky factor, say: others are tried.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(TRIES):
            try:
                repeat(program, 2, vectorised=True)
            except (ArithmeticError, AssertionError, ValueError, torch.linalg.LinAlgError):
                continue
            except Exception:
                return False
            return True
    return False


def _accepted(vectorised: Callable[[], Any]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            vectorised()
        except Exception:
            return False
    return True


def owning(program: Callable[[R], T]) -> Callable[[R], T]:
    """The program with new tensors that belong to its run, so that under `vmap` it may write into them."""

    def owned(run: R) -> T:
        with NewTensors(tree_leaves(run)[0]):
            return program(run)

    return owned


class NewTensors(TorchFunctionMode):
    """Makes each new tensor one of the run: `vmap` refuses to write values of a run into what all runs share.

    like: a tensor of the run. It costs memory, so it is for programs that need it: `x = torch.zeros(2); x[0] = z`.
    """

    def __init__(self, like: torch.Tensor) -> None:
        super().__init__()
        self.zero = torch.zeros_like(like.flatten()[0])

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func not in _NEW or out.requires_grad:
            return out
        zero = self.zero.to(device=out.device, dtype=out.dtype)
        return out | zero if out.dtype == torch.bool else out + zero


_NEW = {
    *(torch.zeros, torch.ones, torch.empty, torch.full, torch.eye, torch.tensor, torch.clone, torch.Tensor.clone),
    *(torch.zeros_like, torch.ones_like, torch.empty_like, torch.full_like),
    *(torch.Tensor.new_zeros, torch.Tensor.new_ones, torch.Tensor.new_empty, torch.Tensor.new_full),
}


class _SampleBatched(Messenger):
    """Draws each site with noise that `vmap` can batch, where the distribution is torch's or Pyro's own."""

    def __init__(self, paired: torch.Tensor | None) -> None:
        super().__init__()
        self.paired = paired  # the runs that get antithetic noise; None: independent noise

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
    """Records the size of the largest tensor that a program computes."""

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
    """Replaces in-place samplers, which `vmap` refuses, by functions; torch's samplers use the value returned."""

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
    """Two runs of a program return different sites: which sites it has depends on its draws."""


def _stack(runs: list[T]) -> T:
    if any(tree_structure(run) != tree_structure(runs[0]) for run in runs[1:]):
        raise Differing("the program has other sites in one run than in another: they exist for some draws only")
    return tree_map(lambda *ts: torch.stack(ts), runs[0], *runs[1:])

"""Matrix products of networks in bfloat16, while sums, densities, KL and parameters stay in float32.

    round(a) @ round(b)     to 8 binary digits; summed in float32 by the hardware, rounded, and float32 again

A GPU multiplies bfloat16 several times as fast as float32. `torch.autocast` would leave results in bfloat16, so that
sums of log probabilities after them lose digits, on some devices but not on others.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

PRECISIONS = ("bf16",)
CONVOLUTIONS = tuple(getattr(functional, f"conv{kind}{d}d") for kind in ("", "_transpose") for d in (1, 2, 3))
ATTENTION = (functional.scaled_dot_product_attention, functional.bilinear)
PRODUCTS = {torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.einsum, torch.mv, functional.linear}
METHODS = {getattr(torch.Tensor, f.__name__) for f in PRODUCTS if hasattr(torch.Tensor, f.__name__)}
METHODS |= {torch.Tensor.__matmul__, torch.Tensor.__rmatmul__}
ROUNDED = frozenset({*PRODUCTS, *METHODS, *CONVOLUTIONS, *ATTENTION})
EXACT = ("torch.distributions.", "pyro.", "credo.inference.distributions.")  # programs whose own products stay


@contextmanager
def products(precision: str | None) -> Iterator[None]:
    """Matrix products and convolutions that networks call are computed in this precision inside; None: as they are.

    Those inside of a distribution, such as the product that makes a draw of a multivariate normal, are not.
    """
    if precision is None:
        yield
        return
    with _Rounded():
        yield


class _Rounded(TorchFunctionMode):
    """Rounds the arguments of products in float32 to bfloat16, and returns float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in ROUNDED or sys._getframe(1).f_globals.get("__name__", "").startswith(EXACT):
            return func(*args, **kwargs)
        out = func(*tree_map(_rounded, args), **tree_map(_rounded, kwargs))
        return out.float() if isinstance(out, torch.Tensor) and out.dtype == torch.bfloat16 else out


def _rounded(thing: Any) -> Any:
    return thing.bfloat16() if isinstance(thing, torch.Tensor) and thing.dtype == torch.float32 else thing

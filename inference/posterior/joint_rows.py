"""Joint normal sites over rows, as in a Gaussian process: new rows are drawn given the rows of the fit.

With the Cholesky factor L of all rows, those of the fit first, x = mu + L e for unit normal noise e. The first n
entries of x fix the first n of e, and the others stay free:

    e_1 = L_11^-1 (x_1 - mu_1),   x_2 = mu_2 + L_21 e_1 + L_22 e_2          (Rasmussen and Williams 2006, eq. 2.19)
"""

from collections.abc import Mapping
from typing import Any

import torch
from pyro.poutine.messenger import Messenger

from ..distributions.unwrap import kind, unwrapped
from ..pair.batches import rows_of
from ..runtime.sites import Site

NORMAL = ("MultivariateNormal", "LowRankMultivariateNormal")


class JointRows(Messenger):
    """Draws joint normal sites given their first entries. It must stand around the handler that traces the model."""

    def __init__(self, first: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.first = first

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.first and not msg["is_observed"]:
            msg["value"], msg["done"] = draw_given_first(msg["fn"], self.first[msg["name"]]), True


def draw_given_first(fn: Any, first: torch.Tensor) -> torch.Tensor:
    """A draw of a joint normal distribution, shape (.., n + m), whose first entries have this value, shape (.., n)."""
    normal, n = unwrapped(fn), first.shape[-1]
    mean, L = (t.double() for t in torch.broadcast_tensors(normal.mean[..., None], normal.scale_tril))
    mean, first = mean[..., 0], first.double()
    e = torch.linalg.solve_triangular(L[..., :n, :n], (first - mean[..., :n])[..., None], upper=False)
    noise = torch.randn_like(mean[..., n:])[..., None]
    others = mean[..., n:] + (L[..., n:, :n] @ e + L[..., n:, n:] @ noise)[..., 0]
    return torch.cat([first.expand(*others.shape[:-1], n), others], -1).to(normal.mean.dtype)


def stacked(data: tuple[Any, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The rows of the fit followed by the new rows, where an argument has rows and was given; else the new value."""
    arguments, _ = rows_of(data)
    both = zip(data, values, strict=False)
    rows = [i in arguments and isinstance(new, torch.Tensor) for i, (_, new) in enumerate(both)]
    whole = [torch.cat([old, new]) if row else new for row, old, new in zip(rows, data, values, strict=False)]
    return (*whole, *values[len(data) :])


def continues(one: Site, both: Site) -> bool:
    """Whether a joint normal site over the rows of the fit and further ones is the one over the rows of the fit there.

    A model whose rows change when others follow is no process: there is no distribution of the others given these.
    """
    if kind(one["fn"]) not in NORMAL or kind(both["fn"]) not in NORMAL:
        return False
    fn, longer = unwrapped(one["fn"]), unwrapped(both["fn"])
    n = fn.event_shape[0]
    pairs = ((fn.mean, longer.mean[..., :n]), (fn.covariance_matrix, longer.covariance_matrix[..., :n, :n]))
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in pairs)


def last_rows(value: torch.Tensor, total: int, n: int) -> torch.Tensor:
    """The value of a site without the n rows of the fit: dimensions of `total` entries hold them first."""
    return value[tuple(slice(n, None) if size == total else slice(None) for size in value.shape)]

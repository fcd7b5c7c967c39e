"""Draws from Beta and Dirichlet that `vmap` can batch, by gammas: torch's own function for them has no rule for it.

x = g / sum g,   g_k ~ Gamma(concentration_k, 1)       each differentiated implicitly (Figurnov et al. 2018)
"""

from typing import Any

import torch

from .unwrap import kind, unwrapped


def is_on_simplex(fn: Any) -> bool:
    """Whether a distribution is a Beta or a Dirichlet, whatever wraps it."""
    return kind(fn) in ("Beta", "Dirichlet")


def draw_on_simplex(fn: Any) -> torch.Tensor:
    """A draw from a Beta or Dirichlet, whatever wraps it."""
    base = unwrapped(fn)
    if kind(fn) == "Beta":
        both = torch.stack([base.concentration1, base.concentration0], -1).expand(*fn.shape(), 2)
        return _of(both).select(-1, 0)
    return _of(base.concentration.expand(fn.shape()))


def _of(concentration: torch.Tensor) -> torch.Tensor:
    """Each run of a `vmap` has a draw of its own, also where the concentration is shared: hence the noise times 0.

    In double precision, as torch's own: gammas of small concentrations underflow, and their ratio with them.
    """
    smallest = torch.finfo(concentration.dtype).tiny
    gammas = torch._standard_gamma((concentration + 0 * torch.rand_like(concentration)).double())
    gammas = gammas.clamp(min=torch.finfo(gammas.dtype).tiny)
    x = (gammas / gammas.sum(-1, True)).to(concentration.dtype)
    return x.clamp(smallest, 1 - torch.finfo(x.dtype).eps / 2)  # inside the simplex, as torch's own draws are

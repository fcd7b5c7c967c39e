"""Observed values outside of the support of their distribution, or of a type that it does not take."""

from typing import Any

import torch

from ..distributions.unwrap import unwrapped
from ..runtime.sites import Site


def refuse_unscored(name: str, site: Site) -> None:
    """Raises ValueError for observed whole numbers and flags that the distribution does not take: Bernoulli, say."""
    value = site["value"]
    if value.is_floating_point():
        return
    try:
        site["fn"].log_prob(value)
    except (RuntimeError, ValueError) as error:
        try:
            site["fn"].log_prob(value.to(torch.get_default_dtype()))
        except (RuntimeError, ValueError):  # it is not the type: they lie outside of the support, say
            return
        raise ValueError(
            f"site {name!r}: got observed values of type {value.dtype}, which {type(unwrapped(site['fn'])).__name__} "
            f"does not take ({str(error).splitlines()[0]}); pass them as floats, x.float()"
        ) from error


def refuse_outside(name: str, site: Site) -> None:
    """Raises ValueError for observed values outside of the support."""
    fn, value = unwrapped(site["fn"]), site["value"]  # entry by entry, whatever belongs to an event
    try:
        inside = fn.support.check(value)
    except (NotImplementedError, RuntimeError):  # no support declared, or shapes that the next check explains
        return
    while inside.dim() > value.dim():  # all values of a site that is summed out: one of them is enough
        inside = inside.any(0)
    if inside.all():
        return refuse_unscored(name, site)
    where = (~inside).nonzero()[0]
    first = value[tuple(where.tolist())]
    shown = first.item() if first.numel() == 1 else first.tolist()
    raise ValueError(
        f"site {name!r}: {int((~inside).sum())} of {inside.numel()} observed values lie outside the support of "
        f"{type(fn).__name__}, the first is {shown} at index {tuple(where.tolist())}; wanted {_support(fn)}"
    )


def _support(fn: Any) -> str:
    kind = type(fn).__name__
    if kind == "Categorical":
        k = fn.logits.shape[-1]
        return f"classes 0 to {k - 1}: the model gives probabilities to {k}"
    return "0 or 1" if kind == "Bernoulli" else f"{fn.support} for {kind}"


def refuse_single_class(name: str, site: Site) -> None:
    """Of a classifier: probabilities that differ by row. (Three equal draws of one categorical are data enough.)"""
    fn, value = unwrapped(site["fn"]), site["value"]
    if type(fn).__name__ != "Categorical" or value.numel() < 2 or (value != value.flatten()[0]).any():
        return
    rows = fn.logits.reshape(-1, fn.logits.shape[-1])
    if (rows != rows[0]).any():
        raise ValueError(
            f"site {name!r}: all {value.numel()} observations are of class {int(value.flatten()[0])}; wanted at least "
            f"two classes, or there is nothing to tell apart"
        )

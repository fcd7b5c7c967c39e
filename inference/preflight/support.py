"""Refuses observed values outside the support of their distribution, or of a dtype that it does not take."""

import math
from typing import Any

import torch

from ..distributions.unwrap import support_of, unwrapped
from ..runtime.sites import Site


def refuse_no_tensor(name: str, site: Site) -> None:
    """Raises ValueError for an observed value that is no tensor, or complex."""
    value = site["value"]
    if not isinstance(value, torch.Tensor):
        kind = type(value).__name__
        stacked = isinstance(value, list | tuple) and all(isinstance(v, torch.Tensor) for v in value)
        remedy = "torch.stack(...)" if stacked else "torch.tensor(...)"
        raise ValueError(f"site {name!r}: the observed value is a {kind}, wanted a tensor; pass {remedy} of it")
    if value.is_complex():
        raise ValueError(f"site {name!r}: the observed values are complex, wanted real numbers; pass x.real or x.abs()")


def refuse_unscored(name: str, site: Site) -> None:
    """Raises ValueError for observed integers or booleans that the distribution (Bernoulli, say) does not take."""
    value = site["value"]
    if value.is_floating_point():
        return
    try:
        site["fn"].log_prob(value)
    except (RuntimeError, ValueError) as error:
        try:
            site["fn"].log_prob(value.to(torch.get_default_dtype()))
        except (RuntimeError, ValueError):  # the dtype is not the reason
            return
        codes = "" if value.dtype == torch.bool else ", as the codes of labels are"
        raise ValueError(
            f"site {name!r}: got observed values of type {value.dtype}{codes}, which "
            f"{type(unwrapped(site['fn'])).__name__} does not take ({str(error).splitlines()[0]}); pass them as "
            f"floats, of text (x == 'yes').astype(float) say, or write obs=x if x is None else x.float() in the model"
        ) from error


def is_meant(site: Site) -> bool:
    """Whether a discrete distribution with validate_args=False observes numbers between its values, or other totals.

    So Pyro's tutorials observe shades of grey by a Bernoulli, and counts by a Multinomial without their total.
    """
    fn, value = unwrapped(site["fn"]), site["value"]
    support = support_of(fn)
    if vars(fn).get("_validate_args") is not False or not isinstance(value, torch.Tensor) or value.is_complex():
        return False
    low, high = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    low, high = {"_Boolean": (0, 1), "_Multinomial": (0, None)}.get(type(support).__name__, (low, high))
    if low is None or not support.is_discrete:
        return False
    return bool(((value >= low) & (value <= (math.inf if high is None else high))).all())


def refuse_outside(name: str, site: Site) -> None:
    """Raises ValueError for observed values outside the support of their distribution."""
    refuse_no_tensor(name, site)
    fn, value = unwrapped(site["fn"]), site["value"]  # without to_event: the support is checked for each entry
    try:
        inside = fn.support.check(value)
    except (NotImplementedError, RuntimeError):  # no support declared, or shapes that a later check explains
        return
    while inside.dim() > value.dim():  # all values of a summed site at once: one value inside is enough
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
    """Raises ValueError for a classifier, whose probabilities differ by row, that observes a single class.

    Equal draws from one categorical distribution are fine.
    """
    fn, value = unwrapped(site["fn"]), site["value"]
    if type(fn).__name__ != "Categorical" or value.numel() < 2 or (value != value.flatten()[0]).any():
        return
    rows = fn.logits.reshape(-1, fn.logits.shape[-1])
    if (rows != rows[0]).any():
        raise ValueError(
            f"site {name!r}: all {value.numel()} observations are of class {int(value.flatten()[0])}; wanted at least "
            f"two classes, or there is nothing to tell apart"
        )

"""Copies of a distribution without gradients, rsample or mask; the distribution inside its wrappers, its support."""

import copy
from typing import Any

import torch
from torch.distributions import Distribution


def without_parameters(fn: Any, *, in_double: bool = False, validated: bool = True) -> Any:
    """A copy whose parameters carry no gradient; its log_prob still has one in the value.

    in_double: whether they are in double precision. validated: whether a value outside of the support raises as before.
    """
    fn = copy.copy(fn)
    if not validated:
        fn._validate_args = False
    for name, value in list(vars(fn).items()):
        if isinstance(value, torch.Tensor):
            setattr(fn, name, value.detach().double() if in_double and value.is_floating_point() else value.detach())
        elif isinstance(value, Distribution):
            setattr(fn, name, without_parameters(value, in_double=in_double, validated=validated))
    return fn


def is_plain(fn: Any) -> bool:
    """Whether a distribution holds only tensors and such distributions, so that `without_parameters` is right."""
    plain = True
    for value in vars(fn).values():
        if isinstance(value, Distribution):
            plain = plain and is_plain(value)
        elif isinstance(value, list | tuple):
            plain = plain and all(isinstance(each, int) for each in value)  # a shape
        elif isinstance(value, torch.nn.Module):
            plain = False
    return plain


def without_path(fn: Any) -> Any:
    """A copy of the distribution whose draws carry no gradient, whatever wraps it."""
    fn = copy.copy(fn)
    if isinstance(type(fn).has_rsample, property):  # of Independent, expanded and transformed distributions
        fn.base_dist = without_path(fn.base_dist)
    else:
        fn.has_rsample = False
    return fn


def unmasked(fn: Any) -> Any:
    """The distribution without its mask."""
    kind = type(fn).__name__
    if kind == "MaskedDistribution":
        return unmasked(fn.base_dist)
    if kind == "Independent" and is_masked(fn):
        return unmasked(fn.base_dist).to_event(fn.reinterpreted_batch_ndims)
    if kind == "ExpandedDistribution" and is_masked(fn):
        return unmasked(fn.base_dist).expand(fn.batch_shape)
    return fn


def is_masked(*fns: Any) -> bool:
    """Whether one of the distributions has a mask."""
    return any(
        type(fn).__name__ == "MaskedDistribution" or (hasattr(fn, "base_dist") and is_masked(fn.base_dist))
        for fn in fns
    )


def kind(fn: Any) -> str:
    """The class name of the distribution without its wrappers: "Normal", say."""
    return type(unwrapped(fn)).__name__


def unwrapped(fn: Any) -> Any:
    """The distribution as the user wrote it, without the wrappers that plates, masks and to_event add."""
    while type(fn).__name__ in ("Independent", "ExpandedDistribution", "MaskedDistribution"):
        fn = fn.base_dist
    return fn


def support_of(fn: Any) -> Any:
    """The support of the distribution as the user wrote it; None for one of the user's own that declares none."""
    try:
        return unwrapped(fn).support
    except (NotImplementedError, AttributeError):
        return None


def cast(fn: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A copy of an `is_plain` distribution whose parameters have this precision and are on this device."""
    fn = copy.copy(fn)
    for name, value in list(vars(fn).items()):
        if isinstance(value, torch.Tensor):
            setattr(fn, name, value.to(device, dtype if value.is_floating_point() else None))
        elif isinstance(value, Distribution):
            setattr(fn, name, cast(value, dtype, device))
    return fn

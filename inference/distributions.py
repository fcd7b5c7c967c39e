"""What a distribution can be turned into: without its parameters' gradients or paths, seen through a transform."""

import copy
from typing import Any

import torch
from torch.distributions import (
    AffineTransform,
    ComposeTransform,
    Distribution,
    Independent,
    TransformedDistribution,
    biject_to,
    kl_divergence,
)
from torch.nn.functional import softplus

from .sites import unwrapped


def without_parameters(fn: Any) -> Any:
    """A copy whose parameters carry no gradient; its density still has one along the value."""
    fn = copy.copy(fn)
    for name, value in vars(fn).items():
        if isinstance(value, torch.Tensor):
            setattr(fn, name, value.detach())
        elif isinstance(value, Distribution):
            setattr(fn, name, without_parameters(value))
    return fn


def is_plain(fn: Any) -> bool:
    """Whether a distribution is made of tensors and such distributions alone, so that `without_parameters` is right."""
    plain = True
    for value in vars(fn).values():
        if isinstance(value, Distribution):
            plain = plain and is_plain(value)
        elif isinstance(value, list | tuple) and not isinstance(value, torch.Size):
            plain = plain and not value
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
    """The distribution that is drawn from, where a mask leaves part of its density out."""
    kind = type(fn).__name__
    if kind == "MaskedDistribution":
        return unmasked(fn.base_dist)
    if kind == "Independent" and _masked(fn):
        return unmasked(fn.base_dist).to_event(fn.reinterpreted_batch_ndims)
    if kind == "ExpandedDistribution" and _masked(fn):
        return unmasked(fn.base_dist).expand(fn.batch_shape)
    return fn


def pushed(q: Any, p: Any) -> Any:
    """The distribution of a latent with the support of p, whose unconstrained value has the distribution q.

    q itself where they have the same support.
    """
    inner, outer = unwrapped(q), unwrapped(p)
    if inner.support is outer.support or type(inner.support) is type(outer.support):
        return q
    found = TransformedDistribution(inner.expand(q.batch_shape + q.event_shape), _parts(biject_to(outer.support)))
    left = len(q.event_shape) - len(found.event_shape)  # of a vector's transform they are its own
    return Independent(found, left) if left > 0 else found


def divergence(q: Any, p: Any) -> torch.Tensor:
    """KL(q || p) for each row, nats. Raises NotImplementedError where no closed form is known.

    torch's own for Bernoulli and Categorical writes through a mask, which `vmap` does not bear.
    """
    q = pushed(q, p)
    one, two = unwrapped(q), unwrapped(p)
    kinds = {type(one).__name__, type(two).__name__}
    alike = q.event_shape == p.event_shape and q.batch_shape == p.batch_shape
    if len(kinds) > 1 or not kinds <= {"Bernoulli", "Categorical"} or not alike or _masked(q, p):
        return kl_divergence(q, p)
    if kinds == {"Bernoulli"}:
        a, b = one.logits, two.logits
        value = torch.sigmoid(a) * (a - b) + softplus(b) - softplus(a)
    else:
        value = (one.probs * (one.logits - two.logits)).sum(-1)
    value = value.expand(q.shape())
    return value.sum(list(range(-len(q.event_shape), 0))) if q.event_shape else value


def _masked(*fns: Any) -> bool:
    return any(
        type(fn).__name__ == "MaskedDistribution" or (hasattr(fn, "base_dist") and _masked(fn.base_dist)) for fn in fns
    )


def _parts(transform: Any) -> list[Any]:
    """The transforms that this one is made of, shifts by 0 and scalings by 1 left out: KLs are registered without."""
    if isinstance(transform, ComposeTransform):
        return [part for each in transform.parts for part in _parts(each)]
    idle = isinstance(transform, AffineTransform) and bool(
        (torch.as_tensor(transform.loc) == 0).all() and (torch.as_tensor(transform.scale) == 1).all()
    )
    return [] if idle else [transform]


def neighbours(fn: Any, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(the values that differ from this one in a single unit, shape (J, *value.shape), the probability of that unit's
    new value, shape (J, *batch)), for units of finite support: J is their number times that of other values.
    """
    base, units = unwrapped(fn), fn.event_shape.numel()
    support = base.enumerate_support(expand=False).flatten()
    index = (value.unsqueeze(-1) == support).to(torch.int64).argmax(-1)
    one = torch.eye(units, dtype=torch.bool, device=value.device)
    one = one.reshape(units, *[1] * len(fn.batch_shape), *fn.event_shape)
    values, probabilities = [], []
    for shift in range(1, len(support)):
        other = support[(index + shift) % len(support)]
        q = base.log_prob(other).exp()
        values.append(torch.where(one, other, value))
        probabilities.append(q.reshape(*q.shape[: q.dim() - len(fn.event_shape)], units).movedim(-1, 0))
    return torch.cat(values), torch.cat(probabilities)

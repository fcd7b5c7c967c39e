"""KL(q || p) in closed form, and the distribution of a draw that is mapped onto the support of a prior."""

from typing import Any

import torch
from torch.distributions import (
    AffineTransform,
    ComposeTransform,
    Independent,
    TransformedDistribution,
    biject_to,
    kl_divergence,
)
from torch.distributions.transforms import IndependentTransform
from torch.nn.functional import softplus

from .unwrap import is_masked, unwrapped


def pushforward(q: Any, p: Any) -> Any:
    """The distribution of T(u) for u ~ q, where T is torch's `biject_to` the support of p; q itself for the identity.

    For a draw u of a guide whose latent is T(u), as of the autoguide AutoNormal. A latent that q draws itself has the
    distribution q, whatever the supports are.
    """
    transforms = parts(biject_to(unwrapped(p).support))
    if not transforms:
        return q
    found = TransformedDistribution(unwrapped(q).expand(q.batch_shape + q.event_shape), transforms)
    left = len(q.event_shape) - len(found.event_shape)  # of a vector's transform they are its own
    return Independent(found, left) if left > 0 else found


def divergence(q: Any, p: Any) -> torch.Tensor:
    """KL(q || p) for each row, nats. Raises NotImplementedError where no closed form is known.

    torch's own for Bernoulli and Categorical writes through a mask, which `vmap` refuses; that for InverseGamma reads
    values in Python, which no recording can replay. It is that of the two Gammas.
    """
    one, two = unwrapped(q), unwrapped(p)
    kinds = {type(one).__name__, type(two).__name__}
    alike = q.event_shape == p.event_shape and q.batch_shape == p.batch_shape
    if len(kinds) > 1 or not kinds <= {"Bernoulli", "Categorical", "InverseGamma"} or not alike or is_masked(q, p):
        value: Any = kl_divergence(q, p)
        return value if isinstance(value, torch.Tensor) else torch.full(q.batch_shape, value)  # 0.0 where mask=False
    if kinds == {"Bernoulli"}:
        a, b = one.logits, two.logits
        value = torch.sigmoid(a) * (a - b) + softplus(b) - softplus(a)
    elif kinds == {"InverseGamma"}:
        value = kl_divergence(one.base_dist, two.base_dist)
    else:
        value = (one.probs * (one.logits - two.logits)).sum(-1)
    value = value.expand(q.batch_shape + q.event_shape)
    return value.sum(list(range(-len(q.event_shape), 0))) if q.event_shape else value


def parts(transform: Any) -> list[Any]:
    """The transforms that this one is made of, without shifts by 0 and scalings by 1: KLs are registered without."""
    if isinstance(transform, ComposeTransform):
        return [part for each in transform.parts for part in parts(each)]
    if isinstance(transform, IndependentTransform) and not parts(transform.base_transform):
        return []
    idle = isinstance(transform, AffineTransform) and bool(
        (torch.as_tensor(transform.loc) == 0).all() and (torch.as_tensor(transform.scale) == 1).all()
    )
    return [] if idle else [transform]

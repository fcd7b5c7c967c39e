"""KL(q || p) in closed form, also where q and p are transformed normals."""

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
from torch.nn.functional import softplus

from .unwrap import is_masked, unwrapped


def pushforward(q: Any, p: Any) -> Any:
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

    torch's own for Bernoulli and Categorical writes through a mask, which `vmap` refuses.
    """
    q = pushforward(q, p)
    one, two = unwrapped(q), unwrapped(p)
    kinds = {type(one).__name__, type(two).__name__}
    alike = q.event_shape == p.event_shape and q.batch_shape == p.batch_shape
    if len(kinds) > 1 or not kinds <= {"Bernoulli", "Categorical"} or not alike or is_masked(q, p):
        return kl_divergence(q, p)
    if kinds == {"Bernoulli"}:
        a, b = one.logits, two.logits
        value = torch.sigmoid(a) * (a - b) + softplus(b) - softplus(a)
    else:
        value = (one.probs * (one.logits - two.logits)).sum(-1)
    value = value.expand(q.shape())
    return value.sum(list(range(-len(q.event_shape), 0))) if q.event_shape else value


def _parts(transform: Any) -> list[Any]:
    """The transforms that this one is made of, shifts by 0 and scalings by 1 left out: KLs are registered without."""
    if isinstance(transform, ComposeTransform):
        return [part for each in transform.parts for part in _parts(each)]
    idle = isinstance(transform, AffineTransform) and bool(
        (torch.as_tensor(transform.loc) == 0).all() and (torch.as_tensor(transform.scale) == 1).all()
    )
    return [] if idle else [transform]

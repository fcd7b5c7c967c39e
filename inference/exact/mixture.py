"""A few finite latents beside continuous ones: a closed form for each of their joint values, weighted by its evidence.

p(z, theta | data) = sum_k w_k [z = z_k] q_k(theta),     w_k = p(data, z_k) / sum_j p(data, z_j)
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch.distributions.transforms import ExpTransform, ReshapeTransform

from ..distributions.finite import finite_marginal, indicator, support
from ..distributions.transformed import GammaPower, Transformed
from ..runtime.sites import quoted
from .belief import Belief, Point
from .coordinates import Values
from .inspection import Inspection
from .log_joint import LogJoint
from .no_closed_form import NoClosedForm

MOST = 2048  # joint values: a closed form is found for each


NEGLIGIBLE = 1e-20  # weights that double precision does not see beside 1


class Component(NamedTuple):
    """z_k, its log weight in nats (all weights add up to one), and what is believed of the rest given it."""

    held: Point
    log_weight: float
    beliefs: tuple[Belief, ...]

    def log_prob(self, values: Values) -> torch.Tensor:
        """log q(z_k, theta), nats."""
        return sum((b.log_prob(values) for b in self.beliefs), torch.tensor(self.log_weight, dtype=torch.float64))


Closed = Callable[[LogJoint, int], tuple[tuple[Belief, ...], float] | None]


def listed(f: LogJoint, looks: Inspection, closed: Closed) -> tuple[list[Component], float]:
    """(components, log p(data) in nats). closed: the beliefs and the evidence with some values held, the how-manieth
    these are; None: impossible.

    Raises NoClosedForm for more joint values than can be listed.
    """
    values = {name: support(site["fn"]) for name, site in looks.finite.items()}
    numbers = {name: site["fn"].batch_shape.numel() for name, site in looks.finite.items()}
    if joint_values(looks) > MOST:
        beside = f" beside {quoted(looks.continuous)}" if looks.continuous else ""
        raise NoClosedForm(
            f"{quoted(looks.finite)}: {joint_values(looks):.3g} joint values{beside}, each with a closed form of its "
            f"own, are too many to list (at most {MOST:,})"
        )
    sizes = [len(values[name]) for name, n in numbers.items() for _ in range(n)]
    index = torch.cartesian_prod(*[torch.arange(k) for k in sizes]).reshape(-1, len(sizes))
    found = []
    for which, row in enumerate(index):
        held, at = {}, 0
        for name, n in numbers.items():
            held[name] = values[name][row[at : at + n].reshape(looks.finite[name]["fn"].batch_shape)]
            at += n
        if (answer := closed(f.holding(held), which)) is not None:
            found.append((held, *answer))
    if not found:
        raise NoClosedForm(f"{quoted(looks.finite)}: the data is impossible for all of their values")
    logs = torch.tensor([evidence for _, _, evidence in found], dtype=torch.float64)
    total = logs.logsumexp(0)
    return [
        Component(held, (log - total).item(), beliefs) for (held, beliefs, _), log in zip(found, logs, strict=True)
    ], total.item()


def joint_values(looks: Inspection) -> float:
    """How many joint values the finite latents have."""
    logs = (s["fn"].batch_shape.numel() * math.log(len(support(s["fn"]))) for s in looks.finite.values())
    return math.exp(min(sum(logs), 700.0)) * (1 - 1e-9)


def log_prob(components: Sequence[Component], values: Values) -> torch.Tensor:
    """log q of values of all sites, nats; -inf where the finite ones are impossible."""
    for c in components:
        if all(torch.equal(values[name], value) for name, value in c.held.items()):
            return c.log_prob(values)
    return torch.tensor(-math.inf, dtype=torch.float64)


def mixed(components: Sequence[Component], looks: Inspection) -> dict[str, Any]:
    """The marginals of all sites."""
    if not components[0].held:
        return _of(components[0])
    weights = torch.tensor([c.log_weight for c in components], dtype=torch.float64).exp()
    found = {}
    for name, site in looks.finite.items():
        values = support(site["fn"])
        held = torch.stack([c.held[name] for c in components])  # (C, *batch, *event)
        same = indicator(held, values).double()
        found[name] = finite_marginal(site["fn"], values, torch.einsum("kc...,c->k...", same, weights))
    kept = [i for i in range(len(components)) if weights[i] > NEGLIGIBLE]
    some = [_of(components[i]) for i in kept]
    for name in looks.continuous:
        parts = [marginals[name] for marginals in some]
        if any(_form(p) != _form(parts[0]) for p in parts):
            parts = [_one_normal(p) for p in parts]
        if any(_form(p) != _form(parts[0]) for p in parts):
            raise NoClosedForm(
                f"site {name!r}: given {quoted(looks.finite)} it is of different families, for which no "
                f"mixture is known here"
            )
        stack = stacked(parts)
        shape = stack.batch_shape[:-1]
        mixing = dist.Categorical(probs=weights[kept].expand(*shape, len(kept)))
        found[name] = dist.MixtureSameFamily(mixing, stack)
    return found


def draws(components: Sequence[Component], n: int) -> Point:
    """n joint draws of all sites, {site: (n, *shape)}."""
    weights = torch.tensor([c.log_weight for c in components], dtype=torch.float64).exp()
    which = torch.multinomial(weights, n, replacement=True)
    found: Point = {}
    for i in which.unique().tolist():
        at = (which == i).nonzero().flatten()
        c = components[i]
        drawn = {name: value.expand(len(at), *value.shape) for name, value in c.held.items()}
        for belief in c.beliefs:
            drawn |= belief.sample(len(at))
        for name, value in drawn.items():
            found.setdefault(name, value.new_empty((n, *value.shape[1:])))[at] = value
    return found


def _form(fn: Any) -> tuple[Any, ...]:
    """What distributions must have in common to be stacked."""
    inner = (_form(fn.base_dist), type(fn.pushed)) if isinstance(fn, Transformed) else ()
    if isinstance(fn, torch.distributions.Independent):
        inner = (fn.reinterpreted_batch_ndims, *_form(fn.base_dist))
    return (type(fn), *inner)


def _one_normal(fn: Any) -> Any:
    """Normals that are independent, or a bijection of them, as one multivariate normal; what is neither as it was."""
    if not isinstance(fn, torch.distributions.Independent):
        return fn
    base, n = fn.base_dist, fn.reinterpreted_batch_ndims
    transform = (
        base.pushed if isinstance(base, Transformed) else ExpTransform() if isinstance(base, dist.LogNormal) else None
    )
    normal = base.base_dist if transform is not None else base
    if not isinstance(normal, torch.distributions.Normal):
        return fn
    loc, scale = (t.flatten(-n) for t in (normal.loc, normal.scale))
    joint: Any = dist.MultivariateNormal(loc, torch.diag_embed(scale**2))
    if transform is not None:
        joint = Transformed(joint, transform)
    return joint if n == 1 else Transformed(joint, ReshapeTransform(loc.shape[-1:], fn.event_shape))


def stacked(parts: list[Any]) -> Any:
    """Distributions of one family as one, along a new last dimension of its batch."""
    first = parts[0]
    if isinstance(first, torch.distributions.Independent):
        n = first.reinterpreted_batch_ndims
        inner = stacked_at([p.base_dist for p in parts], n)
        return inner.to_event(n)
    return stacked_at(parts, 0)


def stacked_at(parts: list[Any], events: int) -> Any:
    """The same, the new dimension left of so many dimensions of the batch."""
    first = parts[0]
    if isinstance(first, Transformed):
        return Transformed(stacked_at([p.base_dist for p in parts], events), first.pushed)
    batch = len(first.batch_shape) - events
    found = {name: torch.stack([getattr(p, name) for p in parts], batch) for name in PARAMETERS[type(first).__name__]}
    if isinstance(first, GammaPower):
        return GammaPower(**found, power=first.power)
    return type(first)(**found)


PARAMETERS = {
    "Normal": ("loc", "scale"),
    "LogNormal": ("loc", "scale"),
    "MultivariateNormal": ("loc", "covariance_matrix"),
    "StudentT": ("df", "loc", "scale"),
    "MultivariateStudentT": ("df", "loc", "scale_tril"),
    "Beta": ("concentration1", "concentration0"),
    "Gamma": ("concentration", "rate"),
    "GammaPower": ("concentration", "rate"),
    "InverseGamma": ("concentration", "rate"),
    "Dirichlet": ("concentration",),
}


def _of(component: Component) -> dict[str, Any]:
    return {name: fn for belief in component.beliefs for name, fn in belief.marginals.items()}

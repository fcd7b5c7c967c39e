"""A few finite latents beside continuous ones: one closed form for each of their joint values, weighted by evidence.

p(z, theta | data) = sum_k w_k [z = z_k] q_k(theta),     w_k = p(data, z_k) / sum_j p(data, z_j)

Without finite latents there is one component. Where its blocks are normal, all latents are jointly so: cov(z_i, z_j) =
0 for sites of different blocks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch.distributions.transforms import ExpTransform, ReshapeTransform

from ..distributions.finite import finite_marginal, indicator, support
from ..distributions.transformed import GammaPower, Transformed
from ..runtime.sites import quoted
from .block_posterior import BlockPosterior, Draws
from .coordinates import Values
from .inspection import Inspection
from .log_joint import LogJoint
from .no_closed_form import NoClosedForm
from .points import Checked

MOST_VALUES = 2048  # joint values, each with a closed form of its own
NEGLIGIBLE = 1e-20  # a weight that double precision loses beside 1


class Component(NamedTuple):
    """One joint value z_k of the finite latents, and the posterior of the others given it."""

    held: dict[str, torch.Tensor]  # {site: z_k}
    log_weight: float  # log w_k, nats
    blocks: tuple[BlockPosterior, ...]  # q_k
    checked: Checked | None = None  # where q_k was compared with the model; None without continuous latents

    def log_prob(self, values: Values) -> torch.Tensor:
        """log q(z_k, theta), nats."""
        return sum((b.log_prob(values) for b in self.blocks), torch.tensor(self.log_weight, dtype=torch.float64))


# (the log joint with the finite latents fixed, index of their joint value) -> (posterior of the others, log evidence,
# where both were checked)
ClosedForm = Callable[[LogJoint, int], tuple[tuple[BlockPosterior, ...], float, Checked | None] | None]


def components_of(f: LogJoint, inspection: Inspection, closed_form: ClosedForm) -> tuple[list[Component], float]:
    """(a component for each possible joint value of the finite latents, log p(data) in nats).

    closed_form: returns None for a joint value at which the data is impossible.
    Raises NoClosedForm for more than 2,048 joint values.
    """
    values = {name: support(site["fn"]) for name, site in inspection.finite.items()}
    numbers = {name: site["fn"].batch_shape.numel() for name, site in inspection.finite.items()}
    if joint_values(inspection) > MOST_VALUES:
        beside = f" beside {quoted(inspection.continuous)}" if inspection.continuous else ""
        raise NoClosedForm(
            f"{quoted(inspection.finite)}: {joint_values(inspection):.3g} joint values{beside}, each with a closed "
            f"form of its own, are too many to list (at most {MOST_VALUES:,})"
        )
    sizes = [len(values[name]) for name, n in numbers.items() for _ in range(n)]
    index = torch.cartesian_prod(*[torch.arange(k) for k in sizes]).reshape(-1, len(sizes))
    solved = []
    for which, row in enumerate(index):
        held, at = {}, 0
        for name, n in numbers.items():
            held[name] = values[name][row[at : at + n].reshape(inspection.finite[name]["fn"].batch_shape)]
            at += n
        if (answer := closed_form(f.holding(held), which)) is not None:
            solved.append((held, *answer))
    if not solved:
        raise NoClosedForm(f"{quoted(inspection.finite)}: the data is impossible for all of their values")
    logs = torch.tensor([evidence for _, _, evidence, _ in solved], dtype=torch.float64)
    total = logs.logsumexp(0)
    return [
        Component(held, (log - total).item(), blocks, checked)
        for (held, blocks, _, checked), log in zip(solved, logs, strict=True)
    ], total.item()


def joint_values(inspection: Inspection) -> float:
    """The number of joint values of the finite latents; a float, for it may be huge."""
    logs = (s["fn"].batch_shape.numel() * math.log(len(support(s["fn"]))) for s in inspection.finite.values())
    return math.exp(min(sum(logs), 700.0)) * (1 - 1e-9)


def log_prob(components: Sequence[Component], values: Values) -> torch.Tensor:
    """log q at values of all sites, nats; -inf where the finite ones are impossible."""
    for c in components:
        if all(torch.equal(values[name], value) for name, value in c.held.items()):
            return c.log_prob(values)
    return torch.tensor(-math.inf, dtype=torch.float64)


def joint(marginals: Mapping[str, Any], components: Sequence[Component]) -> Any:
    """The joint distribution of all latents: the marginal of a single site, one MultivariateNormal, or None."""
    if len(marginals) == 1:
        return next(iter(marginals.values()))
    if len(components) != 1 or not marginals:
        return None
    parts = [(list(block.marginals), block.gaussian()) for block in components[0].blocks]
    start, places = 0, {}
    for name, fn in marginals.items():
        places[name] = torch.arange(start, start + fn.mean.numel())
        start += fn.mean.numel()
    mean, covariance = torch.zeros(start, dtype=torch.float64), torch.zeros(start, start, dtype=torch.float64)
    for names, part in parts:
        if part is None:
            return None
        at = torch.cat([places[name] for name in names])
        mean[at], covariance[at[:, None], at] = part
    return dist.MultivariateNormal(mean, covariance)


def mixture_marginals(components: Sequence[Component], inspection: Inspection) -> dict[str, Any]:
    """{site: its marginal}: weights of the values of finite sites, mixtures for the others."""
    if not components[0].held:
        return _of(components[0])
    weights = torch.tensor([c.log_weight for c in components], dtype=torch.float64).exp()
    marginals = {}
    for name, site in inspection.finite.items():
        values = support(site["fn"])
        held = torch.stack([c.held[name] for c in components])  # (C, *batch, *event)
        same = indicator(held, values).double()
        marginals[name] = finite_marginal(site["fn"], values, torch.einsum("kc...,c->k...", same, weights))
    kept = [i for i in range(len(components)) if weights[i] > NEGLIGIBLE]
    each = [_of(components[i]) for i in kept]
    for name in inspection.continuous:
        parts = [of_component[name] for of_component in each]
        if any(_form(p) != _form(parts[0]) for p in parts):
            parts = [_one_normal(p) for p in parts]
        if any(_form(p) != _form(parts[0]) for p in parts):
            raise NoClosedForm(
                f"site {name!r}: its family differs between values of {quoted(inspection.finite)}, and credo mixes one "
                f"family only"
            )
        stack = _stacked(parts)
        shape = stack.batch_shape[:-1]
        mixing = dist.Categorical(probs=weights[kept].expand(*shape, len(kept)))
        marginals[name] = dist.MixtureSameFamily(mixing, stack)
    return marginals


def sample(components: Sequence[Component], n: int) -> Draws:
    """n joint draws of all sites, {site: (n, *shape)}."""
    weights = torch.tensor([c.log_weight for c in components], dtype=torch.float64).exp()
    which = torch.multinomial(weights, n, replacement=True)
    draws: Draws = {}
    for i in which.unique().tolist():
        at = (which == i).nonzero().flatten()
        c = components[i]
        drawn = {name: value.expand(len(at), *value.shape) for name, value in c.held.items()}
        for block in c.blocks:
            drawn |= block.sample(len(at))
        for name, value in drawn.items():
            draws.setdefault(name, value.new_empty((n, *value.shape[1:])))[at] = value
    return draws


def _form(fn: Any) -> tuple[Any, ...]:
    """The types of a distribution and of its parts: equal for distributions that can be stacked."""
    inner = (_form(fn.base_dist), type(fn.pushed)) if isinstance(fn, Transformed) else ()
    if isinstance(fn, torch.distributions.Independent):
        inner = (fn.reinterpreted_batch_ndims, *_form(fn.base_dist))
    return (type(fn), *inner)


def _one_normal(fn: Any) -> Any:
    """Independent normals, or a bijection of them, as one multivariate normal; any other distribution unchanged."""
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


def _stacked(parts: list[Any]) -> Any:
    """Distributions of one family stacked along a new last batch dimension."""
    first = parts[0]
    if isinstance(first, torch.distributions.Independent):
        n = first.reinterpreted_batch_ndims
        inner = _stacked_at([p.base_dist for p in parts], n)
        return inner.to_event(n)
    return _stacked_at(parts, 0)


def _stacked_at(parts: list[Any], events: int) -> Any:
    """The same, with the new dimension to the left of the last `events` batch dimensions."""
    first = parts[0]
    if isinstance(first, Transformed):
        return Transformed(_stacked_at([p.base_dist for p in parts], events), first.pushed)
    batch = len(first.batch_shape) - events
    stack = {name: torch.stack([getattr(p, name) for p in parts], batch) for name in PARAMETERS[type(first).__name__]}
    if isinstance(first, GammaPower):
        return GammaPower(**stack, power=first.power)
    return type(first)(**stack)


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
    return {name: fn for block in component.blocks for name, fn in block.marginals.items()}

"""Failures on purpose of trust.py: no fit of them may say "yes" or "converged" unless it is right all the same."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from _trust_case import Model, Moments, closed, linear, noise
from _trust_shapes import banana
from torch.distributions import constraints


class Failure(NamedTuple):
    """A pair that must fail. right: its posterior, for a better run or a correction; None where there is none."""

    name: str
    model: Model
    guide: Callable[..., Any] | str
    data: tuple[Any, ...]
    options: Mapping[str, Any] = {}
    right: Mapping[str, Moments] | None = None


def failures() -> list[Failure]:
    half, two, three, four = (torch.tensor(value) for value in (0.5, 2.0, 3.0, 4.0))
    sides = torch.randn(60, generator=noise(30)) + torch.tensor([-3.0, 3.0]).repeat(30)
    normal, shifted = {"a": closed(1.5, 0.5**0.5)}, {"a": closed(0.15, 0.5**0.5)}
    bent, thin = (of_banana(0.5, sd, noise) for sd, noise in ((0.3, 2.0), (0.05, 5.0)))
    modes = of_grid(lambda a, b: -(a**2) / 8 - (4 - a**2) ** 2 / 0.18 - b**2 / 2, ("a",), 4.0, 4.0)
    round_ = of_grid(lambda a, b: -(a**2 + b**2) / 18 - (4 - a**2 - b**2) ** 2 / 0.18, ("a", "b"), 3.0, 3.0)
    of_cone = of_grid(lambda a, b: -(a**2 + b**2) / 2 - (2 - a**2 - b) ** 2 / 0.02, ("a", "b"), 4.0, 8.0)
    return [
        Failure("banana, mean field", banana, means("a", "b"), (half,), {}, bent),
        Failure("narrow banana, mean field", narrow_banana, means("a", "b"), (half,), {}, thin),
        Failure("funnel, mean field", funnel, means("v", z=9), (torch.tensor(0.0),)),
        Failure("funnel, full rank", funnel, "full_rank", (torch.tensor(0.0),)),
        Failure("two modes, mean field", two_modes, means("a"), (four,), {}, modes),
        Failure("two modes, full rank", two_modes, "full_rank", (four,), {}, modes),
        Failure("labels that switch", labels, means(m=2), (sides,)),
        Failure("ring, mean field", ring, means("a", "b"), (four,), {}, round_),
        Failure("ring, full rank", ring, "full_rank", (four,), {}, round_),
        Failure("cone, mean field", cone, means("a", "b"), (two,), {}, of_cone),
        Failure("cone, full rank", cone, "full_rank", (two,), {}, of_cone),
        Failure("sum, not identified", wide_sum, means("a", "b"), (two,), {}, of_sum(two, 10.0, 0.5)),
        Failure("support too narrow", normal_mean, uniform_guide, (three,), {}, normal),
        Failure("support of one side", normal_mean, half_guide, (torch.tensor(0.3),), {}, shifted),
        Failure("lr 1e-8", normal_mean, means("a"), (three,), {"lr": 1e-8}, normal),
        Failure("start 1e6 sds away", normal_mean, means("a", loc=1e6), (three,), {}, normal),
        Failure("start 1e6 away, 300 steps", normal_mean, means("a", loc=1e6), (three,), {"steps": 300}, normal),
        Failure("start of sd 1e10", normal_mean, means("a", scale=1e10), (three,), {}, normal),
        Failure("improper", improper, means("a", "b"), (three,)),
        Failure("improper sum", improper_sum, means("a", "b"), (three,), {}, of_sum(three, 1e8, 1.0)),
        Failure("improper, full rank", masked_priors, "full_rank", (three,)),
    ]


def means(*scalars: str, loc: float = 0.0, scale: float = 0.1, **vectors: int) -> Callable[..., None]:
    """A mean-field guide that starts at Normal(loc, scale): of scalar sites, and of vectors by their sizes."""

    def guide(*data: Any) -> None:
        for name, shape in {**{name: () for name in scalars}, **{name: (n,) for name, n in vectors.items()}}.items():
            m = pyro.param(f"{name}_m", torch.full(shape, loc))
            s = pyro.param(f"{name}_s", torch.full(shape, scale), constraint=constraints.positive)
            pyro.sample(name, dist.Normal(m, s).to_event(len(shape)))

    return guide


def of_grid(log_p: Callable[..., torch.Tensor], names: Sequence[str], a: float, b: float) -> dict[str, Moments]:
    """Moments of a density of two numbers on (-a, a) x (-b, b), by quadrature on 2,001 x 2,001 points."""
    line = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    values = log_p(a * line[:, None], b * line)
    weight = (values - values.max()).exp()
    found = {}
    for name, x, w in zip(names, (a * line, b * line), (weight.sum(1), weight.sum(0)), strict=False):
        mean = (w * x).sum() / w.sum()
        found[name] = closed(mean, ((w * (x - mean) ** 2).sum() / w.sum()).sqrt())
    return found


def of_banana(y: float, sd: float, noise: float) -> dict[str, Moments]:
    """b = a^2 + e: a and e are independent before the data; the grid is of (a, e)."""
    square = of_grid(lambda a, e: -(a**2) / 2 - e**2 / 2 - (y - a**2 - sd * e) ** 2 / (2 * noise**2), ("a",), 6.0, 6.0)
    line = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    a, e = line[:, None], line
    w = (-(a**2) / 2 - e**2 / 2 - (y - a**2 - sd * e) ** 2 / (2 * noise**2)).exp()
    b = a**2 + sd * e
    mean = (w * b).sum() / w.sum()
    return square | {"b": closed(mean, ((w * (b - mean) ** 2).sum() / w.sum()).sqrt())}


def of_sum(y: torch.Tensor, prior: float, sd: float) -> dict[str, Moments]:
    mean, cov, _ = linear(torch.ones(1, 2), y[None], prior, sd)
    return {name: closed(mean[i], cov[i, i].sqrt()) for i, name in enumerate("ab")}


def uniform_guide(y):
    low = pyro.param("low", torch.tensor(-0.2))
    pyro.sample("a", dist.Uniform(low, low + 0.4))


def half_guide(y):
    pyro.sample("a", dist.HalfNormal(pyro.param("s", torch.tensor(1.0), constraint=constraints.positive)))


def narrow_banana(y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Normal(a**2, 0.05))
    pyro.sample("y", dist.Normal(b, 5.0), obs=y)


def funnel(y):
    v = pyro.sample("v", dist.Normal(0.0, 3.0))
    z = pyro.sample("z", dist.Normal(torch.zeros(9), (v / 2).exp()).to_event(1))
    pyro.sample("y", dist.Normal(z[0], 10.0), obs=y)


def two_modes(y):
    a = pyro.sample("a", dist.Normal(0.0, 2.0))
    pyro.sample("y", dist.Normal(a**2, 0.3), obs=y)


def labels(y):
    m = pyro.sample("m", dist.Normal(torch.zeros(2), 5.0).to_event(1))
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.5))
        pyro.sample("y", dist.Normal(m[..., 0] * (1 - k) + m[..., 1] * k, 1.0), obs=y)


def ring(y):
    a, b = pyro.sample("a", dist.Normal(0.0, 3.0)), pyro.sample("b", dist.Normal(0.0, 3.0))
    pyro.sample("y", dist.Normal(a**2 + b**2, 0.3), obs=y)


def cone(y):
    a, b = pyro.sample("a", dist.Normal(0.0, 1.0)), pyro.sample("b", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(a**2 + b, 0.1), obs=y)


def wide_sum(y):
    a, b = pyro.sample("a", dist.Normal(0.0, 10.0)), pyro.sample("b", dist.Normal(0.0, 10.0))
    pyro.sample("y", dist.Normal(a + b, 0.5), obs=y)


def normal_mean(y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(a, 1.0), obs=y)


def improper(y):
    pyro.sample("a", dist.ImproperUniform(constraints.real, (), ()))
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(b, 1.0), obs=y)


def improper_sum(y):
    a, b = pyro.sample("a", dist.Normal(0.0, 1e8)), pyro.sample("b", dist.Normal(0.0, 1e8))
    pyro.sample("y", dist.Normal(a + b, 1.0), obs=y)


def masked_priors(y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0).mask(False))
    b = pyro.sample("b", dist.Normal(0.0, 1.0).mask(False))
    pyro.sample("y", dist.Normal(a + b, 1.0), obs=y)

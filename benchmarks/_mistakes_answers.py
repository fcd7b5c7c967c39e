"""Programs whose answer went wrong in silence: divergences, probing, runs, exact posteriors (kinds 1, 2, 6, 9)."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from _mistakes_case import MU, Case, X, normal, normal_mean, number, observing, positive, q_normal
from torch.distributions import constraints

import credo

SCALES = torch.logspace(-2, 2, 20)


def grid(log_joint: Callable[[torch.Tensor], torch.Tensor], low: float, high: float) -> tuple[float, float]:
    """The mean and sd of the density exp(log_joint) on an interval, by quadrature."""
    z = torch.linspace(low, high, 20001, dtype=torch.float64)
    weight = (log_joint(z) - log_joint(z).max()).exp()
    mean = ((weight * z).sum() / weight.sum()).item()
    return mean, ((weight * (z - mean) ** 2).sum() / weight.sum()).sqrt().item()


Y = 3 * torch.rand(40, generator=torch.Generator().manual_seed(1)) + 1


def log_rate(z: torch.Tensor) -> torch.Tensor:
    """log p(y, rate) of exponential times with a LogNormal(0, 1) rate."""
    return dist.LogNormal(0.0, 1.0).log_prob(z) + 40 * z.log() - z * Y.sum().double()


RATE = {"mu": grid(log_rate, 1e-3, 3.0)}
lognormal_rate = observing(lambda mu: dist.Exponential(mu), dist.LogNormal(0.0, 1.0))


def share(prior: Any) -> Any:
    def model(x: Any) -> None:
        p = pyro.sample("mu", prior())
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Bernoulli(p), obs=x)

    return model


def logit_normal() -> Any:
    return dist.TransformedDistribution(dist.Normal(0.0, 1.0), [dist.transforms.SigmoidTransform()])


FLIPS = (torch.arange(60) % 3 == 0).float()


def log_share(p: torch.Tensor) -> torch.Tensor:
    density = dist.Normal(0.0, 1.0).log_prob((p / (1 - p)).log()) - (p * (1 - p)).log()
    return density + 20 * p.log() + 40 * (1 - p).log()


SHARE = {"mu": grid(log_share, 1e-4, 1 - 1e-4)}
BETA = {"mu": (21 / 62, (21 * 41 / 62**2 / 63) ** 0.5)}


def by_density(x: Any) -> None:
    """A correct guide of an auxiliary draw, whose density is written by hand."""
    e = pyro.sample("e", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
    s = positive("s")
    pyro.sample("mu", dist.Delta(number("m") + s * e, log_density=-s.log()))


def free_share(x: Any) -> None:
    """A probability without a constraint: a probe that moves it far leaves (0, 1)."""
    p = pyro.param("p", torch.tensor(0.3))
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        k = pyro.sample("k", dist.Bernoulli(p.clamp(0.05, 0.95)))
        pyro.sample("x", dist.Normal(mu + 0 * k, 1.0), obs=x)


def in_turn(x: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    for i in pyro.plate("rows", len(x), subsample_size=5):
        pyro.sample(f"x_{i}", dist.Normal(mu, 1.0), obs=x[i])


def differentiates(x: Any) -> None:
    m = number("m")
    slope = torch.autograd.grad(m**2, m, create_graph=True)[0]
    pyro.sample("mu", dist.Normal(slope / 2, positive("s")))


def impossible(y: Any) -> None:
    n = pyro.sample("N", dist.Poisson(5.0))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Binomial(n, 0.5), obs=y)


def starts(m: float, s: float) -> Any:
    return lambda x: pyro.sample("mu", dist.Normal(number("m", m), positive("s", s)))


def scales() -> None:
    pyro.sample("z", dist.Normal(torch.zeros(20), SCALES).to_event(1))
    pyro.sample("seen", dist.Normal(0.0, 1.0), obs=torch.zeros(()))


def q_scales() -> None:
    loc, s = pyro.param("loc", torch.zeros(20)), pyro.param("s", torch.ones(20), constraint=constraints.positive)
    pyro.sample("z", dist.Normal(loc, s).to_event(1))


def relative() -> dict[str, torch.Tensor]:
    fit = credo.fit(scales, q_scales, progress=False)
    ratio = fit.params["s"] / SCALES
    if (ratio.log().abs() > 0.1).any() and fit.stopped.startswith("converged"):
        return {"worst": ratio[:1] * 0}
    return {"worst": torch.ones(2) + torch.tensor([0.01, -0.01])}


def cauchy_step(x: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, torch.where(mu > 8.0, -torch.ones(()), torch.ones(()))), obs=x)


def wide_start(x: Any) -> None:
    pyro.sample("mu", dist.Normal(number("m", 2.0), positive("s", 3.0)))


def flat() -> None:
    mu = pyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
    pyro.sample("x", dist.Normal(mu, 1.0).expand([100]).to_event(1), obs=X)


def improper() -> None:
    raise ValueError(repr(credo.exact(flat)))


def spike() -> None:
    def model() -> None:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("spike", 10.0 * torch.exp(-(((z - 1.0) / 0.003) ** 2)))

    raise ValueError(repr(credo.exact(model)))


def case(
    kind: str, name: str, model: Any, guide: Any, right: Any, *data: Any, words: str = "(?!)", **more: Any
) -> Case:
    return Case(kind, name, model, guide, data or (X,), words, right, **more)


def called(kind: str, name: str, call: Any, right: Any = None, words: str = "(?!)") -> Case:
    return Case(kind, name, call=call, right=right, words=words, plain=False)


def q(distribution: Any) -> Any:
    return lambda *data: pyro.sample("mu", distribution())


GAMMA = q(lambda: dist.Gamma(positive("a", 2.0), positive("b", 2.0)))
BETAS = q(lambda: dist.Beta(positive("a", 2.0), positive("b", 2.0)))
FIVE = torch.tensor([6.0, 8.0, 7.0, 9.0, 8.0])
CASES = [
    case("divergence", "Gamma guide, LogNormal prior", lognormal_rate, GAMMA, RATE, Y),
    case(
        "divergence",
        "Weibull guide, LogNormal prior",
        lognormal_rate,
        q(lambda: dist.Weibull(positive("a"), positive("b", 2.0))),
        {"mu": (RATE["mu"][0], RATE["mu"][1])},
        Y,
    ),
    case("divergence", "Beta guide, logit-normal prior", share(logit_normal), BETAS, SHARE, FLIPS),
    case(
        "divergence",
        "logit-normal guide, Beta prior",
        share(lambda: dist.Beta(1.0, 1.0)),
        q(
            lambda: dist.TransformedDistribution(
                dist.Normal(number("m"), positive("s")), [dist.transforms.SigmoidTransform()]
            )
        ),
        BETA,
        FLIPS,
    ),
    case("divergence", "an auxiliary draw and its density", normal, by_density, MU),
    case("probing", "a parameter without a constraint", free_share, q_normal, MU, enumerates=True),
    case("probing", "plates in turn, subsampled", in_turn, q_normal, {"mu": normal_mean(X[:20])}, X[:20]),
    case("probing", "a guide that differentiates", normal, differentiates, MU),
    case(
        "probing",
        "impossible values of a count",
        impossible,
        lambda y: pyro.sample("N", dist.Poisson(positive("r", 2.0))),
        None,
        FIVE,
        words="'N'.*too small",
    ),
    case("runs", "a start at 1e6", normal, starts(1e6, 1.0), MU, words="not converged|drift"),
    case("runs", "a start of sd 1e10", normal, starts(0.0, 1e10), MU, words="not converged|drift"),
    called("runs", "scales from .01 to 100", relative, {"worst": (1.0, 0.0141)}),
    case("runs", "an error at some draws", cauchy_step, wide_start, MU, words="'x'|step"),
]
EXACT = [
    called("exact", "the evidence of an improper prior", improper, words="improper|constant"),
    called("exact", "a spike between the points of the proof", spike, words="spike|resol|width|points|'z'"),
]
CASES += EXACT

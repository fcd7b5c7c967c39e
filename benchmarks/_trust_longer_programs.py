"""The programs of `_trust_longer.py`: pairs that SVI is asked to run until it has converged."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from _trust_case import Model, noise
from _trust_conjugate import correlated, normal_mean, regression, years
from _trust_failures import means, ring, two_modes
from _trust_groups import EFFECTS, ERRORS, groups, groups_data, schools_decentred
from _trust_regressions import logistic, logistic_data, unknown_sd
from _trust_shapes import banana
from pyro.infer.autoguide import AutoMultivariateNormal
from torch import nn
from torch.func import functional_call


class Program(NamedTuple):
    """guide: makes a new guide, or the word for one. predicts: data of a prediction that is compared, of networks."""

    name: str
    model: Model
    guide: Callable[[], Any]
    data: tuple[Any, ...]
    options: Mapping[str, Any] = {}
    predicts: tuple[Any, ...] | None = None


def programs() -> list[Program]:
    g = noise(50)
    y, x = 2 + torch.randn(100, generator=g), torch.randn(5000, 5, generator=g)
    flips, columns, uncentred = logistic_data(1000, 20), correlated(), years()
    observed, half, four = 50 * torch.randn(300, generator=g), torch.tensor(0.5), torch.tensor(4.0)
    found = [
        Program("mean", normal_mean, lambda: means("m"), (y,)),
        Program("mean, lr 1e-8", normal_mean, lambda: means("m"), (y,), {"lr": 1e-8}),
        Program("mean, start 1e6 away", normal_mean, lambda: means("m", loc=1e6), (y,)),
        Program("mean, start of sd 1e10", normal_mean, lambda: means("m", scale=1e10), (y,)),
        Program("unknown sd", unknown_sd, lambda: None, (x[:200], x[:200].sum(1) + y.repeat(2))),
        Program("schools", schools_decentred, lambda: None, (EFFECTS, ERRORS)),
        Program("85 groups", groups, lambda: None, groups_data(85, 8)),
        Program("300 sds from .01 to 100", many, lambda: means(z=300, scale=1.0), (observed,)),
        Program("precision, Gamma guide", precision, lambda: gamma_guide, (0.01 * y.repeat(30),)),
        Program("ring", ring, lambda: means("a", "b"), (four,)),
        Program("two modes", two_modes, lambda: means("a"), (four,)),
        Program("banana", banana, lambda: means("a", "b"), (half,)),
        Program("batches", partial(regression, prior=10.0, sd=1.0), lambda: None, (x, x.sum(1)), {"batch_size": 100}),
    ]
    for each in (columns, uncentred, Program("logistic", logistic, lambda: None, flips)):
        joint = partial(AutoMultivariateNormal, each.model)
        found.append(Program(f"{each.name}, mean field", each.model, lambda: None, each.data))
        found.append(Program(f"{each.name}, normal", each.model, joint, each.data))
    for scale in (1e-4, 1.0, 77.0, 1e6):
        found.append(Program(f"raw data, scale {scale:g}", partial(raw, scale=scale), lambda: None, (scale * (1 + y),)))
    return [*found, *networks(g)]


def networks(g: torch.Generator) -> list[Program]:
    line, plane = torch.linspace(-2, 2, 60)[:, None], torch.randn(1000, 3, generator=g)
    of_line = torch.sin(2 * line[:, 0]) + 0.1 * torch.randn(60, generator=g)
    of_plane = torch.sin(plane[:, 0]) + plane[:, 1] * plane[:, 2] + 0.1 * torch.randn(1000, generator=g)
    found = []
    for name, hidden, x, y, options in (
        ("network, 20 units", 20, line, of_line, {}),
        ("network, 60 units", 60, line, of_line, {}),
        ("network, lr 1e-8", 60, line, of_line, {"lr": 1e-8}),
        ("network, batches", 50, plane, of_plane, {"batch_size": 100}),
    ):
        torch.manual_seed(0)  # of the initial weights
        net = nn.Sequential(nn.Linear(x.shape[1], hidden), nn.Tanh(), nn.Linear(hidden, 1))
        found.append(Program(name, network, lambda: network_guide, (net, x, y), options, (net, x[:100])))
    return found


def many(y):
    z = pyro.sample("z", dist.Normal(torch.zeros(len(y)), 100.0).to_event(1))
    pyro.sample("y", dist.Normal(z, torch.logspace(-2, 2, len(y))).to_event(1), obs=y)


def precision(y):
    t = pyro.sample("t", dist.Gamma(1.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(0.0, t.rsqrt()), obs=y)


def gamma_guide(y):
    a = pyro.param("a", torch.tensor(1.0), constraint=dist.constraints.positive)
    b = pyro.param("b", torch.tensor(1.0), constraint=dist.constraints.positive)
    pyro.sample("t", dist.Gamma(a, b))


def raw(y, scale):
    m = pyro.sample("m", dist.Normal(0.0, 1000.0 * scale))
    s = pyro.sample("s", dist.LogNormal(math.log(scale), 2.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(m, s), obs=y)


def network(net, x, y=None):
    weights = {
        name: pyro.sample(name, dist.Normal(torch.zeros_like(p), 1.0).to_event(p.dim()))
        for name, p in net.named_parameters()
    }
    mean = pyro.deterministic("mean", functional_call(net, weights, (x,)).squeeze(-1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(mean, 0.1), obs=y)


def network_guide(net, x, y=None):
    for name, p in net.named_parameters():
        loc = pyro.param(f"{name}.loc", p.detach().clone())
        scale = pyro.param(f"{name}.scale", torch.full_like(loc, 0.05), constraint=dist.constraints.softplus_positive)
        pyro.sample(name, dist.Normal(loc, scale).to_event(p.dim()))

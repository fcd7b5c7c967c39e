"""Sound pairs with guides of Pyro's own: autoguides, lists of them, a PyroModule."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from _mistakes_case import LINE, Case, X, Z, line_posterior, regression
from pyro import poutine
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuideList,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)
from pyro.nn import PyroModule, PyroSample
from torch import nn

ROWS = torch.randn(40, 3, generator=torch.Generator().manual_seed(2))


def two(x: Any) -> None:
    a, b = (pyro.sample(name, dist.Normal(0.0, 1.0)) for name in "ab")
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(a - b, 1.0), obs=x)


class Net(PyroModule):
    def __init__(self) -> None:
        super().__init__()
        self.linear = PyroModule[nn.Linear](3, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 3]).to_event(2))

    def forward(self, x: Any, y: Any = None) -> None:
        mean = self.linear(x)[:, 0]
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def listed() -> AutoGuideList:
    guide = AutoGuideList(two)
    guide.append(AutoNormal(poutine.block(two, expose=["a"])))
    guide.append(AutoDelta(poutine.block(two, expose=["b"])))
    return guide


def sound(name: str, model: Any, guide: Any, *data: Any, right: Any = None, **options: Any) -> Case:
    return Case("sound", name, model, guide, data or (X,), right=right, options=options)


NET = Net()
FEW = {"steps": 200}
CASES = [
    sound("AutoMultivariateNormal", regression, AutoMultivariateNormal(regression), Z, LINE, **FEW),
    sound("AutoDiagonalNormal", regression, AutoDiagonalNormal(regression), Z, LINE, right=line_posterior(Z, LINE)),
    sound("AutoLowRankMultivariateNormal", regression, AutoLowRankMultivariateNormal(regression), Z, LINE, **FEW),
    sound("AutoIAFNormal", regression, AutoIAFNormal(regression), Z, LINE, **FEW),
    sound("AutoGuideList", two, listed(), **FEW),
    sound("a PyroModule", NET, AutoNormal(NET), ROWS, ROWS[:, 0], **FEW),
]

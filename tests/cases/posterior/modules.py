"""Models that are modules, in single precision as users hold them; the oracle reads the same numbers in double."""

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule, PyroSample
from torch import nn

from tests.cases.posterior.oracles import Case, conditioned, randn, rows, t

X, Y = randn(3, 15, 4).float(), randn(4, 15).float()


def eye(n):
    return torch.eye(n, dtype=torch.float64)


def last_layer(net, X, y):
    """Features of a network whose weights are fixed, and a Gaussian last layer."""
    w = pyro.sample("w", dist.Normal(torch.zeros(3, dtype=X.dtype), 1.0).to_event(1))
    rows("y", lambda: dist.Normal(net(X) @ w, 0.5), y)


class Linear(PyroModule):
    """Pyro's own way to a Bayesian layer; its priors are made in single precision."""

    def __init__(self):
        super().__init__()
        self.layer = PyroModule[nn.Linear](4, 1)
        self.layer.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 4]).to_event(2))
        self.layer.bias = PyroSample(dist.Normal(0.0, 2.0).expand([1]).to_event(1))

    def forward(self, X, y=None):
        mean = self.layer(X).squeeze(-1)
        rows("y", lambda: dist.Normal(mean, 0.5), y, len(X))
        return mean


def of_last_layer():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).requires_grad_(False)
    weight, bias = net[0].weight.double(), net[0].bias.double()
    A = torch.tanh(X.double() @ weight.T + bias)
    found = conditioned(torch.zeros(3).double(), eye(3), A, 0.25 * eye(15), Y.double())
    return Case(last_layer, (net, X, Y), {"w": found.block(slice(0, 3))}, found.evidence)


def of_linear():
    A = torch.cat([X.double(), torch.ones(15, 1).double()], 1)
    P = torch.diag(t(1, 1, 1, 1, 4))
    found = conditioned(torch.zeros(5).double(), P, A, 0.25 * eye(15), Y.double())
    marginals = {"layer.weight": found.block(slice(0, 4)), "layer.bias": found.block(slice(4, 5))}
    return Case(Linear(), (X, Y), marginals, found.evidence, {("layer.weight", "layer.bias"): found.cov[:4, 4:]})


MODULES = {"last layer, float32": of_last_layer(), "PyroModule, float32": of_linear()}

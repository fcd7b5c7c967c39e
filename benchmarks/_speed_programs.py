"""The pairs of speed.py as ordinary Pyro: coin, linear regression, Bayesian network, VAE, and a net of unknown depth.

Each function takes the starting values (constrained, by the names of `_speed_workloads`) and returns (model, guide).
Every call makes new networks, so that no contender trains another's weights.
"""

from collections.abc import Callable, Mapping

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import constraints

Params = Mapping[str, torch.Tensor]
Programs = tuple[Callable, Callable]  # (model, guide)

NOISE = 0.5  # sd of the observations of the regression
DEPTHS = 5  # of the net of unknown depth: 0 to 4 blocks
RATE = 0.5  # p(depth) ∝ exp(-RATE depth)
LATENTS = 20  # of the VAE
POSITIVE, CHOLESKY = constraints.positive, constraints.lower_cholesky


def coin(start: Params) -> Programs:
    def model(flips):
        p = pyro.sample("p", dist.Beta(2.0, 2.0))
        with pyro.plate("N", len(flips)):
            pyro.sample("x", dist.Bernoulli(p), obs=flips)

    def guide(flips):
        a, b = (pyro.param(name, start[name], constraint=POSITIVE) for name in "ab")
        pyro.sample("p", dist.Beta(a, b))

    return model, guide


def regression(start: Params) -> Programs:
    def model(x, y):
        theta = pyro.sample("theta", dist.Normal(x.new_zeros(x.shape[1]), 1.0).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ theta, NOISE), obs=y)

    def guide(x, y):
        L = pyro.param("L", start["L"], constraint=CHOLESKY)
        pyro.sample("theta", dist.MultivariateNormal(pyro.param("m", start["m"]), scale_tril=L))

    return model, guide


def network(start: Params) -> Programs:
    names = [name.removesuffix(".loc") for name in start if name.endswith(".loc")]

    def model(x, y):
        w = {}
        for name in names:
            zeros = torch.zeros(start[f"{name}.loc"].shape)
            w[name] = pyro.sample(name, dist.Normal(zeros, 1.0).to_event(zeros.dim()))
        logits = F.relu(x @ w["w1"] + w["b1"]) @ w["w2"] + w["b2"]
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Categorical(logits=logits), obs=y)

    def guide(x, y):
        for name in names:
            loc = pyro.param(f"{name}.loc", start[f"{name}.loc"])
            scale = pyro.param(f"{name}.scale", start[f"{name}.scale"], constraint=POSITIVE)
            pyro.sample(name, dist.Normal(loc, scale).to_event(loc.dim()))

    return model, guide


def vae(start: Params) -> Programs:
    decoder, encoder = (_loaded(_two_layers(start, part), start, part) for part in ("decoder", "encoder"))

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(LATENTS), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        mean, log_sd = encoder(x).chunk(2, -1)
        with pyro.plate("N", len(x)):
            pyro.sample("z", dist.Normal(mean, log_sd.exp()).to_event(1))

    return model, guide


def depth(start: Params) -> Programs:
    """The ELBO, or the plan, decides between enumeration and the score function."""
    width, inputs = start["net.stem.weight"].shape
    blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(DEPTHS - 1))
    parts = {"stem": nn.Linear(inputs, width), "blocks": blocks, "head": nn.Linear(width, 10)}
    net = _loaded(nn.ModuleDict(parts), start, "net")

    def model(x, y):
        pyro.module("net", net)
        z = pyro.sample("z", dist.Categorical(logits=-RATE * torch.arange(float(DEPTHS))))
        h = net["stem"](x)
        logits = [net["head"](h)]
        for block in net["blocks"]:
            h = h + F.relu(block(h))
            logits.append(net["head"](h))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Categorical(logits=torch.stack(logits)[z, torch.arange(len(x))]), obs=y)

    def guide(x, y):
        pyro.sample("z", dist.Categorical(logits=pyro.param("q", start["q"])))

    return model, guide


def _two_layers(start: Params, part: str) -> nn.Module:
    (hidden, inputs), (outputs, _) = start[f"{part}.0.weight"].shape, start[f"{part}.2.weight"].shape
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _loaded(net: nn.Module, start: Params, part: str) -> nn.Module:
    own = {name.removeprefix(f"{part}."): value for name, value in start.items() if name.startswith(f"{part}.")}
    net.load_state_dict(own)
    return net

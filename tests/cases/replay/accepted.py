"""Pairs that look like those of `refused` and that replay correctly, if it is done with care.

Each function makes a pair anew: (model, guide, before), as there.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.ops.indexing import Vindex
from torch import nn

from tests.cases.elbo.expectations import observe, param, positive
from tests.cases.replay.refused import Y, count, counted, drawn, four_drawn, normal, normals, same

X = torch.tensor([[0.5, 1.0], [-1.0, 0.3], [2.0, -0.7], [0.1, 0.1]])


def rows(step):
    """Other rows at each step."""
    return X + 0.1 * step, Y


def network(*layers):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), *layers, nn.Linear(3, 1))


def regression(net):
    def model(x, y):
        pyro.module("net", net)
        observe(y, net(x).squeeze(-1) + drawn())

    return model


def normal_of_two(x, y):
    normal(y)


# What the step reads from elsewhere.


def changed_in_place():
    """The user changes a tensor that the model has closed over."""
    shift = torch.zeros(())

    def model(y):
        observe(y, drawn() + shift)

    def before(step):
        shift.fill_(0.05 * step)
        return (Y,)

    return model, normal, before


def data_changed_in_place():
    """The user fills one and the same tensor at each step."""
    batch = Y.clone()

    def model(y):
        observe(y, drawn())

    def before(step):
        return (batch.copy_(Y + 0.05 * step),)

    return model, normal, before


def running_moments():
    """Batch norm in training mode: its running mean, moved by each step, is the prior's mean."""
    net = network(nn.BatchNorm1d(3))

    def model(x, y):
        pyro.module("net", net)
        out = net(x).squeeze(-1)
        observe(y, out + pyro.sample("z", dist.Normal(net[1].running_mean.sum(), 1.0)))

    return model, normal_of_two, rows


def evaluation_mode():
    """Batch norm and dropout that the user has switched off."""
    net = network(nn.BatchNorm1d(3), nn.Dropout(0.5)).eval()
    return regression(net), normal_of_two, rows


def dropout():
    """Noise that no site holds, from the generator of the run."""
    return regression(network(nn.Dropout(0.5))), normal_of_two, rows


# What only looks like control flow.


def where():
    def model(y):
        z = drawn()
        observe(y, torch.where(z > 0, z, 0.1 * z))

    return model, normal, same


def handlers():
    seen = torch.tensor([True, True, False, True])

    def model(y):
        z = drawn()
        with poutine.scale(scale=0.5), poutine.mask(mask=seen):
            observe(y, z)

    return model, normal, same


def indexed():
    """The data index the latent; a draw that is summed over indexes a table."""
    group = torch.tensor([0, 2, 2, 3])

    def model(y):
        z = four_drawn()
        with pyro.plate("N", len(y)):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.8])))
            pyro.sample("y", dist.Normal(z[group] + Vindex(torch.tensor([-1.0, 1.0]))[k], 1.0), obs=y)

    def guide(y):
        normals(y)
        logits = param("logits", torch.zeros(4, 2))
        with pyro.plate("N", len(y)):
            pyro.sample("k", dist.Categorical(logits=logits))

    return model, guide, same


def lengths():
    """Shapes in the arithmetic."""

    def model(x, y):
        z = drawn()
        observe(y, z * x.sum(-1) / len(x) + x.shape[1])

    return model, normal_of_two, rows


def counts():
    """A Poisson goes by the score function; nobody looks at its values."""

    def model(y):
        observe(y, counted().log1p())

    return model, count, same


def crowded():
    """More latents than observations: such a run warms up."""

    def model(y):
        observe(y, pyro.sample("w", dist.Normal(torch.zeros(20), 1.0).to_event(1)).reshape(4, 5).sum(-1))

    def guide(y):
        pyro.sample("w", dist.Normal(param("loc", [0.1] * 20), positive("scale", [0.3] * 20)).to_event(1))

    return model, guide, same


REPLAYED = [
    changed_in_place,
    data_changed_in_place,
    running_moments,
    evaluation_mode,
    dropout,
    where,
    handlers,
    indexed,
    lengths,
    counts,
    crowded,
]

"""A pair checked before its first step, as a run does it, and the pair that the tests of single checks change."""

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints

from credo.inference.inputs.arguments import arguments
from credo.inference.pair.autoguide import with_guide
from credo.inference.preflight.check import Checked, checked
from credo.inference.runtime.state import entered, new_state

X = torch.randn(40, generator=torch.Generator().manual_seed(0)) + 2


def look(model, guide, *data) -> Checked:
    """What the checks find in this pair. Raises ValueError as a run does."""
    model, guide = with_guide(model, guide)
    cpu = torch.device("cpu")
    given = arguments(model, data, torch.float32, cpu)
    with entered(new_state((model, guide, data), 0, cpu)):
        return checked(model, guide, given.values, given.names)


def warned(model, guide, *data) -> str:
    """The warnings of the checks, as one text; empty for a pair in which nothing looks like a mistake."""
    return "\n".join(look(model, guide, *data).warnings)


def positive(name, value=1.0):
    return pyro.param(name, torch.tensor(value), constraint=constraints.positive)


def world(x):
    """x ~ N(mu, 1) in a plate, mu ~ N(0, 10)."""
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def belief(x):
    pyro.sample("mu", dist.Normal(pyro.param("m", torch.tensor(0.0)), positive("s")))

"""Warnings of a pair: all that are due in one program, none in a sound one; its parameters stay as they are."""

import pyro
import pyro.distributions as dist
import torch

from credo.inference.preflight.check import checked
from credo.inference.runtime.state import entered, new_state
from tests.cases.checked import X, belief, positive, warned, world

HELD = torch.tensor(0.5, requires_grad=True)


def twice(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)
        pyro.sample("again", dist.Normal(mu, 1.0), obs=x)


def noise_without_density(x):
    e = pyro.sample("e", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
    pyro.sample("mu", dist.Delta(HELD + positive("s") * e))


def test_each_mistake_of_a_pair_has_its_warning():
    found = warned(twice, noise_without_density, X)
    for words in ("'HELD' requires a gradient", "sites 'x', 'again': the same values", "site 'mu': a Delta"):
        assert words in found
    assert warned(world, belief, X) == ""


def test_parameters_are_where_they_were():
    """The check of Delta sites moves them: a check under the same store finds them at their start."""
    cpu = torch.device("cpu")
    with entered(new_state((world, noise_without_density), 0, cpu)):
        assert len(checked(world, noise_without_density, (X,), ["x"]).warnings) == 2
        assert pyro.param("s").item() == 1

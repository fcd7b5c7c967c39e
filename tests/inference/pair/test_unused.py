"""Parameters that no site is computed from are found, in whichever of many draws a site needs them."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.pair.pair import Pair
from credo.inference.pair.unused import unused_parameters
from credo.inference.runtime.parameters import unconstrained


def guide():
    pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0))


def model_with(use):
    def model():
        free = pyro.param("free", torch.tensor(0.5))
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        use(free, z)

    return model


def rare(free, z):
    if z > 1.0:  # a sixth of the draws
        pyro.sample("x", dist.Normal(free, 1.0), obs=z)


USES = {
    "log density": lambda free, z: pyro.factor("f", free * z),
    "zero": lambda free, z: pyro.factor("f", 0 * free),
    "deterministic": lambda free, z: pyro.deterministic("shown", free),
    "itself": lambda free, z: pyro.deterministic("shown", free + 0),
    "observed": lambda free, z: pyro.sample("x", dist.Normal(free, 1.0), obs=z.detach()),
    "in some draws": rare,
}
NOTHING = {
    "nothing": lambda free, z: None,
    "detached": lambda free, z: pyro.factor("f", free.detach() * z),
    "item": lambda free, z: pyro.factor("f", free.item() * z),
}


@pytest.mark.parametrize("use", USES)
def test_a_parameter_that_a_site_depends_on_is_used(use):
    assert _unused(USES[use]) == []


@pytest.mark.parametrize("use", NOTHING)
def test_a_parameter_that_no_site_depends_on_is_named(use):
    assert _unused(NOTHING[use]) == ["free"]


def test_a_program_that_fails_at_half_of_its_draws_is_traced_at_the_others():
    def use(free, z):
        if z > 0:
            raise ValueError("not above 0")
        pyro.factor("f", free * z)

    assert _unused(use) == []
    assert _unused(lambda free, z: use(torch.tensor(1.0), z)) == ["free"]


def test_parameters_and_generators_stay():
    def late(free, z):
        pyro.param("late", torch.tensor(1.0))

    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert _unused(late) == ["free"] and list(unconstrained()) == ["m", "free"]
    assert torch.equal(before, torch.get_rng_state())


def _unused(use):
    pair = Pair(model_with(use), guide, ())
    pyro.param("m", torch.tensor(0.0)), pyro.param("free", torch.tensor(0.5))
    return unused_parameters(pair)

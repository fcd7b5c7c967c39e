"""A jump of the log density that a run comes to is found at its end, and one that it does not come to is not."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.convergence.recheck import jumps
from credo.inference.pair.pair import Pair
from credo.inference.runtime.state import entered

Y = torch.tensor([0.3, 1.0])


def step_at_ten(y):
    z = pyro.sample("z", dist.Normal(0.0, 10.0))
    k = pyro.sample("k", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal((z > 10).float() + 0.1 * z + k, 1.0), obs=y)


def guide(y):
    pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.0)), 0.1))
    pyro.sample("k", dist.Normal(pyro.param("k_loc", torch.tensor(0.0)), 1.0))


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize(("at", "found"), [(0.0, 0), (10.0, 1), (20.0, 0)])
def test_a_jump_is_found_where_the_draws_cross_it(at, found, vectorised):
    runner = credo.SVI(step_at_ten, guide, plan="fast", progress=False)
    plan = runner.prepare(Y)
    assert set(plan.pathwise) == {"z", "k"}  # the start lies far from the jump
    with entered(runner._prepared.state):
        with torch.no_grad():
            pyro.param("m").fill_(at)
        warnings = jumps(Pair(step_at_ten, guide, (Y,)), plan, vectorised)
    assert len(warnings) == found
    for warning in warnings:
        assert "site 'z'" in warning and "plan={'z': 'score'}" in warning and "jumps" in warning


def test_a_site_that_is_not_pathwise_may_jump():
    runner = credo.SVI(step_at_ten, guide, plan={"z": "score"}, progress=False)
    plan = runner.prepare(Y)
    with entered(runner._prepared.state):
        with torch.no_grad():
            pyro.param("m").fill_(10.0)
        assert jumps(Pair(step_at_ten, guide, (Y,)), plan, True) == []

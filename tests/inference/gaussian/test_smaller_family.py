"""The best mean-field normal of a model, beside its closed form, quadrature, and another mode."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.gaussian.density import prepared
from credo.inference.gaussian.families import few_factors, mean_field
from credo.inference.gaussian.smaller_family import best_in_family
from credo.inference.runtime.defaults import default_dtype
from credo.inference.runtime.state import entered
from tests.cases.repeats import seeds


def best(model, *data, family=mean_field, little=1e-4, seed=0):
    density, state, _ = prepared(model, data, torch.device("cpu"), seed)
    with entered(state), default_dtype(density.first.dtype):
        return best_in_family(density, family, little, seed)


@pytest.mark.parametrize("seed", seeds(3))
def test_of_two_modes_the_better_one(seed):
    """Three quarters of the mass are in one mode; Newton's steps from -2 to 2 end in either."""

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1000.0))
        shares, places = dist.Categorical(torch.tensor([0.75, 0.25])), torch.tensor([-3.0, 3.0])
        modes = dist.MixtureSameFamily(shares, dist.Normal(places, torch.tensor([0.5, 0.7])))
        pyro.factor("modes", modes.log_prob(z))

    found = best(model, seed=seed)
    assert found.converged and found.normal.mean.item() == pytest.approx(-3, abs=0.02)
    assert found.normal.sd.item() == pytest.approx(0.5, rel=0.02)


def test_groups_that_are_independent_given_few_latents():
    """z_i ~ Normal(m, .3), y_i ~ Normal(z_i, .5): of the posterior, which is normal, s_i = 1 / sqrt(P_ii)."""
    y = torch.linspace(-2, 2, 40)

    def model(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            z = pyro.sample("z", dist.Normal(m, 0.3))
            pyro.sample("y", dist.Normal(z, 0.5), obs=y)

    found = best(model, y)
    roots = torch.tensor([1 + 40 / 0.09, *[1 / 0.09 + 1 / 0.25] * 40], dtype=torch.float64).sqrt()
    assert found.converged and (found.normal.sd * roots - 1).abs().max() < 0.01
    assert abs(found.normal.mean[0].item()) < 0.01
    few = best(model, y, family=partial(few_factors, rank=1), little=2e-3)
    sd = 1 / (1 + 40 / (0.09 + 0.25)) ** 0.5  # of m under the posterior: one factor holds what the groups share
    assert few.converged and few.normal.sd[0].item() == pytest.approx(sd, rel=0.05)

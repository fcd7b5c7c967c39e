"""The optimisers that a run takes."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from tests.cases.elbo.expectations import observe, param

X = torch.tensor([1.0, 2.0, 3.0])


def test_the_learning_rate_of_a_partial_goes_first():
    def model(y):
        observe(y, pyro.sample("z", dist.Normal(0.0, 1.0)))

    def guide(y):
        pyro.sample("z", dist.Normal(param("loc", 0.0), 1.0))

    svi = credo.SVI(model, guide, partial(torch.optim.SGD, lr=0.123), progress=False)
    svi.step(X)
    assert svi._steps.optimiser.param_groups[0]["lr"] == 0.123
    with pytest.raises(ValueError, match="LBFGS"):
        credo.fit(model, guide, X, optim=torch.optim.LBFGS)
    with pytest.raises(ValueError, match="'adam'"):
        credo.fit(model, guide, X, optim="adam")
    with pytest.raises(ValueError, match="optim"):
        credo.fit(model, guide, X, optim=pyro.optim.Adam({"lr": 0.1}))

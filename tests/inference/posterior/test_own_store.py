"""A Pyro module with a store of its own: it reads and trains its own parameters, and nothing of the process moves."""

import copy
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule, PyroParam
from torch import nn

import credo
from credo.inference.posterior.own_store import OwnStore, with_own_store

X = torch.tensor([0.2, 1.4, 0.9, 1.1])


def model(x=None):
    m = pyro.sample("m", dist.Normal(0.0, 5.0))
    with pyro.plate("N", 4 if x is None else len(x)):
        pyro.sample("x", dist.Normal(m, 1.0), obs=x)


class Shift(PyroModule):
    def __init__(self, start):
        super().__init__()
        self.by = PyroParam(torch.tensor(start))

    def forward(self, x):
        return x + self.by


def empty_store():
    return {"params": {}, "constraints": {}}


def test_two_modules_of_one_name_keep_their_own_parameters(unchanged):
    with unchanged():
        one, two = with_own_store(Shift(1.0), empty_store()), with_own_store(Shift(2.0), empty_store())
        assert [one(0.0).item(), two(0.0).item(), one(0.0).item()] == [1.0, 2.0, 1.0]
    shared = Shift(1.0)
    shared(0.0)
    assert Shift(2.0)(0.0).item() == 1.0  # what Pyro does: the second reads the parameter of the first


def test_the_store_of_the_process_returns_after_an_error(unchanged):
    module = with_own_store(Shift(1.0), empty_store())
    with unchanged(), pytest.raises(TypeError):
        module("a word")
    assert module(0.0).item() == 1.0


def test_other_networks_stay_as_they_are():
    net = nn.Linear(2, 1)
    assert with_own_store(net, empty_store()) is net
    assert not any(isinstance(value, OwnStore) for value in vars(net).values())


@pytest.mark.parametrize("kind", [AutoNormal, AutoMultivariateNormal])
@pytest.mark.parametrize("run_before", [False, True])
def test_a_trained_autoguide_draws_from_the_fit(kind, run_before, unchanged):
    """Exact: the mean of m is sum x / (n + 1 / 25)."""
    guide = kind(model)
    if run_before:  # Pyro's store then holds its starting values under the same names
        guide(X)
    fit = credo.fit(model, guide, X, steps=500, progress=False)
    with unchanged():
        trained = fit.trained(guide)
        assert trained.median()["m"].item() == pytest.approx(X.sum().item() / 4.04, abs=0.1)
    for each in (trained, copy.deepcopy(trained), pickle.loads(pickle.dumps(trained))):
        draws = Predictive(model, guide=each, num_samples=400)()["m"]
        assert draws.mean().item() == pytest.approx(X.sum().item() / 4.04, abs=0.2)


def test_a_trained_autoguide_can_be_trained_further_by_pyro():
    guide = AutoNormal(model)
    fit = credo.fit(model, guide, X, steps=100, progress=False)
    trained = fit.trained(guide)
    svi = SVI(model, trained, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(300):
        svi.step(X + 3.0)
    assert trained.median()["m"].item() == pytest.approx((X + 3.0).sum().item() / 4.04, abs=0.3)
    assert fit.sample(500)["m"].mean().item() == pytest.approx(X.sum().item() / 4.04, abs=0.3)

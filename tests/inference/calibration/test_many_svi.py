"""SVI on many data sets finds what a fit to each of them finds."""

import dataclasses

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal
from torch import nn

import credo
from credo.inference.calibration.many_svi import fit_many, starts
from credo.inference.runtime.defaults import CPU
from credo.inference.runtime.state import entered, new_state
from credo.inference.updates.optimiser import optimiser
from tests.cases import calibration as cases

DATA = torch.randn(4, cases.ROWS, generator=torch.Generator().manual_seed(0)) + torch.arange(4.0)[:, None]


def beta_of_data(y):
    """Starts from the data: each data set has a start of its own."""
    loc = pyro.param("loc", y.mean())
    scale = pyro.param("scale", lambda: torch.tensor(0.5), constraint=dist.constraints.positive)
    pyro.sample("m", dist.Normal(loc, scale))


def many(fit, data, steps=None, lr=0.02):
    state = new_state((fit.model, fit.guide, fit.data), 0, CPU)
    with entered(state):
        fit.guide(*fit.data)
        start = starts(fit, {0: data})
        return start, fit_many(fit, {0: data}, start, optimiser(None, lr), steps)


def test_starts_and_posteriors_are_those_of_each_data_set():
    fit = credo.fit(cases.normal_mean, beta_of_data, DATA[0], steps=200, compile=False, progress=False)
    start, found = many(fit, DATA)
    torch.testing.assert_close(start["loc"], DATA.mean(1))
    precision = 4 + cases.ROWS
    torch.testing.assert_close(found.parameters["loc"], DATA.sum(1) / precision, atol=0.02, rtol=0)
    scales = found.parameters["scale"].exp()
    torch.testing.assert_close(scales, torch.full((4,), precision**-0.5), atol=0.02, rtol=0)
    assert not found.moving.any()


@pytest.mark.slow
def test_data_sets_that_had_too_few_steps_go_on():
    fit = credo.fit(cases.normal_mean, beta_of_data, DATA[0], steps=10, compile=False, progress=False)
    far = lambda y: beta_of_data(y + 30)  # noqa: E731
    _, found = many(dataclasses.replace(fit, guide=far), DATA)
    assert found.steps > 500 and not found.moving.any()
    torch.testing.assert_close(found.parameters["loc"], DATA.sum(1) / 10, atol=0.03, rtol=0)
    _, short = many(dataclasses.replace(fit, guide=far), DATA, steps=10)
    assert (short.parameters["loc"] > 25).all()  # as a run of ten steps is


@pytest.mark.parametrize("kind", ["autoguide", "module"])
def test_parameters_of_modules_are_batched_too(kind):
    """torch's own parameters, which modules read without asking Pyro."""
    if kind == "autoguide":
        guide = AutoMultivariateNormal(cases.normal_mean)
    else:
        net = nn.Linear(1, 1)

        def guide(y):
            pyro.module("net", net)
            pyro.sample("m", dist.Normal(net(torch.zeros(1))[0], 0.3))

    fit = credo.fit(cases.normal_mean, guide, DATA[0], steps=200, optim=torch.optim.Adam, compile=False, progress=False)
    _, found = many(fit, DATA, 400, 0.05)
    loc = found.parameters["AutoMultivariateNormal.loc" if kind == "autoguide" else "net$$$bias"]
    torch.testing.assert_close(loc[:, 0], DATA.sum(1) / 10, atol=0.1, rtol=0)

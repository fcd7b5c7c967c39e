"""The summary of given rows has the rows that the summary of all has."""

import pyro
import pyro.distributions as dist
import torch

import credo


def model(x):
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def test_it_is_a_part_of_the_summary():
    fit = credo.fit(model, None, torch.linspace(-1, 1, 6), progress=False)
    every, some = fit.summary(4000), fit.summary(4000, rows=[4, 1])
    assert list(some.index) == ["z[4]", "z[1]"] and list(some.columns) == list(every.columns)
    assert (some - every.loc[some.index]).abs().to_numpy().max() < 0.1

"""Observed sites are drawn anew; deterministic sites keep their value and their shape."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from credo.inference.runtime.anew import Anew
from credo.inference.runtime.sites import deterministic, latent, observed


def model(x):
    with pyro.plate("N", len(x)):
        twice = pyro.deterministic("twice", 2 * x)
        pyro.sample("y", dist.Normal(twice, 1e-3), obs=100 + x)


def test_observations_are_drawn_and_what_is_computed_stays_computed():
    x = torch.arange(3.0)
    seen = poutine.trace(model).get_trace(x)
    drawn = poutine.trace(Anew()(model)).get_trace(x)
    assert torch.equal(seen.nodes["y"]["value"], 100 + x) and set(observed(seen)) == {"y"}
    assert set(latent(drawn)) == {"y"} and set(deterministic(drawn)) == {"twice"}
    assert (drawn.nodes["y"]["value"] - 2 * x).abs().max() < 0.1
    assert torch.equal(drawn.nodes["twice"]["value"], 2 * x)  # Pyro's uncondition has shape (3, 3) here

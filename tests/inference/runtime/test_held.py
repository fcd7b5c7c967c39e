"""Sites held at given values."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from credo.inference.runtime.held import HeldSites


def test_a_held_site_is_latent_and_has_its_value_in_all_rows():
    def model():
        with pyro.plate("N", 3):
            pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(2.0))

    trace = poutine.trace(HeldSites({"z": torch.tensor(5.0), "x": torch.tensor(7.0)})(model)).get_trace()
    assert trace.nodes["z"]["value"].tolist() == [5.0] * 3 and not trace.nodes["z"]["is_observed"]
    assert trace.nodes["x"]["value"] == 2.0

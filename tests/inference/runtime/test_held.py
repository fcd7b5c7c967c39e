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


def test_a_value_with_more_rows_than_the_batch_shape_says_keeps_them():
    """As a conditional flow draws them: its rows come from what it is conditioned on."""
    rows = torch.arange(6.0).reshape(3, 2)
    held = HeldSites({"x": rows})(lambda: pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1)))
    assert torch.equal(held(), rows)

"""The likelihood of rows is that of one row each, also where the fit counted each of them more often."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from credo.inference.predictive.untempered import untempered

Y = torch.tensor([0.3, 1.1, 0.7])


def model(y, said=True):
    with pyro.plate("N", len(y)), poutine.scale(scale=2.0):
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=y, infer={"temperature": 0.5} if said else {})


def test_a_site_that_says_its_temperature_counts_once():
    expected = dist.Normal(0.0, 1.0).log_prob(Y).sum()
    for said, factor in ((True, 1.0), (False, 2.0)):  # a scale alone is a weight of the user's
        found = poutine.trace(untempered(model)).get_trace(Y, said=said).log_prob_sum()
        torch.testing.assert_close(found, factor * expected)
    torch.testing.assert_close(poutine.trace(model).get_trace(Y).log_prob_sum(), 2 * expected)

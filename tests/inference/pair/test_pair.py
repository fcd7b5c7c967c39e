"""A pair of a model and a guide on its data, with and without latents to sum out."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from credo.inference.pair.costs import DATA, run
from credo.inference.pair.pair import Pair, Summed

X = torch.tensor([0.3, 1.0, -0.4])


def model(x):
    k = pyro.sample("k", dist.Bernoulli(0.3))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(2.0 * k, 1.0), obs=x)


def guide(x):
    pyro.sample("k", dist.Bernoulli(0.5))


def nothing(x):
    """Leaves k to be summed out."""


def test_a_pair_without_summed_sites_draws_them_all():
    z, costs, *_ = run(Pair(model, guide, (X,)))
    torch.testing.assert_close(costs[DATA, "x"], dist.Normal(2.0 * z["k"], 1.0).log_prob(X))


@pytest.mark.parametrize("nesting", [1, 2, 3])
def test_a_summed_site_has_its_values_left_of_the_dimensions_that_are_taken(nesting):
    pair = Pair(model, nothing, (X,), Summed(frozenset({"k"}), nesting))
    z, costs, *_ = run(pair)
    both = torch.stack([dist.Normal(mean, 1.0).log_prob(X).sum() for mean in (0.0, 2.0)])
    wanted = (both + torch.tensor([0.7, 0.3]).log()).logsumexp(0)
    assert z == {} and list(costs) == [(DATA, "x")]
    torch.testing.assert_close(costs[DATA, "x"].sum(), wanted)


def test_a_pair_on_other_data_keeps_what_is_summed_out():
    pair = Pair(model, nothing, (X,), Summed(frozenset({"k"}), 1))
    part = pair._replace(data=(X[:1],))
    assert part.summed is pair.summed and part.summed.guided
    assert poutine.trace(part.model).get_trace(*part.data).nodes["x"]["value"].shape == (1,)

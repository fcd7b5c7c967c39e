"""One draw of a prediction: what was drawn, and what was held."""

import pyro
import pyro.distributions as dist
import torch

from credo.inference.pair.pair import Pair
from credo.inference.posterior.local_latents import Sources, sources
from credo.inference.posterior.prediction import one_prediction

X = torch.arange(4.0)


def model(x):
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        u = pyro.deterministic("double", 2 * pyro.sample("u", dist.Normal(0.0, 1.0)))
        pyro.sample("x", dist.Normal(b + u, 1.0), obs=x)


def guide(x):
    pyro.sample("b", dist.Delta(torch.tensor(3.0)))
    with pyro.plate("N", 4):
        pyro.sample("u", dist.Delta(X))


PAIR = Pair(model, guide, (X,))


def test_the_rows_of_the_fit_hold_all_latents():
    drawn, held = one_prediction(PAIR, (X,), sources(PAIR, (X,)))
    assert drawn.keys() == {"double", "x"} and held.nodes.keys() == {"b", "u"}
    assert torch.equal(drawn["double"], 2 * X)


def test_other_rows_hold_the_shared_latents_and_return_their_own():
    new = (torch.ones(2),)
    drawn, held = one_prediction(PAIR, new, sources(PAIR, new))
    assert drawn.keys() == {"u", "double", "x"} and held.nodes.keys() == {"b"}
    assert torch.equal(drawn["double"], 2 * drawn["u"]) and drawn["x"].shape == (2,)


def test_without_sources_everything_is_drawn_from_the_model():
    drawn, held = one_prediction(PAIR, (X,), Sources((X,)))
    assert drawn.keys() == {"b", "u", "double", "x"} and not held.nodes

"""The choices of a plan as plain values, taken up by a plan of the same pair."""

import json

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.planning.plain_plan import plain_plan, with_plain

Y = torch.tensor([1.0, 0.0, 3.0])


def model(y):
    k = pyro.sample("k", dist.Poisson(2.0))
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z + k, 1.0), obs=y)


def guide(y):
    pyro.sample("k", dist.Poisson(pyro.param("rate", torch.tensor(1.0))))
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))


def test_a_fresh_plan_takes_up_the_choices_of_another():
    raced = credo.plan(model, guide, Y)
    fresh = credo.SVI(model, guide, plan="fast", progress=False).prepare(Y)
    plain = json.loads(json.dumps(plain_plan(raced.with_choice("z", "score", "log q"))))
    found = with_plain(fresh, plain)
    assert found.estimator("z") == "score" and found.choices == raced.with_choice("z", "score", "log q").choices
    assert found.variance == raced.variance and repr(with_plain(fresh, plain_plan(raced))) == repr(raced)


def test_a_plan_of_other_sites_is_refused():
    plain = plain_plan(credo.plan(model, guide, Y, plan="fast"))
    plain["rows"] = plain["rows"][:1]
    with pytest.raises(ValueError, match="'z' is in one of the two plans only"):
        with_plain(credo.plan(model, guide, Y, plan="fast"), plain)

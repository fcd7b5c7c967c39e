"""Sites held at given values and continued by the model where a plate has grown."""

from typing import NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from credo.inference.posterior.continued import ContinuedSites
from credo.inference.runtime.vectorise import draw


class Growth(NamedTuple):
    along: frozenset = frozenset()
    columns: frozenset = frozenset()


def groups(n, steps=3):
    with pyro.plate("G", n, dim=-2), pyro.plate("D", 2, dim=-1):
        pyro.sample("a", dist.Normal(100.0, 1.0))
    pyro.sample("h", dist.Normal(torch.full((steps,), 50.0), 1.0).to_event(1))


VALUES = {"a": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "h": torch.tensor([5.0, 6.0, 7.0])}


def run(growth, *data):
    with ContinuedSites(VALUES, growth):
        nodes = poutine.trace(groups).get_trace(*data).nodes
    return nodes["a"]["value"], nodes["h"]["value"]


def test_values_of_the_same_shape_are_kept():
    a, h = run(Growth(), 2)
    assert torch.equal(a, VALUES["a"]) and torch.equal(h, VALUES["h"])


def test_a_plate_that_grows_gets_draws_of_the_model_behind_its_values():
    a, _ = run(Growth(), 4)
    assert torch.equal(a[:2], VALUES["a"]) and a.shape == (4, 2) and (a[2:] > 90).all()


def test_a_plate_that_shrinks_keeps_the_first_values():
    assert torch.equal(run(Growth(), 1)[0], VALUES["a"][:1])


def test_an_event_grows_only_where_it_may():
    h = run(Growth(along=frozenset({"h"})), 2, 5)[1]
    assert torch.equal(h[:3], VALUES["h"]) and (h[3:] > 40).all() and h.shape == (5,)
    with pytest.raises(ValueError, match=r"'h'.*shape \(3,\) in the fit and \(5,\)"):
        run(Growth(), 2, 5)


def test_a_plate_does_not_follow_the_columns_of_the_data():
    with pytest.raises(ValueError, match="'a'"):
        run(Growth(columns=frozenset({(2, 4)})), 4)


def test_many_draws_at_once_are_continued_independently():
    def one():
        with ContinuedSites(VALUES, Growth()):
            return poutine.trace(groups).get_trace(3).nodes["a"]["value"]

    draws = draw(one, 500)
    assert torch.equal(draws[:, :2], VALUES["a"].expand(500, 2, 2))
    assert draws[:, 2].std(0).sub(1).abs().max() < 0.2

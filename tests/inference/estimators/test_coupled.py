"""Rows of a plate that look at each other, directly or through a later draw."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints as c

from credo.inference.estimators.coupled import coupled_plates
from credo.inference.estimators.dependencies import dependencies
from credo.inference.pair.pair import Pair
from credo.inference.runtime.state import entered, new_state
from tests.cases.repeats import seeds

Y = torch.tensor([1.3, 0.2, 2.0])


def rows_of(observe_given, with_later=False, n=3):
    def model(y):
        with pyro.plate("N", n):
            k = pyro.sample("k", dist.Poisson(torch.tensor(1.0)))
            later = pyro.sample("later", dist.Poisson(torch.tensor(2.0))) if with_later else k
            pyro.sample("y", dist.Normal(observe_given(later if with_later else k), 1.0), obs=y)

    def own_guide(y):
        with pyro.plate("N", n):
            k = pyro.sample("k", dist.Poisson(pyro.param("rate", torch.ones(n), constraint=c.positive)))
            if with_later:
                pyro.sample("later", dist.Poisson(1 + k))

    return model, own_guide


def coupled(model, guide, y, seed=0):
    with entered(new_state((model, guide), seed, torch.device("cpu"))):
        pair = Pair(model, guide, (y,))
        return coupled_plates(pair, dependencies(pair))


def test_rows_that_look_at_each_other_are_noticed():
    assert coupled(*rows_of(lambda k: k), Y) == {"k": frozenset()}
    assert coupled(*rows_of(lambda k: k - k.mean(-1, keepdim=True)), Y) == {"k": {"N"}}
    assert coupled(*rows_of(lambda k: k.flip(-1)), Y) == {"k": {"N"}}


@pytest.mark.parametrize("seed", seeds(8))
def test_also_if_one_row_looks_at_one_other(seed):
    def after(k):
        return torch.stack([k[..., 0], k[..., 1] + k[..., 0]], -1)

    assert coupled(*rows_of(after, n=2), Y[:2], seed) == {"k": {"N"}}


def test_or_at_each_other_through_a_later_draw():
    model, own_guide = rows_of(lambda later: later - later.mean(-1, keepdim=True), with_later=True)
    assert coupled(model, own_guide, Y) == {"k": {"N"}, "later": {"N"}}
    model, own_guide = rows_of(lambda later: later, with_later=True)
    assert coupled(model, own_guide, Y) == {"k": frozenset(), "later": frozenset()}


def test_a_later_draw_outside_of_the_plate_couples_its_rows():
    def model(y):
        with pyro.plate("N", 3):
            pyro.sample("k", dist.Poisson(torch.tensor(1.0)))
        total = pyro.sample("total", dist.Poisson(torch.tensor(2.0)))
        with pyro.plate("rows", 3):
            pyro.sample("y", dist.Normal(total, 1.0), obs=y)

    def own_guide(y):
        with pyro.plate("N", 3):
            k = pyro.sample("k", dist.Poisson(pyro.param("rate", torch.ones(3), constraint=c.positive)))
        pyro.sample("total", dist.Poisson(1 + k.sum(-1)))

    assert coupled(model, own_guide, Y) == {"k": {"N"}, "total": frozenset()}

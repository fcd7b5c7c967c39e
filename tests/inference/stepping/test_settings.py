"""The arguments of a run are checked before anything runs."""

import functools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import credo
from credo.inference.stepping.settings import checked

Y = torch.tensor([0.5, 1.5, -0.3])


def world(y):
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(loc, 1.0), obs=y)


def belief(y):
    m = pyro.param("m", torch.tensor(0.0))
    s = pyro.param("s", torch.tensor(1.0), constraint=constraints.positive)
    pyro.sample("loc", dist.Normal(m, s))


check = functools.partial(
    checked,
    world,
    lr=0.01,
    particles=None,
    batch_size=None,
    plan=None,
    force=False,
    seed=0,
    device="cpu",
    progress=False,
)


@pytest.mark.parametrize(("option", "value"), [("particles", 0), ("lr", 0.0), ("lr", float("nan")), ("device", "no")])
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=option):
        credo.fit(world, belief, Y, **{option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("lr", v) for v in (0.0, -1.0, float("nan"))),
        *(("particles", v) for v in (0, 2.5, "3", True, 10**30)),
        *(("batch_size", v) for v in (0, -1, True)),
        *(("seed", v) for v in (-1, 0.5, True)),
        *(("plan", v) for v in ("slow", {"loc": []}, {"loc": None})),
        *(("force", v) for v in ("False", 2, torch.zeros(3), np.zeros(0))),
        *(("compile", v) for v in ("no", None)),
        *(("progress", v) for v in ("no", float("nan"))),
    ],
)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_argument(option, value):
    with pytest.raises(ValueError, match=f"^{option}: got"):
        check(**{option: value})


def test_plans_compete_unless_one_is_given():
    plan = credo.plan(world, belief, Y)
    assert [check(plan=p).races for p in (None, {"loc": "score"}, "fast", plan)] == [True, True, False, False]
    assert [check(plan=p).overrides for p in (None, {"loc": "score"}, "fast")] == [None, {"loc": "score"}, None]
    assert check(plan=plan).overrides is plan


def test_what_is_given_is_kept():
    found = check(particles=3, batch_size=2, seed=5, force=True)
    assert found.model is world and found.device == torch.device("cpu")
    assert (found.particles, found.batch_size, found.seed, found.force, found.progress) == (3, 2, 5, True, False)
    assert (check().particles, check().batch_size) == (None, None)
    assert [check(force=v).force for v in (np.True_, 1, 0, False)] == [True, True, False, False]

"""Models of Pyro's tutorials, and the pairs that come with credo: a captured step gives the losses of the eager one.

Oracle: the same run with compile=False, seed for seed.
"""

import re

import pytest
import torch

import credo
from tests.cases.tutorials import deep, topics
from tests.cases.tutorials import small as tutorials
from tests.cases.tutorials.small import part_three

STEPS, ROWS = 50, 200


def name(f):
    return f.__name__


def check_equal(make, **settings):
    """50 steps of two runs, of which the first is returned."""
    runners, drawn = [], []
    for compile in (True, False):
        model, guide, data = make()
        runner = credo.SVI(model, guide, compile=compile, progress=False, seed=0, **settings)
        for _ in range(STEPS):
            runner.step(*data)
        runners.append(runner)
        drawn.append(runner.evaluate_loss(*data))
    runner, eager = runners
    assert len(set(eager.losses)) > STEPS // 2 and len(eager.losses) == STEPS
    assert eager.plan.compiled.startswith("eager: ")
    assert runner.losses == pytest.approx(eager.losses, rel=1e-5)
    assert runner.params.keys() == eager.params.keys()
    assert drawn[0] == pytest.approx(drawn[1], rel=1e-5)  # the generators are where they would be
    return runner


@pytest.mark.parametrize("make", tutorials.TUTORIALS + deep.TUTORIALS + topics.TUTORIALS, ids=name)
def test_a_tutorial_is_replayed(make):
    assert check_equal(make).plan.compiled.startswith("captured")


@pytest.mark.parametrize("make", tutorials.EAGER, ids=name)
def test_a_tutorial_that_cannot_be_replayed_says_where(make):
    compiled = check_equal(make).plan.compiled
    assert re.match(r"eager: .* at small\.py:\d+: `for i in pyro.plate\(.*`$", compiled), compiled


@pytest.mark.parametrize("make", deep.EITHER, ids=name)
def test_a_tutorial_that_may_be_replayed_has_the_same_losses(make):
    assert re.match(r"captured|eager: ", check_equal(make).plan.compiled)


def test_the_decaying_average_of_a_single_particle_goes_on_in_a_replay():
    runner = check_equal(part_three, particles=1)
    assert runner.plan.estimator("latent_fairness") == "score"
    assert runner.plan.compiled.startswith("captured")


def pair(name):
    """A pair that comes with credo, on some of its rows."""
    found = credo.load(name)
    data = (d[:ROWS] if isinstance(d, torch.Tensor) else d for d in found.data())
    return found.model, found.guide, tuple(data)


@pytest.mark.parametrize("name", credo.names())
def test_a_pair_that_comes_with_credo_is_replayed(name):
    assert check_equal(lambda: pair(name)).plan.compiled.startswith("captured")


@pytest.mark.parametrize("name", ["bnn_classifier", "linear_regression", "vae"])
def test_batches_are_replayed(name):
    """200 rows in batches of 60, three to a pass."""
    assert check_equal(lambda: pair(name), batch_size=60).plan.compiled.startswith("captured")

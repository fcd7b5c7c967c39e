"""Blocks: which latents, and which rows of a plate, depend on each other."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.exact.blocks import find_blocks
from tests.cases.posterior.problems import problem_of

torch.manual_seed(0)
NOISE = torch.randn(20)


def test_two_rows_that_touch_are_no_rows():
    def model(x):
        with pyro.plate("J", 4):
            p = pyro.sample("p", dist.Beta(2.0, 2.0))
        pyro.sample("x", dist.Bernoulli(p.mean()), obs=torch.ones(()))

    with pytest.raises(credo.NoClosedForm, match="'p'"):
        credo.exact(model, NOISE)


def blocks_of(model):
    problem = problem_of(model)
    return find_blocks(problem, [problem.scattered() for _ in range(2)])


def test_independent_sites_are_separate_blocks_and_their_rows_too(double):
    def model():
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("J", 5):
            pyro.sample("c", dist.Gamma(2.0, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(a + b, 1.0), obs=torch.tensor(0.3))

    joint, rows = blocks_of(model)  # x is (a, c, b)
    assert joint.sites == ("a", "b") and joint.place.tolist() == [[0, 6]]
    assert rows.sites == ("c",) and rows.place.tolist() == [[1], [2], [3], [4], [5]]
    assert (rows.rows, rows.width) == (5, 1)


def test_sites_that_depend_on_each_other_row_by_row_are_one_block_of_rows(double):
    def model():
        with pyro.plate("J", 3):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            pyro.sample("b", dist.Normal(a, 1.0))

    (block,) = blocks_of(model)
    assert block.sites == ("a", "b") and block.place.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_rows_that_share_an_observation_are_one_row(double):
    def model():
        with pyro.plate("J", 4):
            p = pyro.sample("p", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(p.mean(), 1.0), obs=torch.ones(()))

    (block,) = blocks_of(model)
    assert block.place.tolist() == [[0, 1, 2, 3]]

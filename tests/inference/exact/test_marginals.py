"""Marginals of single sites: compared with quadrature and with the rows of the block."""

import math

import pyro
import pyro.distributions as dist
import torch
from scipy import integrate

import credo
from credo.inference.exact.blocks import Block
from credo.inference.exact.marginals import matrix_of, positions, site_values
from tests.cases.posterior.problems import problem_of


def near(one, two, relative=1e-8):
    torch.testing.assert_close(
        torch.as_tensor(one, dtype=torch.float64), torch.as_tensor(two, dtype=torch.float64), rtol=relative, atol=1e-9
    )


def share(x):
    p = pyro.sample("p", dist.TransformedDistribution(dist.Normal(0.0, 1.5), dist.transforms.SigmoidTransform()))
    pyro.sample("x", dist.Normal(p.logit(), 1.0), obs=x)


def test_a_logit_normal_has_its_moments():
    found = credo.exact(share, torch.tensor(1.0))
    variance = 1 / (1 / 1.5**2 + 1)

    def moment(k):
        q = dist.Normal(variance, math.sqrt(variance))
        return integrate.quad(lambda u: (1 / (1 + math.exp(-u))) ** k * q.log_prob(torch.tensor(u)).exp(), -9, 11)[0]

    near(found.marginals["p"].mean, moment(1), 1e-6)
    near(found.marginals["p"].variance, moment(2) - moment(1) ** 2, 1e-6)


def two_in_a_plate():
    with pyro.plate("J", 3):
        pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("b", dist.LogNormal(0.0, 1.0))


PLACE = torch.tensor([[0, 3], [1, 4], [2, 5]])  # a row of the plate has its a and its b


def test_the_matrix_of_numbers_in_different_rows_is_zero_between_them():
    squares = torch.arange(1.0, 9.0).reshape(2, 2, 2)
    apart = matrix_of(torch.tensor([0, 1]), torch.tensor([1, 0]), squares)
    assert apart.tolist() == [[4.0, 0.0], [0.0, 5.0]]
    together = matrix_of(torch.tensor([1, 1]), torch.tensor([1, 0]), squares)
    assert together.tolist() == [[8.0, 7.0], [6.0, 5.0]]


def test_draws_of_a_block_are_the_values_of_its_sites(double):
    variables = list(problem_of(two_in_a_plate).coordinates.variables.values())
    assert positions(variables[1], Block(("a", "b"), PLACE)).tolist() == [[1], [3], [5]]
    rows = torch.randn(7, 3, 2)
    drawn = site_values(rows, PLACE, variables)
    torch.testing.assert_close(drawn["a"], rows[:, :, 0])
    torch.testing.assert_close(drawn["b"], rows[:, :, 1].exp())

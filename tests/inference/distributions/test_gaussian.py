"""The conditional of a joint normal: compared with the blocks of its precision matrix (Bishop 2006, eq. 2.73, 2.75)."""

import doctest

import pytest
import torch

from credo.inference.distributions import gaussian
from credo.inference.distributions.gaussian import gaussian_conditional


@pytest.mark.parametrize("given", [{1: 0.3}, {0: 1.0, -1: -2.0}, {3: 0.5, 1: 0.1, 0: 2.0}])
def test_the_conditional_is_that_of_the_precision_matrix(given, double):
    root = torch.randn(4, 4)
    mean, cov = torch.randn(4), root @ root.T + torch.eye(4)
    known = [i % 4 for i in given]
    rest = [i for i in range(4) if i not in known]
    precision, values = torch.linalg.inv(cov), torch.tensor(list(given.values()))
    across = precision[rest][:, known] @ (values - mean[known])
    found = gaussian_conditional(mean, cov, given)
    torch.testing.assert_close(found.precision_matrix, precision[rest][:, rest])
    torch.testing.assert_close(found.mean, mean[rest] - torch.linalg.solve(precision[rest][:, rest], across))


def test_the_example_of_its_docstring_runs():
    assert doctest.testmod(gaussian).failed == 0

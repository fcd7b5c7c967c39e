"""The conditional of a joint normal: compared with the blocks of its precision matrix (Bishop 2006, eq. 2.73, 2.75)."""

import doctest

import pytest
import torch

import credo
from credo.inference.distributions import gaussian
from credo.inference.distributions.gaussian import gaussian_conditional
from tests.cases.posterior.oracles import close, t


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


def test_conditioning_a_gaussian():
    """Three coordinates given the second: m + S S_2/S_22 (x - m_2), S - S_2 S_2'/S_22 (Bishop 2006, eq. 2.81-2.82)."""
    mean, cov = t(1.0, -2.0, 0.5), t([2.0, 0.6, -0.3], [0.6, 1.5, 0.4], [-0.3, 0.4, 1.0])
    found = credo.gaussian_conditional(mean, cov, {1: 0.25})
    slope = cov[[0, 2], 1] / 1.5
    close("mean", found.mean, mean[[0, 2]] + slope * 2.25, 1e-12)
    close("cov", found.covariance_matrix, cov[[0, 2]][:, [0, 2]] - 1.5 * torch.outer(slope, slope), 1e-12)
    both = credo.gaussian_conditional(mean, cov, {0: 1.5, 2: 0.0})
    rest = torch.linalg.solve(cov[[0, 2]][:, [0, 2]], cov[[0, 2], 1])
    close("mean of one", both.mean, (-2.0 + rest @ t(0.5, -0.5)).reshape(1), 1e-12)
    close("variance of one", both.variance, (1.5 - rest @ cov[[0, 2], 1]).reshape(1), 1e-12)


def near(one, two, relative=1e-8):
    torch.testing.assert_close(
        torch.as_tensor(one, dtype=torch.float64), torch.as_tensor(two, dtype=torch.float64), rtol=relative, atol=1e-9
    )


def test_a_normal_given_one_of_its_numbers():
    q = credo.gaussian_conditional([1.0, 2.0], [[4.0, 1.2], [1.2, 9.0]], {1: 5.0})
    rho = 1.2 / 6
    near(q.mean, [1.0 + rho * 2 * 3 / 9 * 3.0])
    near(q.covariance_matrix, [[4 * (1 - rho**2)]])
    with pytest.raises(ValueError, match="given"):
        credo.gaussian_conditional([1.0, 2.0], [[4.0, 1.2], [1.2, 9.0]], {2: 5.0})

"""Curvature by products alone, beside the matrices that the products are of."""

import pytest
import torch

from credo.inference.gaussian.curvature import CLOSE, curvature, projected, turned

D = 600


def noise():
    return torch.Generator().manual_seed(0)


def wide():
    """A few wide directions beside a diagonal of many units."""
    sds = torch.logspace(-2, 2, D, dtype=torch.float64)
    F = torch.randn(D, 5, generator=noise(), dtype=torch.float64)
    return torch.linalg.inv(F @ F.T + torch.eye(D)) / sds / sds[:, None]


def narrow():
    """A common prior and 100 rows of data, whose diagonal is far from that of the matrix."""
    x = torch.randn(100, D, generator=noise(), dtype=torch.float64)
    return x.T @ x + 0.1 * torch.eye(D, dtype=torch.float64)


@pytest.mark.parametrize("matrix", [wide, narrow])
def test_a_diagonal_and_few_directions_are_found(matrix):
    A = matrix()
    found = curvature(lambda v: v @ A, torch.ones(D, dtype=torch.float64), noise())
    root, Q = found.diagonal.sqrt(), found.directions
    got = root[:, None] * (torch.eye(D) + (Q * found.stretch) @ Q.T) * root
    assert found.left < CLOSE and found.products < 3 * D
    torch.testing.assert_close(torch.linalg.inv(got).diagonal(), torch.linalg.inv(A).diagonal(), rtol=0.05, atol=0)


def test_a_matrix_of_another_form_leaves_a_rest():
    x = torch.randn(2 * D, D, generator=noise(), dtype=torch.float64)
    A = x.T @ x
    found = curvature(lambda v: v @ A, torch.ones(D, dtype=torch.float64), noise(), numbers=D * 100)
    assert found.left > 3 * CLOSE


def test_other_products_along_the_same_directions():
    A = wide()
    found = curvature(lambda v: v @ A, torch.ones(D, dtype=torch.float64), noise())
    twice = turned(found, projected(lambda v: 2 * (v @ A), found))
    torch.testing.assert_close(1 + twice.stretch.sort().values, 2 * (1 + found.stretch.sort().values))

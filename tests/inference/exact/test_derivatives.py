"""Gradients and Hessian-vector products beside formulas by hand."""

import pytest
import torch

from credo.inference.exact.derivatives import FEW, gradient, hessian_products

A = torch.tensor([[2.0, 0.3, -0.5], [0.3, 1.0, 0.2], [-0.5, 0.2, 3.0]], dtype=torch.float64)
X = torch.tensor([0.7, -1.2, 0.4], dtype=torch.float64)


def quartic(x):
    """f = -x'Ax / 2 + sum x^4, df = -Ax + 4 x^3, d^2 f = -A + 12 diag(x^2)."""
    return -0.5 * x @ A @ x + (x**4).sum()


def test_the_gradient_is_that_by_hand():
    torch.testing.assert_close(gradient(quartic, X), -A @ X + 4 * X**3)


@pytest.mark.parametrize("m", [1, FEW, FEW + 3])
@pytest.mark.parametrize("rows", [1, 2**30])
def test_products_are_those_with_the_hessian(m, rows):
    """One by one and batched, all at once and in chunks of one direction."""
    directions = torch.randn(m, 3, dtype=torch.float64)
    g, products = hessian_products(quartic, X, directions, rows)
    H = -A + 12 * torch.diag(X**2)
    torch.testing.assert_close(g, -A @ X + 4 * X**3)
    torch.testing.assert_close(products, directions @ H)


def test_what_does_not_depend_on_x_has_zero_derivatives():
    directions = torch.eye(3, dtype=torch.float64)
    zero = torch.zeros(3, dtype=torch.float64)
    assert torch.equal(gradient(lambda x: torch.ones(()), X), zero)
    g, products = hessian_products(lambda x: x.sum(), X, directions)
    assert torch.equal(g, zero + 1) and torch.equal(products, zero.expand(3, 3))

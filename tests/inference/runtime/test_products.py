"""Products in bfloat16. Oracle: the product of arguments that torch rounds, and the exact product where it must be."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from credo.inference.runtime.products import products

A, B = torch.linspace(-1, 1, 12).reshape(3, 4) ** 3, torch.linspace(0.1, 0.9, 8).reshape(4, 2)
WANTED = (A.bfloat16() @ B.bfloat16()).float()
WAYS = {
    "operator": lambda: A @ B,
    "matmul": lambda: torch.matmul(A, B),
    "method": lambda: A.matmul(B),
    "mm": lambda: A.mm(B),
    "linear": lambda: functional.linear(A, B.T),
    "einsum": lambda: torch.einsum("ij,jk->ik", A, B),
    "vmap": lambda: torch.vmap(lambda row: functional.linear(row, B.T))(A),
    "conv": lambda: functional.conv1d(A[:, :, None], B.T[:, :, None])[:, :, 0],
}


@pytest.mark.parametrize("way", WAYS)
def test_products_are_rounded_and_come_back_in_single_precision(way):
    assert not torch.equal(WAYS[way](), WANTED)
    with products("bf16"):
        found = WAYS[way]()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, WANTED, rtol=2**-8, atol=1e-6)
    with products(None):
        assert not torch.equal(WAYS[way](), WANTED)


def test_sums_densities_and_doubles_are_not():
    x, cholesky = torch.full((1000,), 1.001), torch.tensor([[1.001, 0.0], [0.3003, 0.7007]])
    normal = torch.distributions.MultivariateNormal(torch.zeros(2), scale_tril=cholesky)
    torch.manual_seed(0)
    exact, value = normal.rsample(), normal.log_prob(torch.tensor([0.1234, 0.5678]))
    with products("bf16"):
        torch.manual_seed(0)
        assert torch.equal(normal.rsample(), exact)
        assert torch.equal(normal.log_prob(torch.tensor([0.1234, 0.5678])), value)
        assert x.sum() == pytest.approx(1001, rel=1e-6)
        assert torch.equal(A.double() @ B.double(), torch.matmul(A.double(), B.double()))
        assert (A.double() @ B.double()).dtype == torch.float64


def test_gradients_pass_in_single_precision():
    net = nn.Linear(4, 2)
    with products("bf16"):
        gradient = torch.autograd.grad(net(A).sum(), net.weight)[0]
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, A.bfloat16().float().sum(0).expand(2, 4), rtol=2**-7, atol=1e-3)

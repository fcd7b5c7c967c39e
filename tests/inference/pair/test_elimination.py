"""Variable elimination: compared with one big sum."""

import pytest
import torch

from credo.inference.pair.elimination import LogSums

pytestmark = pytest.mark.usefixtures("double")


def test_tables_are_summed_as_in_one_big_sum_and_a_dead_value_has_no_gradient():
    shapes = {"ab": (2, 3), "bc": (3, 4), "cd": (4, 2), "db": (2, 3), "e": (3,), "p": (5,), "pa": (5, 2)}
    leaves = {dims: torch.randn(shape, requires_grad=True) for dims, shape in shapes.items()}

    def dead(dims):  # value 1 of b is impossible whatever a and c are
        t = leaves[dims] + 0.0
        return t.index_fill(dims.index("b"), torch.tensor([1]), -torch.inf) if dims in ("ab", "bc") else t

    big = torch.einsum(",".join(shapes) + "->p", *(dead(dims).exp() for dims in shapes)).log()
    wanted = torch.autograd.grad(big.sum(), list(leaves.values()))
    tables = [dead(dims) for dims in shapes]
    for table, dims in zip(tables, shapes, strict=True):
        table._pyro_dims = dims
    found = LogSums().sumproduct(tables, set("abcde"))
    torch.testing.assert_close(torch.Tensor(found), big)
    for one, two in zip(torch.autograd.grad(found.sum(), list(leaves.values())), wanted, strict=True):
        torch.testing.assert_close(one, two)


def test_a_density_that_is_no_number_stays_none():
    table = torch.tensor([0.0, torch.nan])
    table._pyro_dims = "a"
    assert LogSums().sumproduct([table], {"a"}).isnan()

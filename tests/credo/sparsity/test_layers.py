"""The layers of a smaller network against the dense ones that they stand for."""

import copy
import io

import pytest
import torch

from credo.sparsity.layers import LARGE, THIN, Pick, SparseLinear, sparse_pays


def test_picked_inputs_are_those_of_the_index():
    x = torch.randn(2, 5, 3, 4)
    index = torch.tensor([3, 0], dtype=torch.int32)
    assert torch.equal(Pick(index, 4)(x), x[..., [3, 0]])
    assert torch.equal(Pick(index, 5, channels=True)(x), x[:, [3, 0]])


@pytest.mark.parametrize("bias", [None, torch.tensor([0.5, -1.0, 0.0])])
def test_a_sparse_layer_is_the_dense_one_and_survives_copies_and_files(bias):
    weight = torch.tensor([[0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, -3.0]])
    layer, x = SparseLinear(weight, bias), torch.randn(2, 3, 4)
    wanted = torch.nn.functional.linear(x, weight, bias)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for same in (layer, copy.deepcopy(layer), torch.load(file, weights_only=False)):
        torch.testing.assert_close(same(x), wanted)
        torch.testing.assert_close(same(x[0, 0]), wanted[0, 0])
    assert "weights=3" in repr(layer)


def test_small_and_full_weights_stay_dense():
    side = int(LARGE**0.5) + 1
    thin = torch.zeros(side, side)
    assert sparse_pays(thin)
    thin.view(-1)[: int(THIN * thin.numel()) + 1] = 1
    assert not sparse_pays(thin) and not sparse_pays(torch.zeros(10, 10))

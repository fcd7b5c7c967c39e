"""Parameters as views of one vector: nothing but where they lie in memory changes."""

import pytest
import torch
from torch import nn

from credo.inference.capture.resident import joined


def test_tensors_become_views_of_one_vector():
    a, b = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(()))
    before = a.detach().clone(), b.detach().clone()
    whole = joined([a, b])
    assert torch.equal(a, before[0]) and torch.equal(b, before[1]) and a.requires_grad and a.is_leaf
    whole.add_(1)
    torch.testing.assert_close([a.detach(), b.detach()], [t + 1 for t in before])
    with torch.no_grad():
        b.fill_(7.0)
    assert whole[-1] == 7
    assert joined([a, b]).data_ptr() == whole.data_ptr(), "they are already: nothing moves"


def overlapping():
    base = torch.zeros(4)
    return [base[:3], base[1:]]


def another_reader():
    base = torch.zeros(4)
    return [base[:2], torch.zeros(1)]


@pytest.mark.parametrize(
    "tensors",
    [
        overlapping(),
        another_reader(),
        [torch.zeros(2, 3).T, torch.zeros(1)],
        [torch.zeros(0), torch.zeros(1)],
        [torch.zeros(2), torch.zeros(2).double()],
    ],
    ids=["overlap", "part of a tensor", "strides", "empty", "two types"],
)
def test_tensors_that_share_their_memory_stay_where_they_are(tensors):
    places = [t.data_ptr() for t in tensors]
    assert joined(tensors) is None and [t.data_ptr() for t in tensors] == places

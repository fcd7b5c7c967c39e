"""The methods by which a tensor becomes a Python value: each one named gives none of torch's tensors."""

import pytest
import torch

from credo.inference.runtime.escapes import ESCAPES, TAKEN_APART


@pytest.mark.parametrize("name", sorted(ESCAPES))
def test_what_escapes_is_no_tensor(name):
    assert not isinstance(getattr(torch.tensor(1), name)(), torch.Tensor)


def test_the_parts_of_a_tensor_taken_apart_are_tensors():
    x = torch.tensor([1.0, 2.0])
    assert TAKEN_APART == {"__iter__", "__contains__"}
    assert all(isinstance(part, torch.Tensor) for part in x.__iter__()) and x.__contains__(2.0)

"""The default dtype of torch inside and after `default_dtype`."""

import pytest
import torch

from credo.inference.runtime.precision import default_dtype


def test_the_dtype_holds_inside_and_the_one_before_comes_back():
    with default_dtype(torch.float64):
        assert torch.tensor(1.0).dtype == torch.float64
        with default_dtype(torch.float32):
            assert torch.zeros(1).dtype == torch.float32
        assert torch.zeros(1).dtype == torch.float64
    assert torch.get_default_dtype() == torch.float32


def test_an_error_puts_it_back_too():
    torch.set_default_dtype(torch.float64)
    with pytest.raises(KeyError), default_dtype(torch.float32):
        raise KeyError("mine")
    assert torch.get_default_dtype() == torch.float64

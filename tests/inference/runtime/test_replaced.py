"""An attribute, or the default dtype of torch, that is replaced for a while is put back as it was."""

import math

import pytest
import torch

from credo.inference.runtime.replaced import attribute_replaced, default_dtype


class Base:
    number = 1

    @staticmethod
    def double(x):
        return 2 * x


class Child(Base):
    pass


@pytest.mark.parametrize("owner", [Base, Child])
@pytest.mark.parametrize("name", ["number", "double"])
def test_the_attribute_is_put_back_as_it_was_stored(owner, name):
    before = dict(vars(owner))
    with attribute_replaced(owner, name, 5):
        assert getattr(owner, name) == 5
    assert dict(vars(owner)) == before


def test_an_error_inside_puts_a_modules_function_back_too():
    before = math.sqrt
    with pytest.raises(ZeroDivisionError), attribute_replaced(math, "sqrt", None):
        assert math.sqrt is None
        1 / 0  # noqa: B018
    assert math.sqrt is before


def test_an_attribute_that_is_missing_is_an_error():
    with pytest.raises(AttributeError, match="absent"), attribute_replaced(Base, "absent", 1):
        pass
    assert not hasattr(Base, "absent")


def test_the_dtype_holds_inside_and_the_one_before_comes_back():
    with default_dtype(torch.float64):
        assert torch.tensor(1.0).dtype == torch.float64
        with default_dtype(torch.float32):
            assert torch.zeros(1).dtype == torch.float32
        assert torch.zeros(1).dtype == torch.float64
    assert torch.get_default_dtype() == torch.float32


def test_an_error_puts_the_dtype_back_too():
    torch.set_default_dtype(torch.float64)
    with pytest.raises(KeyError), default_dtype(torch.float32):
        raise KeyError("mine")
    assert torch.get_default_dtype() == torch.float64

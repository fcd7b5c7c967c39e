"""torch's default dtype and device inside and after, and which device is chosen."""

import pytest
import torch

from credo.inference.runtime.defaults import (
    CPU,
    MOST,
    accelerator,
    choose_device,
    default_device,
    default_dtype,
    of_dtypes,
    on_cpu,
)


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


ONE, TWO = torch.eye(2), torch.eye(2).double()


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (lambda: ONE @ TWO, True),
        (lambda: ONE[0] @ TWO[0], True),
        (lambda: ONE @ TWO[0], True),
        (lambda: torch.nn.Linear(2, 2)(TWO), True),
        (lambda: torch.nn.Conv1d(2, 2, 1)(TWO), True),
        (lambda: torch.linalg.solve(ONE, TWO), True),
        (lambda: ONE.clone().index_put_((torch.tensor([0]),), TWO[:1]), True),
        (lambda: ONE.clone().scatter_(0, torch.zeros(2, 2, dtype=torch.long), TWO), True),
        (lambda: torch.einsum("ij,jk->ik", ONE, TWO), True),
        (lambda: torch.linalg.cholesky(-ONE), False),
        (lambda: torch.linalg.inv(0 * TWO), False),
        (lambda: ONE + torch.zeros(3), False),
    ],
)
def test_an_error_of_dtypes_is_known_by_its_words(program, expected):
    with pytest.raises(RuntimeError) as caught:
        program()
    assert of_dtypes(caught.value) == expected


def test_inside_tensors_are_made_on_the_device_and_constants_from_outside_are_moved_there():
    device = torch.device("meta")  # a device without numbers, which every machine has
    constant, moved = torch.ones(3), {}
    with default_device(device, moved):
        made = torch.zeros(3)
        assert made.device == device
        assert (made + constant).device == device
        assert (made * constant).device == device
    assert [copy.device for _, _, copy in moved.values()] == [device]  # once for both
    assert torch.zeros(3).device.type == "cpu"


def test_a_constant_that_has_changed_is_moved_again():
    constant, moved = torch.ones(3), {}
    with default_device(torch.device("meta"), moved):
        torch.zeros(3) + constant
        before = next(iter(moved.values()))[2]
        constant.add_(1)
        torch.zeros(3) + constant
        assert next(iter(moved.values()))[2] is not before
    assert constant.tolist() == [2.0, 2.0, 2.0]


def test_on_the_cpu_nothing_is_in_between_and_optimisers_count_there():
    with default_device(CPU, {}):
        assert torch.zeros(1).device == CPU
    with default_device(torch.device("meta"), {}), on_cpu(torch.device("meta")):
        assert torch.zeros(1).device == CPU


def test_no_device_named_is_the_accelerator_or_the_cpu():
    assert choose_device(None) == (accelerator() or CPU)
    assert choose_device("cpu") == CPU
    with pytest.raises(ValueError, match="device: 'meta' cannot be used here"):
        choose_device("meta")


def test_constants_that_are_new_each_time_do_not_fill_the_memory():
    moved = {}
    with default_device(torch.device("meta"), moved):
        there = torch.zeros(3)
        for _ in range(MOST + 10):
            there + torch.zeros(3, device="cpu")
    assert len(moved) <= MOST

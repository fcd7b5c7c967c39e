"""Values that are not finite are named; arguments without a value are left out of a prediction where they may be."""

import pytest
import torch

from credo.inference.inputs.missing import not_finite, to_be_predicted

NAN, X = torch.full((3,), torch.nan), torch.ones(3)


@pytest.mark.parametrize(
    "value",
    [X, torch.tensor([1, 2]), torch.eye(2).to_sparse(), torch.tensor(1j)],
    ids=["float", "int", "sparse", "complex"],
)
def test_finite_values_have_no_message(value):
    assert not_finite("x", value) is None


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_the_first_value_that_is_not_finite_is_named(wrong):
    message = not_finite("x", torch.tensor([[1.0, 2.0], [wrong, wrong]]))
    assert message is not None and message.startswith(f"x: 2 of 4 values are not finite, the first is {wrong} at")
    assert "index (1, 0)" in message and not_finite("x", torch.diag(torch.tensor([wrong, 1.0])).to_sparse())


def required(x, y): ...
def optional(x, y=None, z=None): ...
def middle(x, y=None, z=2.0): ...


@pytest.mark.parametrize(
    ("model", "values", "places"),
    [
        (required, (X, NAN), {1}),
        (required, (NAN, X), set()),
        (required, (NAN, NAN), {1}),
        (required, (X, X), set()),
        (required, (X, torch.tensor([1.0, torch.nan])), set()),
        (required, (X, torch.tensor([1, 2])), set()),
        (optional, (X, NAN, X), {1}),
        (optional, (X, X, NAN), {2}),
        (optional, (X, NAN, NAN), {1, 2}),
        (middle, (X, NAN, 3.0), {1}),
        (required, (X, torch.tensor(torch.nan)), set()),
    ],
)
def test_what_may_be_left_out(model, values, places):
    assert to_be_predicted(model, values) == places

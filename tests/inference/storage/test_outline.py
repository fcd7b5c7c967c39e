"""Data in outline: equal data have equal outlines, and what differs is named."""

import numpy as np
import pytest
import torch
from torch import nn

from credo.inference.storage.outline import ObjectOf, TensorOf, has, kept, outline, refuse_different

X = torch.arange(6.0).reshape(2, 3)


def test_an_outline_has_no_values_of_tensors_but_all_settings():
    found = outline([X, {"n": 3, "word": "a", "y": np.arange(2)}, nn.Linear(1, 1), None])
    assert isinstance(found[0], TensorOf) and found[0][:2] == ((2, 3), "float32")
    assert found[1]["n"] == 3 and found[1]["word"] == "a" and found[1]["y"].array
    assert found[2] == ObjectOf("Linear", True) and found[3] is None
    assert has(found, TensorOf) and has(found, ObjectOf) and not has(found[1], ObjectOf)


def test_kept_data_are_the_data_but_for_objects():
    found = kept([X, nn.Linear(1, 1), 3])
    assert found[0] is X and found[1] == ObjectOf("Linear", True) and found[2] == 3


@pytest.mark.parametrize(
    "value, said",
    [
        (X[:1], r"x: got float32 of shape \(1, 3\), wanted float32 of shape \(2, 3\)"),
        (X.double(), "x: got float64"),
        (X + 1, "with other values"),
        (3, "x: got 3, wanted float32 of shape"),
        ([X], "x: got"),
    ],
)
def test_other_data_are_refused(value, said):
    refuse_different("x", X.T.contiguous().T, outline(X))  # the same in another order of memory
    with pytest.raises(ValueError, match=said):
        refuse_different("x", value, outline(X))


def test_other_parts_of_containers_are_refused_by_their_place():
    wanted = outline({"a": [X, 1]})
    refuse_different("x", {"a": [X.clone(), 1]}, wanted)
    with pytest.raises(ValueError, match=r"x\['a'\]\[1\]: got 2, wanted 1"):
        refuse_different("x", {"a": [X, 2]}, wanted)
    with pytest.raises(ValueError, match="x: got Tensor, wanted a network, as in the fit"):
        refuse_different("x", X, outline(nn.Linear(1, 1)))

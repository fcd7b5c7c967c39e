"""Values that a program computes from an argument, and values that only have its shape."""

import pytest
import torch

from credo.inference.predictive.derived import derived

X = torch.tensor([1.0, 2.0, 3.0])
MATRIX = torch.eye(3).to_sparse()


def written(x):
    room = torch.zeros(2, 3)
    room[1] = x
    return room.clone()


FROM = {
    "itself": lambda x: x,
    "a view": lambda x: x[:2].flip(0),
    "arithmetic": lambda x: 0 * x + 1,
    "a comparison": lambda x: torch.where(x > 10, 1.0, 2.0),
    "an index": lambda x: torch.zeros(9)[x.long()],
    "what is written": written,
    "its mean in a draw": lambda x: torch.normal(x, 1.0),
    "a vectorised program": lambda x: torch.vmap(lambda v: v + 1)(x),
    "a sparse product": lambda x: MATRIX @ x[:, None],
}
NOT_FROM = {
    "as many zeros": lambda x: torch.zeros_like(x) + len(x),
    "as many draws": lambda x: torch.randn_like(x) + x.new_zeros(len(x)),
    "its size": lambda x: torch.ones(1).expand_as(x) + torch.arange(x.shape[0]),
    "another value": lambda x: (x + 1, torch.ones(3) + 1)[1],
}


@pytest.mark.parametrize("program", FROM.values(), ids=FROM)
def test_what_is_computed_from_the_numbers_is_marked(program):
    found, marks = derived(program, X)
    assert marks.holds([found])


@pytest.mark.parametrize("program", NOT_FROM.values(), ids=NOT_FROM)
def test_what_has_the_shape_alone_is_not_marked(program):
    found, marks = derived(program, X)
    assert not marks.holds([found, None])

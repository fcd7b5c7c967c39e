"""Iterables that give rows chunk by chunk, read whole; their lengths are the number of rows."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from credo.inference.inputs.chunks import collected, is_chunked
from credo.inference.inputs.datasets import unpacked


class Chunks:
    def __init__(self, *items, n=5):
        self.items, self.n = items, n

    def __len__(self):
        return self.n

    def __iter__(self):
        return iter(self.items)


class Rows(IterableDataset):
    def __len__(self):
        return 5

    def __iter__(self):
        return iter([(float(i), "ab"[i % 2]) for i in range(5)])


X = torch.arange(10.0).reshape(5, 2)


def test_chunks_are_joined_to_the_arguments():
    x, y = unpacked((Chunks((X[:2], np.arange(2)), (X[2:], np.arange(2, 5))),))
    assert torch.equal(x, X) and y.tolist() == list(range(5))
    (table,) = collected(Chunks(pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [3, 4, 5]})))
    assert table["a"].tolist() == [1, 2, 3, 4, 5]
    for value in (Rows(), DataLoader(Rows(), batch_size=2)):
        x, labels = unpacked((value,))
        assert x.tolist() == [0, 1, 2, 3, 4] and labels.tolist() == ["a", "b", "a", "b", "a"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Chunks((X[:4],)), "Chunks ended after 4 rows, 1 fewer than its length says, 5"),
        (Chunks((X,), (X,)), "Chunks gave more rows than its length says: 10 so far, its length is 5"),
        (Chunks((X[:2],), (X[2:],), n=2), "let len.. be the number of its rows, not of its chunks"),
        (Chunks((X, X[:3])), r"chunk 1 of Chunks has parts of \[3, 5\] rows"),
        (Chunks((X,), {"x": X}), r"the rows of Chunks are dictionaries; give tuples .*\['x'\]"),
        (Chunks((X[:2],), 7), "Chunks gave int, wanted a tuple of tensors, arrays or a table"),
    ],
)
def test_other_rows_than_the_length_says(value, said):
    with pytest.raises(ValueError, match=said):
        unpacked((value,))


def test_chunks_of_other_parts_than_the_first_are_named():
    x = torch.ones(3)
    with pytest.raises(ValueError, match="data: chunk 2 of Chunks has 1 parts, the first 2"):
        collected(Chunks((x, x), (x[:2],)))


def test_what_gives_no_chunks():
    class Alone(Chunks):
        __len__ = None

    assert not any(
        map(is_chunked, (Chunks(1, 2), Chunks("ab"), Chunks(), [X], (X,), {"x": X}, X, X.numpy(), iter([X])))
    )
    assert not is_chunked(torch.nn.Sequential()) and not is_chunked(DataLoader([1, 2])) and not is_chunked(range(3))


def test_a_look_at_the_first_chunk_draws_nothing():
    class Drawn(Chunks):
        def __iter__(self):
            yield (torch.rand(5, 2),)

    state = torch.get_rng_state()
    assert is_chunked(Drawn()) and torch.equal(state, torch.get_rng_state())

"""A Dataset or a DataLoader stands for the tensors that it holds."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from credo.inference.runtime.datasets import batch_size_of, unpacked

X, Y = torch.arange(10.0).reshape(5, 2), torch.arange(5)
ROWS = TensorDataset(X, Y)


class Items(Dataset):
    """A data set of one's own, whose rows are made on demand."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def same(found, *wanted):
    return len(found) == len(wanted) and all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    "data", [ROWS, DataLoader(ROWS, batch_size=2), DataLoader(ROWS, batch_size=2, shuffle=True), Items(list(ROWS))]
)
def test_all_rows_come_in_their_order(data):
    assert same(unpacked((data,)), X, Y)


def test_part_of_a_data_set_and_rows_of_one_part():
    assert same(unpacked((Subset(ROWS, [3, 0]),)), X[[3, 0]], Y[[3, 0]])
    assert same(unpacked((Items(X),)), X)
    assert same(unpacked((Y, DataLoader(TensorDataset(X)))), Y, X)


def test_other_data_come_as_they_are():
    assert unpacked((X, None, "a")) == (X, None, "a")
    assert unpacked((nothing := [X],))[0] is nothing


class Stream(IterableDataset):
    def __iter__(self):
        return iter(X)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Stream(), "data: Stream has no rows"),
        (DataLoader(Stream()), "data: Stream has no rows"),
        (Items([]), "data: Items has no rows"),
        (Items([torch.ones(1), torch.ones(2)]), "data: the rows of Items cannot be stacked"),
        (Items([{"x": 1.0}, {"x": 2.0}]), r"data: the rows of Items are dictionaries.*\['x'\]"),
    ],
)
def test_rows_that_cannot_be_collected_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        unpacked((data,))


def test_the_batches_of_a_loader():
    assert batch_size_of((DataLoader(ROWS, batch_size=2),)) == 2
    assert batch_size_of((DataLoader(ROWS, batch_size=5),)) is None
    assert batch_size_of((X, ROWS)) is None

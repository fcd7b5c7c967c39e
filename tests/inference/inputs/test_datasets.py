"""A Dataset or a DataLoader stands for the tensors that it holds; other containers are copied for a run."""

import collections
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from credo.inference.inputs.datasets import batch_size_of, of_its_own, refuse_own_order, tensors_in, unpacked

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


def test_what_reads_a_loader_once_is_refused():
    reader = iter(DataLoader(ROWS, batch_size=2))
    with pytest.raises(ValueError, match=r"data: got an iterator over a DataLoader, .*pass the DataLoader itself"):
        unpacked((reader,))
    assert unpacked(tuple(next(reader)))[0].shape[0] == 2


def test_what_a_dataset_raises_is_said_with_its_name():
    class Raises(Items):
        def __getitem__(self, i):
            raise self.rows[0]

    for error, words in ((IndexError(), "IndexError"), (ZeroDivisionError("of the user"), "of the user")):
        with pytest.raises(ValueError, match=rf"data: the rows of Raises cannot be stacked to tensors \({words}\)"):
            unpacked((Raises([error]),))


class Others(Sampler):
    """Every other row."""

    def __iter__(self):
        return iter(range(0, 5, 2))

    def __len__(self):
        return 3


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ({"sampler": SubsetRandomSampler([0, 3])}, "SubsetRandomSampler"),
        ({"sampler": WeightedRandomSampler([1.0] * 5, 5)}, "WeightedRandomSampler"),
        ({"sampler": RandomSampler(ROWS, replacement=True)}, "RandomSampler"),
        ({"sampler": RandomSampler(ROWS, num_samples=3)}, "RandomSampler"),
        ({"sampler": Others(), "batch_size": None}, "Others"),
        ({"batch_sampler": BatchSampler(Others(), 2, False)}, "Others"),
        ({"batch_sampler": [[0, 1], [2, 3]]}, "list"),
    ],
)
def test_a_loader_that_leaves_rows_out_or_repeats_some_is_refused(how, name):
    for rows in (ROWS, Items(list(ROWS))):
        with pytest.raises(ValueError, match=rf"data: .* by a {name}, .*5 rows of {type(rows).__name__}.*Subset\("):
            unpacked((DataLoader(rows, **how),))


@pytest.mark.parametrize(
    "how",
    [
        {"shuffle": True, "drop_last": True},
        {"batch_size": None},
        {"sampler": RandomSampler(ROWS)},
        {"sampler": DistributedSampler(ROWS, num_replicas=2, rank=1)},  # credo shares the rows of processes itself
        {"batch_sampler": BatchSampler(SequentialSampler(ROWS), 2, False)},
    ],
)
def test_a_loader_of_all_rows_is_taken(how):
    refuse_own_order(DataLoader(ROWS, **how))


def test_the_batches_of_a_loader():
    assert batch_size_of((DataLoader(ROWS, batch_size=2),)) == 2
    assert batch_size_of((DataLoader(ROWS, batch_sampler=BatchSampler(SequentialSampler(ROWS), 2, False)),)) == 2
    assert batch_size_of((DataLoader(ROWS, batch_size=None),)) is None
    assert batch_size_of((DataLoader(ROWS, batch_size=5),)) is None
    assert batch_size_of((X, ROWS)) is None


Named = collections.namedtuple("Named", "a b")


@dataclasses.dataclass(frozen=True)
class Record:
    x: torch.Tensor
    name: str = "record"


CONTAINERS = {
    "dictionary": lambda x: {"a": x, "n": 1},
    "ordered": lambda x: collections.OrderedDict(a=x),
    "list": lambda x: [x, "text"],
    "deque": lambda x: collections.deque([x]),
    "tuple": lambda x: (x, None),
    "named tuple": lambda x: Named(x, 2),
    "dataclass": Record,
    "deep": lambda x: {"a": [Record(x), (x,)]},
}


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.parametrize("x", [torch.ones(2), np.ones(2), pd.Series([1.0, 1.0])], ids=["tensor", "array", "column"])
def test_a_container_of_its_own_has_copies_of_the_tensors(make, x):
    value = make(x)
    own = of_its_own(value, tensors=True)
    assert type(own) is type(value) and own is not value and repr(own) == repr(value)
    assert tensors_in(own).keys() == tensors_in(value).keys() != set()
    for part in tensors_in(own).values():
        part[:] = 7.0
    assert x.tolist() == [1.0, 1.0]
    assert all(part is x for part in tensors_in(of_its_own(value, tensors=False)).values())


def test_what_is_no_container_stays_the_object_that_it_is():
    weight = torch.ones(1, requires_grad=True)
    for value in (torch.nn.Linear(1, 1), "text", 1.5, None, {1, 2}, torch.Size([2]), weight, Record, Named):
        assert of_its_own(value, tensors=True) is value
    assert of_its_own({"net": CONTAINERS}, tensors=True)["net"] is not CONTAINERS


def test_containers_may_hold_themselves_and_one_tensor_twice():
    tree = {"x": torch.ones(1)}
    tree["again"], tree["self"] = tree["x"], tree
    own = of_its_own(tree, tensors=True)
    assert own["self"] is own and own["again"] is own["x"] is not tree["x"]
    assert list(tensors_in(tree).values()) == [tree["x"]]


class Settings(dict):
    """A dictionary whose entries are attributes: asked for any other, it raises KeyError."""

    __getattr__ = dict.__getitem__


class Single(dict):
    """A dictionary that refuses to be copied."""

    def __copy__(self):
        raise TypeError("only one")


@pytest.mark.parametrize("kind", [Settings, Single])
def test_dictionaries_of_the_users_own_are_taken(kind):
    value = kind(x=torch.ones(1))
    own = of_its_own(value, tensors=True)
    assert type(own) is kind and own == value and list(tensors_in(own)) == ["['x']"]
    assert (own is value) == (kind is Single)


def test_places_are_as_python_writes_them():
    value = {"a": [Record(torch.ones(1)), Named(torch.ones(1), 1)]}
    assert sorted(tensors_in(value)) == ["['a'][0].x", "['a'][1].a"] and list(tensors_in(torch.ones(1))) == [""]

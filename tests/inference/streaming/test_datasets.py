"""Map-style Datasets: chunks by `collate_fn`, workers, and draws that depend on seed and chunk alone."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Subset, SubsetRandomSampler, TensorDataset, default_collate

from credo.inference.streaming.datasets import is_map_style, of_dataset
from credo.inference.streaming.part import NotRead


class Items(Dataset):
    """Row i is (i + noise, i)."""

    def __init__(self, n=100, noise=False):
        self.n, self.noise = n, noise

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if i == 77:
            raise OSError("disk gone")
        return float(i) + (np.random.rand() + random.random() + torch.rand(()).item() if self.noise else 0), i


def doubled(rows):
    x, i = default_collate(rows)
    return 2 * x, i


SLICES = [slice(40, 60), slice(0, 20)]


def test_what_is_read_on_demand():
    rows = TensorDataset(torch.ones(3))
    assert is_map_style(Items()) and is_map_style(DataLoader(Items())) and is_map_style(Subset(Items(), [1]))
    assert not any(map(is_map_style, (rows, DataLoader(rows), Subset(rows, [0]), [1], torch.ones(3), Items(0))))


def test_rows_come_as_the_loader_collates_them():
    for value, factor in ((Items(), 1), (DataLoader(Items(), batch_size=9, collate_fn=doubled), 2)):
        for rows, (x, i) in zip(SLICES, of_dataset(value).stream(SLICES, None), strict=True):
            assert i.tolist() == list(range(rows.start, rows.stop)) and torch.equal(x, factor * i.double())


def test_rows_that_cannot_be_read_are_named():
    with pytest.raises(ValueError, match=r"data: rows 60 to 79 of Items cannot be read \(disk gone\)"):
        list(of_dataset(Items()).stream([slice(60, 80)], None))


def test_whatever_a_program_raises_its_rows_are_named():
    class Raises(Items):
        def __getitem__(self, i):
            raise ZeroDivisionError("of the user")

    with pytest.raises(NotRead, match=r"data: rows 60 to 79 of Raises cannot be read \(of the user\)"):
        list(of_dataset(Raises()).stream([slice(60, 80)], None))


def test_a_loader_that_takes_some_rows_is_refused():
    with pytest.raises(ValueError, match=r"data: .* by a SubsetRandomSampler, .* 100 rows of Items"):
        of_dataset(DataLoader(Items(), sampler=SubsetRandomSampler([0, 3])))


def test_draws_depend_on_seed_and_chunk_alone():
    part = of_dataset(Items(noise=True))
    _, second = part.stream(SLICES, 3)
    (again,) = part.stream(SLICES[1:], 3)
    (other,) = part.stream(SLICES[1:], 4)
    assert torch.equal(second[0], again[0]) and not torch.equal(second[0], other[0])


@pytest.mark.slow
def test_workers_make_the_same_rows_as_this_process():
    here = list(of_dataset(DataLoader(Items(noise=True), batch_size=9)).stream(SLICES, 3))
    state = torch.get_rng_state()
    apart = list(of_dataset(DataLoader(Items(noise=True), batch_size=9, num_workers=2)).stream(SLICES, 3))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(here, apart, strict=True))
    assert torch.equal(state, torch.get_rng_state())  # those of the run are left alone


@pytest.mark.slow
def test_what_a_worker_raises_is_said():
    with pytest.raises(NotRead, match=r"data: rows 60 to 79 of Items cannot be read \(OSError: disk gone\)"):
        list(of_dataset(DataLoader(Items(), batch_size=9, num_workers=1)).stream([slice(0, 9), slice(60, 80)], None))

"""Iterables with a length: cut anew into chunks, counted, and the same rows again from any chunk."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

import credo
from credo.inference.streaming import iterables, sizes
from credo.inference.streaming.iterables import of_iterable

N = 1000


class Chunks:
    """Rows (i, i), in chunks of 70 rows; with noise, and in another order at each `iter`, if drawn."""

    def __init__(self, given=N, drawn=False):
        self.given, self.drawn = given, drawn

    def __len__(self):
        return N

    def __iter__(self):
        order = np.random.permutation(N) if self.drawn else np.arange(self.given)
        for k in range(0, self.given, 70):
            i = order[k : k + 70]
            yield torch.tensor(i) + (torch.rand(()) / 2 if self.drawn else 0), i


class Rows(IterableDataset):
    def __len__(self):
        return N

    def __iter__(self):
        return ((torch.tensor(float(i)), i) for i in range(N))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(iterables, "ROWS", 64)


@pytest.mark.parametrize("value", [Chunks(), Rows(), DataLoader(Rows(), batch_size=90)])
def test_rows_come_in_their_order(value):
    part = of_iterable(value)
    assert part.n == N and part.in_order
    some = part.chunks[3::2]
    for rows, (x, i) in zip(some, part.stream(some, None), strict=True):
        assert torch.as_tensor(i).tolist() == x.tolist() == list(range(rows.start, rows.stop))


def test_a_seed_gives_the_same_rows_from_any_chunk_on():
    part = of_iterable(Chunks(drawn=True))
    whole = list(part.stream(part.chunks, 5))
    assert sorted(i for _, rows in whole for i in rows.tolist()) == list(range(N))
    for (x, i), (again, same) in zip(whole[7:], part.stream(part.chunks[7:], 5), strict=True):
        assert torch.equal(x, again) and np.array_equal(i, same)
    assert not np.array_equal(next(part.stream(part.chunks, 6))[1], whole[0][1])


@pytest.mark.parametrize(
    ("given", "said"),
    [(900, "Chunks ended after 900 rows, 100 fewer"), (1100, "Chunks gave more rows than its length")],
)
def test_another_number_of_rows_than_the_length_is_named(given, said):
    part = of_iterable(Chunks(given))
    with pytest.raises(ValueError, match=said):
        list(part.stream(part.chunks, None))


@pytest.mark.slow
def test_an_iterable_that_ends_early_in_a_later_epoch_keeps_the_fit(monkeypatch):
    monkeypatch.setattr(sizes, "WINDOW", 2000)
    pyro.clear_param_store()

    class Shorter(Chunks):
        begun = 0

        def __iter__(self):
            self.begun += 1
            for k in range(0, N if self.begun < 6 else 500, 100):
                yield (torch.arange(k, k + 100) / N,)

    def model(x):
        loc = pyro.sample("loc", dist.Normal(0.0, 10.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    with pytest.raises(ValueError, match="Shorter ended after 500 rows, 500 fewer than its length says") as error:
        credo.fit(model, "mean_field", Shorter(), batch_size=100, steps=100, plan="fast", progress=False, compile=False)
    assert len(error.value.fit.losses) >= 10 and "loc" in error.value.fit.sample(3)

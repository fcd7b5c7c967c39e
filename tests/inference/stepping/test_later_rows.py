"""Rows of a later window: refused for what would have been refused among the first rows, and for nothing else."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.pair.pair import Pair
from credo.inference.stepping.later_rows import known_of, refuse_later

N = 500
NAMES = ["x", "y"]


def draws(seed, rows=N):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 2, generator=g), torch.randint(0, 3, (rows,), generator=g)


def labels(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Categorical(logits=x @ w), obs=y)


def counts(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Poisson((x @ w).exp()), obs=y)


def masked(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        there = y.isfinite()
        pyro.sample("y", dist.Normal(x @ w, 1.0).mask(there), obs=torch.where(there, y, torch.zeros(())))


def guide(x, y):
    size = 6 if y.dtype == torch.int64 else 2
    loc = pyro.param("loc", torch.zeros(size)).reshape((2, 3) if size == 6 else (2,))
    pyro.sample("w", dist.Normal(loc, 0.01).to_event(loc.dim()))


def look(model, x, y, first=None):
    """What is said of these rows after the first ones, and what is known then."""
    pyro.clear_param_store()
    first = draws(0) if first is None else first
    first = (first[0], first[1].to(y.dtype))
    known, gaps = {i: known_of(value) for i, value in enumerate(first)}, set()
    refuse_later(Pair(model, guide, (x, y)), (0, 1), known, NAMES, gaps, 1000 + torch.arange(len(x)))
    return known, gaps


def test_a_label_of_no_class_is_named_with_its_row():
    x, y = draws(1)
    y[17] = 3
    with pytest.raises(
        ValueError, match=r"'y'.*wanted classes 0 to 2.*a later window of the data; it is row 1,017\)"
    ) as error:
        look(labels, x, y)
    assert "1 of" in str(error.value)


@pytest.mark.parametrize(("value", "row"), [(-1.0, 3), (1.5, 499)])
def test_a_count_that_is_none_is_refused(value, row):
    x, y = draws(1)
    y = y.float()
    y[row] = value
    named = rf"outside the support of Poisson.*{value}.*it is row {1000 + row:,}\)"
    with pytest.raises(ValueError, match=named):
        look(counts, x, y)


def test_missing_values_are_refused_unless_the_pair_leaves_them_out():
    x, y = draws(1)
    y = y.float()
    y[5] = torch.nan
    with pytest.raises(
        ValueError, match=r"y: 1 of 500 values are not finite.*later window of the data; it is row 1,005"
    ):
        look(counts, x, y)
    assert look(masked, x, y)[1] == {"y"}


def test_a_wider_range_is_known_afterwards():
    x, y = draws(1)
    known, _ = look(labels, x * 10, y)
    assert known[0].holds(x * 10) and known[0].holds(draws(0)[0]) and not known[0].holds(x * 11)


def test_rows_like_the_first_cost_no_run_of_the_pair():
    def never(x, y):
        raise AssertionError

    x, y = draws(0)
    look(never, x[:400], y[:400])


def test_shares_that_do_not_add_up_are_no_longer_alike():
    shares = torch.softmax(torch.randn(50, 4), 1)
    known = known_of(shares)
    assert known.holds(shares[:20])
    shares = shares.clone()
    shares[3, 0] /= 2
    assert not known.holds(shares)

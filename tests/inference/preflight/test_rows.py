"""Pairs that minibatches would scale wrongly, without a word from Pyro: each is refused by the name of its fault."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import credo

X = torch.tensor([0.5, -1.2, 0.9, 2.0, -0.3])
Y = torch.tensor([1.3, 0.2, 2.0, 3.1, -0.4])


def slope():
    return pyro.sample("w", dist.Normal(0.0, 1.0))


def model(x, y):
    w = slope()
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


def guide(x, y):
    pyro.sample("w", dist.Normal(pyro.param("loc", torch.tensor(0.7)), 0.5))


def no_plate(x, y):
    pyro.sample("y", dist.Normal(slope() * x, 1.0).to_event(1), obs=y)


def fixed_plate(x, y):
    """One plate of always three sensors; the rows are an event."""
    w = slope()
    with pyro.plate("sensors", 3):
        offset = torch.tensor([[0.0], [0.1], [0.2]])  # without which each row would count three times
        pyro.sample("y", dist.Normal(w * x + offset, 1.0).to_event(1), obs=y.expand(3, -1))


def fixed_size(x, y):
    w = slope()
    with pyro.plate("N", 5):
        pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


def with_factor(x, y):
    model(x, y)
    pyro.factor("penalty", -(x**2).sum())


def only_factor(x, y):
    w = slope()
    with pyro.plate("N", len(x)):
        pass
    pyro.factor("fit", dist.Normal(w * x, 1.0).log_prob(y).sum())


def observed_outside(x, y):
    w = slope()
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)
    pyro.sample("y", dist.Normal(w * x, 1.0).to_event(1), obs=y)


def scaled_itself(x, y):
    w = slope()
    with pyro.plate("N", len(x)), poutine.scale(scale=5 / len(x)):
        pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


def subsampled(x, y):
    w = slope()
    with pyro.plate("N", len(x), subsample_size=1) as rows:
        pyro.sample("y", dist.Normal(w * x[rows], 1.0), obs=y[rows])


def told_its_size(x, y):
    w = slope()
    with pyro.plate("N", 5, subsample_size=len(x)):
        pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


def prior_of_rows(x, y):
    """An empirical prior, from the rows that are there."""
    w = pyro.sample("w", dist.Normal(y.mean(), 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


def prior_of_size(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 1 / math.sqrt(len(x))))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


def local(x, y):
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z * x, 1.0), obs=y)


def local_outside(x, y):
    """What the rows add up to is looked at outside their plate."""
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z * x, 1.0), obs=y)
    pyro.factor("balance", -(z.sum() ** 2))


def a_parameter_per_row(x, y):
    with pyro.plate("N", len(x)):
        pyro.sample("z", dist.Normal(pyro.param("rows", torch.zeros(5)), 1.0))


def rows_last(x, y):
    """Its rows come last in the shape of the parameter."""
    with pyro.plate("N", len(x)):
        pyro.sample("z", dist.Normal(pyro.param("rows", torch.zeros(2, 5)).sum(0), 1.0))


def amortised(x, y):
    with pyro.plate("N", len(x)):
        pyro.sample("z", dist.Normal(pyro.param("a", torch.tensor(0.1)) * y, 1.0))


def event_of_rows(x, y):
    """The latents of the rows are one event, outside any plate."""
    z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def event_guide(x, y):
    pyro.sample("z", dist.Normal(pyro.param("a", torch.tensor(0.1)) * y, 1.0).to_event(1))


def global_of_rows(x, y):
    pyro.sample("w", dist.Normal(pyro.param("a", torch.tensor(0.1)) * y.mean(), 0.5))


def point_of_rows(x, y):
    pyro.sample("w", dist.Delta(pyro.param("a", torch.tensor(0.1)) * y.mean()))


def by_steps(x, y):
    """A plate gone through row by row."""
    w = slope()
    for i in pyro.plate("N", len(x)):
        pyro.sample(f"y_{i}", dist.Normal(w * x[i], 1.0), obs=y[i])


REFUSED = {  # model, guide, words of the message
    "no plate": (no_plate, guide, ["no plate", "none", "pyro.plate('N', len(x))"]),
    "a plate of other things": (fixed_plate, guide, ["no plate", "{'sensors': 3}"]),
    "a factor beside the plate": (with_factor, guide, ["'penalty'", "in the model", "outside", "N"]),
    "a factor alone": (only_factor, guide, ["(plates: none)"]),
    "an observation beside the plate": (observed_outside, guide, ["'y'", "in the model", "outside", "N"]),
    "scaled by the model": (scaled_itself, guide, ["'y'", "scaled by the model itself", "2.5", "5", "leave that out"]),
    "subsampled": (subsampled, guide, ["'N'", "subsampled", "1 of 2"]),
    "a plate of the full size": (told_its_size, guide, ["'N'", "subsampled", "2 of 5"]),
    "an empirical prior": (prior_of_rows, guide, ["'w'", "in the model", "depends on which rows"]),
    "a prior of the number": (prior_of_size, guide, ["'w'", "in the model", "depends on which rows"]),
    "a sum over rows": (local_outside, amortised, ["'balance'", "in the model", "outside"]),
    "a global guide of the rows": (model, global_of_rows, ["'w'", "in the guide", "depends on which rows"]),
    "a global point of the rows": (model, point_of_rows, ["'w'", "in the guide", "depends on which rows"]),
    "an event of rows": (event_of_rows, event_guide, ["'z'", "outside"]),
}


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("name", REFUSED)
def test_a_pair_that_would_be_scaled_wrongly_is_refused_by_name(name, size, unchanged):
    program, belief, words = REFUSED[name]
    with unchanged(), pytest.raises(ValueError, match=r"^batch_size: ") as caught:
        credo.fit(program, belief, X, Y, batch_size=size)
    if size == 2:
        for word in words:
            assert word in str(caught.value)


def centred(x, y):
    """Each row is measured from the mean of those that are there."""
    w = slope()
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w * (x - x.mean()), 1.0), obs=y)


class Normed(torch.nn.Module):
    """Batch norm with a weight that starts at zero: at the start no row sees another."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(1)
        torch.nn.init.zeros_(self.norm.weight)


def test_a_network_whose_batch_norm_starts_at_zero_is_found_out(unchanged):
    net = Normed()

    def normed(x, y):
        pyro.module("net", net)
        w = slope()
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(w * x + net.norm(x[:, None])[:, 0], 1.0), obs=y)

    with unchanged(), pytest.raises(ValueError, match="'y': the density of a row depends on the other rows"):
        credo.fit(normed, guide, X, Y, batch_size=3)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_row_that_depends_on_the_others_of_its_batch_is_refused(size, unchanged):
    with (
        unchanged(),
        pytest.raises(ValueError, match="site 'y': the density of a row depends on the other"),
    ):
        credo.fit(centred, guide, X, Y, batch_size=size)


TAKES = {
    "those before it": lambda x: x.cumsum(0),
    "the one before it": lambda x: x + torch.cat([x[:1], x[:-1]]),
    "the one behind it": lambda x: x + torch.cat([x[1:], x[-1:]]),
    "the first one": lambda x: x - x[0],
    "the last one": lambda x: x - x[-1],
}


@pytest.mark.parametrize("takes", TAKES)
@pytest.mark.parametrize("size", [2, 7])
def test_a_row_that_depends_on_some_of_the_others_is_refused(takes, size):
    x = torch.randn(12, generator=torch.Generator().manual_seed(0))

    def coupled(x, y):
        w = slope()
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(w * TAKES[takes](x), 1.0), obs=y)

    with pytest.raises(ValueError, match="site 'y': the density of a row depends on the other"):
        credo.fit(coupled, guide, x, x.cos(), batch_size=size, progress=False)


@pytest.mark.parametrize("name", REFUSED)
def test_without_batches_the_same_pair_is_none_of_our_business(name):
    program, belief, _ = REFUSED[name]
    assert len(credo.fit(program, belief, X, Y, steps=2).losses) == 2


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize(
    ("program", "belief", "hint"),
    [(fixed_size, guide, ""), (local, rows_last, "parameter 'rows' has an entry for each of the 5 rows")],
    ids=["a plate of fixed size", "a parameter whose rows come last"],
)
def test_a_pair_that_breaks_on_fewer_rows_says_that_it_was_a_batch(program, belief, hint, size, unchanged):
    with unchanged(), pytest.raises((ValueError, RuntimeError)) as caught:
        credo.fit(program, belief, X, Y, batch_size=size)
    notes = " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "of the 5 rows" in notes and hint in notes


def test_a_parameter_with_a_row_for_each_row_is_trained_by_rows():
    fit = credo.fit(local, a_parameter_per_row, X, Y, batch_size=2, steps=1, progress=False, compile=False)
    assert (fit.params["rows"] != 0).sum() == 2


def test_more_rows_than_there_are_are_refused():
    with pytest.raises(ValueError, match=r"batch_size: got 6, but x has 5 rows; wanted at most 5"):
        credo.fit(model, guide, X, Y, batch_size=6)


def test_data_without_rows_is_refused():
    def lone(y):
        pyro.sample("y", dist.Normal(slope(), 1.0), obs=y)

    with pytest.raises(ValueError, match="no tensor with rows"):
        credo.fit(lone, lambda y: guide(y, y), torch.tensor(1.0), batch_size=1)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_plate_gone_through_row_by_row_is_right_or_refused(size):
    runner = credo.SVI(by_steps, guide, batch_size=size, particles=1)
    try:
        slopes = torch.stack([runner.gradients(X, Y)["loc"] for _ in range(400)]).double()
    except ValueError as error:
        assert "batch_size" in str(error) and "scaled by the model itself" not in str(error)
        return
    exact = 0.7 - (X * (Y - 0.7 * X)).sum().item()
    assert slopes.mean().item() == pytest.approx(exact, abs=4.5 * slopes.std().item() / 20)


def test_a_covariance_from_outside_of_the_data_is_named_where_batches_do_not_fit_it():
    covariance, y = torch.eye(6), torch.arange(6.0)

    def model(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.MultivariateNormal(m.expand(6), covariance), obs=y)

    with pytest.raises(ValueError, match=r"batch_size: .* does not run on 2 of the 6 rows .*Pass that as an argum"):
        credo.fit(model, None, y, batch_size=2, progress=False)
    credo.fit(model, None, y, steps=2, progress=False)

"""Which plates are over the rows: those that grow in proportion, and no pair is scaled by the wrong number."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.pair.batches import rows_of

X = torch.tensor([1.0, -1.0, 0.5, 2.0, -0.3, 0.8, -1.5, 0.1])


def slope():
    return pyro.sample("w", dist.Normal(0.0, 1.0))


def guide(*data):
    pyro.sample("w", dist.Normal(pyro.param("loc", torch.tensor(0.7)), 0.1))


def pairs(x):
    w, (i, j) = slope(), torch.triu_indices(len(x), len(x), 1)
    with pyro.plate("pairs", len(i)):
        pyro.sample("d", dist.Normal(w, 1.0), obs=x[i] - x[j])


def squares(x):
    w = slope()
    with pyro.plate("i", len(x), dim=-1), pyro.plate("j", len(x), dim=-2):
        pyro.sample("d", dist.Normal(w, 1.0), obs=x - x[:, None])


def steps(x):
    w = slope()
    with pyro.plate("t", len(x) - 1):
        pyro.sample("x", dist.Normal(w * x[:-1], 1.0), obs=x[1:])


def groups(x, g):
    w = slope()
    with pyro.plate("groups", int(g.max()) + 1):
        pyro.sample("m", dist.Normal(w, 1.0), obs=torch.zeros(int(g.max()) + 1))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(w, 1.0), obs=x)


def sensors(x):
    """Three readings a row, one after the other in one plate: it grows in proportion."""
    w = slope()
    with pyro.plate("readings", 3 * len(x)):
        pyro.sample("x", dist.Normal(w, 1.0), obs=x.repeat_interleave(3))


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        (pairs, (X,), "plate 'pairs' does not grow in proportion to the rows"),
        (squares, (X,), r"site 'd' stands in two plates over rows \(i, j\)"),
        (steps, (X,), "plate 't' does not grow in proportion to the rows"),
        (groups, (X, torch.tensor([0, 1, 2, 3, 4, 5, 6, 7])), "plate 'groups' does not grow in proportion"),
    ],
)
@pytest.mark.parametrize("size", [3, 5])
def test_a_plate_that_n_over_b_does_not_scale_is_refused(model, data, words, size, unchanged):
    with unchanged(), pytest.raises(ValueError, match=words):
        credo.fit(model, guide, *data, batch_size=size)


def test_several_entries_a_row_are_scaled_right():
    """The gradient of the mean: 0.7 from the prior and 3 (0.7 - x) from each reading."""
    runner = credo.SVI(sensors, guide, batch_size=4, particles=1)
    slopes = torch.stack([runner.gradients(X)["loc"] for _ in range(600)]).double()
    exact = 0.7 + 3 * (0.7 - X).sum().item()
    assert slopes.mean().item() == pytest.approx(exact, abs=4.5 * slopes.std().item() / 600**0.5)


def test_a_guide_of_the_rows_hidden_by_a_weight_of_zero_is_found_out(unchanged):
    def amortised(x):
        pyro.sample("w", dist.Normal(pyro.param("a", torch.tensor(0.0)) * x.sum(), 0.1))

    def model(x):
        w = slope()
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(w, 1.0), obs=x)

    with unchanged(), pytest.raises(ValueError, match=r"site 'w' \(in the guide\) .*depends on which rows"):
        credo.fit(model, amortised, X, batch_size=4)


@pytest.mark.parametrize(
    ("lengths", "found"),
    [((8, 8), ((0, 1), 8)), ((3, 8, 8), ((1, 2), 8)), ((8, 3), ((0,), 8)), ((3, 8), ((0,), 3)), ((5,), ((0,), 5))],
)
def test_the_rows_are_those_that_most_tensors_share(lengths, found):
    assert rows_of(tuple(torch.zeros(n, 2) for n in lengths)) == found
    assert rows_of(("a setting", *(torch.zeros(n) for n in lengths))) == (tuple(i + 1 for i in found[0]), found[1])


def test_labels_in_order_are_no_mistake():
    """Half of the rows, of whichever half, would be of one class."""
    pair = credo.load("bnn_classifier")
    x, y = torch.randn(40, 3), torch.arange(40) // 20
    assert len(credo.fit(pair.model, pair.guide, torch.nn.Linear(3, 2), x, y, batch_size=4, steps=3).losses) == 3

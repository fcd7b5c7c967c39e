"""What a prediction says of data that the model cannot take: the argument, what came, and the remedy."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import credo

GROUPS = torch.arange(12) % 4
X, Y = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.linspace(-1.0, 1.0, 12)


def groups(g, y=None, n_groups=4):
    with pyro.plate("G", n_groups):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(g)):
        pyro.sample("y", dist.Normal(a[g], 0.5), obs=y)


def linear(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


def by_column(x, y=None):
    with pyro.plate("D", x.shape[1]):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


def needs_y(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("N", y.shape[0]):
        pyro.sample("y", dist.Normal(w * x[:, 0], 0.5), obs=y)


def by_group(x, g, y=None):
    a = pyro.sample("a", dist.Normal(torch.zeros(4), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(a[g] * x, 0.5), obs=y)


def fitted(model, *data):
    return credo.fit(model, None, *data, steps=2, progress=False)


@pytest.mark.parametrize(
    ("model", "data", "new", "message"),
    [
        (groups, (GROUPS, Y), (torch.tensor([0, 6]),), "g: got the index 6, but the fit knows 0 to 3.*n_groups=6"),
        (linear, (X, Y), (X[:, :2],), r"x: shape \(12, 2\), in the fit shape \(12, 3\)"),
        (by_column, (X, Y), (X[:, :2],), r"'w'.*shape \(3,\) in the fit and \(2,\)"),
        (by_column, (X, Y), (torch.cat([X, X], 1),), r"'w'.*shape \(3,\) in the fit and \(6,\)"),
        (linear, (X, Y), (X[:5], Y[:3]), "y: got 3 rows, but the prediction of site 'y' has 5 by the other arguments"),
        (by_group, (Y, GROUPS, Y), (Y[:5],), r"x: shape \(5,\), in the fit shape \(12,\); left out: g, y"),
        (by_group, (Y, GROUPS, Y), (Y,), r"cannot take the new data \(left out: g, y\)"),
        (needs_y, (X, Y), (X[:5],), "y: left out of the prediction.*observations that are passed are drawn anew"),
    ],
    ids=[
        *("an unseen group", "columns missing", "a plate of columns", "more columns", "another length"),
        *("an index left out", "an index left out, as many rows", "y left out"),
    ],
)
def test_the_argument_and_the_remedy_are_named(model, data, new, message):
    with pytest.raises(ValueError, match=message):
        fitted(model, *data).predict(3, *new)


def test_the_remedies_work():
    fit = fitted(groups, GROUPS, Y)
    assert fit.predict(3, torch.tensor([0, 6]), None, 7)["y"].shape == (3, 2)
    assert fit.predict(3, torch.tensor([0, 3, 3]))["y"].shape == (3, 3)
    fit = fitted(needs_y, X, Y)
    draws = [fit.predict(300, X[:5], y)["y"] for y in (torch.zeros(5), torch.full((5,), 9.0))]
    assert draws[0].shape == (300, 5) and torch.equal(*draws)


def test_an_error_of_the_model_itself_passes():
    def fails(x, y=None):
        if y is None:
            raise RuntimeError("my own words")
        linear(x, y)

    with pytest.raises(RuntimeError, match="my own words"):
        fitted(fails, X, Y).predict(3, X[:4])


def zeroed(g, y=None):
    a = pyro.sample("a", dist.Normal(torch.zeros(4), 1.0).to_event(1))
    with pyro.plate("N", len(g)):
        pyro.sample("y", dist.Normal(torch.where(g >= 0, a[g], 0.0), 0.5), obs=y)


def covariate(g, y=None):
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(g)):
        pyro.sample("y", dist.Normal(b * g, 0.5), obs=y)


def by_vector(g, y=None):
    a = pyro.sample("a", dist.Normal(torch.zeros(4), 1.0).to_event(1))
    with pyro.plate("N", len(g)):
        pyro.sample("y", dist.Normal(a[g], 0.5), obs=y)


@pytest.mark.parametrize("new", [torch.tensor([0, -1, 3]), torch.tensor([-1])], ids=["among others", "alone"])
def test_a_category_that_is_not_known_is_no_index_of_the_last_one(new):
    for found in (fitted(groups, GROUPS, Y), fitted(by_vector, GROUPS, Y), credo.exact(by_vector, GROUPS, Y)):
        with pytest.raises(ValueError, match=r"^g: got the index -1, which would be the last of 4 entries; pandas"):
            found.predict(3, new)
    for model in (zeroed, covariate):
        assert fitted(model, GROUPS, Y).predict(3, new)["y"].shape == (3, len(new))
    assert credo.exact(zeroed, GROUPS, Y).predict(3, new)["y"].shape == (3, len(new))


def network(net, x, y=None):
    mean = credo.nn.bayesian(net)(x).squeeze(-1)
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(mean, 0.5), obs=y)


def checks(x, y=None):
    """Says in its own words which shape it wants, with an index by None."""
    if x.shape[1] != 3:
        raise ValueError(f"x: got {x.shape[1]} columns, wanted 3; pass x[:, None] or three columns\nmore of it")
    linear(x, y)


@pytest.fixture(scope="module")
def net():
    return nn.Linear(3, 1)


@pytest.fixture(scope="module")
def of_network(net):
    return fitted(network, net, X, Y)


def test_a_network_that_was_left_out(net, of_network):
    with pytest.raises(ValueError, match=r"^net: got a Tensor of shape \(12, 3\), wanted the network.*predict\(net, "):
        of_network.predict(3, X)
    with pytest.raises(ValueError, match=r"^n: got two numbers of draws, 3 .* n=5"):
        of_network.predict(3, net, X, n=5)
    assert of_network.predict(3, net, X[:2])["y"].shape == of_network.predict(net, X[:2], n=3)["y"].shape == (3, 2)


def test_one_row_without_its_dimension(net, of_network):
    words = r"^x: got shape \(3,\), one row alone, wanted rows as in the fit.*\(12, 3\); pass x\[None\]"
    for fit, new in ((of_network, (net, X[0])), (fitted(linear, X, Y), (X[0],))):
        with pytest.raises(ValueError, match=words):
            fit.predict(3, *new)
        assert fit.predict(3, *new[:-1], X[0][None])["y"].shape == (3, 1)


def test_words_of_the_model_have_no_table_and_blame_the_right_argument(net, of_network):
    with pytest.raises(ValueError, match=r"^x: got 2 columns.*three columns\nmore of it$"):
        fitted(checks, X, Y).predict(3, X[:, :2])
    with pytest.raises(ValueError, match=r"x: shape \(12, 2\), in the fit.*the net does not take") as caught:
        of_network.predict(3, net, X[:, :2])
    assert "Trace Shapes" not in str(caught.value)

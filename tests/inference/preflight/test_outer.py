"""A column that meets a vector is refused, where the model would score all pairs of rows; kernels are not."""

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.pair.pair import Pair
from credo.inference.preflight.outer import outer_column
from tests.cases.checked import warned

X = torch.linspace(-1.0, 1.0, 6)
Y = 2 * X
TABLE = pd.DataFrame({"height": Y.numpy()})


def summed(x, y):
    """The squares of all pairs of rows, if y is a column: nothing tells it by the shape."""
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    pyro.factor("y", -0.5 * ((y - w * x) ** 2).sum())


def in_a_plate(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


def matrix(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(1), 10.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


def columns(x, y):
    """Several responses, here one."""
    w = pyro.sample("w", dist.Normal(torch.zeros(1, 1), 10.0).to_event(2))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 1.0).to_event(1), obs=y)


def kernel(x, y):
    """A Gaussian process whose kernel is written with a column and its own row."""
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    between = torch.exp(-((x - x.squeeze(-1)) ** 2) / scale) + 0.1 * torch.eye(len(x))
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), between), obs=y)


def layer(x, y):
    """A hidden layer with as many units as there are rows: its bias is a vector of that length."""
    w = pyro.sample("w", dist.Normal(torch.zeros(len(x), 1), 1.0).to_event(2))
    b = pyro.sample("b", dist.Normal(torch.zeros(len(x)), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(torch.nn.functional.linear(x, w, b).tanh().sum(-1), 1.0), obs=y)


def units(x, y):
    """As many hidden units as rows, without a matrix product."""
    w = pyro.sample("w", dist.Normal(torch.zeros(len(x)), 1.0).to_event(1))
    b = pyro.sample("b", dist.Normal(torch.zeros(len(x)), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(torch.tanh(x * w + b).sum(-1), 1.0), obs=y)


def basis(x, y):
    """As many basis functions as rows; their centres are no data."""
    w = pyro.sample("w", dist.Normal(torch.zeros(6), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(torch.exp(-((x - torch.linspace(-1.0, 1.0, 6)) ** 2)) @ w, 1.0), obs=y)


def of_latent_rows(x, y):
    """A column of inputs beside a latent of the rows: all pairs."""
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("y", -0.5 * ((x - z) ** 2).sum() + 0 * y.sum())


def of_other_data(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    pyro.factor("y", -0.5 * ((x - y + w) ** 2).sum())


def test_a_column_of_inputs_that_meets_rows_is_refused():
    for model in (of_other_data, of_latent_rows):
        with pytest.raises(ValueError, match=r"x: a column of shape \(6, 1\) meets a vector of shape \(6,\)"):
            credo.fit(model, None, X[:, None], Y, progress=False)


@pytest.mark.parametrize("model", [summed, in_a_plate])
@pytest.mark.parametrize("y", [TABLE, Y[:, None]], ids=["a table of one column", "a column"])
def test_a_column_that_makes_a_matrix_is_refused_by_name(model, y, unchanged):
    words = r"y: a column of shape \(6, 1\) meets a vector of shape \(6,\).*y.squeeze\(-1\)"
    with unchanged(), pytest.raises(ValueError, match=words):
        credo.fit(model, None, X, y, progress=False)


def test_exact_refuses_it_too():
    with pytest.raises(ValueError, match=r"y: a column of shape \(6, 1\)"):
        credo.exact(summed, X, Y[:, None])


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (summed, (X, Y)),
        (layer, (X[:, None], Y)),
        (units, (X[:, None], Y)),
        (basis, (X[:, None], Y)),
        (matrix, (X[:, None], Y)),
        (columns, (X[:, None], TABLE)),
        (kernel, (X[:, None], Y)),
        (summed, (X[:1, None], Y[:1])),
    ],
    ids=["vectors", "a layer", "units", "basis functions", "a matrix of one column", "columns", "a kernel", "one row"],
)
def test_sound_columns_are_not_refused(model, data):
    assert credo.fit(model, None, *data, steps=2, progress=False, compile=False).losses


def all_pairs(x, y):
    """The model makes the column itself: log p of all pairs of rows, which sum() hides."""
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    pyro.factor("y", dist.Normal((w * x)[:, None], 1.0).log_prob(y).sum())


def all_pairs_of_a_loss(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    pyro.factor("loss", -0.5 * ((w * x - y[:, None]) ** 2).sum())


def all_pairs_of_torchs_loss(x, y):
    """torch warns of the sizes itself; the matrix is made and summed inside."""
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    pyro.factor("loss", -0.5 * torch.nn.functional.mse_loss((w * x)[:, None], y, reduction="sum"))


def torchs_loss(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    pyro.factor("loss", -0.5 * torch.nn.functional.mse_loss(w * x, y, reduction="sum"))


def own_rows(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    pyro.factor("y", dist.Normal(w * x, 1.0).log_prob(y).sum())


def own_columns(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    pyro.factor("y", dist.Normal((w * x)[:, None], 1.0).log_prob(y[:, None]).sum())


def process(x, y):
    """The kernel is a matrix of x with itself."""
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    between = torch.exp(-((x[:, None] - x) ** 2) / scale) + 0.1 * torch.eye(len(x))
    pyro.factor("y", dist.MultivariateNormal(torch.zeros(len(x)), between).log_prob(y))


def paired_kernel(x, y):
    """A matrix of x with y, of which each row keeps its own entry: pairs (x_i, y_i) cannot change places."""
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    between = torch.exp(-((x[:, None] - y) ** 2) / scale)
    pyro.factor("near", torch.log(between.diagonal() / between.sum(-1)).sum())


def mixture(x, y):
    """Six places and six rows, by chance: a matrix of latents and data."""
    loc = pyro.sample("loc", dist.Normal(torch.zeros(6), 1.0).to_event(1))
    pyro.factor("x", dist.Normal(loc, 1.0).log_prob(x[:, None]).logsumexp(-1).sum())
    pyro.factor("y", dist.Normal(x, 1.0).log_prob(y).sum())


@pytest.mark.parametrize("model", [all_pairs, all_pairs_of_a_loss, all_pairs_of_torchs_loss])
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_all_pairs_of_rows_in_a_factor_are_warned_of(model):
    found = warned(model, None, X, Y)
    assert "a column of shape (6, 1), computed from" in found and "the factor adds up all pairs of their rows" in found


@pytest.mark.parametrize("model", [own_rows, own_columns, torchs_loss, process, paired_kernel, mixture])
def test_a_factor_whose_rows_meet_their_own_is_fine(model):
    assert warned(model, None, X, Y) == ""


def test_whole_numbers_are_known_by_their_memory():
    def counted(x, y):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.factor("y", dist.Poisson((w * x).exp()[:, None]).log_prob(y).sum())

    counts = torch.tensor([0, 1, 1, 2, 3, 5])
    assert "computed from x" in warned(counted, None, X, counts)


@pytest.mark.parametrize(("square", "found"), [(True, "y: a column of shape (6, 1)"), (False, "None")])
def test_a_model_that_fails_at_a_draw_is_watched_at_another(square, found):
    drawn = []

    def guide(x, y):
        drawn.append(pyro.sample("w", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0)))

    def model(x, y):
        if len(drawn) < 2:
            raise ValueError("not at this draw")
        summed(x, y if square else y[:, 0])

    assert str(outer_column(Pair(model, guide, (X, Y[:, None])), ["x", "y"])).startswith(found)
    assert len(drawn) == 2

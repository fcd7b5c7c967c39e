"""Prior draws of rows that nobody has to make up."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo

X, Y = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.linspace(-1.0, 1.0, 6)


def unseen(y, scale=2.0):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, scale), obs=y)


def regression(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


def numbers(w, y):
    """Reads the number of rows of `w` alone, and a weight that is no row."""
    z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z @ w, 1.0), obs=y)


def fitted(model, *data):
    return credo.fit(model, "mean_field", *data, steps=2, progress=False)


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_the_prior_predictive_of_rows_that_the_model_only_counts(rows):
    found = fitted(unseen, Y).predict(4000, prior=True, rows=rows)
    assert found["y"].shape == (4000, rows) and found["z"].shape == (4000,)
    assert found["y"].std().item() == pytest.approx(5**0.5, rel=0.05)
    noise = found["y"] - found["z"][:, None]
    assert noise.std().item() == pytest.approx(2.0, rel=0.05)


def test_other_arguments_are_those_of_the_fit_or_the_ones_given():
    assert fitted(unseen, Y, 0.5).predict(2000, prior=True, rows=9)["y"].std().item() == pytest.approx(
        1.25**0.5, rel=0.1
    )
    found = fitted(numbers, torch.ones(2), Y).predict(7, torch.zeros(2), prior=True, rows=9)
    assert found["y"].shape == (7, 9)
    assert fitted(unseen, Y).predict(50, prior=True, rows=9, batch=4, reduce="mean")["y"].shape == (9,)


def test_inputs_that_the_model_computes_with_must_be_passed():
    fit = fitted(regression, X, Y)
    with pytest.raises(ValueError, match="rows: the model computes with the values of x, so 9 rows of it are needed"):
        fit.predict(3, prior=True, rows=9)
    assert fit.predict(3, torch.zeros(9, 2), prior=True)["y"].shape == (3, 9)
    assert fit.predict(3, torch.zeros(9, 2), prior=True, rows=9)["y"].shape == (3, 9)


@pytest.mark.parametrize(
    ("new", "options", "message"),
    [
        ((), {"rows": 5}, "rows: goes with prior=True"),
        ((), {"rows": 0, "prior": True}, "rows: got 0"),
        ((X,), {"rows": 5, "prior": True}, r"rows: got 5, but x has shape \(6, 2\)"),
    ],
    ids=["posterior", "none", "another number"],
)
def test_rows_that_cannot_be_meant(new, options, message):
    with pytest.raises(ValueError, match=message):
        fitted(regression, X, Y).predict(3, *new, **options)


def test_data_without_rows():
    def model(y):
        pyro.sample("y", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=y)

    with pytest.raises(ValueError, match="no argument of the fit has rows"):
        fitted(model, torch.tensor(1.0)).predict(3, prior=True, rows=5)


def switched(x, y=None):
    """Reads x at a tenth of the draws."""
    z = pyro.sample("z", dist.Bernoulli(0.1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(z * x, 1.0), obs=y)


def beyond(x, y=None):
    """Reads whether x is beyond ten, where no row of the fit is."""
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(a * (x > 10.0), 1.0), obs=y)


def branched(x, y=None):
    """Reads x at three of ten draws, by a branch."""
    z = pyro.sample("z", dist.Bernoulli(0.3))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x if z > 0.5 else torch.zeros(()), 1.0), obs=y)


def counted(x, y=None):
    """Reads the shape of x in several ways."""
    z = pyro.sample("z", dist.Bernoulli(0.3))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(z * torch.ones_like(x) + torch.zeros(x.shape[0]), 1.0), obs=y)


def coin(x, y=None):
    p = pyro.param("p", torch.tensor(0.5), constraint=dist.constraints.unit_interval)
    pyro.sample("z", dist.Bernoulli(p))


@pytest.mark.parametrize("model", [switched, beyond, branched])
def test_inputs_that_matter_at_some_latents_only_must_be_passed(model):
    fit = credo.fit(model, "mean_field" if model is beyond else coin, X[:, 0], Y, steps=2, progress=False)
    with pytest.raises(ValueError, match="rows: the model computes with the values of x"):
        fit.predict(3, prior=True, rows=9)


def test_inputs_whose_shape_alone_is_read_are_made():
    fit = credo.fit(counted, coin, X[:, 0], Y, steps=2, progress=False)
    assert fit.predict(3, prior=True, rows=9)["y"].shape == (3, 9)

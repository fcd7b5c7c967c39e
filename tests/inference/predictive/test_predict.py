"""Predictions: a row for each row given, whatever form it comes in, from the guide's belief at those rows."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo

X = torch.tensor([[0.5, 1.0], [-1.0, 0.3], [2.0, -0.7], [0.1, 0.1]])
Y = torch.tensor([1.0, -2.0, 3.5, 0.2])
NEW = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.5], [0.3, 0.3], [1.5, 1.5], [9.0, -9.0]])
LINEAR = credo.load("linear_regression")


@pytest.fixture(scope="module")
def fit() -> credo.Fit:
    return credo.fit(LINEAR.model, LINEAR.guide, X, Y, steps=5)


FORMS = {
    "double": lambda x: x.double(),
    "NumPy": lambda x: x.double().numpy(),
    "a table": lambda x: pd.DataFrame(x.numpy(), columns=["a", "b"]),
    "a list of columns": lambda x: pd.DataFrame({"a": x[:, 0].tolist(), "b": x[:, 1].tolist()}),
    "non-contiguous": lambda x: np.asfortranarray(x.numpy()),
}


@pytest.mark.parametrize("form", FORMS)
def test_new_rows_in_any_form_are_the_same_rows(form, fit, unchanged):
    with unchanged():
        found, plain = fit.predict(20, FORMS[form](NEW))["y"], credo.predict(fit, 20, NEW)["y"]
    assert found.shape == (20, 6) and found.dtype == torch.float32
    torch.testing.assert_close(found, plain)
    assert not torch.equal(fit.predict(20, NEW, seed=1)["y"], plain)


@pytest.mark.parametrize(("new", "message"), [(NEW * float("nan"), "X: 12 of 12"), (NEW[:0], "X is empty")])
def test_what_a_fit_refuses_a_prediction_refuses(fit, new, message):
    with pytest.raises(ValueError, match=message):
        fit.predict(3, new)


def test_integers_are_predicted_as_the_model_draws_them():
    pair = credo.load("coin_toss")
    fit = credo.fit(pair.model, pair.guide, torch.tensor([1, 0, 1, 1]), steps=0)  # q is the prior, of mean 1/2
    draws = fit.predict(4000, torch.zeros(3, dtype=torch.int64))["flips"]
    assert draws.shape == (4000, 3) and set(draws.unique().tolist()) == {0.0, 1.0}
    # flips of one draw share their p: their covariance is var p = 1 / (4 (2 + 2 + 1))
    assert draws.mean().item() == pytest.approx(0.5, abs=5 * (0.25 / 4000) ** 0.5)
    assert torch.cov(draws.T)[0, 1].item() == pytest.approx(0.05, abs=5 * 0.25 / 4000**0.5)


def few(x):
    """Training sees two rows at a time; a prediction is wanted for all."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x), subsample_size=2) as rows:
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[rows])


def local(x):
    with pyro.plate("N", len(x), subsample_size=2) as rows:
        pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x[rows])


def guide(x):
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))


def guide_rows(x):
    with pyro.plate("N", len(x), subsample_size=2) as rows:
        pyro.sample("z", dist.Normal(x[rows] + pyro.param("loc", torch.tensor(0.0)), 0.5))


@pytest.mark.parametrize(("model", "guide"), [(few, guide), (local, guide_rows)], ids=["global", "local"])
def test_a_subsampled_plate_is_predicted_in_full(model, guide):
    fit = credo.fit(model, guide, torch.zeros(5), steps=2)
    new = 10.0 * torch.arange(7.0)
    try:
        draws = fit.predict(200, new)["x"]
    except ValueError as error:  # or it is refused, by the name of the plate
        assert "'N'" in str(error)
        return
    assert draws.shape == (200, 7)
    if model is local:  # each row in its place
        assert (draws.mean(0) - new).abs().max() < 1

"""Predictions of a fit by batches of many rows: few rows stand for all, and the answers stay the same."""

from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.posterior.approximation import Approximation
from credo.inference.predictive.few_rows import FEW, on_few_rows
from credo.inference.streaming.some_rows import MANY

N = MANY + 2_000
X = torch.randn(N, generator=torch.Generator().manual_seed(0))
FIT = {"batch_size": 100, "steps": 200, "plan": "fast", "compile": False, "progress": False}


def line(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w * x, 0.5), obs=y)


def guide(x, y):
    pyro.sample("w", dist.Normal(pyro.param("loc", torch.tensor(2.0)), 0.1))


def seen(program, sizes):
    """The program, which notes on how many rows it runs."""

    def noting(x, y):
        sizes.append(len(x))
        return program(x, y)

    return noting


def asked(fit: Approximation, new: tuple) -> dict:
    return credo.predict(fit, *new, n=2)


def test_predictions_at_new_rows_are_those_of_the_fit_with_all_rows_and_run_on_few():
    sizes: list[int] = []
    fit = credo.fit(seen(line, sizes), guide, X, 2 * X, **FIT)
    new = torch.tensor([1.0, -3.0, 0.5])
    sizes.clear()
    found = fit.predict(300, new)["y"]
    assert max(sizes) < 3 * FEW
    w = fit.sample(300)["w"]
    away = (found - w[:, None] * new) / 0.5  # the noise: its draws are those of w and new rows alone
    assert abs(float(away.mean())) < 0.15 and float(away.std()) == pytest.approx(1.0, abs=0.1)


def test_predictions_at_the_rows_of_the_fit_have_all_rows():
    fit = credo.fit(line, guide, X, 2 * X, **FIT)
    assert fit.predict(2)["y"].shape == (2, N)
    assert fit.predict(2, X)["y"].shape == (2, N)
    assert on_few_rows(fit, (X,), asked) is fit


def test_a_table_of_latents_keeps_the_rows_of_the_fit():
    def model(x):
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    fit = credo.fit(model, "mean_field", X, **FIT)
    assert on_few_rows(fit, (X[:5],), asked) is fit


def test_predictions_that_depend_on_how_many_rows_there_were_keep_them_all():
    def drawing(x, y):
        pyro.sample("w", dist.Normal(pyro.param("loc", torch.tensor(2.0)), 1 / len(x)))

    fit = replace(credo.fit(line, guide, X, 2 * X, **FIT), guide=drawing)
    assert on_few_rows(fit, (X[:5],), asked) is fit


def test_a_fit_of_all_rows_at_once_is_left_as_it_is():
    fit = credo.fit(line, guide, X, 2 * X, **{**FIT, "batch_size": None, "steps": 5})
    assert on_few_rows(fit, (X[:5],), asked) is fit

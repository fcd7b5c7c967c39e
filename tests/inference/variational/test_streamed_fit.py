"""What a fit knows of rows that the run read by windows: latents of the rows are nobody's, shared ones stay."""

import dataclasses

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.variational.streamed_fit import FEW, with_some_rows

X = torch.randn(600, generator=torch.Generator().manual_seed(0))


def model(x):
    mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(mean, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def amortised(x):
    mean = pyro.sample("mean", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.1))
    with pyro.plate("N", len(x)):
        pyro.sample("z", dist.Normal((x + mean) / 2, pyro.param("scale", torch.tensor(0.7))))


def without_rows(x):
    mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(mean, 1.0), obs=x)


def guide(x):
    pyro.sample("mean", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.1))


@pytest.fixture
def fitted():
    def of(model, guide):
        fit = credo.fit(model, guide, X, steps=3, compile=False, progress=False, plan="fast")
        return with_some_rows(fit, (0,), 10**6, {"N"})

    return of


def test_latents_of_the_rows_are_refused_and_new_rows_have_theirs(fitted):
    fit = fitted(model, amortised)
    assert len(fit.data[0]) == FEW and fit.data.free == {"predict"}
    for ask in (fit.sample, fit.summary, fit.predict):
        with pytest.raises(ValueError, match=r"1,000,000 rows of this fit by windows.*fit.predict\(n, \*rows\)"):
            ask()
    assert fit.predict(4, X[:9])["x"].shape == (4, 9)


def test_latents_of_all_rows_are_the_fit_s(fitted):
    fit = fitted(without_rows, guide)
    assert fit.data.free == {"guide", "sample", "summary", "predict"}
    assert list(fit.summary(10).index) == ["mean"]
    assert dataclasses.replace(fit, seed=1).data is fit.data

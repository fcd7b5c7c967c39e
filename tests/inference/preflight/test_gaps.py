"""Missing values are used only where the model leaves them out; elsewhere they are refused by name."""

import math

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch.distributions import constraints

import credo

NAN = math.nan


def mean_guide(y, *_):
    m = pyro.param("m", torch.tensor(0.0))
    s = pyro.param("s", torch.tensor(1.0), constraint=constraints.positive)
    pyro.sample("mu", dist.Normal(m, s))


STEPS = dict(steps=600, compile=False, progress=False)


def masked(y):
    """Scores the values that are there: the posterior of those alone."""
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(y)), poutine.mask(mask=~y.isnan()):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y.nan_to_num())


def chosen(y, there):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("N", int(there.sum())):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y[there])


def replaced(y, there):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(y)), poutine.mask(mask=there):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=torch.where(there, y, 0.0))


def plain(y, *_):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def scored_then_masked(y):
    """Its density is finite, and its gradient is not: 0 times NaN."""
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    density = torch.where(y.isnan(), 0.0, -0.5 * (y - mu) ** 2)
    pyro.factor("y", density.sum())


def compared(y):
    """NaN > 1 is False: a missing value would count as a low one."""
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(y)):
        pyro.sample("high", dist.Bernoulli(logits=mu), obs=(y > 1.0).float())


Y = torch.tensor([2.0, NAN, 3.0, NAN, 1.0])
THERE = ~Y.isnan()
MEAN, SD = 6 / 3.01, 3.01**-0.5  # of the three values that are there


@pytest.mark.parametrize("model, data", [(masked, (Y,)), (chosen, (Y, THERE)), (replaced, (Y, THERE))])
def test_missing_values_that_the_model_leaves_out_do_not_count(model, data):
    fit = credo.fit(model, mean_guide, *data, lr=0.05, plan="fast", **STEPS)
    assert abs(fit.params["m"].item() - MEAN) < 0.1 * SD and abs(fit.params["s"].item() / SD - 1) < 0.1


@pytest.mark.parametrize("make", [np.array, pd.Series], ids=["NumPy", "pandas"])
def test_so_they_do_from_arrays_and_series(make):
    assert credo.fit(masked, mean_guide, make(Y.tolist()), steps=3, compile=False, progress=False).data[0].isnan().any()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (plain, "the model cannot use them"),
        (scored_then_masked, "the gradient of the log density is not finite"),
        (compared, "the program decides by them .gt of NaN"),
    ],
)
def test_missing_values_that_count_are_refused_by_name(model, reason, unchanged):
    words = (
        rf"y: 2 of 5 values are not finite, the first is nan at index \(1,\); drop or fill.*y.nan_to_num\(\).*{reason}"
    )
    with unchanged(), pytest.raises(ValueError, match=words):
        credo.fit(model, mean_guide, Y, progress=False)


def test_infinite_bounds_are_fine_where_the_density_is():
    """Interval censoring: the last interval has no upper end."""

    def intervals(low, high):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        q = dist.Normal(mu, 1.0)
        pyro.factor("between", (q.cdf(high) - q.cdf(low)).log().sum())

    low, high = torch.tensor([0.0, 1.0]), torch.tensor([1.0, math.inf])
    assert credo.fit(intervals, mean_guide, low, high, steps=3, progress=False).losses
    with pytest.raises(ValueError, match="y: 1 of 2 values are not finite, the first is inf"):
        credo.fit(plain, mean_guide, torch.tensor([1.0, math.inf]), progress=False)


def test_a_covariate_that_the_model_imputes():
    """Regression with missing x as latents: the posterior of the slope is that of NUTS, 1.965 with sd 0.084."""
    torch.manual_seed(0)
    x = torch.randn(40) + 1
    y = 2 * x - 1 + 0.5 * torch.randn(40)
    x[::5] = NAN

    def model(x, y):
        b, a = pyro.sample("b", dist.Normal(0.0, 3.0)), pyro.sample("a", dist.Normal(0.0, 3.0))
        m, gaps = pyro.sample("m", dist.Normal(0.0, 2.0)), x.isnan()
        xi = pyro.sample("xi", dist.Normal(m, 1.0).expand([int(gaps.sum())]).to_event(1))
        filled = x.clone()
        filled[gaps] = xi
        with pyro.plate("N", len(x)):
            with poutine.mask(mask=~gaps):
                pyro.sample("x", dist.Normal(m, 1.0), obs=x.nan_to_num())
            pyro.sample("y", dist.Normal(a + b * filled, 0.5), obs=y)

    fit = credo.fit(model, None, x, y, steps=1500, plan="fast", progress=False, compile=False)
    assert abs(fit.sample(2000)["b"].mean().item() - 1.965) < 0.084
    assert fit.predict(3, x)["y"].shape == (3, 40)


def few_draws(*data):
    return credo.reference(*data, progress=False)


@pytest.mark.parametrize("call", [credo.exact, few_draws])
def test_exact_and_reference_use_and_refuse_the_same(call):
    assert abs(float(call(masked, Y).marginals["mu"].mean) - MEAN) < 0.2
    with pytest.raises(ValueError, match=r"y: 2 of 5 values are not finite.*the log density is not finite"):
        call(plain, Y)


def test_later_steps_and_predictions_take_what_the_first_one_took():
    svi = credo.SVI(masked, mean_guide, progress=False, compile=False)
    svi.step(Y)
    svi.step(Y)
    assert svi.run(Y, steps=1).predict(2, Y)["y"].shape == (2, 5)
    svi = credo.SVI(masked, mean_guide, progress=False, compile=False)
    svi.step(Y.nan_to_num())
    with pytest.raises(ValueError, match="y: 2 of 5 values are not finite"):
        svi.step(Y)


def test_the_refusal_names_the_line_and_no_remedy_for_parameters():
    def model(x, y):
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(b * x, 1.0), obs=y)

    x = torch.tensor([NAN, 1.0, 2.0])
    with pytest.raises(ValueError) as refused:
        credo.fit(model, None, x, torch.ones(3), steps=2, progress=False)
    said = str(refused.value)
    assert said.startswith("x: 1 of 3 values are not finite, the first is nan at index (0,); drop or fill those rows")
    assert "it builds a Normal whose loc is not finite, at test_gaps.py:" in said and "pyro.param" not in said

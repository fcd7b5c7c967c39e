"""A fit with AutoLaplaceApproximation draws from the normal distribution around the mode, not the mode alone."""

import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoLaplaceApproximation

import credo

Y = torch.tensor([3.0, 5.0, 4.0, 6.0, 2.0, 4.0])
X = torch.linspace(-1.0, 1.0, 6)


def regression(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(w[0] + w[1] * x, 0.5), obs=y)


def rate(y):
    r = pyro.sample("r", dist.Gamma(2.0, 1.0))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Poisson(r), obs=y)


def test_a_normal_posterior_is_found_exactly():
    """w ~ N(0, I), y ~ N(A w, .25): the posterior has precision I + A' A / .25."""
    guide = AutoLaplaceApproximation(regression)
    fit = credo.fit(regression, guide, X, Y / 4, steps=1500, progress=False)
    a = torch.stack([torch.ones(6), X], 1)
    covariance = (torch.eye(2) + a.T @ a / 0.25).inverse()
    draws = fit.sample(20000)["w"]
    torch.testing.assert_close(draws.mean(0), covariance @ a.T @ (Y / 4) / 0.25, atol=0.01, rtol=0)
    torch.testing.assert_close(draws.T.cov(), covariance, atol=0.002, rtol=0)
    assert fit.predict(5)["y"].shape == (5, 6) and len(fit.summary()) == 2
    assert isinstance(guide, AutoLaplaceApproximation) and not hasattr(guide, "loc")  # the user's guide stays as it was
    assert pickle.loads(pickle.dumps(fit)).sample(3)["w"].std() > 0


def test_in_unconstrained_space_it_is_the_curvature_there():
    """log r of Gamma(a, b): mode log(a / b), second derivative -a. Here a = 2 + sum y, b = 1 + n."""
    fit = credo.fit(rate, AutoLaplaceApproximation(rate), Y, steps=1500, progress=False)
    a, b = 2 + Y.sum().item(), 1 + len(Y)
    u = fit.sample(20000)["r"].log()
    assert u.mean().item() == pytest.approx(torch.tensor(a / b).log().item(), abs=0.01)
    assert u.std().item() == pytest.approx(a**-0.5, rel=0.03)


def test_where_there_is_no_normal_the_fit_says_so():
    def flat(y):
        a, b = (pyro.sample(name, dist.Normal(0.0, 1.0).mask(False)) for name in "ab")
        with pyro.plate("rows", len(y)):
            pyro.sample("y", dist.Normal(a - b, 1.0), obs=y)

    with pytest.warns(UserWarning, match="AutoLaplaceApproximation: the Hessian .* is not positive definite"):
        fit = credo.fit(flat, AutoLaplaceApproximation(flat), Y, steps=50, progress=False, compile=False)
    assert fit.sample(10)["a"].std() == 0

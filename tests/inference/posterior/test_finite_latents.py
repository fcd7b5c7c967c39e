"""Finite latents of a prediction are drawn given the observations that came with the rows."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.posterior.finite_latents import same_rows

N = 4000
X = torch.tensor([-1.0, 0.0, 1.0, 2.0])
Y = torch.tensor([2.1, 0.1, 1.8, -4.2])


def lines(x, y=None):
    """Two lines through the origin; which of them a row follows is a finite latent."""
    slope = pyro.sample("slope", dist.Normal(torch.tensor([-2.0, 2.0]), 0.5).to_event(1))
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        line = pyro.deterministic("line", slope[k.long()] * x)
        pyro.sample("y", dist.Normal(line, 1.0), obs=y)


def guide(x, y=None):
    pyro.sample("slope", dist.Normal(pyro.param("m", torch.tensor([-2.0, 2.0])), 0.1).to_event(1))


@pytest.fixture(scope="module")
def fit() -> credo.Fit:
    return credo.fit(lines, guide, X, Y, steps=0, progress=False)


def given(x, y, slope):
    """p(k = 1 | y) at draws of the slopes (n, 2), averaged over them, shape (rows,)."""
    other, own = (dist.Normal(slope[:, [i]] * x, 1.0).log_prob(y) for i in (0, 1))
    return (own - other + torch.tensor(3 / 7).log()).sigmoid().mean(0)


def near(found, wanted, n=N):
    return bool(((found - wanted).abs() <= 5 * (wanted * (1 - wanted) / n).sqrt() + 3 / n).all())


def test_the_rows_of_the_fit_keep_their_finite_latents(fit):
    p = given(X, Y, fit.sample(N)["slope"])
    for data in ((), (X,), (X, Y)):
        draws = fit.predict(N, *data)
        assert near(draws["k"].mean(0), p) and draws["k"].shape == draws["y"].shape == (N, 4)
        assert draws["line"].shape == (N, 4)
        assert ((draws["y"] - draws["line"]).mean(0).abs() < 5 / N**0.5).all()  # drawn on the line of its own k


def test_new_rows_without_observations_draw_them_from_their_prior(fit):
    x = torch.tensor([1.0, -3.0])
    draws = fit.predict(N, x)
    assert near(draws["k"].mean(0), torch.tensor([0.3, 0.3]))
    assert ((draws["y"] - draws["line"]).mean(0).abs() < 5 / N**0.5).all()
    mean = 0.7 * -2.0 * x + 0.3 * 2.0 * x
    sd = (1 + 0.01 * x**2 + 0.21 * (4 * x) ** 2).sqrt()
    assert ((draws["y"].mean(0) - mean).abs() < 5 * sd / N**0.5).all()


def test_new_rows_with_observations_draw_them_given_these_but_no_prediction_knows_them(fit):
    x, y = torch.tensor([1.0, -3.0, 0.5]), torch.tensor([2.0, 6.0, 0.3])
    draws = fit.predict(N, x, y)
    assert near(draws["k"].mean(0), given(x, y, fit.sample(N)["slope"]))
    mean = 0.7 * -2.0 * x + 0.3 * 2.0 * x  # of y given x alone
    sd = (1 + 0.01 * x**2 + 0.21 * (4 * x) ** 2).sqrt()
    assert ((draws["y"].mean(0) - mean).abs() < 5 * sd / N**0.5).all()


def test_what_is_given_of_a_row_decides_what_is_not():
    """A cluster that shows in x and in y: y of a new row follows from its x."""

    def model(x, y=None):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(4 * k - 2, 1.0), obs=x)
            pyro.sample("y", dist.Normal(10 * k + 0 * loc, 1.0), obs=y)

    def guide(x, y=None):
        pyro.sample("loc", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0))

    fit = credo.fit(model, guide, X, 10 * (X > 0).float(), steps=0, progress=False)
    new = torch.tensor([-0.5, 0.0, 0.2])
    draws = fit.predict(N, new)
    p = (4 * new).sigmoid()  # log N(x; 2, 1) - log N(x; -2, 1)
    assert near(draws["k"].mean(0), p)
    sd = (1 + 100 * p * (1 - p)).sqrt()
    assert ((draws["y"].mean(0) - 10 * p).abs() < 5 * sd / N**0.5).all()
    assert ((draws["y"] - 10 * draws["k"]).mean(0).abs() < 5 / N**0.5).all()
    assert near(draws["x"].mean(0) / 4 + 0.5, torch.full((3,), 0.5), N / 2)  # a new x* knows nothing of the x given


def test_from_the_prior_nothing_is_given(fit):
    draws = fit.predict(N, prior=True)
    assert near(draws["k"].mean(0), torch.full((4,), 0.3))


def test_the_rows_of_the_fit_are_known_by_their_values():
    data = (X, Y, 3)
    assert same_rows((X.clone(), None, 3), data) and same_rows(data, data)
    assert not same_rows((X + 1, None, 3), data) and not same_rows((X[:2], None, 3), data)
    assert not same_rows((X, None, 4), data) and not same_rows((None, None), data)

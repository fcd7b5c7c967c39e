"""A point of a distribution that cannot be drawn from; fits with such priors."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import credo
from credo.inference.distributions.centre import centre

Y = torch.tensor([1.0, 2.0, 4.0, 5.0])


@pytest.mark.parametrize(
    ("support", "batch", "event"),
    [
        (constraints.real, (), ()),
        (constraints.positive, (3,), ()),
        (constraints.simplex, (2,), (3,)),
        (constraints.corr_cholesky, (), (3, 3)),
    ],
    ids=["real", "positive", "simplex", "corr_cholesky"],
)
def test_it_is_inside_the_support_and_has_the_shape_of_a_draw(support, batch, event):
    value = centre(dist.ImproperUniform(support, batch, event))
    assert value.shape == (*batch, *event) and support.check(value).all()


@pytest.mark.parametrize("guide", [None, "full_rank", "mean_field"])
def test_a_flat_prior_without_draws_is_fitted(guide):
    def model(y):
        a = pyro.sample("a", dist.ImproperUniform(constraints.real, (), ()))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(a, 1.0), obs=y)

    fit = credo.fit(model, guide, Y, progress=False)
    a = fit.summary().loc["a"]  # the posterior is Normal(mean of y, 1 / sqrt(N))
    assert abs(a["mean"] - 3.0) < 0.05 and abs(a["sd"] - 0.5) < 0.05


def test_its_mode_is_that_of_the_likelihood():
    def model(y):
        sd = pyro.sample("sd", dist.ImproperUniform(constraints.positive, (), ()))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(3.0, sd), obs=y)

    fit = credo.fit(model, "map", Y, progress=False)
    assert abs(fit.sample(1)["sd"].item() - (Y - 3).square().mean().sqrt()) < 0.02

"""Draws of a guide and their weights: constant where the guide is the posterior, and then p(data)."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.importance.guide_draws import guide_draws_weighed, in_double, point_estimates

Y = torch.tensor([1.0, 2.0, 0.5])


def model(y):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.5))
        pyro.sample("y", dist.Normal(m + 0 * k, 1.0), obs=y)


def guide(y):
    loc, scale = pyro.param("loc", Y.sum() / 4), pyro.param("scale", torch.tensor(0.5))
    pyro.sample("m", dist.Normal(loc, scale))


@pytest.mark.parametrize("words", ["by hand", "full_rank"])
def test_the_weights_of_the_posterior_are_the_evidence(words):
    fit = credo.fit(model, words, Y) if words == "full_rank" else credo.fit(model, guide, Y, steps=0, progress=False)
    found = guide_draws_weighed(fit, 50, 0)
    exact = dist.MultivariateNormal(torch.zeros(3), torch.eye(3) + 1).log_prob(Y)
    torch.testing.assert_close(found.log_weights, exact.double().expand(50), atol=1e-3, rtol=0)
    assert found.values.keys() == {"m"} and found.values["m"].shape == (50,)


def test_point_estimates_are_told_from_draws():
    assert point_estimates(credo.fit(model, "map", Y, steps=1, progress=False))
    assert not point_estimates(credo.fit(model, guide, Y, steps=1, progress=False))


def test_weights_are_computed_in_double_where_the_model_can():
    def single(y):
        m = pyro.sample("m", dist.Normal(torch.zeros(2, dtype=torch.float32), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(torch.ones(1, 2) @ m, 1.0).to_event(1), obs=y[:1])

    assert in_double(credo.fit(model, guide, Y, steps=1, progress=False)).data[0].dtype == torch.float64
    assert in_double(credo.fit(single, None, Y, steps=1, progress=False)).data[0].dtype == torch.float32


def test_a_finite_latent_that_is_drawn_twice_is_no_point_estimate():
    """With logits 0 and -5, k is 0 in 99.3 of 100 draws; with -100 it is a point."""

    def of(second):
        def finite_guide(x):
            pyro.sample("k", dist.Categorical(logits=pyro.param("logits", torch.tensor([0.0, second]))))

        return finite_guide

    def finite(x):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.5, 0.5])))
        pyro.sample("x", dist.Normal(k.to(x.dtype), 1.0), obs=x)

    for second, point in ((-5.0, False), (-100.0, True)):
        fit = credo.fit(finite, of(second), torch.tensor(0.5), steps=0, progress=False)
        assert point_estimates(fit) is point

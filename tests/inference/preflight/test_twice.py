"""Data that is observed at two sites by the same distribution counts twice, and is warned of."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from tests.cases.checked import X, belief, warned

FLIPS = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])


def both(second, value=None):
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)
            pyro.sample("again", second(mu), obs=x if value is None else value)

    return model


@pytest.mark.parametrize("value", [None, X.clone()], ids=["the same tensor", "a copy"])
def test_the_same_values_and_distribution_are_warned_of(value):
    found = warned(both(lambda mu: dist.Normal(mu, 1.0), value), belief, X)
    assert "sites 'x', 'again'" in found and "count 2 times" in found


@pytest.mark.parametrize(
    ("second", "value"),
    [
        (lambda mu: dist.Normal(mu, 2.0), None),
        (lambda mu: dist.Laplace(mu, 1.0), None),
        (lambda mu: dist.Normal(mu, 1.0), X + 0.1),
    ],
    ids=["another scale", "another distribution", "other values"],
)
def test_another_distribution_or_other_values_are_fine(second, value):
    assert warned(both(second, value), belief, X) == ""


def test_whole_numbers_that_are_equal_by_chance_are_fine():
    def model(x):
        p = pyro.sample("p", dist.Beta(1.0, 1.0))
        for name in ("one", "two"):
            with pyro.plate(f"rows of {name}", len(x)):
                pyro.sample(name, dist.Bernoulli(p), obs=x if name == "one" else x.clone())

    assert warned(model, None, FLIPS) == ""


def beside_a_factor(cost):
    """x ~ N(mu, 1), and a factor of the user's own."""

    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)
        pyro.factor("cost", cost(mu, x))

    return model


@pytest.mark.parametrize("cost", [lambda mu, x: dist.Normal(mu, 1.0).log_prob(x).sum()])
def test_a_factor_of_the_same_density_is_warned_of(cost):
    found = warned(beside_a_factor(cost), belief, X)
    assert "sites 'x', 'cost': the factor adds the log density of the observed site once more" in found

    def inside(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)
            pyro.factor("cost", dist.Normal(mu, 1.0).log_prob(x))

    assert "sites 'x', 'cost'" in warned(inside, belief, X)


@pytest.mark.parametrize(
    "cost",
    [
        lambda mu, x: -(mu**2),
        lambda mu, x: torch.tensor(0.0),
        lambda mu, x: dist.Normal(mu, 2.0).log_prob(x).sum(),
        lambda mu, x: -0.5 * dist.Normal(mu, 1.0).log_prob(x).sum(),
    ],
    ids=["a prior", "nothing", "another density", "a power"],
)
def test_a_factor_of_its_own_is_fine(cost):
    assert warned(beside_a_factor(cost), belief, X) == ""

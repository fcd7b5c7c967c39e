"""Observed values outside the support of their distribution, of another dtype or of a single class are refused."""

from typing import ClassVar

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import credo
from credo.inference.preflight.support import refuse_outside, refuse_single_class


def site(fn, value):
    """The observed site "x" with this distribution and these values."""
    return poutine.trace(lambda: pyro.sample("x", fn, obs=value)).get_trace().nodes["x"]


OUTSIDE = {
    "a count below zero": (dist.Poisson(torch.ones(3)), torch.tensor([1.0, -2.0, 3.0]), ["1 of 3", "-2.0", "(1,)"]),
    "a class too many": (dist.Categorical(torch.ones(2, 3)), torch.tensor([0, 3]), ["1 of 2", "classes 0 to 2", "3"]),
    "a vector": (dist.Beta(torch.ones(2, 2), 1.0).to_event(1), torch.full((2, 2), 1.5), ["4 of 4", "Beta", "(0, 0)"]),
    "off the simplex": (dist.Dirichlet(torch.ones(2)), torch.tensor([0.5, 0.6]), ["1 of 1", "Dirichlet"]),
}


@pytest.mark.parametrize("case", OUTSIDE)
@pytest.mark.filterwarnings("ignore")
def test_a_value_outside_the_support_is_named_with_its_place(case):
    fn, value, words = OUTSIDE[case]
    with pytest.raises(ValueError, match="site 'x'") as caught:
        refuse_outside("x", {"fn": fn, "value": value})
    for word in words:
        assert word in str(caught.value)
    draw = fn.sample()
    refuse_outside("x", site(fn, draw))  # what it draws itself lies inside


def test_one_value_of_a_summed_site_that_has_the_value_inside_is_enough():
    """A uniform distribution around each of two values of a summed site: a row outside of both is refused."""
    low = torch.tensor([[0.0], [2.0]])
    fn, value = dist.Uniform(low, low + 1.0).expand([2, 3]), torch.tensor([0.5, 2.5, 0.1])
    refuse_outside("x", {"fn": fn, "value": value})
    with pytest.raises(ValueError, match="1 of 3"):
        refuse_outside("x", {"fn": fn, "value": torch.tensor([0.5, 1.5, 0.1])})


def test_a_single_class_is_refused_where_the_probabilities_differ_by_row():
    logits, ones = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.ones(2)
    with pytest.raises(ValueError, match="all 2 observations are of class 1"):
        refuse_single_class("x", site(dist.Categorical(logits=logits), ones))
    refuse_single_class("x", site(dist.Categorical(logits=logits), torch.tensor([0.0, 1.0])))
    refuse_single_class("x", site(dist.Categorical(logits=logits[:1].expand(2, 2)), ones))  # draws of one distribution
    refuse_single_class("x", site(dist.Bernoulli(logits=logits[0]), ones))


@pytest.mark.parametrize("values", [torch.tensor([1, 0, 1]), torch.tensor([True, False])], ids=["int", "bool"])
@pytest.mark.parametrize("call", [credo.exact, credo.reference, lambda *a: credo.fit(a[0], None, *a[1:], steps=1)])
def test_whole_numbers_that_a_distribution_does_not_take_are_refused_by_the_site(call, values):
    def model(x):
        p = pyro.sample("p", dist.Beta(2.0, 2.0))
        with pyro.plate("N", len(x)):
            pyro.sample("flips", dist.Bernoulli(p), obs=x)

    with pytest.raises(ValueError, match=r"site 'flips'.*Bernoulli does not take.*x is None else x\.float\(\)"):
        call(model, values)


@pytest.mark.parametrize("value", [[torch.ones(2)], (1.0,), "a", 1j * torch.ones(2)], ids=str)
def test_an_observation_that_is_no_real_tensor_is_refused_by_its_site(value):
    def model(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(m, 1.0), obs=value)

    with pytest.raises(ValueError, match="site 'y': the observed value"):
        credo.fit(model, None, torch.ones(2), progress=False)


GREY, COUNTS = torch.tensor([0.2, 0.9, 0.0, 0.6]), torch.tensor([3.0, 1.0, 2.0])


def grey(x):
    """Shades between 0 and 1 under a Bernoulli, as in the tutorial on variational autoencoders."""
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Bernoulli(p.expand(len(x)), validate_args=False), obs=x)


def totals_left_out(x):
    p = pyro.sample("p", dist.Dirichlet(torch.ones(3)))
    pyro.sample("x", dist.Multinomial(probs=p, validate_args=False), obs=x)


def test_numbers_between_the_values_pass_where_the_model_says_so():
    """Their posteriors are Beta(2 + sum, 2 + n - sum) and Dirichlet(1 + counts): the mean at the optimum of q."""
    fit = credo.fit(grey, None, GREY, steps=400, lr=0.05, progress=False)
    assert fit.sample(4000)["p"].mean().item() == pytest.approx((2 + GREY.sum().item()) / 8, abs=0.02)
    fit = credo.fit(totals_left_out, None, COUNTS, steps=400, lr=0.05, progress=False)
    torch.testing.assert_close(fit.sample(4000)["p"].mean(0), (1 + COUNTS) / 9, atol=0.03, rtol=0)


def test_exact_takes_them_too_and_no_others():
    assert credo.exact(grey, GREY).marginals["p"].mean.item() == pytest.approx((2 + GREY.sum().item()) / 8, abs=1e-4)
    torch.testing.assert_close(credo.exact(totals_left_out, COUNTS).marginals["p"].mean.float(), (1 + COUNTS) / 9)

    def counts(x):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Poisson(rate), obs=x)

    with pytest.raises(ValueError, match="site 'x': 1 of 2 observed values lie outside the support of Poisson"):
        credo.exact(counts, torch.tensor([2.0, 2.5]))


@pytest.mark.parametrize(
    ("fn", "value"),
    [
        (dist.Bernoulli(torch.tensor([0.5, 0.5]), validate_args=False), torch.tensor([0.0, 255.0])),
        (dist.Bernoulli(torch.tensor([0.5, 0.5])), torch.tensor([0.0, 0.4])),
        (dist.Binomial(3, torch.tensor([0.5, 0.5]), validate_args=False), torch.tensor([1.0, 4.0])),
        (dist.Exponential(torch.ones(2), validate_args=False), torch.tensor([1.0, -4.0])),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_numbers_beyond_the_values_do_not(fn, value):
    def model(x):
        pyro.param("p", torch.tensor(0.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", fn, obs=x)

    with pytest.raises(ValueError, match="site 'x': 1 of 2 observed values lie outside the support"):
        credo.fit(model, lambda x: None, value, progress=False)


def test_a_distribution_that_declares_no_support_is_observed():
    """A normal of the user's own; the posterior mean of its location is sum / (n + 1)."""

    class Own(dist.TorchDistribution):
        arg_constraints: ClassVar = {}

        def __init__(self, loc):
            self.normal = dist.Normal(loc, 1.0)
            super().__init__(self.normal.batch_shape)

        def log_prob(self, value):
            return self.normal.log_prob(value)

        def expand(self, batch_shape, _instance=None):
            return Own(self.normal.loc.expand(batch_shape))

    def model(x):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", Own(m), obs=x)

    x = torch.tensor([1.0, 2.0, 3.0])
    fit = credo.fit(model, None, x, steps=400, lr=0.05, progress=False)
    assert fit.sample(4000)["m"].mean().item() == pytest.approx(6 / 4, abs=0.1)

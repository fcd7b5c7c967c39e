"""Normal-gamma posteriors: compared with the formulas of Murphy 2007."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.exact.blocks import Block
from credo.inference.exact.normal_gamma import may_be_normal_gamma, normal_gamma_candidate
from tests.cases.posterior.problems import problem_of


@pytest.mark.parametrize(("a", "kappa"), [(0.01, 0.01), (0.001, 1e-4), (0.001, 1.0)])
def test_a_normal_gamma_so_vague_that_its_draws_overflow_is_found(a, kappa):
    """log p(y) = log Gamma(a_n) / b_n^a_n - log Gamma(a) / b^a + log(kappa / kappa_n) / 2 - N log(2 pi) / 2, b = a
    (Murphy 2007, eq. 95)."""

    def model(y):
        tau = pyro.sample("tau", dist.Gamma(a, a))
        mu = pyro.sample("mu", dist.Normal(0.0, (kappa * tau) ** -0.5))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(mu, tau**-0.5), obs=y)

    y = 100 + 3 * torch.linspace(-2, 2, 20, dtype=torch.float64)
    n, mean = 20, 100.0
    shape, rate = a + n / 2, a + ((y - mean) ** 2).sum().item() / 2 + kappa * n * mean**2 / (2 * (kappa + n))
    by_hand = math.lgamma(shape) - shape * math.log(rate) - math.lgamma(a) + a * math.log(a)
    by_hand += math.log(kappa / (kappa + n)) / 2 - n / 2 * math.log(2 * math.pi)
    exact = credo.exact(model, y)
    assert exact.log_evidence == pytest.approx(by_hand, abs=1e-6)
    assert exact.marginals["mu"].mean.item() == pytest.approx(n * mean / (kappa + n), rel=1e-8)
    assert exact.marginals["tau"].mean.item() == pytest.approx(shape / rate, rel=1e-8)


def precision_and_mean():
    """Without data the prior is the posterior."""
    tau = pyro.sample("tau", dist.Gamma(3.0, 2.0))
    pyro.sample("mu", dist.Normal(1.0, (0.5 * tau) ** -0.5))


BOTH = Block(("tau", "mu"), torch.tensor([[0, 1]]))


def test_the_parameters_of_a_normal_gamma_are_recovered(double):
    """tau ~ Gamma(3, 2), mu ~ t_6(1, sqrt(2 / (3 x 0.5)))."""
    problem = problem_of(precision_and_mean)
    q = normal_gamma_candidate(problem, torch.tensor([0.3, -2.0]), BOTH).posterior
    tau, mu = q.marginals["tau"], q.marginals["mu"]
    found = [v.item() for v in (tau.concentration, tau.rate, mu.df, mu.loc, mu.scale)]
    assert found == pytest.approx([3.0, 2.0, 6.0, 1.0, (2 / 1.5) ** 0.5], rel=1e-8)
    z = {"tau": torch.tensor(1.4), "mu": torch.tensor(0.2)}
    by_hand = dist.Gamma(3.0, 2.0).log_prob(z["tau"]) + dist.Normal(1.0, 0.7**-0.5).log_prob(z["mu"])
    assert q.log_prob(z).item() == pytest.approx(by_hand.item(), abs=1e-8)


def test_draws_have_a_spread_that_depends_on_the_precision(double):
    """Given tau, mu has the variance 1 / (0.5 tau): (mu - 1)^2 tau / 2 has mean 1."""
    q = normal_gamma_candidate(problem_of(precision_and_mean), torch.tensor([0.3, -2.0]), BOTH).posterior
    drawn = q.sample(20_000)
    assert abs(drawn["tau"].mean() - 1.5) < 5 * (3 / 4 / 20_000) ** 0.5
    assert abs((drawn["tau"] * (drawn["mu"] - 1) ** 2 / 2).mean() - 1) < 5 * (2 / 20_000) ** 0.5


def test_only_one_positive_number_and_real_ones_beside_it_may_be_a_normal_gamma(double):
    def two_precisions():
        one, two = (pyro.sample(name, dist.Gamma(3.0, 2.0)) for name in ("one", "two"))
        pyro.sample("mu", dist.Normal(0.0, (one * two) ** -0.5))

    assert may_be_normal_gamma(BOTH, problem_of(precision_and_mean).coordinates)
    three = Block(("one", "two", "mu"), torch.tensor([[0, 1, 2]]))
    assert not may_be_normal_gamma(three, problem_of(two_precisions).coordinates)

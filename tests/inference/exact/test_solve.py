"""The candidate of each block: its family, and its density beside that of the model."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.exact.solve import solve
from tests.cases.posterior.problems import problem_of

Y = torch.tensor([1.0, 0.0, 3.0, 2.0], dtype=torch.float64)


def coin():
    p = pyro.sample("p", dist.Beta(2.0, 3.0))
    pyro.sample("heads", dist.Binomial(10, p), obs=torch.tensor(7.0))


def counts():
    rate = pyro.sample("rate", dist.Gamma(2.0, 0.5))
    pyro.sample("y", dist.Poisson(rate).expand([4]).to_event(1), obs=Y)


def urn():
    share = pyro.sample("share", dist.Dirichlet(torch.tensor([1.0, 2.0, 3.0])))
    pyro.sample("y", dist.Multinomial(6, share), obs=torch.tensor([1.0, 3.0, 2.0]))


def two_normals():
    a = pyro.sample("a", dist.Normal(0.0, 2.0))
    b = pyro.sample("b", dist.Normal(a, 1.0))
    pyro.sample("y", dist.Normal(a + b, 0.5).expand([4]).to_event(1), obs=Y)


def unknown_precision():
    tau = pyro.sample("tau", dist.Gamma(3.0, 2.0))
    mu = pyro.sample("mu", dist.Normal(1.0, tau**-0.5))
    pyro.sample("y", dist.Normal(mu, tau**-0.5).expand([4]).to_event(1), obs=Y)


@pytest.mark.parametrize(
    ("model", "family", "sites"),
    [
        (coin, "Beta", ("p",)),
        (counts, "Gamma", ("rate",)),
        (urn, "Dirichlet", ("share",)),
        (two_normals, "jointly Normal", ("a", "b")),
        (unknown_precision, "normal-gamma", ("tau", "mu")),
    ],
)
def test_the_candidate_is_the_log_density_up_to_a_constant(model, family, sites, double):
    problem = problem_of(model)
    (candidate,) = solve(problem)
    assert candidate.family == family and candidate.sites == sites
    points = [problem.scattered() for _ in range(5)]
    off = torch.stack([problem.log_density(x) - candidate.kernel(x)[0] for x in points])
    scale = max(1.0, max(candidate.kernel(x)[1] for x in points))
    assert (off.max() - off.min()).item() < 1e-9 * scale


def test_candidates_are_in_the_order_of_the_model(double):
    def model():
        two_normals()
        with pyro.poutine.scale(scale=1.0):
            q = pyro.sample("q", dist.Beta(1.0, 1.0))
            pyro.sample("z", dist.Bernoulli(q), obs=torch.tensor(1.0))

    found = solve(problem_of(model))
    assert [c.sites for c in found] == [("a", "b"), ("q",)] and [c.family for c in found] == ["jointly Normal", "Beta"]
    q = found[1].posterior.marginals["q"]
    assert abs(q.concentration1.item() - 2) < 1e-8 and abs(q.concentration0.item() - 1) < 1e-8


def test_an_improper_posterior_has_a_candidate_without_a_distribution(double):
    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("push", z**2)

    (candidate,) = solve(problem_of(model))
    assert candidate.posterior is None and candidate.parameters == "a precision that is not positive definite"

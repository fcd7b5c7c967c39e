"""Jointly normal latents: compared with the formulas of linear algebra."""

import pyro
import pyro.distributions as dist
import torch

import credo
from credo.inference.exact.gaussian import precision, quadratic, solve_gaussians
from tests.cases.posterior.problems import problem_of

torch.manual_seed(0)
NOISE = torch.randn(20, dtype=torch.float64)


def near(one, two, relative=1e-8):
    torch.testing.assert_close(
        torch.as_tensor(one, dtype=torch.float64), torch.as_tensor(two, dtype=torch.float64), rtol=relative, atol=1e-9
    )


def walk(y):
    z = 0.0
    for t in range(len(y)):
        z = pyro.sample(f"z{t}", dist.Normal(0.9 * z, 1.0))
        pyro.sample(f"y{t}", dist.Normal(z, 0.5), obs=y[t])


def test_a_chain_of_normals_is_one_normal():
    y, n = NOISE, len(NOISE)
    found = credo.exact(walk, y)
    steps = torch.eye(n) - 0.9 * torch.diag(torch.ones(n - 1), -1)
    prior = torch.linalg.inv((steps.T @ steps).double())
    of_y = prior + 0.25 * torch.eye(n)
    mean = prior @ torch.linalg.solve(of_y, y)
    near(found.joint.mean, mean, 1e-6)
    near(found.joint.covariance_matrix, prior - prior @ torch.linalg.solve(of_y, prior), 1e-6)
    evidence = torch.distributions.MultivariateNormal(torch.zeros(n, dtype=torch.float64), of_y).log_prob(y)
    assert abs(found.log_evidence - evidence.item()) < 1e-6


A = torch.tensor([[1.0, 0.5, -2.0], [0.3, 1.0, 0.7], [2.0, -1.0, 0.1], [0.0, 1.5, 1.0]], dtype=torch.float64)
LAMBDA = torch.eye(3, dtype=torch.float64) / 4 + A.T @ A / 0.25


def regression():
    """w ~ N(0, 4), y ~ N(Aw, 0.25): the precision is 1/4 + A'A / 0.25."""
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 2.0).to_event(1))
    pyro.sample("y", dist.Normal(A @ w, 0.5).to_event(1), obs=NOISE[:4])


def test_the_precision_is_minus_the_second_derivative(double):
    problem, x = problem_of(regression), torch.tensor([0.3, -1.0, 2.0])
    g, (Lambda,) = precision(problem, x, [torch.tensor([[0, 1, 2]])])
    near(Lambda[0], LAMBDA)
    near(g, A.T @ NOISE[:4] / 0.25 - LAMBDA @ x)


def test_one_step_of_newton_from_anywhere_finds_the_mean(double):
    for x in (torch.zeros(3), torch.tensor([1e6, -1e3, 1.0])):
        (found,) = solve_gaussians(problem_of(regression), x, [torch.tensor([[0, 1, 2]])])
        near(found.mu[0], torch.linalg.solve(LAMBDA, A.T @ NOISE[:4] / 0.25))
        near(found.L[0] @ found.L[0].T, LAMBDA)


def test_a_precision_that_is_not_definite_has_no_factor(double):
    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("push", z**2)

    x = torch.tensor([0.7])
    (found,) = solve_gaussians(problem_of(model), x, [torch.tensor([[0]])])
    assert found.L is None and found.mu.item() == x.item() and abs(found.Lambda.item() + 1) < 1e-12


def test_the_quadratic_and_the_bound_of_its_terms():
    d = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    value, magnitude = quadratic(LAMBDA[None], d)
    near(value, -0.5 * (d @ LAMBDA @ d.T).item())
    assert magnitude >= 0.5 * (LAMBDA.abs() * (d.T @ d).abs()).sum().item()

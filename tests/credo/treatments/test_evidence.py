"""The evidence of a linear model: the density of its data, and its maximum."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from credo.treatments.evidence import best, gaussian_evidence


def test_it_is_the_density_of_the_data_and_its_maximum_is_one():
    torch.manual_seed(0)
    a = torch.randn(12, 3, dtype=torch.float64)
    y = a @ torch.tensor([1.0, -2.0, 0.5]).double() + 0.5 * torch.randn(12, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(a.mT @ a)
    evidence = gaussian_evidence(values, vectors.mT @ (a.mT @ y), y.square().sum(), 12)

    def density(logs):
        s, sigma = logs.exp()
        return MultivariateNormal(torch.zeros_like(y), s**2 * a @ a.mT + sigma**2 * torch.eye(12)).log_prob(y)

    logs = torch.tensor([0.3, -0.8], dtype=torch.float64)
    torch.testing.assert_close(evidence(logs), density(logs))
    found, value = best(evidence, logs)
    found.requires_grad_()
    (gradient,) = torch.autograd.grad(density(found), found)
    assert gradient.abs().max() < 1e-4
    assert value == pytest.approx(density(found).item(), abs=1e-9) and value > density(logs)

"""The normal of low rank beside closed forms and a dense solution of the same equations."""

import pytest
import torch

from credo.inference.gaussian.low_rank import low_rank

D = 3000


def noise(seed):
    return torch.Generator().manual_seed(seed)


def starts(seed):
    return 4 * torch.rand(2, D, generator=noise(seed), dtype=torch.float64) - 2


@pytest.mark.parametrize("units", ["even", "many"])
def test_ten_wide_directions_among_three_thousand_latents(units):
    sds = torch.ones(D, dtype=torch.float64) if units == "even" else torch.logspace(-2, 2, D, dtype=torch.float64)
    F = torch.randn(D, 10, generator=noise(1), dtype=torch.float64) * torch.linspace(0.5, 3, 10)
    mean = 5 * sds * torch.randn(D, generator=noise(2), dtype=torch.float64)
    core = torch.linalg.inv(torch.eye(10) + F.T @ F)

    def scores(us):
        x = (us - mean) / sds
        slopes = -(x - x @ F @ core @ F.T)
        return (x * slopes).sum(-1) / 2, slopes / sds

    found = low_rank(scores, starts(0))
    sd = sds * (1 + F.square().sum(1)).sqrt()
    assert found.converged and ((found.normal.mean - mean) / sd).abs().max() < 0.05
    assert (found.normal.sd / sd - 1).abs().max() < 0.05 and found.weighed.importance.ess > 100


def moments(eta, variance):
    """(E[s], E[s (1 - s)]), s = sigmoid(x), x ~ N(eta, variance), by quadrature over a grid of 6 sds each side."""
    z = torch.linspace(-6, 6, 61, dtype=torch.float64)
    weights = (-z.square() / 2).exp()
    s = (eta[:, None] + variance.sqrt()[:, None] * z).sigmoid()
    return s @ weights / weights.sum(), (s * (1 - s)) @ weights / weights.sum()


def test_a_logistic_regression_with_more_coefficients_than_rows():
    rows, prior = 150, D / 4
    x = torch.randn(rows, D, generator=noise(3), dtype=torch.float64)
    w = torch.randn(D, generator=noise(4), dtype=torch.float64) / prior**0.5
    y = (torch.rand(rows, generator=noise(5), dtype=torch.float64) < (x @ w).sigmoid()).double()

    def scores(us):
        eta = us @ x.T
        values = (y * eta - torch.nn.functional.softplus(eta)).sum(-1) - prior * us.square().sum(-1) / 2
        return values, (y - eta.sigmoid()) @ x - prior * us

    # The optimum of KL(q || p): the mean is x^T a, the precision is prior I + x^T W x; both in the space of the rows.
    gram = x @ x.T / prior
    eta, variance = torch.zeros(rows, dtype=torch.float64), gram.diagonal().clone()
    for _ in range(30):
        s, W = moments(eta, variance)
        spread = torch.linalg.solve(torch.eye(rows) + gram * W, gram)  # the covariance of eta
        eta, variance = eta + spread @ (y - s - torch.linalg.solve(gram, eta)), spread.diagonal()
    mean = x.T @ torch.linalg.solve(gram, eta) / prior
    inner = torch.linalg.inv(torch.diag(1 / moments(eta, variance)[1]) + gram)
    sd = (1 / prior - (x.T @ inner * x.T).sum(1) / prior**2).sqrt()
    found = low_rank(scores, starts(6), seed=1)
    assert found.converged and ((found.normal.mean - mean) / sd).abs().max() < 0.05
    assert (found.normal.sd / sd - 1).abs().max() < 0.05


def test_a_density_that_few_directions_do_not_hold_says_how_much_is_left():
    x = torch.randn(2000, 1000, generator=noise(7), dtype=torch.float64)
    A = x.T @ x

    def scores(us):
        slopes = -us @ A
        return (us * slopes).sum(-1) / 2, slopes

    found = low_rank(scores, starts(0)[:, :1000], numbers=60_000)
    assert found.left > 0.1 and not found.weighed.importance.reliable and not found.converged

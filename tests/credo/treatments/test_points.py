"""The plain network beside least squares and logistic regression."""

import copy

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from credo.treatments.points import points
from credo.treatments.treatment import Budget


def test_a_linear_network_finds_least_squares_and_its_noise():
    x = torch.randn(60, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 5 + 3
    noise = torch.randn(60, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = 100 + 20 * x[:, 0] - 7 * x[:, 1] + 4 * noise
    trained = points(nn.Linear(2, 1).double(), x, y, Budget(400, 60, 5e-2))
    mean, sd = trained.predict(x, 1)[0].unbind(-1)
    design = torch.cat([x, torch.ones(60, 1, dtype=torch.float64)], 1)
    wanted = design @ torch.linalg.lstsq(design, y).solution
    assert torch.allclose(mean, wanted, atol=1.0)  # y has an sd of 100
    assert sd[0].item() == pytest.approx((y - wanted).square().mean().sqrt().item(), rel=0.01)


def test_weight_decay_is_the_penalty_of_logistic_regression():
    """scikit-learn minimises Σ nll + |w|²/2 without the intercept: a decay of 1/N, and no bias here."""
    x = torch.randn(80, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    y = (x[:, 0] + 0.5 * torch.randn(80, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) > 0).long()
    net = nn.Linear(3, 2, bias=False).double()
    before = copy.deepcopy(net.state_dict())
    probs = points(net, x, y, Budget(400, 80, 3e-2), weight_decay=2 / 80).predict(x, 1)[0]
    # Two classes with weights ±w/2: 2 (|w/2|²) / 2 times 2 is |w|²/2.
    wanted = LogisticRegression(fit_intercept=False, tol=1e-10).fit(x, y).predict_proba(x)
    assert torch.allclose(probs, torch.tensor(wanted), atol=1e-3)
    assert all(torch.equal(before[name], w) for name, w in net.state_dict().items())


def test_what_diverges_is_no_prediction():
    x = torch.full((4, 1), 1e38)
    with pytest.raises(ValueError, match="lower the rate"):
        points(nn.Linear(1, 2), x, torch.tensor([0, 1, 0, 1]), Budget(3, 4, 1e3))


def test_a_network_that_is_frozen_is_refused():
    with pytest.raises(ValueError, match="not frozen"):
        points(nn.Linear(1, 2).requires_grad_(False), torch.ones(2, 1), torch.tensor([0, 1]), Budget(3, 4, 1e-3))

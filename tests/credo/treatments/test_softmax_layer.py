"""The softmax layer: the bound below the evidence, its maximum, and how fast it is found."""

import math

import pytest
import torch

from credo.treatments import softmax_layer as file
from credo.treatments.softmax_layer import best_normal


def log_evidence(a, y, scale):
    """log p(y) of a linear softmax with two weights in two classes, on a grid of the four numbers of W."""
    grid = torch.linspace(-5, 5, 33, dtype=torch.float64)
    w = torch.cartesian_prod(grid, grid)  # a row of W
    f = w @ a.mT  # (points, N)
    prior = -0.5 * w.square().sum(-1) / scale**2 - math.log(2 * math.pi * scale**2)
    lik = torch.zeros(len(w), len(w), dtype=torch.float64)
    for n in range(len(a)):
        lik -= torch.nn.functional.softplus((f[:, None, n] - f[None, :, n]) * (1 if y[n] else -1))
    return (lik + prior[:, None] + prior).logsumexp((0, 1)).item() + 4 * math.log(10 / 32)


def test_the_bound_of_classes_is_below_the_evidence_and_not_far():
    torch.manual_seed(0)
    a = torch.randn(15, 2, dtype=torch.float64)
    y = (a[:, 0] + torch.randn(15) > 0).long()
    found = best_normal(a, y, torch.ones(2).double(), torch.zeros(2, 2).double(), scale=1.0)
    truth = log_evidence(a, y, 1.0)
    assert truth - 1.0 < found.bound < truth + 1e-3  # KL(q || p): under p the classes depend on each other


def test_the_bound_of_classes_is_that_of_draws_and_at_its_maximum():
    torch.manual_seed(0)
    a, shape = torch.randn(25, 2, dtype=torch.float64), torch.tensor([0.7, 1.0]).double()
    y = torch.randint(3, (25,))
    found = best_normal(a, y, shape, torch.zeros(3, 2).double())
    loc, root = found.loc.clone(), found.root.clone()
    z = torch.randn(20_000, 3, 2, dtype=torch.float64)

    def bound(loc, root):
        """The ELBO on the same draws of W, each with its mirror image."""
        away = torch.einsum("cij,scj->sci", root, z)
        q = torch.distributions.MultivariateNormal(loc, root @ root.mT)
        p = torch.distributions.MultivariateNormal(torch.zeros_like(loc), torch.diag((found.scale * shape) ** 2))
        log_p = (torch.stack([loc + away, loc - away]) @ a.mT).mT.log_softmax(-1)  # (2, S, N, C)
        each = log_p.gather(-1, y.expand(log_p.shape[:-1])[..., None])[..., 0].sum(-1)
        return each.mean() - torch.distributions.kl_divergence(q, p).sum()

    assert found.bound == pytest.approx(bound(loc, root).item(), abs=0.05)
    loc.requires_grad_()
    scaled = torch.ones(3, 2, 2, dtype=torch.float64, requires_grad=True)
    of_loc, of_root = torch.autograd.grad(bound(loc, root * scaled), (loc, scaled))
    assert of_loc.abs().max() < 0.5 and of_root.abs().max() < 0.5  # noise of the draws; at zero they are 5 and more


def test_weights_far_from_their_start_are_found_in_few_passes_through_the_rows(monkeypatch):
    """Classes are nearly separable, and the prior sd is five times the first one: with the blocks alone, and the prior
    by expectation maximisation, 200 passes do not suffice, and the bound stays 1.8 nats below."""
    torch.manual_seed(0)
    a = torch.randn(2000, 20, dtype=torch.float64)
    y = torch.distributions.Categorical(logits=a @ (6 * torch.randn(4, 20, dtype=torch.float64)).mT).sample()
    passes, compute = [], file._derivatives
    monkeypatch.setattr(file, "_derivatives", lambda *given: passes.append(1) or compute(*given))
    found = best_normal(a, y, torch.ones(20).double(), torch.zeros(4, 20).double())
    assert len(passes) < 50 and found.at_rest
    for factor in (0.85, 1.15):  # no other prior has a larger bound
        other = best_normal(a, y, torch.ones(20).double(), found.loc, scale=factor * float(found.scale))
        assert other.bound < found.bound + 0.02


def test_without_the_hessians_of_rows_it_is_the_same_normal(monkeypatch):
    torch.manual_seed(0)
    a, y = torch.randn(60, 3, dtype=torch.float64), torch.randint(3, (60,))
    given = a, y, torch.ones(3).double(), torch.zeros(3, 3).double(), 1.0
    found = best_normal(*given)
    monkeypatch.setattr(file, "PAIRS", 0)
    blocks = best_normal(*given)
    assert blocks.bound == pytest.approx(found.bound, abs=0.01)
    torch.testing.assert_close(blocks.loc, found.loc, rtol=0, atol=0.02)
    torch.testing.assert_close(blocks.root, found.root, rtol=0, atol=0.02)


def test_the_prior_leaves_a_start_at_zero():
    torch.manual_seed(0)
    a, w = torch.randn(300, 4), torch.randn(4, 3)
    y = torch.distributions.Categorical(logits=a @ w).sample()
    zero, near = (best_normal(a, y, torch.ones(4), start) for start in (torch.zeros(3, 4), w.mT))
    assert abs(zero.bound - near.bound) < 0.3
    assert 0.3 < float(zero.scale) < 2  # 1 made the data


def test_a_start_at_logits_of_hundreds_ends_at_the_same_normal():
    torch.manual_seed(0)
    a = torch.cat([torch.randn(60, 3), torch.ones(60, 1)], 1)
    y = torch.distributions.Categorical(logits=a @ torch.randn(4, 3)).sample()
    far, near = (best_normal(a, y, torch.ones(4), sd * torch.randn(3, 4)) for sd in (100.0, 1.0))
    assert far.bound == pytest.approx(near.bound, abs=0.05)


def test_features_of_zero_leave_the_prior():
    y = torch.arange(60) % 3
    found = best_normal(torch.zeros(60, 3), y, torch.ones(3), torch.zeros(3, 3))
    assert found.bound == pytest.approx(-60 * math.log(3), abs=0.01)
    torch.testing.assert_close(found.root @ found.root.mT, torch.eye(3).expand(3, 3, 3))


def test_steps_that_end_too_early_are_said(monkeypatch):
    torch.manual_seed(0)
    a, y = torch.randn(60, 3, dtype=torch.float64), torch.randint(3, (60,))
    monkeypatch.setattr(file, "ITERATIONS", 1)
    assert not best_normal(a, y, torch.ones(3).double(), torch.zeros(3, 3).double()).at_rest

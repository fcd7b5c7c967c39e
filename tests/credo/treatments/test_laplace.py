"""Laplace: the exact posterior and evidence of linear regression, and a normal posterior of logits by quadrature."""

import math
from functools import partial

import pytest
import torch
from torch import nn

import credo
from credo.models.linear_regression import model
from credo.treatments.curvature import layers_of, parts
from credo.treatments.laplace import Posterior, covariance, laplace, laplace_last, posterior, predicted
from credo.treatments.likelihood import likelihood
from credo.treatments.treatment import Budget

CPU = torch.device("cpu")


def line(n=40):
    torch.manual_seed(0)
    x = torch.randn(n, 2, dtype=torch.float64)
    y = 3.0 + 2 * x[:, 0] - x[:, 1] + 0.7 * torch.randn(n, dtype=torch.float64)
    return x, y


def at_the_mode(net, likely, x, y):
    """The linear net at the maximum of its evidence, by alternating between the mode and the evidence."""
    seen, target = likely.inputs(x), (y - likely.of_y[0]) / likely.of_y[1]
    a = torch.cat([seen, seen.new_ones(len(x), 1)], 1)
    precision, noise = 1.0, 0.5
    for _ in range(60):
        with torch.no_grad():
            w = torch.linalg.solve(a.mT @ a / noise**2 + precision * torch.eye(3).to(a), a.mT @ target / noise**2)
            net.weight.copy_(w[None, :2])
            net.bias.copy_(w[2:])
        found = posterior(net, likely, x, y)
        precision, noise = found.precisions[0], found.noise
    return found


def test_on_a_linear_model_it_is_the_exact_posterior_and_evidence():
    x, y = line()
    net = nn.Linear(2, 1).double()
    likely = likelihood(net, x, y)
    found = at_the_mode(net, likely, x, y)
    target = (y - likely.of_y[0]) / likely.of_y[1]
    exact = credo.exact(
        lambda X, y: model(X, y, sigma=found.noise, prior_sd=found.precisions[0] ** -0.5), likely.inputs(x), target
    )
    assert found.log_evidence == pytest.approx(exact.log_evidence, abs=1e-6)
    joint = exact.joint
    torch.testing.assert_close(torch.cat([net.weight[0], net.bias]).detach(), joint.mean, rtol=0, atol=1e-6)
    (block,) = found.blocks
    cov = (block.vectors[0] / (block.values / found.noise**2 + found.precisions[0])) @ block.vectors[0].mT
    torch.testing.assert_close(cov, joint.covariance_matrix, rtol=1e-5, atol=1e-9)
    new = x[:5] + 1
    a = torch.cat([likely.inputs(new), torch.ones(5, 1).double()], 1)
    sd = likely.of_y[1] * (found.noise**2 + ((a @ joint.covariance_matrix) * a).sum(1)).sqrt()
    got = predicted(net, likely, found, new)
    torch.testing.assert_close(got[:, 1], sd, rtol=1e-5, atol=0)
    torch.testing.assert_close(got[:, 0], likely.of_y[0] + likely.of_y[1] * (a @ joint.mean), rtol=1e-5, atol=0)
    a = torch.cat([likely.inputs(x), torch.ones(40, 1).double()], 1)
    for s, p in ((1.0, 1.0), (1.02, 1.0), (0.98, 1.0), (1.0, 1.05), (1.0, 0.95)):  # no other noise or prior is likelier
        cov = a @ a.mT / (p * found.precisions[0]) + (s * found.noise) ** 2 * torch.eye(40)
        other = torch.distributions.MultivariateNormal(torch.zeros_like(target), cov).log_prob(target).item()
        assert other < exact.log_evidence if (s, p) != (1.0, 1.0) else other == pytest.approx(exact.log_evidence)


def test_kronecker_factors_give_the_covariance_of_their_product():
    """The rotated form against J (G x A / noise^2 + delta)^-1 J' with matrices, with and without several places."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)).double()
    x, y = torch.randn(30, 1, 3, 3, dtype=torch.float64), torch.randint(3, (30,))
    from credo.treatments import laplace as module
    from credo.treatments.curvature import kfac

    full, module.FULL = module.FULL, 0
    try:
        found = posterior(net, likelihood(net, x, y), x, y)
    finally:
        module.FULL = full
    assert [len(b.vectors) for b in found.blocks] == [2, 2]
    layers = layers_of(net)
    _, of_rows = parts(net, layers, x[:4])
    wanted = 0.0
    for part, (A, G), precision in zip(of_rows, kfac(net, layers, x, True), found.precisions, strict=True):
        J = part.jacobian()
        curvature = torch.kron(G, A)
        wanted = wanted + J @ torch.linalg.inv(curvature + precision * torch.eye(len(curvature))) @ J.mT
    torch.testing.assert_close(covariance(found, of_rows), wanted)


def test_the_evidence_of_a_logistic_regression_is_near_quadrature():
    """One weight, no bias: log p(D) on a grid. Laplace's own error is what is left."""
    x = torch.linspace(-2, 2, 30, dtype=torch.float64)[:, None]
    y = (x[:, 0] + 1.5 * torch.sin(7 * x[:, 0]) > 0).long()
    net = nn.Linear(1, 2, bias=False).double()
    likely = likelihood(net, x, y)
    grid = torch.linspace(-8, 8, 161, dtype=torch.float64)

    def log_joint(w, delta):
        f = w[..., None, :] * x
        lik = torch.log_softmax(f, -1).gather(-1, y.expand(*f.shape[:-2], 30)[..., None]).sum((-1, -2))
        return lik - 0.5 * delta * w.square().sum(-1) + math.log(delta / (2 * math.pi))

    delta = 1.0
    for _ in range(6):
        w = net.weight.detach().flatten()
        for _ in range(20):
            of_w = partial(log_joint, delta=delta)
            gradient = torch.autograd.functional.jacobian(of_w, w)
            w = w - torch.linalg.solve(torch.autograd.functional.hessian(of_w, w), gradient)
        with torch.no_grad():
            net.weight.copy_(w[:, None])
        found: Posterior = posterior(net, likely, x, y)
        delta = found.precisions[0]
    plane = torch.cartesian_prod(grid, grid)
    truth = log_joint(plane, delta).logsumexp(0) + 2 * math.log(0.1)
    assert found.log_evidence == pytest.approx(truth.item(), abs=0.15)


@pytest.mark.parametrize("treatment", [laplace, laplace_last])
def test_the_treatments_predict_classes_and_numbers(treatment):
    torch.manual_seed(0)
    x = torch.randn(60, 2)
    net = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 3))
    before = [p.clone() for p in net.parameters()]
    trained = treatment(net, x, (x[:, 0] > 0).long() + (x[:, 1] > 1).long(), Budget(60, 20, 0.02, device=CPU))
    p = trained.predict(x[:7], 5)
    assert p.shape == (1, 7, 3) and trained.words.startswith("Laplace on")
    torch.testing.assert_close(p.sum(-1), torch.ones(1, 7))
    far = trained.predict(100 * x[:7], 5)
    assert far.isfinite().all()
    assert all(torch.equal(one, p) and p.requires_grad for one, p in zip(before, net.parameters(), strict=True))
    one = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1))
    mean, sd = treatment(one, x, 50 + 9 * x[:, 0], Budget(60, 20, 0.02, device=CPU)).predict(x[:7], 1)[0].unbind(-1)
    assert mean.shape == (7,) and (sd > 0).all()


def test_networks_without_a_closed_form_are_refused():
    x, y = torch.randn(5, 2), torch.randn(5)
    two = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="got two outputs for numbers, wanted one"):
        posterior(two, likelihood(two, x, y), x, y)
    none = nn.Sequential(nn.LayerNorm(2))
    with pytest.raises(ValueError, match=r"without nn\.Linear or nn\.Conv2d"):
        posterior(none, likelihood(none, x, y.abs().clamp(max=0).long()), x, y.long())


class Tied(nn.Module):
    """Two layers with one weight, tied as a parameter or read by the forward pass."""

    def __init__(self, as_parameter):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.as_parameter = as_parameter
        if as_parameter:
            self.second.weight = self.first.weight

    def forward(self, x):
        h = torch.tanh(self.first(x))
        return self.last(torch.tanh(self.second(h) if self.as_parameter else self.second(h) + h @ self.first.weight))


class HeadFirst(nn.Module):
    """Its head is registered before its body."""

    def __init__(self):
        super().__init__()
        self.head, self.body = nn.Linear(4, 2), nn.Linear(3, 4)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))


BRIEF = Budget(3, 32, 1e-2, 0, CPU)


@pytest.mark.parametrize("as_parameter", [True, False])
def test_weights_that_are_used_twice_are_refused(as_parameter):
    x = torch.randn(20, 3)
    with pytest.raises(ValueError, match="'first' are used more than once"):
        laplace(Tied(as_parameter), x, (x[:, 0] > 0).long(), BRIEF)


def test_another_layer_than_the_last_is_refused():
    x = torch.randn(20, 3)
    with pytest.raises(ValueError, match="is not that of its last"):
        laplace_last(HeadFirst(), x, (x[:, 0] > 0).long(), BRIEF)


def test_frozen_layers_stay_points_and_predictions_take_no_grad():
    torch.manual_seed(0)
    x, net = torch.randn(20, 3), nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    y = (x[:, 0] > 0).long()
    net[0].requires_grad_(False)
    both = [treatment(net, x, y, BRIEF) for treatment in (laplace, laplace_last)]
    assert "but 0.weight, 0.bias" in both[0].words
    with torch.no_grad():
        torch.testing.assert_close(both[0].predict(x, 1), both[1].predict(x, 1))
    net.requires_grad_(True)
    net[2].requires_grad_(False)
    with pytest.raises(ValueError, match="frozen"):
        laplace_last(net, x, y, BRIEF)

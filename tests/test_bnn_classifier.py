"""The Bayesian neural network: its density by hand, its objective and predictive by quadrature over a single weight."""

import math
from functools import partial

import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

import credo
from credo.models.bnn_classifier import held_out
from tests.cases.by_hand import averaged, drawn_like, log_joint, log_normal, log_softmax_at
from tests.cases.gradients import assert_unbiased

PAIR = credo.load("bnn_classifier")
X = torch.tensor([[0.3, -1.0], [1.5, 0.2], [-0.7, 0.4], [0.0, 2.0], [-1.2, -0.3]])
Y = torch.tensor([0, 1, 1, 0, 2])


@pytest.mark.parametrize("prior_sd", [10.0, 0.5])
def test_the_density_is_the_prior_scaled_by_fan_in_times_the_softmax(prior_sd, double):
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    z, x = drawn_like(net), X.double()
    logits = torch.tanh(x @ z["0.weight"].T + z["0.bias"]) @ z["2.weight"].T + z["2.bias"]
    prior = log_normal(z["0.weight"], prior_sd / math.sqrt(2)) + log_normal(z["2.weight"], prior_sd / 2)
    prior = prior + log_normal(z["0.bias"], prior_sd) + log_normal(z["2.bias"], prior_sd)
    expected = prior + log_softmax_at(logits, Y).sum()
    assert log_joint(partial(PAIR.model, prior_sd=prior_sd), z, net, x, Y) == pytest.approx(expected.item(), abs=1e-9)


def test_a_convolution_counts_its_window_as_inputs(double):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).double()
    x, z = torch.randn(5, 1, 8, 8), drawn_like(net)
    hidden = torch.zeros(5, 2, 6, 6)
    for i in range(3):
        for j in range(3):  # a convolution, window by window
            hidden = hidden + x[:, :, i : i + 6, j : j + 6] * z["0.weight"][None, :, 0, i, j, None, None]
    hidden = (hidden + z["0.bias"][None, :, None, None]).clamp_min(0).reshape(5, 72)
    logits = hidden @ z["3.weight"].T + z["3.bias"]
    prior = log_normal(z["0.weight"], 10 / 3) + log_normal(z["3.weight"], 10 / math.sqrt(72))
    prior = prior + log_normal(z["0.bias"], 10.0) + log_normal(z["3.bias"], 10.0)
    expected = prior + log_softmax_at(logits, Y).sum()
    assert log_joint(PAIR.model, z, net, x, Y) == pytest.approx(expected.item(), abs=1e-8)


def test_a_convolutional_net_is_fitted_and_predicts():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
    x = torch.randn(6, 1, 8, 8)
    fit = credo.fit(PAIR.model, PAIR.guide, net, x, torch.tensor([0, 1, 2, 0, 1, 2]), steps=5, batch_size=4)
    probs = fit.predict(7, net, torch.randn(4, 1, 8, 8))["probs"]
    assert probs.shape == (7, 4, 3)
    torch.testing.assert_close(probs.sum(-1), torch.ones(7, 4))


def test_every_weight_is_a_site_by_its_own_name_and_the_net_keeps_its_own():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3))
    before = {name: w.detach().clone() for name, w in net.named_parameters()}
    fit = credo.fit(PAIR.model, PAIR.guide, net, X, Y, steps=20)
    assert [e.site for e in fit.plan.entries] == list(before)
    assert all(torch.equal(w, before[name]) for name, w in net.named_parameters())
    assert net.training
    assert set(fit.params) == {f"{name}.{part}" for name in before for part in ("loc", "scale")}
    assert {name: tuple(v.shape[1:]) for name, v in fit.sample(2).items()} == {
        **{n: tuple(w.shape) for n, w in before.items()},
        "probs": (len(X), 3),
    }
    # 20 steps of Adam move a mean by about 20 times the learning rate: it began at the net's own weight.
    assert all(0 < (fit.params[f"{n}.loc"] - w).abs().max() < 0.5 for n, w in before.items())


class Slope(nn.Module):
    """Logits (0, w x): a logistic regression with one weight."""

    def __init__(self, w: float = 0.4) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w))

    def forward(self, x):
        return torch.stack([torch.zeros_like(x), self.w * x], 1)


x1, y1 = torch.tensor([0.5, -1.0, 2.0, 0.3]), torch.tensor([1, 0, 0, 1])


def slope_elbo(p, prior_sd):
    loc, scale = p["w.loc"], p["w.scale"]
    signs = (2 * y1 - 1).double()

    def fits(w):
        return -torch.log1p(torch.exp(-signs * x1.double() * w[:, None])).sum(1)

    kl = 0.5 * (scale**2 + loc**2) / prior_sd**2 - 0.5 + math.log(prior_sd) - scale.log()
    return averaged(fits, loc, scale) - kl


@pytest.mark.parametrize("term", ["analytic KL", "log q", "sticking the landing"])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_the_mean_gradient_is_that_of_the_quadrature(term, batch_size):
    pair = (partial(PAIR.model, prior_sd=2.0), PAIR.guide)
    elbo = partial(slope_elbo, prior_sd=2.0)
    assert_unbiased(
        *pair, (Slope(), x1, y1), elbo, term=term, batch_size=batch_size, n=60 if batch_size is None else 200
    )


def test_the_fit_of_one_weight_is_the_best_normal(double):
    fit = credo.fit(partial(PAIR.model, prior_sd=2.0), PAIR.guide, Slope().double(), x1, y1)

    def loss(u):
        return -slope_elbo({"w.loc": torch.tensor(u[0]), "w.scale": torch.tensor(math.exp(u[1]))}, 2.0).item()

    best = minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9})
    loc, scale = best.x[0], math.exp(best.x[1])
    assert abs(fit.params["w.loc"].item() - loc) <= 0.05 * scale
    assert fit.params["w.scale"].item() == pytest.approx(scale, rel=0.03)


def test_prediction_and_likelihood_average_over_the_weight():
    net = Slope()
    fit = credo.fit(PAIR.model, PAIR.guide, net, x1, y1, steps=30)
    loc, scale = fit.params["w.loc"].double(), fit.params["w.scale"].double()
    new = torch.tensor([-3.0, 1.0, 4.0])
    exact = torch.stack([averaged(lambda w, x=x: torch.sigmoid(w * x), loc, scale) for x in new.double()])
    n = 4000
    found = fit.predict(n, net, new)
    for draws in (found["probs"][..., 1], found["y"]):
        z = (draws.double().mean(0) - exact) / (draws.double().std(0) / n**0.5)
        assert z.abs().max() <= 4.5
    for label in (0, 1):
        log_lik = credo.log_likelihood(fit, n, net, new, torch.full((3,), label))
        truth = (exact if label else 1 - exact).log()
        assert ((log_lik.values - truth) / log_lik.errors).abs().max() <= 4.5
        assert log_lik.errors.max() < 0.05


def test_the_built_in_digits_and_a_table():
    net, x, y = PAIR.data()
    assert x.shape == (1437, 64) and y.shape == (1437,)
    assert (x.min(), x.max()) == (0.0, 1.0)
    assert set(y.tolist()) == set(range(10))
    assert net(x[:3]).shape == (3, 10)
    same, x_test, y_test = held_out(net, x, y)
    assert same is net and x_test.shape == (360, 64) and y_test.shape == (360,)
    together = {tuple(row) for row in torch.cat([x, x_test]).tolist()}
    from sklearn.datasets import load_digits

    assert together == {tuple(row) for row in (load_digits().data / 16).tolist()}
    again = PAIR.data()
    assert torch.equal(again[1], x)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again[0].parameters(), strict=True))
    table = pd.DataFrame({"b": [1.0, 2.0, 3.0], "y": [0, 2, 1], "a": [0, 1, 0]})
    net, x, y = PAIR.data(table)
    assert x.tolist() == [[1.0, 0.0], [2.0, 1.0], [3.0, 0.0]]
    assert y.tolist() == [0, 2, 1]
    assert net(x).shape == (3, 3)


def test_frozen_weights_stay_as_they_are_and_are_no_latents():
    """The Bayesian last layer: the first is a function of x, and nothing else."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    net[0].requires_grad_(False)
    before = net[0].weight.clone()
    x, y = torch.randn(20, 2), torch.arange(20) % 2
    fit = credo.fit(PAIR.model, PAIR.guide, net, x, y, steps=20, progress=False)
    assert set(fit.sample(1)) == {"2.weight", "2.bias", "probs"}
    assert torch.equal(net[0].weight, before) and torch.equal(fit.trained(net)[0].weight, before)
    net.requires_grad_(False)
    with pytest.raises(ValueError, match=r"net: got Sequential, wanted .* not frozen"):
        credo.fit(PAIR.model, PAIR.guide, net, x, y, steps=1)


def test_a_net_that_returns_no_tensor_is_named():
    class Two(nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    with pytest.raises(ValueError, match="net: its output is a tuple, wanted a tensor of shape"):
        credo.fit(PAIR.model, PAIR.guide, Two(2, 2), torch.randn(4, 2), torch.tensor([0, 1, 0, 1]), steps=1)

"""Sparse variational dropout: the published KL against integration, the objective by quadrature, pruning by hand."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from scipy.integrate import quad
from scipy.special import digamma
from scipy.stats import norm, poisson
from torch import nn
from torch.distributions import kl_divergence

import credo
from credo.guides.bnn_sparse import START, pruned, recipe, report, small_start
from credo.inference.pair.pair import Pair
from credo.inference.planning.race import Contest, race
from credo.inference.runtime.state import entered
from credo.models.bnn_sparse import CLIP, LogUniform, held_out
from tests.cases.by_hand import averaged, drawn_like, log_joint, log_normal, log_softmax_at
from tests.cases.gradients import assert_unbiased

PAIR = credo.load("bnn_sparse")
X = torch.tensor([[0.3, -1.0], [1.5, 0.2], [-0.7, 0.4], [0.0, 2.0], [-1.2, -0.3]])
Y = torch.tensor([0, 1, 1, 0, 2])
LOG_ALPHA = np.linspace(-8, 8, 65)
# E log|eps| for eps ~ N(0, 1): what the KL would be at alpha = infinity without the constant that brings it to 0.
AT_INFINITY = -(math.log(2) + np.euler_gamma) / 2


def mean_log_distance(c):
    """E log|eps + c| for eps ~ N(0, 1), by quadrature over the distance from the pole."""

    def density(v):
        return norm.pdf(v - c) + norm.pdf(v + c)

    near = quad(density, 0, 1, weight="alg-loga", wvar=(0, 0))[0]
    ends = sorted({1.0, max(1.0, c - 12), max(1.0, c), max(1.0, c) + 12})
    return near + sum(quad(lambda v: math.log(v) * density(v), a, b)[0] for a, b in pairwise(ends))


def integrated(log_alpha):
    """KL(N(theta, alpha theta^2) || log-uniform) less its value at alpha = infinity: the log-uniform has none itself.

    E log q = -1/2 log(2 pi e alpha theta^2), E log p = -E log|w| = -log|theta| - E log|1 + sqrt(alpha) eps|
    """
    sd = math.exp(log_alpha / 2)
    at = math.log(sd) + mean_log_distance(1 / sd)  # E log|1 + sd eps|
    return -log_alpha / 2 + at - AT_INFINITY


def test_the_integration_is_right():
    assert mean_log_distance(0.0) == pytest.approx(AT_INFINITY, abs=1e-9)
    for c in (0.02, 0.5, 3.0, 10.0):  # (eps + c)^2 is chi-squared of 1 + 2 J degrees of freedom, J ~ Poisson(c^2 / 2)
        j = np.arange(400)
        series = (poisson.pmf(j, c**2 / 2) * (math.log(2) + digamma(0.5 + j))).sum() / 2
        assert mean_log_distance(c) == pytest.approx(series, abs=1e-9)


@pytest.mark.parametrize("theta", [1.0, -0.03])
def test_the_published_kl_is_within_a_hundredth_of_a_nat_of_the_integral(theta):
    scale = abs(theta) * torch.tensor(LOG_ALPHA / 2).exp()
    q = dist.Normal(torch.full_like(scale, theta), scale)
    found = kl_divergence(q, LogUniform(scale.shape)).numpy()
    exact = np.array([integrated(a) for a in LOG_ALPHA])
    assert np.abs(found - exact).max() <= 0.01  # 0.0094 at log alpha = -3.5
    assert exact[-1] == pytest.approx(0, abs=3e-4)
    # The constants are the published ones, which the integral alone would not tell.
    np.testing.assert_allclose(found, approximation(torch.tensor(LOG_ALPHA)), atol=1e-9)
    # To_event, as the model and the guide have it, adds the weights up.
    total = kl_divergence(q.to_event(1), LogUniform(scale.shape).to_event(1))
    assert total.item() == pytest.approx(found.sum(), abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("theta", "sd"), [(0.0, 0.02), (0.0, 1e-4), (1e-12, 0.02), (3.0, 1e-8), (1e-5, 10.0)])
def test_value_and_gradient_are_finite_where_log_alpha_is_not(theta, sd, dtype):
    loc, scale = (torch.tensor(v, dtype=dtype, requires_grad=True) for v in (theta, sd))
    value = kl_divergence(dist.Normal(loc, scale), LogUniform())
    value.backward()
    at = min(max(2 * math.log(sd / max(abs(theta), 1e-8)), -CLIP), CLIP)
    assert value.item() == pytest.approx(approximation(torch.tensor(at).double()).item(), abs=1e-4)
    assert torch.isfinite(loc.grad) and torch.isfinite(scale.grad)
    if theta == 0:
        assert loc.grad == 0


def test_the_prior_is_one_over_the_weight_and_cannot_be_drawn_from():
    w = torch.tensor([-2.0, 0.1, 7.0])
    torch.testing.assert_close(LogUniform((3,)).log_prob(w).exp(), 1 / w.abs())
    with pytest.raises(NotImplementedError, match="improper"):
        LogUniform((3,)).sample()
    with pytest.raises(NotImplementedError, match="improper"):
        net = nn.Linear(2, 3)
        credo.fit(PAIR.model, PAIR.guide, net, X, Y, steps=1).predict(2, net, X, prior=True)


def test_the_density_is_log_uniform_for_weights_and_normal_for_biases(double):
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    z, x = drawn_like(net), X.double()
    logits = torch.tanh(x @ z["0.weight"].T + z["0.bias"]) @ z["2.weight"].T + z["2.bias"]
    prior = -z["0.weight"].abs().log().sum() - z["2.weight"].abs().log().sum()
    prior = prior + log_normal(z["0.bias"], 10.0) + log_normal(z["2.bias"], 10.0)
    expected = prior + log_softmax_at(logits, Y).sum()
    assert log_joint(PAIR.model, z, net, x, Y) == pytest.approx(expected.item(), abs=1e-9)


def approximation(log_alpha):
    """The right-hand side of the paper's eq. 14, with its sign turned."""
    return -(
        0.63576 / (1 + torch.exp(-(1.8732 + 1.48695 * log_alpha)))
        - 0.5 * torch.log(1 + torch.exp(-log_alpha))
        - 0.63576
    )


x1, y1 = torch.tensor([[0.5], [-1.0], [2.0], [0.3]]), torch.tensor([1, 0, 0, 1])


def two_weights():
    """Logits (w0 x + b0, w1 x + b1): the difference of two normals is normal, and the integral has one dimension."""
    net = nn.Linear(1, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.7], [-0.2]]))
        net.bias.copy_(torch.tensor([0.1, 0.4]))
    return net


def exact_elbo(p):
    theta, variance, bias = p["weight.theta"][:, 0], p["weight.log_sigma2"][:, 0].exp(), p["bias.value"]
    kl = approximation(variance.log() - 2 * theta.abs().log()).sum()
    signs, x = (2 * y1 - 1).double(), x1[:, 0].double()

    def fits(slope):
        return -torch.log1p(torch.exp(-signs * (x * slope[:, None] + bias[1] - bias[0]))).sum(1)

    return averaged(fits, theta[1] - theta[0], variance.sum().sqrt()) - kl + log_normal(bias, 10.0)


@pytest.mark.parametrize(("batch_size", "n"), [(None, 60), (2, 200)])
def test_the_mean_gradient_is_that_of_the_quadrature_and_the_published_kl(batch_size, n, monkeypatch):
    monkeypatch.setattr("credo.guides.bnn_sparse.START", -1.0)  # log alpha -0.3 and 2.2: where the KL bends
    assert_unbiased(PAIR.model, PAIR.guide, (two_weights(), x1, y1), exact_elbo, batch_size=batch_size, n=n)


def test_the_kl_of_an_improper_prior_is_taken_in_closed_form_and_in_no_other_way():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3))

    def check(plan):
        terms = {e.site: e.term for e in plan.entries}
        assert terms["0.weight"] == terms["2.weight"] == "analytic KL"
        assert plan.term == "analytic KL" and plan.terms == ["analytic KL"]

    before = {name: w.detach().clone() for name, w in net.named_parameters()}
    runner = credo.SVI(PAIR.model, PAIR.guide, progress=False)
    plan = runner.prepare(net, X, Y)
    check(plan)
    with entered(runner._prepared.state):
        for particles in (1, 8):
            check(race(Contest(Pair(PAIR.model, PAIR.guide, (net, X, Y)), particles, runner._steps.vectorised), plan))
    fit = runner.run(net, X, Y, steps=40)  # looks at the terms on the way
    check(fit.plan)
    assert all(math.isfinite(loss) for loss in fit.losses)
    assert all(torch.equal(w, before[name]) for name, w in net.named_parameters())
    parts = ("theta", "log_sigma2")
    assert set(fit.params) == {f"{n}.{p}" for n in ("0.weight", "2.weight") for p in parts} | {
        "0.bias.value",
        "2.bias.value",
    }


def test_a_convolutional_net_is_fitted_and_pruned():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
    x = torch.randn(6, 1, 8, 8)
    fit = credo.fit(PAIR.model, PAIR.guide, net, x, torch.tensor([0, 1, 2, 0, 1, 2]), steps=5)
    assert list(report(fit.params).index) == ["0.weight", "3.weight", "total"]
    assert report(fit.params).loc["total", "weights"] == 18 + 216
    assert pruned(net, fit.params)(x).shape == (6, 3)


PARAMS = {  # log alpha = log sigma^2 - log theta^2: 2, 4, 3 exactly, infinite; and -1, 10
    "0.weight.theta": torch.tensor([[1.0, -1.0], [1.0, 0.0]]),
    "0.weight.log_sigma2": torch.tensor([[2.0, 4.0], [3.0, -8.0]]),
    "0.bias.value": torch.tensor([0.5, -0.5]),
    "2.weight.theta": torch.tensor([[math.exp(0.5), -math.exp(-4.0)]]),
    "2.weight.log_sigma2": torch.tensor([[0.0, 2.0]]),
    "2.bias.value": torch.tensor([1.5]),
}


def test_the_report_counts_by_hand():
    table = report(PARAMS)
    assert table.loc["0.weight"].tolist() == [4, 1, 0.75]
    assert table.loc["2.weight"].tolist() == [2, 1, 0.5]
    assert table.loc["total"].tolist() == [6, 2, pytest.approx(2 / 3)]
    assert report(PARAMS, threshold=3.5)["kept"].tolist() == [2, 1, 3]
    assert report(PARAMS, threshold=-2.0)["pruned"].tolist() == [1, 1, 1]


def test_the_pruned_net_has_the_means_that_were_kept_and_zeros():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    before = [w.detach().clone() for w in net.parameters()]
    thin = pruned(net, PARAMS)
    assert thin[0].weight.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert thin[0].bias.tolist() == [0.5, -0.5]
    assert thin[2].weight.tolist() == [[pytest.approx(math.exp(0.5)), 0.0]]
    assert thin[2].bias.tolist() == [1.5]
    x = torch.tensor([[3.0, 9.0], [-1.0, 2.0]])
    torch.testing.assert_close(thin(x), torch.tensor([[3.5 * math.exp(0.5) + 1.5], [1.5]]))
    assert all(torch.equal(w, b) for w, b in zip(net.parameters(), before, strict=True))
    assert not thin.training and net.training
    assert pruned(net, PARAMS, threshold=3.5)[0].weight.tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_the_recipe_has_the_published_numbers():
    settings = recipe(60_000)
    assert (settings["steps"], settings["batch_size"], settings["particles"]) == (120_000, 100, 1)
    assert settings["kl_warmup"] == (5 * 600, 20 * 600)
    rate = settings["lr"]
    assert [rate(t) for t in (0, 30_000, 60_000)] == [1e-3] * 3
    assert rate(90_000) == pytest.approx(5e-4) and rate(119_999) == pytest.approx(1e-3 / 60_000)
    linear = recipe(60_000, flat=0.0)["lr"]
    assert [linear(t) for t in (0, 60_000)] == pytest.approx([1e-3, 5e-4])
    assert recipe(1437, 3, batch_size=50)["steps"] == math.ceil(3 * 1437 / 50)
    assert recipe(100, 1, flat=1.0)["lr"](0) == 1e-3
    for wrong in ({"rows": 0}, {"rows": 5, "quiet": 0.5, "full": 0.2}, {"rows": 5, "flat": 2.0}):
        with pytest.raises(ValueError, match="recipe: got"):
            recipe(**wrong)


def test_rows_that_are_no_more_than_a_batch_are_all_in_each_step():
    settings = recipe(50, 20, batch_size=100)
    assert (settings["steps"], settings["batch_size"]) == (20, None)  # 20 passes over the rows are 20 steps
    assert recipe(101, 20, batch_size=100)["batch_size"] == 100
    for wrong in ({"rows": 50.5}, {"rows": 50, "batch_size": 2.5}, {"rows": 50, "epochs": math.inf}):
        with pytest.raises(ValueError, match="recipe: got"):
            recipe(**wrong)


def test_the_recipe_fits():
    net = small_start(two_weights())
    settings = recipe(len(x1), 20, batch_size=2)
    fit = credo.fit(PAIR.model, PAIR.guide, net, x1, y1, **settings, compile=False, progress=False)
    assert len(fit.losses) == 40 and fit.batch_size == 2


def test_the_published_start_is_small_and_leaves_what_is_no_weight():
    net = nn.Sequential(nn.Linear(40, 50), nn.LayerNorm(50), nn.Linear(50, 3).requires_grad_(False))
    fresh = small_start(net, seed=1)
    assert fresh[0].weight.std().item() == pytest.approx(0.01, rel=0.1) and not fresh[0].bias.any()
    assert torch.equal(fresh[0].weight, small_start(net, seed=1)[0].weight)
    assert torch.equal(fresh[1].weight, net[1].weight) and torch.equal(fresh[2].weight, net[2].weight)
    assert net[0].bias.any()


def test_another_start_is_an_argument_of_the_guide():
    for start, wanted in ((None, START), (-5.0, -5.0)):
        params = credo.SVI(PAIR.model, partial(PAIR.guide, start=start), compile=False, progress=False)
        params.prepare(two_weights(), x1, y1)
        assert params.params["weight.log_sigma2"].tolist() == [[wanted], [wanted]]


def test_the_built_in_digits_and_a_table():
    net, x, y = PAIR.data()
    assert x.shape == (1437, 64) and y.shape == (1437,)
    assert net(x[:3]).shape == (3, 10)
    same, x_test, y_test = held_out(net, x, y)
    assert same is net and x_test.shape == (360, 64) and y_test.shape == (360,)
    net, x, y = PAIR.data(pd.DataFrame({"b": [1.0, 2.0, 3.0], "y": [0, 2, 1]}))
    assert x.tolist() == [[1.0], [2.0], [3.0]] and y.tolist() == [0, 2, 1]
    assert net(x).shape == (3, 3)


def test_a_number_of_the_net_is_a_point_and_a_frozen_layer_is_left_alone():
    class Warm(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(2, 3).requires_grad_(False), nn.Linear(3, 2)
            self.temperature = nn.Parameter(torch.tensor(1.0))

        def forward(self, x):
            return self.last(self.first(x)) * self.temperature

    net = Warm()
    fit = credo.fit(PAIR.model, PAIR.guide, net, torch.randn(6, 2), torch.arange(6) % 2, steps=5, progress=False)
    assert list(report(fit.params).index) == ["last.weight", "total"]
    thin = pruned(net, fit.params)
    assert torch.equal(thin.first.weight, net.first.weight)
    assert thin.temperature.item() == fit.params["temperature.value"].item()

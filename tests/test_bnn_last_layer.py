"""The Bayesian last layer: density by hand, exact posterior at a trained body, one pass against many draws."""

import math
from functools import partial

import pyro
import pytest
import torch
from torch import nn

import credo
from credo.models.bnn_last_layer import held_out, last_linear
from credo.treatments.one_pass import features, one_pass
from tests.cases.by_hand import log_joint, log_normal

PAIR = credo.load("bnn_last_layer")
with torch.random.fork_rng([]):
    torch.manual_seed(0)
    X = torch.tensor([5.0, -300.0]) + torch.tensor([0.1, 40.0]) * torch.randn(30, 2)
    Y = 1000.0 + 20.0 * X[:, 0] - 0.3 * X[:, 1] + 5.0 * torch.randn(30)
    LABELS = (X[:, 0] > 5).long() + (X[:, 1] > -280).long()


def mlp(outputs=1, bias=True):
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, outputs, bias=bias))


def fitted(net, x, y, **settings):
    programs = (partial(PAIR.model, **settings), partial(PAIR.guide, **settings))
    return credo.fit(*programs, net, x, y, steps=30, progress=False, compile=False)


def scaled(x):
    return (x - x.mean(0)) / x.std(0, correction=0)


def test_the_density_is_that_of_the_formula(double):
    net, x, y = mlp().double(), X.double(), Y.double()
    z = {"2.weight": torch.randn(1, 4), "2.bias": torch.randn(1)}
    f = torch.tanh(scaled(x) @ net[0].weight.T + net[0].bias) @ z["2.weight"][0] + z["2.bias"]
    terms = -0.5 * ((y - y.mean() - y.std(correction=0) * f) / 8.0) ** 2 - math.log(8 * math.sqrt(2 * math.pi))
    prior = log_normal(z["2.weight"], 3 / 2) + log_normal(z["2.bias"], 3.0)
    body = -0.5 * (2 * net[0].weight.square().sum() + net[0].bias.square().sum()) / 4
    with pyro.get_param_store().scope():
        found = log_joint(partial(PAIR.model, prior_sd=3.0, body_sd=2.0, noise=8.0), z, net, x, y)
    assert found == pytest.approx((prior + body + terms.sum()).item(), abs=1e-8)


@pytest.mark.slow
def test_at_a_trained_body_numbers_have_an_exact_posterior():
    """credo.compare finds it by credo.exact; here it is that of Bishop 2006, eq. 3.53-3.54."""
    net = mlp()
    fit = fitted(net, X, Y)
    table = credo.compare(fit)
    assert table.attrs["against"] == "credo.exact" and len(table) == 5
    body, s = fit.trained(net), fit.params["prior_sd"].item()
    a = features(body, scaled(X))[0].double().detach()
    noise = (fit.params["sigma"] / Y.std(correction=0)).double()
    precision = a.T @ a / noise**2 + torch.diag(torch.tensor([4.0, 4, 4, 4, 1]).double() / s**2)
    mean = torch.linalg.solve(precision, a.T @ scaled(Y).double() / noise**2)
    names = [f"2.weight[0,{i}]" for i in range(4)] + ["2.bias[0]"]
    exact = table["exact", "mean"] if ("exact", "mean") in table.columns else table["exact mean"]
    assert exact[names].tolist() == pytest.approx(mean.tolist(), abs=2e-3)


@pytest.mark.parametrize(("outputs", "bias"), [(1, True), (3, True), (3, False)])
def test_one_pass_is_the_average_of_many_draws(outputs, bias):
    net = mlp(outputs, bias)
    fit = fitted(net, X, Y if outputs == 1 else LABELS)
    found, drawn = one_pass(fit, net, X[:6] + 1), fit.predict(4000, net, X[:6] + 1)
    if outputs == 1:
        sd = drawn["y"].std(0)
        assert ((found[:, 0] - drawn["y"].mean(0)).abs() < 5 * sd / 4000**0.5).all()
        torch.testing.assert_close(found[:, 1], sd, rtol=0.06, atol=0.0)
    else:
        error = drawn["probs"].std(0) / 4000**0.5
        assert ((found - drawn["probs"].mean(0)).abs() < 5 * error + 1e-4).all()


def test_networks_of_the_fit_share_their_body():
    net = mlp(3)
    fit = fitted(net, X, LABELS, noise=None)
    one, two = fit.networks(net, 2)
    assert torch.equal(one[0].weight, two[0].weight) and not torch.equal(one[2].weight, two[2].weight)
    assert not torch.equal(one[0].weight, net[0].weight)


@pytest.mark.slow
def test_the_guide_of_numbers_finds_the_exact_posterior_given_the_body():
    net = mlp()
    programs = (partial(PAIR.model, noise=5.0, prior_sd=1.0), PAIR.guide)
    fit = credo.fit(programs[0], partial(programs[1], noise=5.0), net, X, Y, steps=6000, progress=False)
    assert credo.compare(fit).attrs["evidence_gap"] < 0.3


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (nn.Sequential(nn.Tanh()), "net: got Sequential, wanted a torch.nn.Module whose last layer is an nn.Linear"),
        (nn.Sequential(nn.Linear(2, 1), nn.Flatten(0), nn.Unflatten(0, (2, -1))), "net: its output has shape"),
    ],
)
def test_networks_that_do_not_end_in_a_linear_layer_are_refused(net, words):
    with pytest.raises(ValueError, match=words):
        credo.fit(PAIR.model, PAIR.guide, net, X, Y, steps=1, progress=False)
    with pytest.raises(ValueError, match="last layer"):
        last_linear(nn.Tanh())


def test_a_fit_of_another_guide_has_no_one_pass():
    net = mlp()
    other = credo.load("bnn_regression")
    fit = credo.fit(other.model, other.guide, net, X, Y, steps=1, progress=False, compile=False)
    with pytest.raises(ValueError, match="wanted one of the guide of the pair 'bnn_last_layer'"):
        one_pass(fit, net, X)


def test_the_built_in_digits():
    net, x, y = PAIR.data()
    same, x_test, _ = held_out(net, x, y)
    assert same is net and x.shape == (1437, 64) and x_test.shape == (360, 64) and net(x[:2]).shape == (2, 10)


class HeadFirst(nn.Module):
    """The last layer is registered before the body."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(3, 2), nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).relu())


@pytest.mark.parametrize("net", [HeadFirst(), nn.Sequential(nn.Linear(2, 2), nn.Softmax(-1))])
def test_a_network_that_does_not_end_in_its_last_linear_layer_is_refused(net):
    pair = credo.load("bnn_last_layer")
    scope = pyro.get_param_store().scope()
    with pytest.raises(ValueError, match=r"not what its last nn\.Linear returns"), scope, pyro.poutine.trace():
        pair.model(net, torch.ones(4, 2), torch.tensor([0, 1, 1, 0]))


@pytest.mark.parametrize("name", ["prior_sd", "body_sd", "noise"])
def test_an_sd_that_is_not_positive_is_refused_by_name(name):
    pair = credo.load("bnn_last_layer")
    with pytest.raises(ValueError, match=f"{name}: got -1, wanted a positive number"):
        pair.model(nn.Linear(2, 1), torch.ones(4, 2), torch.ones(4), **{name: -1})

"""Bayesian regression networks: density by hand, a linear net against Bayesian linear regression, units, noise."""

import math
from functools import partial
from inspect import signature

import pandas as pd
import pyro
import pytest
import torch
from pyro.infer import Predictive
from torch import nn
from torch.nn.functional import softplus

import credo
from credo.models.bnn_regression import LEAST_SD, held_out
from tests.cases.by_hand import drawn_like, log_joint, log_normal

PAIR = credo.load("bnn_regression")
with torch.random.fork_rng([]):
    torch.manual_seed(0)
    X = torch.tensor([5.0, -300.0]) + torch.tensor([0.1, 40.0]) * torch.randn(30, 2)
    Y = 1000.0 + 20.0 * X[:, 0] - 0.3 * X[:, 1] + 5.0 * torch.randn(30)


def pair(**settings):
    """Each program with the settings that it has."""
    programs = PAIR.model, PAIR.guide
    return [partial(p, **{k: v for k, v in settings.items() if k in signature(p).parameters}) for p in programs]


def mlp(outputs=1):
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, outputs))


def units(v):
    return v.mean(0), v.std(0, correction=0)


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_density_is_that_of_the_formula(outputs, double):
    net, x, y = mlp(outputs).double(), X.double(), Y.double()
    z = drawn_like(net)
    (mx, sx), (my, sy) = units(x), units(y)
    f = torch.tanh((x - mx) / sx @ z["0.weight"].T + z["0.bias"]) @ z["2.weight"].T + z["2.bias"]
    prior = log_normal(z["0.weight"], 3 / math.sqrt(2)) + log_normal(z["2.weight"], 1.5)
    prior = prior + log_normal(z["0.bias"], 3.0) + log_normal(z["2.bias"], 3.0)
    if outputs == 2:
        sd = sy * (softplus(f[:, 1]) + LEAST_SD)
    else:
        sd = z["sigma"] = torch.tensor(8.0)
        prior = prior + log_normal((sd / sy).log() + 1, 1.0) - sd.log()
    terms = -0.5 * ((y - my - sy * f[:, 0]) / sd) ** 2 - torch.log(sd * math.sqrt(2 * math.pi) * torch.ones(30))
    with pyro.get_param_store().scope():
        found = log_joint(pair(prior_sd=3.0)[0], z, net, x, y)
    assert found == pytest.approx((prior + terms.sum()).item(), abs=1e-8)


def test_a_learnt_prior_starts_at_the_default_and_another_prior_takes_its_place(double):
    net, x, y = mlp().double(), X.double(), Y.double()
    z = {**drawn_like(net), "sigma": torch.tensor(8.0)}

    def density(**settings):
        with pyro.get_param_store().scope():
            return log_joint(pair(**settings)[0], z, net, x, y)

    default = density()
    assert density(prior_sd="learnt") == pytest.approx(default, abs=1e-8)
    wide = torch.distributions.Normal(0.0, 2.0)
    numbers = torch.cat([z[name].flatten() for name, _ in net.named_parameters()])
    fan_in = torch.tensor([2.0] * 8 + [1.0] * 4 + [4.0] * 4 + [1.0])
    other = torch.distributions.Normal(0.0, fan_in**-0.5).log_prob(numbers) - wide.log_prob(numbers)
    found = density(prior=lambda name, w: pyro.distributions.Normal(w.new_zeros(()), 2.0).expand(w.shape))
    assert found == pytest.approx(default - other.sum().item(), abs=1e-8)


@pytest.mark.slow
def test_a_learnt_prior_is_as_wide_as_the_weights_under_the_guide():
    """The sd of a site that maximises the ELBO is the root of the mean of loc^2 + scale^2, in closed form."""
    net = mlp(2)
    fit = credo.fit(*pair(prior_sd="learnt"), net, X, Y, steps=3000, progress=False, compile=False, plan="fast")
    for name, _ in net.named_parameters():
        best = (fit.params[f"{name}.loc"].square() + fit.params[f"{name}.scale"].square()).mean().sqrt()
        assert fit.params[f"{name}.prior_sd"] == pytest.approx(best.item(), rel=0.03)


def test_the_guide_starts_at_the_weights_of_the_net_with_the_sd_that_it_is_given():
    net = mlp()
    with pyro.get_param_store().scope():
        pair(sd=0.01)[1](net, X, Y)
        store = pyro.get_param_store()
        for name, weight in net.named_parameters():
            torch.testing.assert_close(store[f"{name}.loc"], weight)
            torch.testing.assert_close(store[f"{name}.scale"], torch.full_like(weight, 0.01))


def by_hand(noise):
    """(mean, precision, log evidence) of (slopes, intercept) of standardised x and y; see models/linear_regression."""
    (mx, sx), (my, sy) = units(X.double()), units(Y.double())
    A = torch.cat([(X.double() - mx) / sx, torch.ones(30, 1).double()], 1)
    y, s2 = (Y.double() - my) / sy, (noise / sy) ** 2
    prior = torch.tensor([0.5, 0.5, 1.0]).double()  # variances: 1 / fan-in, and 1 for the intercept
    precision = A.T @ A / s2 + torch.diag(1 / prior)
    marginal = torch.distributions.MultivariateNormal(
        torch.zeros(30).double(), s2 * torch.eye(30).double() + A * prior @ A.T
    )
    return torch.linalg.solve(precision, A.T @ y / s2), precision, marginal.log_prob(y) - 30 * sy.log()


@pytest.fixture(scope="module")
def straight():
    """The fit of a linear network with known noise, which `guide=None` finds in closed form."""
    net = nn.Linear(2, 1)
    return credo.fit(partial(PAIR.model, noise=5.0), None, net, X, Y, progress=False), net


def test_a_linear_net_is_bayesian_linear_regression(straight):
    fit, net = straight
    assert fit.method == "exact"
    mean, precision, evidence = by_hand(5.0)
    assert fit.exact.log_evidence == pytest.approx(evidence.item(), abs=1e-3)
    draws = fit.sample(4000)
    found = torch.cat([draws["weight"][:, 0], draws["bias"]], 1).double()
    cov = torch.linalg.inv(precision)
    assert ((found.mean(0) - mean) / (cov.diagonal() / 4000).sqrt()).abs().max() < 4.5
    torch.testing.assert_close(torch.cov(found.T).diagonal(), cov.diagonal(), rtol=0.12, atol=0.0)
    new = X[:4] + 0.2
    (mx, sx), (my, sy) = units(X.double()), units(Y.double())
    A = torch.cat([(new.double() - mx) / sx, torch.ones(4, 1).double()], 1)
    expected, sd = my + sy * A @ mean, (25.0 + sy**2 * ((A @ cov) * A).sum(1)).sqrt()
    y = fit.predict(4000, net, new)["y"].double()
    assert ((y.mean(0) - expected) / (sd / 4000**0.5)).abs().max() < 4.5
    torch.testing.assert_close(y.std(0), sd, rtol=0.06, atol=0.0)


@pytest.mark.slow
def test_the_guide_of_a_linear_net_is_the_best_factorised_normal():
    """Of a normal posterior N(m, P^-1) that is N(m, 1 / diag(P)) (Bishop 2006, section 10.1.2)."""
    net = nn.Linear(2, 1)
    fit = credo.fit(*pair(noise=5.0), net, X, Y, progress=False, compile=False)
    mean, precision, _ = by_hand(5.0)
    loc = torch.cat([fit.params["weight.loc"][0], fit.params["bias.loc"]]).double()
    scale = torch.cat([fit.params["weight.scale"][0], fit.params["bias.scale"]]).double()
    assert ((loc - mean) * precision.diagonal().sqrt()).abs().max() < 0.1
    assert (scale * precision.diagonal().sqrt() - 1).abs().max() < 0.05


@pytest.mark.parametrize("outputs", [1, 2])
def test_other_units_give_the_same_fit_in_other_units(outputs):
    """Powers of two, so that the standardised numbers are the same to the last digit."""
    options = {"steps": 5, "progress": False, "compile": False, "batch_size": 10}
    one, two = mlp(outputs), mlp(outputs)
    fit = credo.fit(PAIR.model, PAIR.guide, one, X, Y, **options)
    other = credo.fit(PAIR.model, PAIR.guide, two, X * 64, Y * 1024, **options)
    for site, draws in fit.predict(20, one, X[:3]).items():
        torch.testing.assert_close(1024 * draws, other.predict(20, two, 64 * X[:3])[site], rtol=1e-3, atol=1.0)
    shift = torch.tensor(other.losses) - torch.tensor(fit.losses)
    torch.testing.assert_close(shift, torch.full_like(shift, 30 * math.log(1024)), rtol=1e-3, atol=0.0)
    if outputs == 1:
        torch.testing.assert_close(other.sample(5)["sigma"], 1024 * fit.sample(5)["sigma"], rtol=1e-3, atol=0.0)


def test_batches_and_new_rows_are_measured_in_the_units_of_the_training_data():
    net = mlp()
    fit = credo.fit(PAIR.model, PAIR.guide, net, X, Y, steps=10, batch_size=6, progress=False, compile=False)
    for name, rows in (("x", X), ("y", Y)):
        for part, value in zip(("mean", "sd"), units(rows), strict=True):
            torch.testing.assert_close(fit.params[f"{name}.{part}"], value)
    rows = X[:2] + 1  # two rows, whose own mean and sd are others
    alone = fit.predict(4, net, rows)["mean"]
    torch.testing.assert_close(alone, fit.predict(4, net, torch.cat([rows, X]))["mean"][:, :2])


def test_in_plain_pyro_the_first_call_sets_the_units():
    net = mlp()
    with pyro.get_param_store().scope():
        PAIR.model(net, X, Y)
        draws = Predictive(PAIR.model, num_samples=20, return_sites=("y",))(net, X[:2])["y"]
    assert (draws - Y.mean()).abs().max() < 20 * Y.std()
    with pyro.get_param_store().scope():  # before any data y has no units
        assert PAIR.model(net, X[:2]).abs().max() < 20


def rising(n):
    """Rows whose noise rises from 2 to 10 along x, seen by a net from far away."""
    x = torch.linspace(0, 1, n)[:, None]
    sd = 2 + 8 * x[:, 0]
    return 100 * x + 7, 50 + 30 * torch.sin(3 * x[:, 0]) + sd * torch.randn(n), sd


@pytest.mark.slow
def test_the_noise_of_each_row_is_recovered():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        x, y, sd = rising(1000)
        net = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 2))
    fit = credo.fit(PAIR.model, PAIR.guide, net, x, y, batch_size=250, steps=2500, progress=False)
    found = fit.predict(200, net, x)
    assert (found["sd"].mean(0) / sd - 1).abs().mean() < 0.12
    assert (found["mean"].mean(0) - 50 - 30 * torch.sin(3 * (x[:, 0] - 7) / 100)).abs().mean() < 1.0
    inside = (found["y"].quantile(0.05, 0) < y) & (y < found["y"].quantile(0.95, 0))
    assert inside.double().mean().item() == pytest.approx(0.9, abs=0.03)
    for half in (slice(0, 500), slice(500, 1000)):  # one sd for all rows would cover too much here, too little there
        assert inside[half].double().mean().item() == pytest.approx(0.9, abs=0.05)


def test_a_constant_column_and_whole_numbers():
    net = mlp()
    x = torch.stack([torch.arange(12), torch.full((12,), 7)], 1)
    fit = credo.fit(PAIR.model, PAIR.guide, net, x, torch.arange(12) % 5, steps=3, progress=False, compile=False)
    assert fit.params["x.sd"].tolist() == pytest.approx([(143 / 12) ** 0.5, 1.0])
    assert all(draws.isfinite().all() for draws in fit.predict(5, net, x).values())


def normed():
    return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


@pytest.mark.parametrize(
    ("net", "x", "y", "settings", "words"),
    [
        (mlp(), X, Y[:, None], {}, r"y: got shape \(30, 1\) for 30 rows, wanted \(30,\).*pass y\[:, 0\]"),
        (mlp(), X, Y[:20], {}, r"y: got shape \(20,\) for 30 rows"),
        (mlp(3), X, Y, {}, r"net: its output has shape \(30, 3\) .*wanted \(30, 1\), the mean of y, or \(30, 2\)"),
        (mlp(2), X, Y, {"noise": 1.0}, r"noise: got 1.0 for an output of shape \(30, 2\)"),
        (mlp(), X, Y, {"noise": 0.0}, r"noise: got 0.0 for an output of shape \(30, 1\), wanted .*positive"),
        (X, mlp(), Y, {}, r"net: got Tensor, wanted a torch.nn.Module"),
        (normed(), X, Y, {}, r"layer '1' is BatchNorm1d, .*use LayerNorm or GroupNorm"),
        (mlp(), X[:, 0], Y, {}, r"x: got shape \(30,\), which the net does not take"),
        (mlp(), X[:, :1], Y, {}, r"x: got shape \(30, 1\), which the net does not take.*rows of 2 numbers"),
    ],
    ids=["column", "rows", "outputs", "two noises", "no noise", "swapped", "batch norm", "vector", "inputs"],
)
def test_data_that_do_not_fit_are_refused(net, x, y, settings, words):
    with pytest.raises(ValueError, match=words):
        credo.fit(*pair(**settings), net, x, y, steps=1, progress=False)
    with pyro.get_param_store().scope():
        PAIR.model(mlp(), X, Y)


def test_the_built_in_patients_and_a_table():
    net, x, y = PAIR.data()
    assert (x.shape, y.shape, net(x).shape) == ((354, 10), (354,), (354, 1))
    same, x_test, y_test = held_out(net, x, y)
    from sklearn.datasets import load_diabetes

    whole = load_diabetes(scaled=False)
    rows = sorted(map(tuple, torch.tensor(whole.data).float().tolist()))
    assert same is net and sorted(map(tuple, torch.cat([x, x_test]).tolist())) == rows
    assert sorted(torch.cat([y, y_test]).tolist()) == sorted(whole.target)
    table = pd.DataFrame({"b": [1.0, 2.0, 3.0], "y": [0.5, 2, 1], "a": [0, 1, 0]})
    net, x, y = PAIR.data(table)
    assert x.tolist() == [[1.0, 0.0], [2.0, 1.0], [3.0, 0.0]] and y.tolist() == [0.5, 2.0, 1.0]
    for wrong, words in ((table[["a"]], "wanted a column 'y'"), (table.assign(y=None), "column 'y' holds")):
        with pytest.raises(ValueError, match=words):
            PAIR.data(wrong)

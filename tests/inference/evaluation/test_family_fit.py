"""`"mean_field"` and Pyro's autoguides of independent normals and few factors: found without steps, or left to SVI."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive
from pyro.infer.autoguide import AutoDiagonalNormal, AutoLowRankMultivariateNormal, AutoNormal
from torch import nn

import credo

NOISE = torch.Generator().manual_seed(0)
X = torch.randn(100, 1, generator=NOISE) + 0.1 * torch.randn(100, 3, generator=NOISE)  # correlations of .99
Y = X @ torch.tensor([1.0, -2.0, 0.5]) + 0.5 * torch.randn(100, generator=NOISE)
QUICK = {"progress": False, "compile": False}
GUIDES = {
    "word": lambda model: "mean_field",
    "AutoNormal": AutoNormal,
    "AutoDiagonalNormal": AutoDiagonalNormal,
}


def line(x, y):
    """The posterior is normal, with precision X'X / .25 + I."""
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


def apart(y):
    """Two latents that are independent in the posterior: one real, one positive with a posterior Gamma(2 + n, ...)."""
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    rate = pyro.sample("rate", dist.Gamma(50.0, 50.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(m, 1.0), obs=y)
        pyro.sample("t", dist.Exponential(rate), obs=y.abs() + 0.1)


def run_of(steps):
    """The runner, for a few steps where it would run until converged."""
    run = credo.SVI._run
    return lambda self, data, _, ctrl_c, **options: run(self, data, steps, ctrl_c, **options)


@pytest.mark.parametrize("kind", GUIDES)
def test_mean_field_is_at_its_optimum_and_is_not_trusted_where_latents_are_correlated(kind, unchanged):
    guide = GUIDES[kind](line)
    with unchanged():
        fit = credo.fit(line, guide, X, Y)
    precision = X.double().T @ X.double() / 0.25 + torch.eye(3, dtype=torch.float64)
    mean = torch.linalg.solve(precision, X.double().T @ Y.double() / 0.25)
    assert fit.method == "mean field, by fixed draws" and fit.losses == () and "gradients" in fit.stopped
    loc, scale = (torch.cat([v.flatten() for n, v in fit.params.items() if part in n]) for part in ("loc", "scale"))
    torch.testing.assert_close(loc.double(), mean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scale.double(), precision.diagonal().rsqrt(), rtol=0.01, atol=0)
    assert fit.verdict.trust == "corrected" and not fit.converged and fit.stopped.startswith("at rest")
    sds = fit.corrected(4000)["w"].double().std(0)
    assert (sds / torch.linalg.inv(precision).diagonal().sqrt() - 1).abs().max() < 0.08


def test_mean_field_is_trusted_where_latents_are_independent():
    fit = credo.fit(apart, AutoNormal(apart), Y)
    assert fit.verdict.trust == "yes" and fit.converged and "at the largest ELBO" in fit.stopped
    table = credo.compare(fit)
    assert table["error in sds"].abs().max() < 0.1 and (table["sd ratio"] - 1).abs().max() < 0.06
    assert abs(table.attrs["evidence_gap"]) < 0.02  # the logarithm of a Gamma(150, ...) is close to normal


def test_few_factors_hold_what_mean_field_does_not():
    guide = AutoLowRankMultivariateNormal(line, rank=2)
    fit = credo.fit(line, guide, X, Y)
    precision = X.double().T @ X.double() / 0.25 + torch.eye(3, dtype=torch.float64)
    sd = torch.linalg.inv(precision).diagonal().sqrt()
    inside = fit.trained(guide).get_posterior()
    assert fit.method == "low rank, by fixed draws" and fit.verdict.trust == "yes" and fit.converged
    assert (inside.stddev.double() / sd - 1).abs().max() < 0.05
    assert fit.params["AutoLowRankMultivariateNormal.cov_factor"].shape == (3, 2)


@pytest.mark.parametrize(
    "make", [AutoNormal, AutoDiagonalNormal, AutoLowRankMultivariateNormal], ids=lambda g: g.__name__
)
def test_the_trained_guide_is_one_of_pyro(make):
    guide = make(apart)
    fit = credo.fit(apart, guide, Y)
    trained = fit.trained(guide)
    low, middle, high = torch.stack([*trained.quantiles([0.05, 0.5, 0.95], Y)["rate"]])
    draws = fit.sample(8000)["rate"]
    assert 0 < low < middle < high and middle.item() == pytest.approx(draws.median().item(), rel=0.02)
    assert Predictive(apart, guide=trained, num_samples=5)(Y)["rate"].flatten().shape == (5,)
    assert fit.guide is guide and fit.predict(3)["y"].shape == (3, 100)


@pytest.mark.parametrize("options", [{"steps": 2}, {"steps": 2, "lr": 0.1}, {"steps": 2, "batch_size": 10}], ids=str)
@pytest.mark.parametrize("kind", GUIDES)
def test_with_options_of_svi_it_is_a_run_of_svi(kind, options):
    fit = credo.fit(line, GUIDES[kind](line), X, Y, **QUICK, **options)
    assert fit.method == ("mean field" if kind == "word" else "svi") and len(fit.losses) == 2


def by_hand(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(3, 5), 1.0).to_event(2))
    v = pyro.sample("v", dist.Normal(torch.zeros(5, 1), 1.0).to_event(2))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal((torch.tanh(x @ w) @ v)[:, 0], 0.5), obs=y)


def by_net(net, x, y):
    w = {n: pyro.sample(n, dist.Normal(torch.zeros_like(p), 1.0).to_event(p.dim())) for n, p in net.named_parameters()}
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(torch.func.functional_call(net, w, (x,))[:, 0], 0.5), obs=y)


def trained(x, y):
    scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x @ w, scale), obs=y)


@pytest.mark.parametrize("model", [by_hand, by_net, trained], ids=lambda model: model.__name__)
@pytest.mark.parametrize("kind", ["word", "AutoNormal"])
def test_networks_and_trained_parameters_are_left_to_svi(kind, model, monkeypatch):
    monkeypatch.setattr(credo.SVI, "_run", run_of(2))
    nets = (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)),) if model is by_net else ()
    fit = credo.fit(model, GUIDES[kind](model), *nets, X, Y, **QUICK)
    assert fit.method == ("mean field" if kind == "word" else "svi") and len(fit.losses) == 2


def test_a_regression_by_one_layer_is_not_left_to_svi():
    assert credo.fit(by_net, "mean_field", nn.Linear(3, 1), X, Y, **QUICK).losses == ()


def test_a_guide_that_was_made_for_another_support_is_left_to_svi(monkeypatch):
    """The model has a positive latent, the guide was made of one with a latent above 2."""
    monkeypatch.setattr(credo.SVI, "_run", run_of(2))

    def above(y):
        shifted = dist.TransformedDistribution(dist.Exponential(1.0), dist.transforms.AffineTransform(2.0, 1.0))
        pyro.sample("s", shifted)

    def positive(y):
        s = pyro.sample("s", dist.Exponential(1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(0.0, s), obs=y)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the support
        fit = credo.fit(positive, AutoNormal(above), Y, **QUICK)
    assert fit.method == "svi"


def test_mistakes_in_the_data_are_those_of_any_fit():
    with pytest.raises(ValueError, match="y: 1 of 2 values are not finite"):
        credo.fit(line, "mean_field", X[:2], torch.tensor([1.0, torch.nan]))

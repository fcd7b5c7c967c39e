"""What `guide=None` chooses, beside what it must not choose; and that the answer is right with nothing set."""

import math
import time
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoGuideList, AutoLaplaceApproximation, AutoMultivariateNormal
from torch import nn

import credo
from credo.inference.evaluation import method
from credo.inference.gaussian import full_rank
from tests.cases.repeats import seeds

NOISE = torch.Generator().manual_seed(0)
Y = 2 + torch.randn(30, generator=NOISE)
X = torch.randn(200, 1, generator=NOISE) + 0.07 * torch.randn(200, 3, generator=NOISE)  # correlations of .995
LINE = X @ torch.tensor([1.0, -2.0, 0.5]) + 0.5 * torch.randn(200, generator=NOISE)
QUICK = {"progress": False, "compile": False}


def normal(y):
    z = pyro.sample("z", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def tail(y):
    """No closed form: a Student-t likelihood."""
    z = pyro.sample("z", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.StudentT(4.0, z, 1.0), obs=y)


def of_300(y):
    """It does not run on some of its rows."""
    z = pyro.sample("z", dist.Normal(0.0, 10.0))
    with pyro.plate("N", 300):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def clusters(y):
    """Finite latents of the rows are summed out, and the ordered means have one mode."""
    loc = pyro.sample("loc", dist.TransformedDistribution(dist.Normal(torch.zeros(2), 5.0).to_event(1), ORDER))
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.5, 0.5])))
        pyro.sample("y", dist.Normal(loc[..., k], 1.0), obs=y)


ORDER = dist.transforms.OrderedTransform()


def trained(y):
    scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, scale), obs=y)


def noisy(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(torch.nn.functional.dropout(z.expand(len(y)), 0.1), 1.0), obs=y)


def weights(net, x, y):
    w = {n: pyro.sample(n, dist.Normal(torch.zeros_like(p), 1.0).to_event(p.dim())) for n, p in net.named_parameters()}
    with pyro.plate("N", len(x)):
        mean = torch.func.functional_call(net, w, (x,))[:, 0]
        pyro.sample("y", dist.Normal(mean, 0.5), obs=y)


@pytest.mark.parametrize(("model", "method"), [(normal, "exact"), (tail, "full rank"), (clusters, "full rank")])
def test_a_density_of_fixed_latents_needs_no_steps(model, method):
    fit = credo.fit(model, None, torch.cat([Y, Y - 5]))
    assert (fit.method, fit.losses, len(fit.plan.entries)) == (method, (), 0)
    assert fit.converged and fit.why and (fit.exact is not None) == (method == "exact")
    assert fit.verdict.trust in ("yes", "corrected") and (method != "exact" or fit.verdict.trust == "yes")


@pytest.mark.parametrize("options", [{"steps": 3}, {"steps": 3, "lr": 0.1}, {"steps": 3, "particles": 2}, {"steps": 0}])
def test_options_of_svi_make_it_a_run_of_svi(options):
    fit = credo.fit(normal, None, Y, **QUICK, **options)
    assert fit.method == "mean field" and len(fit.losses) == options["steps"] and "AutoNormal.locs.z" in fit.params


def test_the_word_mean_field_is_a_run_of_svi_that_says_so():
    fit = credo.fit(normal, "mean_field", Y, steps=3, **QUICK)
    assert fit.method == "mean field" and len(fit.losses) == 3


def test_batches_make_it_a_run_of_svi():
    fit = credo.fit(normal, None, Y, batch_size=10, steps=3, **QUICK)
    assert fit.method == "mean field" and len(fit.losses) == 3


@pytest.mark.parametrize("model", [trained, noisy])
def test_a_model_without_a_fixed_density_is_fitted_by_svi_with_a_word_why(model, monkeypatch):
    monkeypatch.setattr(credo.SVI, "_run", run_of(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the noise
        fit = credo.fit(model, None, Y, **QUICK)
    assert fit.method == "mean field" and len(fit.losses) == 2
    assert "'scale'" in fit.why if model is trained else "noise" in fit.why


@pytest.mark.parametrize("hidden", [0, 4])
def test_a_network_is_fitted_by_mean_field_and_a_regression_by_one_layer_is_not(hidden, monkeypatch):
    monkeypatch.setattr(credo.SVI, "_run", run_of(2))
    net = nn.Sequential(nn.Linear(3, hidden), nn.Tanh(), nn.Linear(hidden, 1)) if hidden else nn.Linear(3, 1)
    fit = credo.fit(weights, None, net, X, LINE, **QUICK)
    assert fit.method == ("mean field" if hidden else "exact")
    assert "network" in fit.why if hidden else fit.losses == ()


def run_of(steps):
    """The runner, for a few steps where it would run until converged."""
    run = credo.SVI._run
    return lambda self, data, _, ctrl_c, **options: run(self, data, steps, ctrl_c, **options)


def test_what_ends_as_svi_loses_little_time_to_the_choice(monkeypatch):
    monkeypatch.setattr(credo.SVI, "_run", run_of(0))
    for _ in range(2):
        begun = time.process_time()
        credo.fit(trained, None, Y, **QUICK)
        chosen = time.process_time()
    credo.fit(trained, None, Y, steps=0, **QUICK)
    assert chosen - begun - (time.process_time() - chosen) < 0.3


def test_a_model_in_which_no_normal_is_found_is_fitted_by_svi(monkeypatch):
    """Nothing tells that a two-layer network by hand is one, but the search for a normal ends far from any."""
    monkeypatch.setattr(credo.SVI, "_run", run_of(2))

    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(3, 12), 2.0).to_event(2))
        v = pyro.sample("v", dist.Normal(torch.zeros(12), 1.0).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(torch.tanh(x @ w) @ v, 0.3), obs=y)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = credo.fit(model, None, X, LINE, **QUICK)
    assert fit.method == "mean field" and ("k-hat" in fit.why or "positive definite" in fit.why)


def test_a_correlated_regression_is_right_with_nothing_set():
    """Mean field gives a tenth of these sds."""

    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)

    fit = credo.fit(model, None, X, LINE)
    precision = X.double().T @ X.double() / 0.25 + torch.eye(3, dtype=torch.float64)
    covariance = torch.linalg.inv(precision)
    mean, sd = covariance @ X.double().T @ LINE.double() / 0.25, covariance.diagonal().sqrt()
    draws = fit.sample(8000)["w"].double()
    assert ((draws.mean(0) - mean) / sd).abs().max() < 0.05 and (draws.std(0) / sd - 1).abs().max() < 0.04


@pytest.mark.parametrize("seed", seeds(2))
def test_a_students_regression_is_that_of_quadrature(seed):
    fit = credo.fit(tail, None, Y, seed=seed)
    grid = torch.linspace(0, 4, 8001, dtype=torch.float64)
    log = dist.StudentT(4.0, grid, 1.0).log_prob(Y.double()[:, None]).sum(0) + dist.Normal(0.0, 10.0).log_prob(grid)
    p = torch.softmax(log, 0)
    mean = (p * grid).sum()
    sd = (p * (grid - mean) ** 2).sum().sqrt()
    draws = fit.sample(20_000)["z"].double()
    assert abs(draws.mean() - mean) / sd < 0.05 and abs(draws.std() / sd - 1) < 0.05
    evidence = log.logsumexp(0).item() + math.log(grid[1] - grid[0])
    assert fit.importance.log_evidence == pytest.approx(evidence, abs=0.02)


def test_summed_latents_are_drawn_as_in_any_fit():
    y = torch.tensor([-3.0, -2.0, -2.5, 2.0, 3.0, 2.5])
    draws = credo.fit(clusters, None, y).sample(300)
    assert draws["k"].float().mean(0).round().tolist() == [0, 0, 0, 1, 1, 1]


def test_finite_latents_alone_have_their_closed_form():
    """Two rows of k ~ Bernoulli(.3), y ~ Normal(k, 1), by Bayes' theorem; other guides have nothing to train."""

    def rows(y):
        with pyro.plate("N", len(y)):
            k = pyro.sample("k", dist.Bernoulli(0.3))
            pyro.sample("y", dist.Normal(k, 1.0), obs=y)

    y = torch.tensor([0.8, -0.3])
    fit = credo.fit(rows, None, y, **QUICK)
    odds = 0.3 / 0.7 * (y - 0.5).exp()
    assert fit.method == "exact" and torch.allclose(fit.exact.marginals["k"].probs.float(), odds / (1 + odds))
    assert torch.allclose(fit.sample(4000)["k"].mean(0), odds / (1 + odds), atol=0.03)
    with pytest.raises(ValueError, match="no parameters to train, since all latents are finite"):
        credo.fit(rows, "mean_field", y, **QUICK)


def test_mistakes_are_those_of_any_fit():
    with pytest.raises(ValueError, match="y: 1 of 2 values are not finite"):
        credo.fit(normal, None, torch.tensor([1.0, math.nan]))


def test_warnings_of_the_pair_are_heard_once():
    """Seconds since 1970 keep 7 digits in single precision, which the first look at the data says."""

    def line(t, y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(t)):
            pyro.sample("y", dist.StudentT(4.0, z + 0 * t, 1.0), obs=y)

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        credo.fit(line, None, 1.7e9 + torch.arange(30.0, dtype=torch.float64), Y, **QUICK)
    messages = [str(warning.message) for warning in heard]
    assert len(messages) == len(set(messages)) == 1


def test_an_autoguide_of_ones_own_that_is_a_normal_gets_it():
    guide = AutoMultivariateNormal(tail)
    fit = credo.fit(tail, guide, Y)
    assert fit.method == "full rank" and fit.guide is guide and fit.losses == ()
    inside = fit.trained(guide).get_posterior()
    draws = credo.fit(tail, None, Y).sample(20_000)["z"]
    assert inside.mean.item() == pytest.approx(draws.mean().item(), abs=0.05 * draws.std().item())
    assert credo.fit(tail, AutoLaplaceApproximation(tail), Y).method == "Laplace"
    assert credo.fit(tail, AutoMultivariateNormal(tail), Y, steps=2, **QUICK).method == "svi"


def test_an_autoguide_of_other_latents_is_a_run_of_svi(monkeypatch):
    monkeypatch.setattr(credo.SVI, "_run", run_of(2))

    def two(y):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        tail(y + a)

    parts = AutoGuideList(two)
    parts.append(AutoMultivariateNormal(pyro.poutine.block(two, hide=["a"])))
    parts.append(AutoMultivariateNormal(pyro.poutine.block(two, expose=["a"])))
    assert credo.fit(two, parts, Y, **QUICK).method == "svi"


def test_where_a_gradient_is_dear_few_are_taken_and_the_answer_is_right(monkeypatch):
    """As with a million rows. Of much data the posterior is N(sample mean, sd / sqrt N), sd / sqrt(2 N) of the sd."""
    monkeypatch.setattr(full_rank, "DEAREST", 10**9)

    def model(y):
        m, s = pyro.sample("m", dist.Normal(0.0, 10.0)), pyro.sample("s", dist.HalfNormal(5.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(m, s), obs=y)

    y = 3 + 2 * torch.randn(20_000, generator=torch.Generator().manual_seed(1))
    fit = credo.fit(model, None, y, progress=False)
    draws, mean, sd = fit.sample(20_000), y.double().mean(), y.double().std()
    assert fit.method == "full rank" and fit.verdict.trust == "yes"
    assert int(fit.stopped.split(" gradients")[0].split()[-1].replace(",", "")) < 300
    for name, centre, width in (("m", mean, sd / 20_000**0.5), ("s", sd, sd / 40_000**0.5)):
        assert (draws[name].double().mean() - centre).abs() < 0.1 * width
        assert draws[name].double().std().item() == pytest.approx(width.item(), rel=0.05)


def test_of_much_data_some_rows_are_asked_for_a_closed_form_first(monkeypatch):
    tried, found = [], method.exact

    def exact(model, *data):
        tried.append(len(data[0]))
        return found(model, *data)

    monkeypatch.setattr(method, "exact", exact)
    monkeypatch.setattr(method, "MANY", 250)
    for model, rows in ((normal, [200, 300]), (tail, [200]), (of_300, [200, 300])):
        tried.clear()
        fit = credo.fit(model, None, Y.repeat(10), **QUICK)
        assert (fit.method == "exact") == (model is not tail) and tried == rows


@pytest.mark.parametrize("data", [(), (torch.tensor(1.0),)])
def test_data_without_rows_are_data(data):
    def model(*data):
        pyro.sample("y", dist.Normal(pyro.sample("m", dist.Normal(0.0, 1.0)), 1.0), obs=torch.tensor(1.0))

    assert credo.fit(model, None, *data, **QUICK).method == "exact"


def test_parameters_without_a_latent_are_point_estimates():
    def model(y):
        m = pyro.param("m", torch.tensor(0.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(m, 1.0), obs=y)

    fit = credo.fit(model, None, Y, steps=200, lr=0.1, **QUICK)
    found = credo.check(fit)
    assert found.trust == "unknown" and "parameters are point estimates" in str(found)
    assert "guide=None" not in str(found)
    assert fit.params["m"].item() == pytest.approx(Y.mean().item(), abs=0.05)

"""Predictions of networks: moves, coverage and calibration beside closed forms; verdicts that fire, and do not."""

import math
import warnings
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.func import functional_call

import credo
from credo.inference.evaluation.predictive import DRAWS, changed, coverage, is_network, predictive

N = 400
E = torch.randn(N, generator=torch.Generator().manual_seed(0))


def shifted(y):
    """y_n ~ N(z, 1) with z ~ N(loc, .5): the predictive is N(loc, 1.25)."""
    z = pyro.sample("z", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def fitted(loc, y, model=shifted):
    def guide(y):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(loc)), 0.5))

    return credo.SVI(model, guide, progress=False, compile=False).run(y, steps=0)


@pytest.mark.parametrize("loc", [0.0, 0.05, 0.5])
def test_a_move_is_measured_in_sds_of_the_predictive_and_in_nats_of_a_row(loc):
    found, sd = changed(fitted(0.0, E), fitted(loc, E), ()), 1.25**0.5
    predicted = [dist.Normal(m, sd).log_prob(E).mean().item() for m in (0.0, loc)]
    assert found.sds == pytest.approx(loc / sd, rel=0.1, abs=0.005)
    assert found.nats == pytest.approx(predicted[1] - predicted[0], abs=0.02)
    assert found.large is (loc > 0.3)


@pytest.mark.parametrize(("scale", "short"), [(0.5, False), (1.25**0.5, False), (1.5, False), (4.0, True)])
def test_coverage_is_that_of_normals_and_only_gross_misses_count(scale, short):
    """Of normal data as wide as `scale`, intervals of the predictive N(0, 1.25) hold a share that their cdf gives."""
    y = scale * (E - E.mean()) / E.std()
    found = coverage(fitted(0.0, y))
    for each, p in zip(found, (0.5, 0.9), strict=True):
        half = dist.Normal(0.0, 1.25**0.5).icdf(torch.tensor((1 + p) / 2)).item()
        expected = 1 - 2 * dist.Normal(0.0, scale).cdf(torch.tensor(-half)).item()
        assert each.share == pytest.approx(expected, abs=3 * each.error + 0.03)
    assert any(each.grossly_short for each in found) is short


def test_counts_are_covered_as_often_as_real_numbers():
    y = torch.poisson(torch.full((N,), 2.0), generator=torch.Generator().manual_seed(1))

    def counts(y):
        z = pyro.sample("z", dist.Normal(0.0, 10.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Poisson((0.0 * z).exp() * 2.0), obs=y)

    for each, p in zip(coverage(fitted(0.0, y, counts)), (0.5, 0.9), strict=True):
        assert each.share == pytest.approx(p, abs=3 * each.error)


@pytest.mark.parametrize(("sure", "short"), [(3.0, False), (6.0, True)])
def test_classes_that_are_believed_too_surely_are_found(sure, short):
    """The class is right in 9 of 10 rows; logits of 3 among two classes believe it with 95 %, of 6 with 99.8 %."""
    y = (torch.arange(N) % 5 == 0).long() if short else (torch.arange(N) % 10 == 0).long()

    def classes(y):
        z = pyro.sample("z", dist.Normal(0.0, 10.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Categorical(logits=torch.stack([sure + 0 * z, 0 * z], -1)), obs=y)

    (found,) = coverage(fitted(0.0, y, classes))
    believed = 1 / (1 + math.exp(-sure))
    assert found.probability == pytest.approx(believed, abs=4 * (believed * (1 - believed) / DRAWS) ** 0.5)
    assert found.share == (0.8 if short else 0.9) and found.grossly_short is short


def network(net, x, y=None, sd=0.1):
    w = {k: pyro.sample(k, dist.Normal(torch.zeros_like(p), 1.0).to_event(p.dim())) for k, p in net.named_parameters()}
    with pyro.plate("N", len(x)):
        return pyro.sample("y", dist.Normal(functional_call(net, w, (x,)).squeeze(-1), sd), obs=y)


def mean_field(net, x, y=None):
    for name, p in net.named_parameters():
        loc = pyro.param(f"{name}.loc", p.detach().clone())
        scale = pyro.param(f"{name}.scale", torch.full_like(loc, 0.05), constraint=dist.constraints.positive)
        pyro.sample(name, dist.Normal(loc, scale).to_event(p.dim()))


def trained(steps, sd=0.1):
    torch.manual_seed(0)
    x = torch.linspace(-2, 2, 60)[:, None]
    net = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 1))
    y = torch.sin(2 * x[:, 0]) + 0.1 * E[:60]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return credo.SVI(partial(network, sd=sd), mean_field, progress=False).run(net, x, y, steps=steps)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr("credo.inference.evaluation.longer.LEAST", 400)


def test_a_network_that_has_hardly_been_trained_is_not_trusted(short, unchanged):
    fit = trained(100)
    assert is_network(fit)
    with unchanged():
        verdict = credo.check(fit)
    assert verdict.trust == "no" and "400 more steps move predictions by" in verdict.reasons[0]
    assert "go on" in verdict.remedy


def test_a_network_whose_predictions_rest_is_unknown_and_says_what_was_seen(short):
    verdict = credo.check(trained(800, sd=0.5))
    assert verdict.trust == "unknown" and "800 more steps move predictions by 0.0" in verdict.reasons[0]
    assert any("90% intervals hold" in reason for reason in verdict.reasons)


def test_predictions_that_miss_their_own_data_are_not_trusted():
    """Data four times as wide as the predictive; a thousandth of a second pays for no longer run."""
    verdict = predictive(fitted(0.0, 4 * E), math.nan, seconds=0.001)
    assert verdict.trust == "no" and "intervals hold" in verdict.reasons[0] and "noise" in verdict.remedy
    assert "no longer run was made" in verdict.reasons[-1]
    assert predictive(fitted(0.0, E), math.nan, seconds=0.001).trust == "unknown"


def test_models_that_are_no_networks_are_looked_at_as_before():
    assert not is_network(fitted(0.0, E))

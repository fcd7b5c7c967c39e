"""The evidence gap, compared with the closed-form KL(q || p) of normals; a negative gap is not believed."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Normal, kl_divergence

import credo
from credo.inference.evaluation.evidence import elbo_of, evidence_gap, of_weighted_draws
from credo.inference.gaussian.psis import importance
from credo.inference.importance.guide_draws import in_double
from tests.cases.normal_mean import Y, answer, guide, model
from tests.cases.repeats import seeds
from tests.cases.windows import MEAN, SD, N, X, Z, in_files, regression, small_windows


@pytest.mark.parametrize("off", [0.0, 0.5, 3.0])
def test_a_gap_above_zero_is_no_alarm(fit, off):
    exact = answer(Y)
    exact.log_evidence += off
    credo.compare(fit, exact)  # a warning would be an error here


def test_a_gap_below_zero_is_one(fit):
    exact = answer(Y)
    gap = kl_divergence(Normal(torch.tensor(0.5).double(), 0.6), exact.marginals["z"]).item()
    exact.log_evidence -= gap + 0.5
    with pytest.warns(UserWarning, match="no KL.* is negative") as caught:
        table = credo.compare(fit, exact)
    assert caught[0].filename == __file__
    assert table.attrs["evidence_gap"] == pytest.approx(-0.5, abs=5 * table.attrs["elbo_error"])
    assert "do not belong together" in table.attrs["gap_in_words"]


@pytest.mark.parametrize("seed", seeds(5))
def test_a_guide_that_is_the_posterior_is_no_alarm(seed):
    """The gap is zero, and its estimate below zero every other time."""
    z = answer(Y).marginals["z"]

    def perfect(y):
        pyro.sample("z", dist.Normal(pyro.param("m", z.loc.to(y.dtype)), z.scale.to(y.dtype)))

    fit = credo.fit(model, perfect, Y, steps=0)
    table = credo.compare(fit, answer(Y), seed=seed)
    assert abs(table.attrs["evidence_gap"]) < 5 * table.attrs["elbo_error"] + 1e-5


def test_the_gap_is_the_divergence_and_the_elbo_what_is_left_of_the_evidence(fit):
    exact = answer(Y)
    kl = kl_divergence(Normal(torch.tensor(0.5).double(), 0.6), exact.marginals["z"]).item()
    gap, impossible = evidence_gap(fit, exact.log_evidence, points=False, seed=0)
    assert not impossible and 0 < gap.elbo_error < 0.02  # nats
    assert gap.evidence_gap == pytest.approx(kl, abs=4 * gap.elbo_error)
    assert gap.elbo == pytest.approx(exact.log_evidence - kl, abs=4 * gap.elbo_error)
    assert f"{gap.evidence_gap:.4g}" in gap.gap_in_words


def test_a_point_has_an_infinite_gap_and_no_evidence_an_unknown_one(fit):
    point, impossible = evidence_gap(fit, 0.0, points=True, seed=0)
    assert point.evidence_gap == math.inf and "infinite" in point.gap_in_words and not impossible
    unknown, impossible = evidence_gap(fit, math.nan, points=False, seed=0)
    assert math.isnan(unknown.evidence_gap) and "unknown" in unknown.gap_in_words and not impossible


def test_a_fit_becomes_double_where_its_model_does(fit):
    double = in_double(fit)
    assert double.data[0].dtype == torch.float64 and fit.data[0].dtype == torch.float32
    with_constants = credo.fit(in_single, guide, Y, steps=0)
    assert in_double(with_constants) is with_constants


def in_single(y):
    """A product with a constant of single precision, which takes no double."""
    z = pyro.sample("z", dist.Normal(0.0, 2.0))
    rows = torch.ones(3, 1, dtype=torch.float32) @ y.reshape(1, 3)
    pyro.sample("y", dist.Normal(z, 1.0).expand([3]).to_event(1), obs=rows[0])


def test_no_digit_of_a_large_evidence_is_lost():
    found = importance(torch.full((100,), -12345.674, dtype=torch.float64))
    words = of_weighted_draws(found, -12345.671).gap_in_words
    assert words.count("-12,345.67") == 2 and "unknown" in of_weighted_draws(found, math.nan).gap_in_words


@pytest.mark.parametrize("rows", [200, 1_000])
def test_the_elbo_of_a_fit_by_windows_is_that_of_all_rows(rows, tmp_path, monkeypatch):
    def near(x, z):
        pyro.sample("w", dist.Normal(pyro.param("loc", MEAN.float()), SD.float()).to_event(1))

    options = dict(steps=400, lr=1e-6, batch_size=50, compile=False, progress=False, plan="fast")
    whole, error = elbo_of(credo.fit(regression, near, X, Z, **options))
    small_windows(monkeypatch, rows=rows)
    fit = credo.fit(regression, near, *in_files(tmp_path, X, Z), **options)
    assert fit.data.streamed == N
    elbo, by_windows = elbo_of(fit)
    assert 0 < by_windows < 0.05 * N and elbo == pytest.approx(whole, abs=4 * (by_windows + error))

"""Scores of predictive draws against closed forms and scikit-learn, and their laws where y is one more draw."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from sklearn.metrics import mean_absolute_error, root_mean_squared_error
from torch.distributions import NegativeBinomial, Normal, Poisson

import credo
from credo import metrics


def normal(s: int, n: int, seed: int = 0, width: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, Normal]:
    """(S draws of N numbers, the truth, its distribution); width: sd of the draws over that of the truth."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        of = Normal(3 * torch.randn(n).double(), 0.5 + torch.rand(n).double())
        return of.mean + width * of.stddev * torch.randn(s, n).double(), of.sample(), of


def crps_of_normal(mean: torch.Tensor, sd: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Gneiting and Raftery 2007, eq. 21's closed form for the normal distribution."""
    z, unit = (y - mean) / sd, Normal(torch.zeros(()).double(), 1.0)
    return sd * (z * (2 * unit.cdf(z) - 1) + 2 * unit.log_prob(z).exp() - math.pi**-0.5)


@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_scores_of_many_draws_are_those_of_the_normal(width):
    draws, y, of = normal(8000, 300, width=width)
    got, sd = metrics.regression(draws, y), width * of.stddev
    assert got["crps"] == pytest.approx(crps_of_normal(of.mean, sd, y).mean().item(), rel=0.01)
    assert got["nll"] == pytest.approx(-Normal(of.mean, sd).log_prob(y).mean().item(), rel=0.01)
    for level in (0.5, 0.9, 0.95):
        half = scipy.stats.norm.ppf(0.5 + level / 2)
        inside = ((y - of.mean).abs() <= half * sd).double().mean().item()
        assert got[f"coverage {level:.0%}"] == pytest.approx(inside, abs=0.02)
    away = scipy.stats.kstest(Normal(of.mean, sd).cdf(y).numpy(), "uniform").statistic
    assert got["pit distance"] == pytest.approx(away, abs=0.02)


def test_errors_are_those_of_mean_and_median():
    draws, y, _ = normal(51, 200)
    draws = draws.exp()
    got = metrics.regression(draws, y)
    assert got["rmse"] == pytest.approx(root_mean_squared_error(y, draws.mean(0)))
    assert got["mae"] == pytest.approx(mean_absolute_error(y, draws.quantile(0.5, dim=0)))


def test_few_draws_have_the_scores_of_many_on_average():
    """A hundred times eight draws: the fair scores have no bias; with S² in the place of S (S - 1) it would be 7 %."""
    _, y, of = normal(2, 500)
    few = pd.DataFrame([metrics.regression(of.mean + of.stddev * torch.randn(8, 500), y) for _ in range(100)]).mean()
    assert few["crps"] == pytest.approx(crps_of_normal(of.mean, of.stddev, y).mean().item(), rel=0.01)
    assert few["nll"] == pytest.approx(-of.log_prob(y).mean().item(), rel=0.02)


@pytest.mark.parametrize("s", [1, 3, 100])
@pytest.mark.parametrize("of", [Normal(0.0, 1.0), Poisson(0.7), NegativeBinomial(2.0, torch.tensor(0.9))], ids=str)
def test_pit_of_one_more_draw_is_uniform(of, s):
    torch.manual_seed(1)
    values = metrics.pit(of.sample((s, 4000)), of.sample((4000,)))
    assert scipy.stats.kstest(values.numpy(), "uniform").pvalue > 0.001
    wide = metrics.pit(3 * of.sample((100, 4000)), of.sample((4000,)))
    assert scipy.stats.kstest(wide.numpy(), "uniform").pvalue < 1e-6  # what is no more draw is seen


def test_counts_have_their_nominal_coverage_and_no_normal_density():
    torch.manual_seed(2)
    rate = 4 * torch.rand(5000).double()
    draws, y = torch.poisson(rate.expand(400, -1)), torch.poisson(rate)
    got = metrics.regression(draws, y)
    for level in (0.5, 0.9, 0.95):
        assert got[f"coverage {level:.0%}"] == pytest.approx(level, abs=0.015)
    assert math.isnan(got["nll"]) and got["pit distance"] < 1.36 / 5000**0.5
    log_p = Poisson(rate).log_prob(y)
    assert metrics.regression(draws, y, log_likelihood=log_p)["nll"] == pytest.approx(-log_p.mean().item())
    assert not math.isnan(metrics.regression(draws + 0.5, y)["nll"])  # draws of real numbers


def test_coverage_is_the_average_of_pit():
    draws, y, _ = normal(7, 60)
    draws[:, :20] = draws[:, :20].round()
    y[:20] = y[:20].round()
    values = torch.stack([metrics.pit(draws, y, seed=seed) for seed in range(2000)])
    levels = [0.1, 0.5, 0.8, 0.99]
    got = metrics.coverage(draws, y, levels)
    for level in levels:
        wanted = ((values - 0.5).abs() <= level / 2).double().mean().item()
        assert got[level] == pytest.approx(wanted, abs=0.01)
    assert torch.equal(metrics.pit(draws, y), values[0]) and not torch.equal(values[0], values[1])


def test_log_likelihood_of_rows_of_draws_and_of_a_fit():
    draws, y, of = normal(10, 6)
    each = of.log_prob(y) + torch.randn(5, 6)
    wanted = -(each.double().exp().mean(0)).log().mean().item()
    assert metrics.regression(draws, y, log_likelihood=each)["nll"] == pytest.approx(wanted)
    pair = credo.load("linear_regression")
    x = torch.linspace(-1, 1, 30)
    fit = credo.fit(pair.model, None, x[:, None], 2 * x)
    found = credo.log_likelihood(fit, 100)
    got = metrics.regression(fit.predict(100)["y"], fit.data[1], log_likelihood=found)
    assert got["nll"] == pytest.approx(-found.values.mean().item())
    with pytest.raises(ValueError, match=r"log_likelihood: got shape \(7,\), wanted \(6,\)"):
        metrics.regression(draws, y, log_likelihood=torch.zeros(7))


def test_numbers_far_from_zero_and_draws_without_spread():
    draws, y, _ = normal(100, 50)
    near, far = metrics.regression(draws, y), metrics.regression(1e9 + draws, 1e9 + y)
    pd.testing.assert_series_equal(near, far, rtol=1e-4)
    constant = metrics.regression(torch.ones(10, 3), torch.tensor([1.0, 2.0, 0.5]))
    assert constant["nll"] == math.inf and constant["crps"] == pytest.approx(0.5)  # a point: the absolute error


def test_parts_are_the_whole(monkeypatch):
    draws, y, _ = normal(20, 31)
    whole = metrics.regression(draws, y)
    monkeypatch.setattr("credo.metrics.draws.CHUNK", 60)
    pd.testing.assert_series_equal(metrics.regression(draws, y), whole)
    several = metrics.regression(draws[:, :30].reshape(20, 5, 6), y[:30].reshape(5, 6))
    pd.testing.assert_series_equal(several, metrics.regression(draws[:, :30], y[:30]))


def test_arrays_of_any_library():
    draws, y, _ = normal(20, 10)
    wanted = metrics.regression(draws, y)
    for of in (np.asarray, pd.Series, list):
        pd.testing.assert_series_equal(metrics.regression(draws.numpy(), of(y.numpy())), wanted)
    alone = metrics.regression(draws[:, 0], y[0])
    pd.testing.assert_series_equal(alone, metrics.regression(draws[:, :1], y[:1]))


DRAWS, Y = torch.rand(10, 3), torch.rand(3)


@pytest.mark.parametrize(("draws", "y", "words"), [
    (DRAWS, Y[:, None], r"draws: got shape \(10, 3\) for y of shape \(3, 1\).*squeeze"),
    (DRAWS.T, Y, r"draws: got shape \(3, 10\).*use draws.T"),
    (Y, DRAWS, r"draws: got shape \(3,\).*give the draws first"),
    (Y, Y, "a point prediction is not enough"),
    (np.ma.array(DRAWS.numpy(), mask=DRAWS.numpy() > 2, fill_value=0.5), Y / 0, "y: 3 of 3"),
    (DRAWS, np.ma.array(Y.numpy(), mask=[True, False, False]), "y: 1 of 3 numbers are NaN"),
    (DRAWS[:3], Y, "draws: got 3 of each number, wanted at least 4"),
    (Y, Y, r"draws: got shape \(3,\)"),
    ({"y": DRAWS}, Y, "draws: got a dictionary of 'y', wanted an array"),
    ({}, Y, "draws: got a dictionary of nothing"),
    (DRAWS, None, "y: got NoneType, wanted an array"),
    (DRAWS, ["a", "b", "c"], "y: got list, wanted an array of numbers"),
    (DRAWS, Y / 0, r"y: 3 of 3 numbers are NaN or infinite.*leave these rows out"),
    (DRAWS * math.nan, Y, "draws: 30 of 30 numbers"),
    (DRAWS[:, :0], Y[:0], "draws: got shape"),
    (DRAWS + 1j, Y, "draws: got complex numbers"),
], ids=lambda v: v if isinstance(v, str) else "")  # fmt: skip
def test_what_is_wrong_is_named(draws, y, words):
    for score in (metrics.regression, metrics.coverage):
        with pytest.raises(ValueError, match=words):
            score(draws, y)


def test_levels_are_probabilities():
    for level in (0, 1, 1.5, True, "90%"):
        for levels in ([level], level):
            with pytest.raises(ValueError, match="levels: got"):
                metrics.coverage(DRAWS, Y, levels)
    assert metrics.coverage(DRAWS, Y, 0.9).equals(metrics.coverage(DRAWS, Y, np.array([0.9])))


def test_numbers_may_have_any_dtype():
    wanted = metrics.regression((DRAWS < 0.5).double(), (Y < 0.5).double())
    assert metrics.regression(DRAWS < 0.5, Y < 0.5).equals(wanted)
    assert metrics.regression((DRAWS < 0.5).int(), (Y < 0.5).numpy()).equals(wanted)

"""`guide="full_rank"` and `"laplace"`: beside closed forms, as a fit like any other, and by SVI where they must be."""

import math
import warnings

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from tests.cases.repeats import seeds

NOISE = torch.Generator().manual_seed(0)
X = torch.randn(60, 1, generator=NOISE) + 0.1 * torch.randn(60, 3, generator=NOISE)  # columns that are nearly the same
Y = X @ torch.tensor([1.0, -2.0, 0.5]) + 0.5 * torch.randn(60, generator=NOISE)


def line(x, y):
    """Correlated weights: the posterior is normal."""
    b = pyro.sample("b", dist.Normal(0.0, 3.0))
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x @ w + b, 0.5), obs=y)


def counts(y):
    """The logarithm of the rate is no normal; the posterior of the rate is Gamma(2 + sum y, 1 + n)."""
    rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
    pyro.deterministic("double", 2 * rate)
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Poisson(rate), obs=y)


def mixture(y):
    loc = pyro.sample("loc", dist.Normal(0.0, 2.0))
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.4))
        pyro.sample("y", dist.Normal(loc + 3 * k, 0.5), obs=y)


def funnel(y):
    scale = pyro.sample("scale", dist.Normal(0.0, 3.0))
    z = pyro.sample("z", dist.Normal(torch.zeros(9), (scale / 2).exp()).to_event(1))
    pyro.sample("y", dist.Normal(z[0], 10.0), obs=y)


COUNTS = torch.tensor([3.0, 1.0, 4.0, 2.0, 3.0])


@pytest.mark.parametrize("word", ["full_rank", "laplace"])
@pytest.mark.parametrize("seed", seeds(2))
def test_a_normal_posterior_is_found_with_its_evidence(word, seed, unchanged):
    with unchanged():
        fit = credo.fit(line, word, X, Y, seed=seed)
    exact = credo.exact(line, X, Y)
    assert fit.converged and fit.losses == () and fit.method == word.replace("_", " ").replace("lap", "Lap")
    assert fit.importance.log_evidence == pytest.approx(exact.log_evidence, abs=1e-3)
    table = credo.compare(fit)
    assert table["error in sds"].abs().max() < 0.08 and (table["sd ratio"] - 1).abs().max() < 0.06  # 4,096 draws
    assert abs(table.attrs["evidence_gap"]) < 0.01  # so close is no other normal
    assert fit.importance.words in repr(fit) and "log p(data)" in repr(fit)


def test_the_parameters_are_those_of_the_posterior():
    fit = credo.fit(line, "full_rank", X, Y)
    A = torch.cat([torch.ones(60, 1), X], 1).double()
    precision = A.T @ A / 0.25 + torch.diag(torch.tensor([1 / 9, 1.0, 1.0, 1.0]).double())
    covariance = torch.linalg.inv(precision)
    mean = covariance @ A.T @ Y.double() / 0.25
    loc, scale, tril = (
        fit.params[f"AutoMultivariateNormal.{name}"].double() for name in ("loc", "scale", "scale_tril")
    )
    L = scale[:, None] * tril
    torch.testing.assert_close(loc, mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(L @ L.T, covariance, rtol=1e-4, atol=1e-7)


def test_a_positive_latent_in_logs():
    """u = log rate: log p(u | data) = a u - b exp(u) + const, a = 2 + sum y, b = 1 + n."""
    a, b = 2 + COUNTS.sum().item(), 1.0 + len(COUNTS)
    loc = {word: credo.fit(counts, word, COUNTS).params for word in ("full_rank", "laplace")}
    at = {word: found["AutoMultivariateNormal.loc"].item() for word, found in loc.items()}
    assert at["laplace"] == pytest.approx(math.log(a / b), abs=1e-5)
    assert at["full_rank"] == pytest.approx(math.log(a / b) - 0.5 / a, abs=0.02 * a**-0.5)  # of least KL(q || p)
    for found in loc.values():
        assert found["AutoMultivariateNormal.scale"].item() == pytest.approx(a**-0.5, rel=0.02)


def test_draws_summaries_and_predictions_are_those_of_any_fit():
    fit = credo.fit(counts, "full_rank", COUNTS)
    assert fit.sample(5)["double"].shape == (5,) and fit.predict(7)["y"].shape == (7, 5)
    rows = fit.summary()
    assert isinstance(rows, pd.DataFrame) and list(rows.index) == ["rate", "double"]
    assert rows.loc["rate", "mean"] == pytest.approx((2 + 13) / 6, rel=0.03)


def test_finite_latents_are_summed_out_and_drawn():
    y = torch.tensor([0.1, 3.2, 2.9, -0.3, 0.2])
    fit = credo.fit(mixture, "full_rank", y)
    assert fit.method == "full rank" and fit.sample(500)["k"].mean(0).round().tolist() == [0, 1, 1, 0, 0]


def test_seeds_decide_and_repeat():
    one, two, other = (credo.fit(counts, "full_rank", COUNTS, seed=seed) for seed in (0, 0, 1))
    name = "AutoMultivariateNormal.loc"
    assert torch.equal(one.params[name], two.params[name]) and not torch.equal(one.params[name], other.params[name])


def test_a_funnel_is_said_to_be_none():
    with pytest.warns(UserWarning, match=r"k-hat|not converged") as caught:
        fit = credo.fit(funnel, "full_rank", torch.tensor(1.0))
    assert not (fit.converged and fit.importance.reliable)
    assert any("credo.reference" in str(warning.message) for warning in caught)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("word", ["full_rank", "laplace"])
@pytest.mark.parametrize("seed", seeds(3))
def test_a_second_mode_is_said(word, seed):
    """z and -z are equally likely; one normal holds either."""

    def square(y):
        z = pyro.sample("z", dist.Normal(0.0, 3.0))
        pyro.sample("y", dist.Normal(z * z, 0.3), obs=y)

    with pytest.warns(UserWarning, match=r"another mode, with about (9\d|100)% of the mass"):
        credo.fit(square, word, torch.tensor(4.0), seed=seed)


def test_an_sd_that_is_too_small_is_said():
    """Eight schools: log tau has a long left tail; importance weights with k-hat < 0.7 know by how much."""

    def schools(s, y):
        mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
        with pyro.plate("J", 8):
            e = pyro.sample("e", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(mu + tau * e, s), obs=y)

    s = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    with pytest.warns(UserWarning, match=r"site 'tau': its sd under the normal is [1-4]\d% too small|k-hat"):
        credo.fit(schools, "full_rank", s, y)


def test_a_density_without_a_mode_has_no_laplace():
    """The density of z rises without end as their scale goes to zero."""

    def spike(y):
        scale = pyro.sample("scale", dist.HalfCauchy(1.0))
        z = pyro.sample("z", dist.Normal(torch.zeros(4), scale).to_event(1))
        pyro.sample("y", dist.Normal(z[0], 10.0), obs=y)

    with pytest.raises(ValueError, match="no mode"):
        credo.fit(spike, "laplace", torch.tensor(1.0))


@pytest.mark.parametrize("options", [{"steps": 5}, {"particles": 2, "steps": 5}, {"lr": 0.1, "steps": 5}])
def test_with_options_of_svi_it_is_a_run_of_svi(options):
    fit = credo.fit(counts, "full_rank", COUNTS, progress=False, compile=False, **options)
    assert fit.method == "svi" and len(fit.losses) == 5 and "AutoMultivariateNormal.loc" in fit.params


@pytest.mark.slow
def test_a_model_that_trains_parameters_is_run_by_svi():
    def trained(y):
        scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z, scale), obs=y)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a run this short is not converged
        fit = credo.fit(trained, "full_rank", COUNTS, progress=False, compile=False)
    assert fit.method == "svi" and "scale" in fit.params and fit.losses


def test_mistakes_in_the_data_are_those_of_any_fit():
    with pytest.raises(ValueError, match="y: 1 of 2 values are not finite"):
        credo.fit(counts, "full_rank", torch.tensor([1.0, math.nan]))
    with pytest.raises(ValueError, match="support of Poisson"):
        credo.fit(counts, "laplace", torch.tensor([1.0, -2.0]))


def test_ctrl_c_returns_the_guide_as_it_starts():
    def model(x):
        calls.append(x)
        if len(calls) == 31:
            raise KeyboardInterrupt
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(m, 1.0), obs=x)

    calls = []
    fit = credo.fit(model, "full_rank", torch.ones(3), progress=False)
    assert fit.stopped.startswith("interrupted")
    assert not fit.converged
    assert fit.params


def gammas(n, shape):
    """Independent latents, whose logarithms are skewed: each a little unlike a normal."""

    def model():
        pyro.sample("z", dist.Gamma(torch.full((n,), shape), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))

    return model


@pytest.mark.parametrize(
    ("model", "words", "trust"),
    [(gammas(40, 1.0), "at rest, but its draws are worth few", "no"), (gammas(2, 20.0), "converged", "yes")],
    ids=["40 exponentials", "2 gammas"],
)
def test_a_normal_at_rest_whose_draws_are_worth_few_is_said_to_be_that(model, words, trust):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = credo.fit(model, "full_rank", progress=False)
    assert fit.stopped.startswith(words) and fit.converged is (trust == "yes") and fit.verdict.trust == trust

"""The coin against quadrature of prior times likelihood, direct maximisation, and Laplace's rule of succession."""

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from torch.distributions import Beta, kl_divergence

import credo
from credo.models.coin_toss import lesson

PAIR = credo.load("coin_toss")
PRIORS = [(2.0, 2.0), (1.0, 1.0), (0.5, 0.5), (7.5, 1.2)]
FLIPS = {
    "none": [],
    "one head": [1],
    "one tail": [0],
    "mixed": [1, 1, 0, 1, 1, 0, 1],
    "all heads": [1] * 25,
    "eighty": [1, 0, 0, 1, 0] * 16,
}
laws = pytest.mark.parametrize(
    ("prior", "flips"),
    [pytest.param(p, torch.tensor(f, dtype=torch.float32), id=f"{p}-{n}") for p in PRIORS for n, f in FLIPS.items()],
)


def integral(f, prior, flips) -> float:
    """The integral of f(p) * prior(p) * likelihood(p) over p in (0, 1), by quadrature."""
    (a, b), heads, tails = prior, float(flips.sum()), float((1 - flips).sum())

    def against(g):  # the ends of the interval are in the weight: densities may be infinite there
        return quad(g, 0, 1, weight="alg", wvar=(a - 1, b - 1), epsabs=0, epsrel=1e-11, limit=200)[0]

    return against(lambda p: f(p) * p**heads * (1 - p) ** tails) / against(lambda p: 1.0)


def average(f, prior, flips) -> float:
    return integral(f, prior, flips) / integral(lambda p: 1.0, prior, flips)


@laws
def test_the_posterior_is_the_quadrature_of_prior_times_likelihood(prior, flips):
    exact = PAIR.posterior(flips, *prior)
    p = exact.marginals["p"]
    mean = average(lambda p: p, prior, flips)
    assert exact.log_evidence == pytest.approx(math.log(integral(lambda p: 1.0, prior, flips)), abs=1e-6)
    assert p.mean.item() == pytest.approx(mean, rel=1e-6)
    assert p.variance.item() == pytest.approx(average(lambda p: (p - mean) ** 2, prior, flips), rel=1e-6)
    assert p.mean.dtype == torch.float64


@laws
def test_the_predictive_is_the_ratio_of_two_evidences(prior, flips):
    exact = PAIR.posterior(flips, *prior)
    for face in (0.0, 1.0):
        longer = PAIR.posterior(torch.cat([flips, torch.tensor([face])]), *prior)
        next_one = exact.predictive().log_prob(torch.tensor(face).double()).item()
        assert next_one == pytest.approx(longer.log_evidence - exact.log_evidence, abs=1e-9)


@pytest.mark.parametrize("n", [1, 2, 5, 50])
@pytest.mark.parametrize("heads", [0, 0.5, 1])
def test_after_a_uniform_prior_the_next_flip_follows_the_rule_of_succession(n, heads):
    heads = int(heads * (n - 1))
    flips = torch.tensor([1.0] * heads + [0.0] * (n - 1 - heads))
    probability = PAIR.posterior(flips, 1.0, 1.0).predictive().probs.item()
    assert probability == pytest.approx((1 + heads) / (n + 1), abs=1e-12)


def maximum(log_density) -> float:
    return minimize_scalar(lambda p: -log_density(p), bounds=(0, 1), method="bounded", options={"xatol": 1e-10}).x


@pytest.mark.parametrize("prior", [(2.0, 2.0), (1.0, 1.0), (3.0, 1.5), (0.5, 0.5)])
@pytest.mark.parametrize("first", [0.0, 1.0])
def test_the_lesson_agrees_with_direct_maximisation_and_quadrature(prior, first):
    flips = torch.cat([torch.tensor([first, 1.0, 0.0]), (torch.arange(300) % 3 == 0).float()])
    table = lesson(flips, *prior)
    a, b = prior
    assert list(table.index) == [0, 1, 3, 10, 100, 303]
    for n, row in table.iterrows():
        seen = flips[:n]
        heads, tails = float(seen.sum()), float((1 - seen).sum())
        assert row["heads"] == heads
        if n == 0:
            assert math.isnan(row["mle"])
        else:
            best = maximum(lambda p, h=heads, t=tails: h * np.log(p) + t * np.log1p(-p))
            assert row["mle"] == pytest.approx(best, abs=1e-5)
            assert row["mle"] == pytest.approx(heads / n, abs=1e-12)
        a_n, b_n = a - 1 + heads, b - 1 + tails  # exponents of p and of 1 - p in the posterior density
        if min(a_n, b_n) < 0 or a_n == b_n == 0:  # unbounded at an end, or flat: there is no maximum
            assert math.isnan(row["map"])
        else:
            best = maximum(lambda p, s=a_n, t=b_n: s * np.log(p) + t * np.log1p(-p))
            assert row["map"] == pytest.approx(best, abs=1e-5)
            assert row["map"] == pytest.approx((a + heads - 1) / (a + b + n - 2), abs=1e-12)
        if n <= 100:
            mean = average(lambda p: p, prior, seen)
            assert row["bayes"] == pytest.approx(mean, abs=1e-6)
            assert row["sd"] ** 2 == pytest.approx(average(lambda p, m=mean: (p - m) ** 2, prior, seen), abs=1e-6)


def test_the_lesson_ends_with_agreement():
    (flips,) = PAIR.data()
    last = lesson(flips).iloc[-1]
    assert max(last[["mle", "map", "bayes"]]) - min(last[["mle", "map", "bayes"]]) < last["sd"] / 100


def test_the_built_in_flips_are_the_published_counts_and_always_in_the_same_order():
    (flips,), (again,) = PAIR.data(), PAIR.data()
    assert len(flips) == 350_757
    assert flips.sum() == 178_079
    assert set(flips.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(flips, again)
    halves = flips[: len(flips) // 2].mean() - flips[len(flips) // 2 :].mean()
    assert halves.abs() < 5 * math.sqrt(0.25 * 4 / len(flips))  # shuffled: five standard errors


def test_flips_come_from_the_column_of_that_name():
    table = pd.DataFrame({"flips": [1, 0, 1], "day": [1, 2, 3]})
    assert list(PAIR.data(table)[0]) == [1, 0, 1]
    with pytest.raises(ValueError, match=r"flips.*day"):
        PAIR.data(table[["day"]])


@pytest.mark.parametrize("bad", [torch.tensor(1.0), torch.ones(3, 1), [1.0, 0.0]])
def test_flips_of_another_shape_are_refused(bad):
    for function in (PAIR.model, PAIR.posterior, lesson):
        with pytest.raises(ValueError, match=r"flips: got .*wanted .*\(N,\)"):
            function(bad)


def kl_to_exact(fit, flips) -> float:
    mean, n = fit.params["mean"].double(), fit.params["concentration"].double()
    return kl_divergence(Beta(mean * n, (1 - mean) * n), PAIR.posterior(flips).marginals["p"]).item()


slow = pytest.mark.slow
CASES = [(0, 100)] + [pytest.param(s, n, marks=slow) for n in (100, 5000) for s in range(5) if (s, n) != (0, 100)]
CASES += [pytest.param(s, None, marks=slow) for s in (0, 1)]  # all flips: the log densities are large, so rounding is


@pytest.mark.parametrize(("seed", "n"), CASES)
def test_the_default_fit_is_within_five_thousandths_of_a_nat_of_the_posterior(seed, n):
    flips = PAIR.data()[0][:n]
    fit = credo.fit(PAIR.model, PAIR.guide, flips, seed=seed)
    assert 0 <= kl_to_exact(fit, flips) <= 0.005
    assert fit.stopped.startswith("converged")


@pytest.mark.parametrize("flips", [[1, 1, 0, 1, 1, 0, 1], [1, 0] * 30])
def test_the_point_guides_find_the_closed_forms(flips):
    flips = torch.tensor(flips, dtype=torch.float32)
    heads, n = flips.sum().item(), len(flips)
    for guide, point in (("map", (heads + 1) / (n + 2)), ("mle", heads / n)):
        fit = credo.fit(PAIR.model, guide, flips)
        assert fit.sample(1)["p"].item() == pytest.approx(point, abs=1e-4)


def test_the_optimum_of_the_family_is_the_posterior(double):
    flips = torch.tensor(FLIPS["mixed"], dtype=torch.float64)
    exact = PAIR.posterior(flips)
    p = exact.marginals["p"]
    there = partial(PAIR.guide, alpha=p.concentration1.item(), beta=p.concentration0.item())
    runner = credo.SVI(PAIR.model, there)
    # At the posterior log p(x, z) - log q(z) is log p(x) for every z: no draw differs, unless the KL is analytic.
    runner.plan = runner.prepare(flips).with_term("log q")
    for _ in range(5):
        assert runner.evaluate_loss(flips) == pytest.approx(-exact.log_evidence, abs=1e-10)
    away = credo.SVI(PAIR.model, PAIR.guide, particles=500)
    assert away.evaluate_loss(flips) > -exact.log_evidence + 0.1

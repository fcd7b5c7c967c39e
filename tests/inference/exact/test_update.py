"""Today's posterior is tomorrow's prior; draws, predictions and the summary tell the same story as the marginals."""

import math
from itertools import pairwise

import pytest
import torch

import credo
from credo.inference.distributions.summaries import scalars
from tests.cases.posterior import ACCEPTED
from tests.cases.posterior.oracles import analytic, check, close

BATCHES = {  # the model, and where its data are cut: every argument that has rows, in the same places
    "coin": [1, 2, 7],
    "binomial, integers": [1, 3],
    "geometric": [3],
    "poisson, exposure": [2, 3],
    "categorical": [1, 4],
    "multinomial": [1, 2],
    "two unrelated latents": None,
    "exponential": [2],
    "gamma, inverse gamma scale": [1, 4],
    "normal": [1, 2, 3, 4, 5],
    "sharp data, wide prior": [1, 3],
    "normal, variance": [2],
    "normal-gamma": [1, 3],
    "normal-inverse-gamma": [4],
    "regression, unknown noise": [2, 6],
    "regression": [1, 8],
    "regression, float32": [5, 10],
    "vector mean": [1, 3],
    "sum of two": [2, 4],
    "lognormal": [1, 3],
    "product of lognormals": [2],
    "logit-normal": [1],
    "urns": [1, 4],
    "fair or biased": [1, 5],
    "which sd": [2, 3],
    "spike and slab": [4, 8],
    "two regressions": [3],
}


def batches(name):
    """The data in pieces; for the two unrelated latents each argument is cut in a place of its own."""
    data = ACCEPTED[name].data
    cuts = BATCHES[name]
    if cuts is None:
        return [(data[0][:4], data[1][:1]), (data[0][4:], data[1][1:])]
    ends = [0, *cuts, len(data[-1])]
    return [tuple(v[a:b] for v in data) for a, b in pairwise(ends)]


@pytest.mark.parametrize("name", BATCHES)
def test_batch_by_batch_is_all_at_once_evidence_too(name):
    case = ACCEPTED[name]
    first, *rest = batches(name)
    exact = credo.exact(case.model, *first)
    for more in rest:
        before = exact
        exact = exact.update(*more)
        assert exact is not before
    check(exact, case)


def test_an_update_leaves_the_posterior_before_it_as_it_was():
    case = ACCEPTED["coin"]
    (flips,) = case.data
    today = credo.exact(case.model, flips[:3])
    evidence, mean = today.log_evidence, today.marginals["p"].mean.item()
    one, two = today.update(flips[3:]), today.update(flips[3:])
    assert today.log_evidence == evidence and today.marginals["p"].mean.item() == mean
    assert one.log_evidence == two.log_evidence


def test_the_evidence_of_an_update_is_the_predictive_of_the_new_data():
    """Laplace's rule: p(next is heads | flips) = a / (a + b), here (2 + 7) / (5 + 11)."""
    case = ACCEPTED["coin"]
    today = credo.exact(case.model, *case.data)
    tomorrow = today.update(torch.ones(1, dtype=torch.float64))
    a, b = 2 + case.data[0].sum().item(), 3 + (1 - case.data[0]).sum().item()
    assert tomorrow.log_evidence - today.log_evidence == pytest.approx(math.log(a / (a + b)), abs=1e-9)


N = 20_000


def moments(draws):
    flat = draws.double().reshape(len(draws), -1)
    return flat.mean(0), flat.std(0)


def exact_moments(fn):
    """(mean, sd) flattened; of a logit-normal, whose moments have no formula, from very many draws."""
    if fn.has_enumerate_support:
        values = fn.enumerate_support().double()
        mass = fn.log_prob(values).exp()
        mean = (mass * values).sum(0)
        return mean.reshape(-1), (mass * (values - mean) ** 2).sum(0).sqrt().reshape(-1)
    if analytic(fn):
        return fn.mean.reshape(-1), fn.variance.sqrt().reshape(-1)
    return moments(fn.sample((50 * N,)))


@pytest.mark.parametrize("name", ACCEPTED)
def test_draws_have_the_moments_of_the_marginals_and_the_covariances_between_sites(name):
    case = ACCEPTED[name]
    exact = credo.exact(case.model, *case.data)
    draws = exact.sample(N, seed=4)
    assert set(draws) == set(case.marginals)
    for site, oracle in case.marginals.items():
        shape = exact.marginals[site].batch_shape + exact.marginals[site].event_shape
        assert draws[site].shape == (N, *shape)
        mean, sd = exact_moments(oracle)
        got, spread = moments(draws[site])
        rare = 3 / N if oracle.has_enumerate_support else 0.0  # a value that N draws are not sure to meet
        assert ((got - mean).abs() <= 5.5 * sd / N**0.5 + rare).all(), (site, got, mean)
        if not rare and not heavy(oracle):
            assert ((spread - sd).abs() <= 0.1 * sd).all(), (site, spread, sd)
    for (a, b), cov in case.covariances.items():
        x, y = (draws[site].double().reshape(N, -1) for site in (a, b))
        x, y = x - x.mean(0), y - y.mean(0)
        error = (x.pow(2).T @ y.pow(2) / N).sqrt() / N**0.5
        assert ((x.T @ y / N - cov).abs() <= 5.5 * error).all(), (a, b)


def heavy(fn):
    """Whether the sd of draws converges slowly: tails that are powers, the exponential of a normal, a peak at zero."""
    if isinstance(fn, torch.distributions.Gamma) and fn.concentration.min() < 0.5:
        return True
    return any(word in type(fn).__name__ for word in ("StudentT", "InverseGamma", "LogNormal"))


def test_draws_of_a_vector_site_are_correlated_as_its_covariance_says():
    case = ACCEPTED["bivariate"]
    draws = credo.exact(case.model, *case.data).sample(N, seed=1)["z"]
    cov, wanted = torch.cov(draws.T), case.marginals["z"].covariance_matrix
    close("cov", cov, wanted, 0.05 * wanted.abs().max())


def test_the_same_seed_gives_the_same_draws(unchanged):
    case = ACCEPTED["change point"]
    exact = credo.exact(case.model, *case.data)
    with unchanged():
        one, two, three = (exact.sample(50, seed=s)["early"] for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, three)
    with pytest.raises(ValueError, match="n"):
        exact.sample(0)


@pytest.mark.parametrize(
    "name", ["coin", "regression", "normal-gamma", "which sd", "gammas in a plate", "crossed effects"]
)
def test_the_summary_has_a_row_for_each_scalar(name):
    case = ACCEPTED[name]
    exact = credo.exact(case.model, *case.data)
    table = exact.summary()
    assert table.index.name == "site" and list(table.columns) == ["mean", "sd", "5%", "50%", "95%"]
    labels = []
    for site, oracle in case.marginals.items():
        shape = exact.marginals[site].batch_shape + exact.marginals[site].event_shape
        names = [label for _, label in scalars(site, shape)]
        labels += names
        if oracle.has_enumerate_support:
            continue
        mean, sd = (torch.tensor(table.loc[names, c].to_numpy()) for c in ("mean", "sd"))
        close(site, mean, oracle.mean.reshape(-1), 1e-8 * torch.maximum(mean.abs(), sd))
        close(site, sd, oracle.variance.sqrt().reshape(-1), 1e-8 * sd)
        draws = exact.sample(N, seed=9)[site].double().reshape(N, -1)
        for column, share in (("5%", 0.05), ("50%", 0.5), ("95%", 0.95)):
            below = (draws <= torch.tensor(table.loc[names, column].to_numpy())).double().mean(0)
            assert ((below - share).abs() <= 0.03).all(), (site, column)
    assert sorted(table.index) == sorted(labels)

"""Closed forms that are found, beside those by hand; samples, predictions and updates of them."""

import functools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.special import betaln, gammaln

import credo

torch.manual_seed(0)
NOISE = torch.randn(20, dtype=torch.float64)


def near(one, two, relative=1e-8):
    torch.testing.assert_close(
        torch.as_tensor(one, dtype=torch.float64), torch.as_tensor(two, dtype=torch.float64), rtol=relative, atol=1e-9
    )


@pytest.mark.parametrize(
    ("name", "settings"), [("coin_toss", {}), ("linear_regression", {}), ("linear_regression", {"sigma": None})]
)
def test_the_pairs_have_the_posteriors_derived_by_hand(name, settings):
    pair = credo.load(name)
    data = pair.data()
    found, by_hand = credo.exact(functools.partial(pair.model, **settings), *data), pair.posterior(*data, **settings)
    assert found.marginals.keys() == by_hand.marginals.keys()
    for site, p in by_hand.marginals.items():
        near(found.marginals[site].mean, p.mean)
        near(found.marginals[site].variance, p.variance)
    assert abs(found.log_evidence - by_hand.log_evidence) < 1e-6


def counts(x):
    with pyro.plate("J", x.shape[1]):
        rate = pyro.sample("rate", dist.Gamma(2.0, 0.5))
        with pyro.plate("N", x.shape[0]):
            pyro.sample("x", dist.Poisson(rate), obs=x)


def test_rows_of_a_plate_are_solved_at_once():
    x = torch.poisson(torch.full((7, 30), 3.0))
    found = credo.exact(counts, x)
    a, b = 2.0 + x.double().sum(0), 0.5 + len(x)
    near(found.marginals["rate"].concentration, a)
    near(found.marginals["rate"].rate, torch.full((30,), b))
    log_gamma = torch.lgamma(a) - math.lgamma(2.0) - torch.lgamma(x.double() + 1).sum(0)
    evidence = 2 * math.log(0.5) - a * math.log(b) + log_gamma
    assert abs(found.log_evidence - evidence.sum().item()) < 1e-6


def modes(x):
    k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.5, 0.3])))
    mu = pyro.sample("mu", dist.Normal(torch.tensor([-3.0, 0.0, 3.0])[k], 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def spread_known_by_its_precision(x):
    root = dist.transforms.PowerTransform(torch.tensor(-0.5))
    sd = pyro.sample("sd", dist.TransformedDistribution(dist.Gamma(3.0, 2.0), root))
    mu = pyro.sample("mu", dist.Normal(1.0, sd))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(mu, sd), obs=x)


def test_a_standard_deviation_whose_precision_is_gamma():
    x = NOISE
    found = credo.exact(spread_known_by_its_precision, x)
    n, m = len(x), (1.0 + x.sum()) / (len(x) + 1)
    a = 3.0 + n / 2
    b = 2.0 + 0.5 * ((x - m) ** 2).sum() + 0.5 * (m - 1.0) ** 2
    near(found.marginals["mu"].loc, m)
    near(found.marginals["mu"].scale, (b / a / (n + 1)).sqrt())
    near(found.marginals["sd"].mean, (gammaln(a - 0.5) - gammaln(a) + 0.5 * b.log()).exp())
    evidence = -n / 2 * math.log(2 * math.pi) - 0.5 * math.log(n + 1) + 3 * math.log(2.0) - a * b.log()
    assert abs(found.log_evidence - (evidence + gammaln(a) - gammaln(3.0)).item()) < 1e-6


def coin(x):
    p = pyro.sample("p", dist.Beta(2.0, 3.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Bernoulli(p), obs=x)


def biased(x):
    k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(k * 1.0, 1.0), obs=x)


@pytest.mark.parametrize("model", [coin, biased, modes, spread_known_by_its_precision])
def test_batch_by_batch_is_all_at_once(model):
    x = (NOISE > 0).double() if model is coin else NOISE
    whole, parts = credo.exact(model, x), credo.exact(model, x[:3]).update(x[3:10]).update(x[10:])
    assert abs(whole.log_evidence - parts.log_evidence) < 1e-8
    for name, p in whole.marginals.items():
        near(parts.marginals[name].mean, p.mean)
        near(parts.marginals[name].variance, p.variance)


def test_the_evidence_of_a_coin():
    x = (NOISE > 0).double()
    h = x.sum().item()
    assert abs(credo.exact(coin, x).log_evidence - (betaln(2 + h, 3 + 20 - h) - betaln(2, 3))) < 1e-10


def test_the_summary_has_a_row_for_each_number():
    table = credo.exact(counts, torch.poisson(torch.full((7, 3), 3.0))).summary()
    assert list(table.index) == ["rate[0]", "rate[1]", "rate[2]"]
    assert ((table["5%"] < table["mean"]) & (table["mean"] < table["95%"])).all()


def test_a_latent_for_each_row_cannot_be_updated_with_other_rows():
    def rows(x):
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    found = credo.exact(rows, NOISE)
    assert found.predict(5, NOISE[:3])["x"].shape == (5, 3)  # new rows, with new latents
    with pytest.raises(ValueError, match="'z'"):
        found.update(NOISE[:3])


@pytest.mark.parametrize("power", [1.0, 2.0, -1.0, -2.0])
def test_a_precision_by_any_of_its_names_has_one_evidence(power):
    """tau ~ Gamma(3, 2) itself, its root, a variance, and a standard deviation."""
    gamma = dist.Gamma(3.0, 2.0)
    root = dist.transforms.PowerTransform(torch.tensor(1 / power))

    def model(x):
        s = pyro.sample("s", gamma if power == 1 else dist.TransformedDistribution(gamma, root))
        mu = pyro.sample("mu", dist.Normal(1.0, s ** (-power / 2)))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(mu, s ** (-power / 2)), obs=x)

    by_sd = credo.exact(spread_known_by_its_precision, NOISE)
    found = credo.exact(model, NOISE)
    assert abs(found.log_evidence - by_sd.log_evidence) < 1e-9
    near(found.marginals["mu"].variance, by_sd.marginals["mu"].variance)

"""The guide of a closed form draws from it, with its density: importance weights are even, and log w is log p(data)."""

import math
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo

Y = torch.tensor([0.3, 1.4, 0.7, 2.1, 1.0])


def single(y):
    p = pyro.sample("p", dist.Gamma(2.0, 1.0))
    pyro.deterministic("double", 2 * p)
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Poisson(p), obs=y.round())


def scaled(y):
    """Normal-gamma: the two latents depend on each other."""
    s = pyro.sample("s", dist.Gamma(2.0, 2.0))
    m = pyro.sample("m", dist.Normal(0.0, s**-0.5))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(m, s**-0.5), obs=y)


def rows(y):
    """A latent for each row, and their mean: jointly normal."""
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        z = pyro.sample("z", dist.Normal(m, 1.0))
        pyro.sample("y", dist.Normal(z, 0.5), obs=y)


def apart(y):
    with pyro.plate("N", len(y)):
        z = pyro.sample("z", dist.Gamma(2.0, 3.0))
        pyro.sample("y", dist.Poisson(z), obs=y.round())


def matrix(y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2, 2), 1.0).to_event(2))
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(w.sum() + w[0, 1] + b + 0 * y, 1.0), obs=y)


def finite(y):
    """A finite latent beside a continuous one: summed out, as in any fit."""
    k = pyro.sample("k", dist.Bernoulli(0.3))
    m = pyro.sample("m", dist.Normal(2 * k, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(m, 1.0), obs=y)


MODELS = {model.__name__: model for model in (single, scaled, rows, apart, matrix, finite)}


@pytest.mark.parametrize("name", MODELS)
def test_log_p_minus_log_q_is_the_evidence_at_every_draw(name):
    model = MODELS[name]
    fit = credo.fit(model, None, Y)
    exact = credo.exact(model, Y)
    assert fit.method == "exact" and fit.converged and fit.losses == ()
    assert fit.exact.log_evidence == pytest.approx(exact.log_evidence, rel=1e-12)
    table = credo.compare(fit)
    assert abs(table.attrs["evidence_gap"]) < 1e-4 and table.attrs["elbo_error"] < 1e-4
    assert (table["sd ratio"] - 1).abs().max() < 1e-6 and table["error in sds"].abs().max() < 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_draws_have_the_moments_and_the_correlations_of_the_posterior(name):
    model, n = MODELS[name], 2000
    fit = credo.fit(model, None, Y)
    draws, wanted = fit.sample(n), credo.exact(model, Y).sample(40_000)
    assert {name for name in wanted} == set(draws)
    ours, theirs = (
        torch.cat([d[site].reshape(len(d[site]), -1).double() for site in sorted(wanted)], 1) for d in (draws, wanted)
    )
    assert draws[min(fit.exact.marginals)].dtype == torch.float32
    sd = theirs.std(0)
    assert ((ours.mean(0) - theirs.mean(0)) / sd).abs().max() < 5 / math.sqrt(n)
    a, b = (((x - theirs.mean(0)) / sd).T @ ((x - theirs.mean(0)) / sd) / len(x) for x in (ours, theirs))
    assert (a - b).abs().max() < 0.2


def test_predictions_and_summaries_are_those_of_any_fit():
    fit = credo.fit(single, None, Y)
    assert fit.predict(7)["y"].shape == (7, 5) and fit.predict(3, torch.ones(9))["y"].shape == (3, 9)
    table, p = fit.summary(), dist.Gamma(2.0 + Y.round().sum(), 1.0 + len(Y))
    assert list(table.index) == ["p", "double"] and table.loc["p", "mean"] == pytest.approx(p.mean.item(), rel=1e-6)
    assert credo.fit(rows, None, Y).predict(3, torch.ones(9))["y"].shape == (3, 9)
    assert "k" in credo.fit(finite, None, Y).summary().index


def test_the_density_of_rows_with_latents_of_their_own():
    found = credo.log_likelihood(credo.fit(apart, None, Y), 200)
    assert found.values.shape == (5,) and found.values.isfinite().all()


def test_it_can_be_stored():
    fit = pickle.loads(pickle.dumps(credo.fit(scaled, None, Y)))
    assert fit.method == "exact" and torch.equal(fit.sample(3)["m"], credo.fit(scaled, None, Y).sample(3)["m"])
    assert "closed form" in repr(fit)


@pytest.mark.parametrize("name", MODELS)
def test_all_draws_run_the_model_together(name):
    """One run for all draws, beside a few to find out how: the guide of each draw holds one of the joint draws."""
    runs = []

    def counted(y):
        runs.append(1)
        return MODELS[name](y)

    fit = credo.fit(counted, None, Y)
    del runs[:]
    fit.predict(400), fit.sample(400), credo.log_likelihood(fit, 400)
    assert fit.method == "exact" and len(runs) < 100


def test_predictions_have_the_moments_of_the_posterior_predictive():
    """y* | data is a Student distribution: normal-gamma, with a = 2 + 5/2, and the sums of squares in b."""
    fit = credo.fit(scaled, None, Y)
    found = fit.predict(20_000)["y"].double()
    n, mean = len(Y), Y.mean().item()
    a, m = 2 + n / 2, n * mean / (1 + n)
    b = 2 + (Y - mean).square().sum().item() / 2 + n * mean**2 / (1 + n) / 2
    wanted = torch.distributions.StudentT(2 * a, m, math.sqrt(b / a * (1 + 1 / (n + 1))))
    assert (found.mean(0) - wanted.mean).abs().max() < 5 * wanted.stddev / math.sqrt(20_000)
    assert (found.std(0) / wanted.stddev - 1).abs().max() < 0.05
    values = credo.log_likelihood(fit, 4000)
    assert ((values.values - wanted.log_prob(Y.double())).abs() < 5 * values.errors).all()


@pytest.mark.parametrize("prior", [dist.Categorical(torch.tensor([0.5, 0.3, 0.2])), dist.Binomial(2, 0.4)])
def test_finite_latents_of_rows_alone(prior):
    """The posterior of each row by enumeration: its shares in the summary, and log p(y_n) whatever the draws."""

    def counted(y):
        with pyro.plate("N", len(y)):
            k = pyro.sample("k", prior)
            pyro.sample("y", dist.Normal(2.0 * k, 1.0), obs=y)

    fit, k = credo.fit(counted, None, Y), torch.arange(3.0)
    joint = prior.log_prob(k) + dist.Normal(2.0 * k, 1.0).log_prob(Y[:, None])
    assert fit.method == "exact" and fit.exact.log_evidence == pytest.approx(joint.logsumexp(1).sum().item(), abs=1e-4)
    wanted = joint.softmax(1) @ k
    assert torch.allclose(torch.tensor(fit.summary()["mean"].to_numpy()), wanted.double(), atol=1e-4)
    assert (fit.predict(4000)["y"].mean(0) - 2 * wanted).abs().max() < 0.15  # 5 standard errors
    assert torch.allclose(credo.log_likelihood(fit, 50).values, joint.logsumexp(1).double(), atol=1e-4)


def test_two_latents_that_depend_on_each_other_may_share_a_plate():
    def model(i, j, y=None):
        with pyro.plate("team", 3):
            attack = pyro.sample("attack", dist.Normal(0.0, 1.0))
            defence = pyro.sample("defence", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(i)):
            pyro.sample("y", dist.Normal(attack[i] - defence[j], 1.0), obs=y)

    i, j = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 0, 2])
    fit = credo.fit(model, None, i, j, torch.tensor([1.0, 0.0, -1.0, 2.0]))
    draws, exact = fit.sample(2000), fit.exact.marginals
    assert fit.method == "exact"
    for name in ("attack", "defence"):
        assert (draws[name].mean(0) - exact[name].mean).abs().max() < 0.1
        assert fit.predict(5)["y"].shape == (5, 4)

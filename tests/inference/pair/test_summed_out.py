"""Finite latents summed out of the model: compared with sums over every joint value, one value at a time.

The pair of each test has a twin whose model does the sum by hand, as loops over the values; the ELBO of the two at the
same draws, and its gradients, must agree.
"""

import math
from itertools import combinations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import credo
from credo.inference.objective.elbo import log_weights
from credo.inference.pair.batches import batch
from credo.inference.pair.costs import run
from credo.inference.pair.pair import Pair
from credo.inference.predictive.likelihood import log_likelihood
from credo.inference.runtime.generators import noise
from credo.inference.runtime.sites import latent
from credo.inference.runtime.state import entered
from tests.cases.summed_out.mixtures import (
    X,
    dependent_guide,
    guide,
    inside_and_outside,
    locs,
    mixture,
    mixture_by_hand,
    normal,
    one_for_all,
    prior,
    weights,
)
from tests.cases.summed_out.pairs import PAIRS, begun, density, draws_of, slopes
from tests.cases.summed_out.sequences import SEQUENCES, WORDS, chain, chain_by_hand, chains, lda, lda_guide

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("vectorised", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_the_elbo_and_its_gradients_are_those_of_the_sum_by_hand(name, vectorised):
    model, by_hand, guide, data = PAIRS[name]
    pair, ready = begun(model, guide, data)
    with entered(ready.state):
        draws = draws_of(pair, 3)
        value = density(pair, draws, vectorised)
        wanted = density(Pair(by_hand, guide, pair.data), draws, False)
        torch.testing.assert_close(value, wanted, rtol=1e-9, atol=1e-9)
        found, expected = slopes(value.sum()), slopes(wanted.sum())
    assert found.keys() == expected.keys() and all(g.isfinite().all() for g in found.values())
    for key, slope in found.items():
        torch.testing.assert_close(slope, expected[key], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_is_drawn_at_once_and_its_plan_says_what_is_summed(name):
    model, _, guide, data = PAIRS[name]
    pair, ready = begun(model, guide, data)
    assert ready.vectorised or model is lda  # torch draws no Dirichlet under vmap
    summed = {e.site for e in ready.plan.entries if e.estimator == "summed out"}
    with entered(ready.state):
        own, all_sites = (latent(poutine.trace(program).get_trace(*pair.data)) for program in (guide, model))
    assert summed == all_sites.keys() - own.keys() != set()
    for entry in ready.plan.entries:
        if entry.site in summed:
            assert (entry.term, entry.baseline) == ("-", "-")
            assert "not in the guide: summed out of the model exactly" in entry.reason
    assert begun(model, guide, data, plan=ready.plan)[1].plan == ready.plan


@pytest.mark.parametrize(
    ("model", "data", "key", "shape", "plates"),
    [
        (mixture, X, "x", (4,), {"N": -1}),
        (one_for_all, X, "x", (), {}),
        (inside_and_outside, X, "x", (), {}),
        (chain, X, "x0", (), {}),
        (chains, SEQUENCES, "x0", (3,), {"S": -1}),
        (lda, WORDS, "w", (3, 5), {"documents": -2, "words": -1}),
    ],
)
def test_a_group_is_one_cost_over_the_plates_that_hold_all_of_it(model, data, key, shape, plates):
    pair, ready = begun(model, lda_guide if model is lda else guide, data)
    with entered(ready.state):
        _, costs, where, dims, _ = run(pair)
    assert costs["data", key].shape == shape
    assert dims["data", key] == plates and where["data", key] == set(plates)
    assert [name for side, name in costs if side == "data"] == (["y", key] if model is inside_and_outside else [key])
    latents = {"topics", "share"} if model is lda else {"loc"}
    assert {name for side, name in costs if side == "prior"} - {"N", "S", "documents", "words"} == latents


def test_a_long_chain_costs_no_more_than_its_length():
    x = torch.sin(torch.arange(100.0))
    pair, ready = begun(chain, guide, x)
    with entered(ready.state):
        z = draws_of(pair, 1)
        by_hand = Pair(chain_by_hand, guide, pair.data)
        torch.testing.assert_close(density(pair, z, False), density(by_hand, z, False), rtol=1e-9, atol=1e-9)


def test_what_is_nearly_impossible_keeps_its_gradient_in_single_precision():
    torch.set_default_dtype(torch.float32)
    x = torch.tensor([-300.0, 400.0])  # e^(-45,000) is 0, its logarithm is not
    pair, ready = begun(mixture, guide, x)
    with entered(ready.state):
        z = {"loc": torch.tensor([[-1.0, 1.0]], requires_grad=True)}
        density(pair, z, False).sum().backward()
        own = -z["loc"] / 9 + torch.tensor([[-299.0, 399.0]])
        m, s = pyro.param("m"), pyro.param("s")
    torch.testing.assert_close(z["loc"].grad, (own + (z["loc"] - m) / s**2).detach(), rtol=1e-4, atol=1e-3)


def test_a_prior_that_a_summed_site_moves_has_no_kl_of_its_own():
    def model(x):  # no draw moves the prior of h, but a does
        loc, w = prior(), weights()
        with pyro.plate("N", len(x)):
            a = pyro.sample("a", dist.Categorical(w))
            h = pyro.sample("h", dist.Normal(2.0 * a, 1.0))
            pyro.sample("x", dist.Normal(h + loc[0], 0.7), obs=x)

    _, ready = begun(model, dependent_guide, X)
    assert ready.plan.kl == {"loc"}


def test_the_mean_over_all_batches_is_the_whole():
    pair, ready = begun(mixture, guide, X, batch_size=2)
    with entered(ready.state):
        z = draws_of(pair, 2)
        whole = density(pair, z, True)
        parts = [density(batch(pair, ready.rows, torch.tensor(i)), z, True) for i in combinations(range(4), 2)]
        torch.testing.assert_close(torch.stack(parts).mean(0), whole)
        assert (parts[0] - whole).abs().min() > 0.1


def test_a_plate_subsampled_by_the_pair_counts_for_all_of_its_rows():
    def model(x):
        loc, w = prior(), weights()
        with pyro.plate("N", len(x), subsample_size=2) as rows:
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x[rows])

    def sub_guide(x):
        locs()
        pyro.plate("N", len(x), subsample_size=2)._indices  # noqa: B018  # draws the rows

    pair, ready = begun(model, sub_guide, X)
    by_hand = Pair(mixture_by_hand, guide, pair.data)
    with entered(ready.state):
        loc = {k: v for k, v in draws_of(pair, 1).items() if k == "loc"}
        parts = [density(pair, loc | {"N": torch.tensor([i])}, False) for i in combinations(range(4), 2)]
        torch.testing.assert_close(torch.stack(parts).mean(0), density(by_hand, loc, False))


def test_a_single_row_keeps_its_plate():
    pair, ready = begun(mixture, guide, X[:1])
    with entered(ready.state):
        assert run(pair).costs["data", "x"].shape == (1,)
    fit = credo.fit(mixture, guide, X, steps=3, progress=False)
    assert log_likelihood(fit, 10, X[:1]).values.shape == (1,)


def test_sites_of_the_guide_that_need_the_score_meet_those_summed_out():
    def model(x):  # n is of the guide, infinite; z is summed out between it and the data
        loc, w = prior(), weights()
        n = pyro.sample("n", dist.Poisson(2.0))
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("x", dist.Normal(loc[z] + 0.3 * n, 1.0), obs=x)

    def score_guide(x):
        locs()
        pyro.sample("n", dist.Poisson(pyro.param("rate", torch.tensor(1.5), constraint=dist.constraints.positive)))

    runner = credo.SVI(model, score_guide, particles=20)
    pair, ready = runner._begin((X,))[:2]
    assert ready.plan.estimator("n") == "score" and ready.plan.estimator("z") == "summed out"
    with entered(ready.state):
        with torch.no_grad():
            loc = draws_of(pair, 4000)["loc"]
        rate = pyro.param("rate")
        value = 0.0
        for n in range(25):
            rows = torch.stack([weights()[k].log() + normal(X, loc[:, k, None] + 0.3 * n) for k in range(2)])
            log_q = dist.Poisson(rate).log_prob(torch.tensor(float(n)))
            cost = rows.logsumexp(0).sum(1).mean() + dist.Poisson(2.0).log_prob(torch.tensor(float(n))) - log_q
            value = value + log_q.exp() * cost
        wanted = -slopes_of(value, "rate")
    draws = torch.stack([runner.gradients(X)["rate"] for _ in range(100)])
    assert (draws.mean() - wanted).abs() < 4 * draws.std() / 100**0.5 + 0.05 * wanted.abs()


def slopes_of(value, name):
    return torch.autograd.grad(value, dict(pyro.get_param_store().named_parameters())[name])[0]


def test_finite_sites_of_the_guide_meet_those_summed_out():
    def model(x):  # k is summed over by the guide, z by the model
        loc, w = prior(), weights()
        with pyro.plate("N", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.3))
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("x", dist.Normal(loc[z] + k, 1.0), obs=x)

    def both_guide(x):
        locs()
        with pyro.plate("N", len(x)):
            pyro.sample("k", dist.Bernoulli(logits=pyro.param("u", torch.tensor(0.4)) * x))

    pair, ready = begun(model, both_guide, X)
    assert ready.plan.estimator("k") == "enumerate" and ready.plan.estimator("z") == "summed out"
    with entered(ready.state), noise(5), torch.no_grad():
        value = log_weights(pair, 3000, True, ready.plan.recipe)
        loc = torch.distributions.Normal(pyro.param("m"), pyro.param("s")).sample((20000,))
        q, w = torch.sigmoid(pyro.param("u") * X), pyro.param("w")
        wanted = -torch.distributions.kl_divergence(
            torch.distributions.Normal(pyro.param("m"), pyro.param("s")), torch.distributions.Normal(0.0, 3.0)
        ).sum()
        for k, (own, its) in enumerate([(1 - q, 0.7), (q, 0.3)]):
            rows = torch.stack([w[j].log() + normal(X, loc[:, j, None] + k) for j in range(2)]).logsumexp(0)
            wanted = wanted + (own * (rows.mean(0) + math.log(its) - own.log())).sum()
    assert (value.mean() - wanted).abs() < 5 * value.std() / 3000**0.5

"""The latents of new rows: a guide that computes them has them, another one says so."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from tests.inference.posterior.test_given_rows import X, held, model, read

HOW = {"steps": 1, "compile": False, "progress": False, "plan": "fast", "lr": 1e-9}


def test_latents_of_new_rows_are_those_of_their_data():
    new = torch.tensor([0.3, -0.7])
    fit = credo.fit(model, read, X, **HOW)
    for draws in (fit.latents(2000, new), fit.latents(new, n=2000), fit.latents(x=new, n=2000)):
        torch.testing.assert_close(draws["z"].mean(0), 0.5 * new, atol=0.02, rtol=0)
        assert draws["w"].shape == (2000, 2, 2) and draws["mu"].shape == (2000,)


def mixed(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", dist.Normal(mu, 1.0))
        k = pyro.sample("k", dist.Bernoulli(0.2))
        pyro.sample("x", dist.Normal(z + 4 * k, 0.3), obs=x)


def of_mixed(x):
    pyro.sample("mu", dist.Normal(pyro.param("m", torch.tensor(0.0)), 0.1))
    with pyro.plate("rows", len(x)):
        pyro.sample("z", dist.Normal(0.1 * x, 0.1))


def test_finite_latents_of_new_rows_are_drawn_given_their_data():
    drawn = credo.fit(mixed, of_mixed, X, **HOW).latents(4000, torch.tensor([-0.2, 6.0, 2.0]))
    z = drawn["z"]
    log_odds = [dist.Normal(z + 4 * k, 0.3).log_prob(torch.tensor([-0.2, 6.0, 2.0])) for k in (0.0, 1.0)]
    wanted = (log_odds[1] - log_odds[0] + math.log(0.25)).sigmoid().mean(0)
    torch.testing.assert_close(drawn["k"].mean(0), wanted, atol=0.03, rtol=0)


def shared_kind(x):
    kind = pyro.sample("kind", dist.Bernoulli(0.5))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(4 * kind, 1.0)), 0.3), obs=x)


def of_shared_kind(x):
    with pyro.plate("rows", len(x)):
        pyro.sample("z", dist.Normal(x + pyro.param("m", torch.tensor(0.0)), 0.1))


def test_a_finite_latent_of_all_rows_is_not_drawn_from_new_ones_alone():
    assert set(credo.fit(shared_kind, of_shared_kind, X, **HOW).latents(5, torch.zeros(2))) == {"z"}


def test_a_guide_that_holds_its_rows_knows_no_others():
    with pytest.raises(ValueError, match="site 'w': the guide has no draw of it at rows that it has not seen"):
        credo.fit(model, held, X, **HOW).latents(torch.tensor([0.3]))


def test_without_data_the_other_call_is_named():
    with pytest.raises(ValueError, match=r"latents: no data are given; pass those of the rows, fit.latents\(n, x\)"):
        credo.fit(model, read, X, **HOW).latents(10)

"""The guide of a structured normal beside the dense normal that it is."""

import pickle
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoDiagonalNormal, AutoLowRankMultivariateNormal, AutoNormal
from pyro.infer.autoguide.initialization import init_to_median

from credo.inference.gaussian.families import few_factors, mean_field
from credo.inference.gaussian.full_rank_normal import FullRankNormal
from credo.inference.gaussian.normal_guide import AutoNormalOf, place_in
from credo.inference.pair.mean_field import MeanField
from credo.inference.runtime.vectorise import repeat
from tests.inference.gaussian import test_arrow_normal, test_low_rank_normal

NORMALS = {"low rank": test_low_rank_normal.NORMAL, "groups": test_arrow_normal.NORMAL}


def model_with(D, y):
    a = pyro.sample("a", dist.LogNormal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("N", D - 2):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(a.sum() + z.sum(), 1.0), obs=y)


def model_of(D):
    return partial(model_with, D)


@pytest.mark.parametrize("name", NORMALS)
def test_the_guide_is_the_normal(name, double):
    normal, y = NORMALS[name], torch.tensor(1.0)
    D = len(normal.mean)
    guide = AutoNormalOf(model_of(D), normal)
    pyro.set_rng_seed(0)
    trace = poutine.trace(guide).get_trace(y)
    a, z = trace.nodes["a"]["value"], trace.nodes["z"]["value"]
    u = torch.cat([a.log(), z])
    wanted = dist.MultivariateNormal(
        normal.mean, normal.covariance if name == "low rank" else normal.dense().covariance
    )
    torch.testing.assert_close(trace.log_prob_sum(), wanted.log_prob(u) - a.log().sum())
    torch.testing.assert_close(guide.get_posterior().log_prob(u), wanted.log_prob(u))
    torch.testing.assert_close(guide.median(y)["a"], normal.mean[:2].exp())
    draws = guide.get_posterior().sample((20_000,))
    torch.testing.assert_close(draws.std(0) / wanted.stddev, torch.ones(D), rtol=0, atol=0.03)


@pytest.mark.parametrize("name", NORMALS)
def test_draws_can_be_batched_and_trained(name, double):
    normal, y = NORMALS[name], torch.tensor(1.0)
    guide = AutoNormalOf(model_of(len(normal.mean)), normal)
    guide(y)
    at_once = repeat(lambda: guide(y)["z"], 3, vectorised=True)
    assert at_once.shape == (3, len(normal.mean) - 2) and not torch.equal(at_once[0], at_once[1])
    poutine.trace(guide).get_trace(y).log_prob_sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in guide.parameters())


def test_a_guide_is_pickled():
    guide = AutoNormalOf(model_of(11), test_arrow_normal.NORMAL)
    again = pickle.loads(pickle.dumps(guide))
    torch.testing.assert_close(again.normal.sd, guide.normal.sd)
    assert guide.mean.dtype == torch.float32


def diagonal(D):
    near = FullRankNormal(torch.linspace(-1, 1, D), torch.linspace(0.5, 2, D).diag())
    family = mean_field(near)
    return family.normal(family.start)


def factors(D):
    near = FullRankNormal(torch.linspace(-1, 1, D), torch.eye(D) + 0.3 * torch.ones(D, D))
    family = few_factors(near, 2)
    return family.normal(family.start)


GUIDES = {
    "AutoNormal": (AutoNormal, diagonal),
    "mean field": (lambda model: MeanField(model, init_loc_fn=init_to_median), diagonal),
    "AutoDiagonalNormal": (AutoDiagonalNormal, diagonal),
    "AutoLowRank": (partial(AutoLowRankMultivariateNormal, rank=2), factors),
    "AutoLowRank, more factors": (partial(AutoLowRankMultivariateNormal, rank=7), factors),
}


@pytest.mark.parametrize("name", GUIDES)
def test_guides_of_pyro_become_the_normal(name, double):
    """Their density, median and quantiles are those of u ~ N(mu, Sigma), a = exp(u_1, u_2), z = the rest."""
    D, y = 6, torch.tensor(1.0)
    make, normal_of = GUIDES[name]
    guide, normal = make(model_of(D)), normal_of(D)
    guide(y)
    place_in(guide, normal)
    trace = poutine.trace(guide).get_trace(y)
    a, z = trace.nodes["a"]["value"], trace.nodes["z"]["value"]
    wanted = dist.MultivariateNormal(normal.mean, normal.covariance)
    log_prob = wanted.log_prob(torch.cat([a.log(), z])) - a.log().sum()
    torch.testing.assert_close(trace.log_prob_sum(), log_prob)
    torch.testing.assert_close(guide.median(y)["a"], normal.mean[:2].exp())
    (high,) = guide.quantiles([0.8413447460685429], y)["z"]
    torch.testing.assert_close(high, (normal.mean + normal.sd)[2:])
    trace.log_prob_sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in guide.parameters())

"""A fit is an approximation in the sense of the Protocol, and its pair is the one that was fitted."""

import dataclasses
import inspect

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import credo
from credo.inference.posterior.approximation import Approximation, dtype_of, pair_of
from credo.inference.runtime.state import reading
from tests.cases.normal_mean import Y, answer, guide, model


@pytest.fixture
def fit() -> credo.Fit:
    """Not trained: q is known."""
    return credo.fit(model, guide, Y, steps=0)


def test_a_fit_has_all_that_the_protocol_names(fit):
    names = [name for name in dir(Approximation) if not name.startswith("_")]
    assert {"model", "guide", "data", "state", "sample"} <= set(names)
    assert all(hasattr(fit, name) for name in names)
    assert inspect.signature(fit.sample).parameters["seed"].kind is inspect.Parameter.KEYWORD_ONLY


def test_the_pair_of_a_fit_is_its_model_and_guide_on_its_data(fit):
    pair = pair_of(fit)
    assert (pair.model, pair.guide, pair.summed) == (fit.model, fit.guide, None)
    with reading(fit.state, 0):
        q = poutine.trace(pair.guide).get_trace(*pair.data)
        p = poutine.trace(poutine.replay(pair.model, trace=q)).get_trace(*pair.data)
    z = q.nodes["z"]["value"].double()
    # log p(y, z) - log p(z | y) is log p(y), whatever z
    evidence = p.log_prob_sum().item() - answer(Y).marginals["z"].log_prob(z).item()
    assert abs(evidence - answer(Y).log_evidence) < 1e-4


def test_what_is_summed_out_of_the_model_goes_along():
    def coin(y):
        z = pyro.sample("z", dist.Normal(0.0, 2.0))
        k = pyro.sample("k", dist.Bernoulli(0.5))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z + k, 1.0), obs=y)

    fit = credo.fit(coin, guide, Y, steps=0)
    assert pair_of(fit).summed.sites == {"k"} and torch.equal(pair_of(fit).data[0], Y)


def test_the_precision_of_a_fit_is_that_of_its_parameters_else_of_its_data(fit):
    assert dtype_of(fit) == torch.float32
    doubled = {name: value.double() for name, value in fit.params.items()}
    assert dtype_of(dataclasses.replace(fit, params=doubled)) == torch.float64
    counts = dataclasses.replace(fit, params={}, data=(torch.arange(3), Y.half()))
    assert dtype_of(counts) == torch.float16
    assert dtype_of(dataclasses.replace(counts, data=(3,))) == torch.get_default_dtype()

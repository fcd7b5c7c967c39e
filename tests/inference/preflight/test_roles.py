"""Programs whose sites cannot play their role are refused: obs= in a guide, nothing observed, nothing to learn."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import credo
from tests.cases.checked import X, belief, look, warned, world


def observing(x):
    mu = pyro.sample("mu", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def masked(x, keep, inside=False):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)), poutine.mask(mask=True if inside else keep):
        pyro.sample("x", dist.Normal(mu, 1.0).mask(keep) if inside else dist.Normal(mu, 1.0), obs=x)


def nothing_latent(x):
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)


def test_observations_in_the_guide_are_refused():
    """They cancel the likelihood: the guide would come back as the prior, N(0, 10)."""
    with pytest.raises(ValueError, match=r"site 'x': the guide observes with obs=.*cancels"):
        credo.fit(world, observing, X, progress=False)


def test_a_factor_of_the_guide_observes_nothing():
    def guide(x):
        belief(x)
        pyro.factor("regulariser", torch.tensor(0.0), has_rsample=True)

    assert warned(world, guide, X) == ""


def test_model_and_guide_swapped_are_told():
    with pytest.raises(ValueError, match=r"observes nothing and the guide observes site 'x': are the two swapped"):
        look(belief, world, X)


@pytest.mark.parametrize("inside", [False, True])
def test_a_mask_that_hides_all_data_is_refused_and_one_that_keeps_a_row_is_not(inside):
    def model(x, keep):
        masked(x, keep, inside)

    def guide(x, keep):
        belief(x)

    with pytest.raises(ValueError, match=r"site 'x': a mask hides every observed value"):
        look(model, guide, X, torch.zeros(len(X), dtype=torch.bool))
    assert warned(model, guide, X, torch.arange(len(X)) == 3) == ""


def test_a_model_without_anything_to_learn_is_refused():
    with pytest.raises(ValueError, match=r"no latent site .* and no parameter, so there is nothing to learn"):
        credo.fit(nothing_latent, None, X)


@pytest.mark.parametrize("guide", [None, lambda x: None])
def test_a_model_with_parameters_and_no_latents_is_maximum_likelihood(guide):
    def model(x):
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(pyro.param("mu", torch.tensor(0.0)), 1.0), obs=x)

    fit = credo.fit(model, guide, X, steps=400, lr=0.05, progress=False, compile=False)
    assert fit.params["mu"].item() == pytest.approx(X.mean().item(), abs=0.01)

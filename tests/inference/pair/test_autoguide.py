"""The automatic guides: what they sample, and where their optimum lies, compared with closed forms."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoHierarchicalNormalMessenger, AutoNormalMessenger
from torch.distributions import constraints

import credo
from credo.inference.pair.autoguide import with_guide, without_finite
from credo.inference.runtime.sites import latent

Y, ONE = torch.tensor([0.5, 1.5, -0.3]), torch.tensor(1.0)


def world(y):
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(loc, 1.0), obs=y)


def finite(y):
    k = pyro.sample("k", dist.Categorical(torch.ones(2)))
    loc = pyro.sample("loc", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(loc[k], 1.0).expand([len(y)]).to_event(1), obs=y)


@pytest.mark.parametrize(
    ("guide", "loc"), [("map", Y.sum().item() / 4), ("mle", Y.mean().item()), (None, Y.sum().item() / 4)]
)
def test_the_optimum_is_that_of_the_posterior_or_of_the_likelihood(guide, loc):
    """log p(y | z) + log p(z) of a unit normal: the maximum and the posterior mean are sum y / (n + 1)."""
    fit = credo.fit(world, guide, Y, steps=600, lr=0.05, progress=False)
    draws = fit.sample(4000)["loc"]
    assert draws.mean().item() == pytest.approx(loc, abs=0.04)
    assert draws.std().item() == pytest.approx(0.5 if guide is None else 0.0, abs=0.04)


def test_without_priors_the_density_of_the_data_is_left():
    program, guide = with_guide(world, "mle")
    drawn = poutine.trace(guide).get_trace(Y)
    found = poutine.trace(poutine.replay(program, trace=drawn)).get_trace(Y)
    wanted = dist.Normal(found.nodes["loc"]["value"], 1.0).log_prob(Y).sum()
    torch.testing.assert_close(found.log_prob_sum(), wanted)
    assert with_guide(world, "map")[0] is world and with_guide(world, None)[0] is world


def test_finite_latents_are_not_in_the_guide():
    assert latent(poutine.trace(without_finite(finite)).get_trace(Y)).keys() == {"loc"}
    for name in (None, "map", "mle"):
        assert poutine.trace(with_guide(finite, name)[1]).get_trace(Y).nodes.keys() & {"k", "loc"} == {"loc"}


def test_a_guide_of_ones_own_is_kept():
    own = (lambda y: None, world)
    assert all(with_guide(world, guide) == (world, guide) for guide in own)


@pytest.mark.parametrize("guide", ["mpa", 3])
def test_a_guide_that_is_none_is_refused(guide):
    with pytest.raises(ValueError, match="guide: got"):
        credo.fit(world, guide, Y)


class Shifted(AutoNormalMessenger):
    """A guide of the user's own class, as Pyro's documentation shows it."""

    def get_posterior(self, name, prior):
        return dist.Normal(pyro.param("m", torch.tensor(0.0)), pyro.param("s", ONE, constraint=constraints.positive))


@pytest.mark.parametrize("kind", [AutoNormalMessenger, AutoHierarchicalNormalMessenger, Shifted])
def test_a_guide_that_runs_the_model_inside_does_not_observe(kind):
    """Its trace has the observations of the model, which Pyro's ELBO leaves out."""
    guide = kind(world)
    fit = credo.fit(world, guide, Y, steps=600, lr=0.05, progress=False)
    draws = fit.sample(4000)["loc"]
    assert draws.mean().item() == pytest.approx(Y.sum().item() / 4, abs=0.04)
    assert draws.std().item() == pytest.approx(0.5, abs=0.05)
    assert fit.final_loss == pytest.approx(-credo.exact(world, Y).log_evidence, abs=0.05)


def test_a_guide_that_observes_is_refused_all_the_same():
    with pytest.raises(ValueError, match="site 'y': the guide observes with obs="):
        credo.fit(world, world, Y, progress=False)


def start_of(model, guide):
    """Where the point of the guide starts, after no step."""
    return credo.fit(model, guide, Y, steps=0, progress=False).params[
        "AutoDelta.s" if guide == "map" else "AutoNormal.locs.s"
    ]


@pytest.mark.parametrize("guide", [None, "map"])
@pytest.mark.parametrize("prior", [dist.Normal(3.0, 0.5), dist.Normal(0.1, 1.0)])
def test_a_model_that_fails_at_the_usual_starting_values_starts_from_its_prior(guide, prior):
    def model(y):
        s = pyro.sample("s", prior)
        assert s.item() > 0.2  # not at 0, where an AutoNormal starts
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(0.0, torch.relu(s)), obs=y)

    assert start_of(model, guide) > 0.2


def test_a_model_that_does_not_fail_starts_where_pyro_starts():
    def model(y):
        s = pyro.sample("s", dist.Normal(3.0, 0.5))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(s, 1.0), obs=y)

    assert start_of(model, None) == 0.0

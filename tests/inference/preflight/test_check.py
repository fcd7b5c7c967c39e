"""Mistakes in a pair are found before the first step, and named with the remedy."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import credo

Y = torch.tensor([0.5, 1.5, -0.3])


def world(y, *, name="loc", site="y", obs=True, prior=None, plate=True):
    loc = pyro.sample(name, prior or dist.Normal(0.0, 1.0))
    if plate:
        with pyro.plate("N", len(y)):
            pyro.sample(site, dist.Normal(loc, 1.0), obs=y if obs else None)
    else:
        pyro.sample(site, dist.Normal(loc, 1.0), obs=y if obs else None)


def belief(y, *, name="loc", sites=True, at=0.0):
    m = pyro.param("m", torch.tensor(at))
    s = pyro.param("s", torch.tensor(1.0), constraint=constraints.positive)
    if sites:
        pyro.sample(name, dist.Normal(m, s))


def local(y):
    with pyro.plate("N", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def scalar(y):
    pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0))


def coin(x):
    p = pyro.sample("loc", dist.Beta(1.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Bernoulli(p), obs=x)


def inside(x):
    m = pyro.param("m", torch.tensor(1.0), constraint=constraints.positive)
    pyro.sample("loc", dist.Beta(m, m))


def twice(y):
    world(y)
    pyro.sample("extra", dist.Normal(0.0, 1.0))


def no_parameters(y):
    pyro.sample("loc", dist.Normal(0.0, 1.0))


MISTAKES = {
    "misspelt": (world, lambda y: belief(y, name="lok"), Y, ["'lok'", "did you mean 'loc'", "Rename"]),
    "missing": (world, lambda y: belief(y, sites=False), Y, ["no site 'loc'", "pyro.sample('loc', ...)"]),
    "missing of two": (twice, belief, Y, ["no site 'extra'", "['loc']"]),
    "extra": (world, lambda y: (belief(y), no_parameters_named(y)), Y, ["'other'", "is_auxiliary"]),
    "nothing observed": (lambda y: world(y, obs=False), belief, Y, ["observes nothing", "obs="]),
    "not 0 or 1": (coin, inside, torch.tensor([0.0, 1.0, 2.0]), ["'x'", "1 of 3", "2.0", "(2,)", "0 or 1"]),
    "no parameters": (world, no_parameters, Y, ["no parameters", "pyro.param"]),
    "scalar for local": (local, scalar, Y, ["'z'", "()", "(3,)", "N (3)"]),
    "forgotten plate": (lambda y: world(y, plate=False), belief, Y, ["'y'", "(3,)", "pyro.plate", "to_event"]),
    "column": (world, belief, Y[:, None], ["'y'", "(3, 1)", "(N,)"]),
    "no density": (lambda y: world(y, prior=dist.Uniform(5.0, 6.0)), belief, Y, ["'loc'", "-inf", "starting values"]),
}


def no_parameters_named(y):
    pyro.sample("other", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize("call", [credo.fit, credo.plan], ids=["fit", "plan"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_the_remedy(mistake, call, unchanged):
    model, guide, data, words = MISTAKES[mistake]
    with unchanged(), pytest.raises(ValueError) as caught:
        call(model, guide, data)
    for word in words:
        assert word in str(caught.value)


def test_an_error_of_the_users_own_code_keeps_its_kind_and_gains_a_note(unchanged):
    def broken(y):
        raise KeyError("mine")

    with unchanged(), pytest.raises(KeyError, match="mine") as caught:
        credo.fit(broken, belief, Y)
    assert any("model ran once" in note and "tensor of shape (3,)" in note for note in caught.value.__notes__)


def test_an_auxiliary_site_is_allowed_and_an_autoguide_too():
    def auxiliary(y):
        e = pyro.sample("e", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0), infer={"is_auxiliary": True})
        pyro.sample("loc", dist.Delta(e))

    for guide in (auxiliary, pyro.infer.autoguide.AutoMultivariateNormal(world), None):
        assert len(credo.fit(world, guide, Y, steps=2).losses) == 2


def test_a_parameter_without_gradient_is_warned_of():
    def detached(y):
        m = pyro.param("m", torch.tensor(0.0))
        pyro.sample("loc", dist.Normal(m.detach(), pyro.param("s", torch.tensor(1.0)).exp()))

    with pytest.warns(UserWarning, match="'m' gets no gradient"):
        credo.fit(world, detached, Y, steps=2)


def test_a_shape_of_the_guide_is_named_where_it_makes_the_model_fail():
    def wide(y):
        pyro.sample("loc", dist.Normal(pyro.param("m", torch.zeros(2)), 1.0).to_event(1))

    with pytest.raises(ValueError, match=r"site 'loc': the guide draws shape \(2,\), the model wants \(\)"):
        credo.fit(world, wide, Y)

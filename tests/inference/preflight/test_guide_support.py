"""A guide on another support than the model's: refused where it draws outside, warned of where it never draws."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints, transforms

from tests.cases.checked import X, look, positive, warned

SIGMOID = [transforms.SigmoidTransform()]


def number(name="loc", value=0.0):
    return pyro.param(name, torch.tensor(value))


def pair(prior, guide, index=False):
    """A latent z ~ prior beside data that any z can have produced."""

    def model(x):
        z = pyro.sample("z", prior())
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(0.1 * torch.as_tensor(z).float().sum(), 1.0), obs=x)

    def q(x):
        pyro.sample("z", guide())

    return model, q, X


OUTSIDE = {
    "Normal for Gamma": (lambda: dist.Gamma(2.0, 1.0), lambda: dist.Normal(number(), positive("s")), "values above 0"),
    "Normal for Beta": (lambda: dist.Beta(1.0, 1.0), lambda: dist.Normal(number(), positive("s")), "between 0 and 1"),
    "LogNormal for Beta": (lambda: dist.Beta(1.0, 1.0), lambda: dist.LogNormal(number(), 1.0), "Beta, say"),
    "Normal for Dirichlet": (
        lambda: dist.Dirichlet(torch.ones(3)),
        lambda: dist.Normal(number() + torch.zeros(3), 1.0).to_event(1),
        "Simplex",
    ),
    "Normal for Bernoulli": (lambda: dist.Bernoulli(0.5), lambda: dist.Normal(number(), 1.0), "continuous.*discrete"),
    "Bernoulli for Normal": (lambda: dist.Normal(0.0, 1.0), lambda: dist.Bernoulli(logits=number()), "is discrete"),
    "Poisson for Binomial": (
        lambda: dist.Binomial(2, 0.5),
        lambda: dist.Poisson(positive("r", 5.0)),
        "Binomial.*Poisson",
    ),
    "Uniform elsewhere": (lambda: dist.Uniform(5.0, 6.0), lambda: dist.Normal(number(), 1.0), "between 5 and 6"),
}


@pytest.mark.parametrize("mistake", OUTSIDE)
def test_draws_outside_of_the_support_are_refused(mistake):
    prior, guide, words = OUTSIDE[mistake]
    with pytest.raises(ValueError, match=rf"(?s)site 'z'.*{words}"):
        look(*pair(prior, guide))


def test_the_support_is_named_where_the_model_fails_on_such_a_draw():
    """Normal(mu, z) raises torch's own error for z < 0, which says nothing of the guide."""

    def model(x):
        z = pyro.sample("z", dist.HalfCauchy(1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(0.0, z), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(number(value=-1.0), positive("s", 0.1)))

    with pytest.raises(ValueError, match=r"site 'z'.*HalfCauchy.*at 100% of the draws.*LogNormal, Gamma") as caught:
        look(model, guide, X)
    assert caught.value.__cause__ is not None


NARROWER = {
    "Uniform for Normal": (lambda: dist.Normal(0.0, 1.0), lambda: dist.Uniform(0.0, 1.0)),
    "HalfNormal for Normal": (lambda: dist.Normal(0.0, 1.0), lambda: dist.HalfNormal(positive("s"))),
    "LogNormal for Normal": (lambda: dist.Normal(0.0, 1.0), lambda: dist.LogNormal(number(), positive("s"))),
    "Beta for HalfNormal": (lambda: dist.HalfNormal(1.0), lambda: dist.Beta(positive("a"), positive("b"))),
    "Bernoulli for Categorical": (
        lambda: dist.Categorical(torch.ones(3)),
        lambda: dist.Categorical(logits=pyro.param("l", torch.zeros(2))),
    ),
}


@pytest.mark.parametrize("mistake", NARROWER)
def test_values_that_the_guide_never_draws_are_warned_of(mistake):
    prior, guide = NARROWER[mistake]
    assert "site 'z': the guide's" in (found := warned(*pair(prior, guide))) and "never draws" in found


SOUND = {
    "Gamma for LogNormal": (lambda: dist.LogNormal(0.0, 1.0), lambda: dist.Gamma(positive("a"), positive("b"))),
    "LogNormal for HalfCauchy": (lambda: dist.HalfCauchy(1.0), lambda: dist.LogNormal(number(), positive("s"))),
    "a normal far inside": (lambda: dist.Gamma(2.0, 1.0), lambda: dist.Normal(positive("m", 5.0), positive("s", 0.2))),
    "bounds that are trained": (
        lambda: dist.Normal(0.0, 1.0),
        lambda: dist.Uniform(number(), number() + positive("width")),
    ),
    "a sigmoid of a normal": (
        lambda: dist.Beta(1.0, 1.0),
        lambda: dist.TransformedDistribution(dist.Normal(number(), positive("s")), SIGMOID),
    ),
    "a point": (lambda: dist.Gamma(2.0, 1.0), lambda: dist.Delta(positive("m"))),
    "a truncated Poisson": (
        lambda: dist.Poisson(3.0),
        lambda: dist.Categorical(logits=pyro.param("l", torch.zeros(12))),
    ),
    "an angle": (lambda: dist.VonMises(0.0, 0.1), lambda: dist.Uniform(-3.1415926, 3.1415926)),
    "Student's t": (lambda: dist.StudentT(3.0, 0.0, 1.0), lambda: dist.Normal(number(), positive("s"))),
    "a uniform on the same interval": (lambda: dist.Uniform(0.0, 1.0), lambda: dist.Beta(positive("a"), 1.0)),
    "Bernoulli": (lambda: dist.Bernoulli(0.2), lambda: dist.Bernoulli(logits=number())),
    "a constraint on the simplex": (
        lambda: dist.Dirichlet(torch.ones(3)),
        lambda: dist.Dirichlet(pyro.param("c", torch.ones(3), constraint=constraints.positive)),
    ),
}


@pytest.mark.parametrize("program", SOUND)
def test_other_families_on_the_same_support_are_fine(program):
    prior, guide = SOUND[program]
    assert warned(*pair(prior, guide)) == ""

"""Distributions, transforms and constraints come back as they were, by the name of their class; others do not."""

import json

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from torch.distributions import Transform, biject_to
from torch.distributions.transforms import ExpTransform

from credo.inference.distributions.transformed import GammaPower, Transformed
from credo.inference.storage.laws import law, lawful
from credo.inference.storage.values import described, restored

ONES = torch.ones(3, dtype=torch.float64)
DISTRIBUTIONS = {
    "normal": lambda: dist.Normal(ONES, 2.0),
    "event": lambda: dist.Gamma(ONES, 2.0).to_event(1),
    "joint": lambda: dist.MultivariateNormal(torch.zeros(2), torch.tensor([[2.0, 0.5], [0.5, 1.0]])),
    "precision": lambda: dist.MultivariateNormal(torch.zeros(2), precision_matrix=2 * torch.eye(2)),
    "dirichlet": lambda: dist.Dirichlet(ONES),
    "lognormal": lambda: dist.LogNormal(0.0, 1.0),
    "inverse-gamma": lambda: dist.InverseGamma(ONES, 2.0),
    "student": lambda: dist.MultivariateStudentT(torch.tensor(3.0), torch.zeros(2), torch.eye(2)),
    "mixture": lambda: dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(torch.arange(2.0), 1.0)),
    "bernoulli": lambda: dist.Bernoulli(logits=ONES),
    "masked": lambda: dist.Poisson(ONES).mask(torch.tensor([True, False, True])),
    "transformed": lambda: dist.TransformedDistribution(
        dist.Normal(ONES, 1.0), [biject_to(constraints.interval(0.0, 3.0)).with_cache()]
    ),
    "credo-power": lambda: GammaPower(ONES, ONES, 2.0),
    "credo-transformed": lambda: Transformed(dist.Normal(ONES, 1.0), ExpTransform()),
}
CONSTRAINTS = {
    "real": constraints.real,
    "positive": constraints.positive,
    "interval": constraints.interval(0.0, torch.tensor(2.0)),
    "independent": constraints.independent(constraints.simplex, 1),
    "softplus": constraints.softplus_positive,
    "cat": constraints.cat([constraints.real, constraints.positive], dim=-1, lengths=[1, 2]),
}


def there_and_back(value):
    tensors = {}
    return restored(json.loads(json.dumps(described(value, tensors))), tensors)


def drawn(fn):
    torch.manual_seed(0)
    return fn.sample((2,))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_distribution_draws_and_scores_as_before(name):
    fn = DISTRIBUTIONS[name]()
    z = drawn(fn)
    fn.log_prob(z)  # it keeps what it has computed
    again = there_and_back(fn)
    assert type(again) is type(fn) and again.batch_shape == fn.batch_shape and again.event_shape == fn.event_shape
    same = drawn(again)
    assert torch.equal(same, z) and torch.equal(again.log_prob(same), fn.log_prob(z))
    assert again.support.check(z).all()


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_constraint_and_its_transform_map_as_before(name):
    constraint, u = CONSTRAINTS[name], torch.randn(4, 3)
    again, transform = there_and_back(constraint), there_and_back(torch.distributions.transform_to(constraint))
    before = torch.distributions.transform_to(constraint)(u)
    assert torch.equal(torch.distributions.transform_to(again)(u), before) and torch.equal(transform(u), before)


def test_the_only_one_of_its_kind_is_itself():
    assert there_and_back(constraints.real) is constraints.real
    assert there_and_back(dist.Normal(0.0, 1.0)).support is constraints.real


def test_an_inverse_and_a_cache_work_after_they_come_back():
    transform = ExpTransform(cache_size=1)
    x = torch.randn(3)
    y = transform(x)
    for each in (transform, transform.inv):
        again = there_and_back(each)
        assert isinstance(again, Transform) and torch.allclose(again.inv(again(y)), y)


def test_a_class_of_the_users_is_none():
    class Own(dist.Normal):
        pass

    assert law(Own(0.0, 1.0)) is None and law(3) is None
    with pytest.raises(TypeError, match=r"z: got an object of .*Own"):
        described(Own(0.0, 1.0), {}, at="z")


def test_a_name_that_no_library_has_is_refused():
    with pytest.raises(KeyError):
        lawful("os.system", {})

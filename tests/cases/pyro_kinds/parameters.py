"""What a probe must not break: parameters without a constraint, covariances, gradients inside of a guide, masks."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.distributions.testing import fakes

from tests.cases.pyro_kinds.exhaustive import Case
from tests.cases.pyro_kinds.plates import Y3, p_of, see


def at_the_edge():
    pyro.sample("x", dist.Bernoulli(p_of(value=0.99)))


def tiny():
    pyro.sample("x", dist.Bernoulli(p_of(value=0.004)))


def coin():
    see(pyro.sample("x", dist.Bernoulli(0.5)))


def categories():
    see(pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.3, 0.5]))).float())


def categories_guide():
    pyro.sample("k", dist.Categorical(pyro.param("p", torch.tensor([0.02, 0.08, 0.9]))))


def one_hot():
    k = pyro.sample("k", dist.OneHotCategorical(torch.tensor([0.2, 0.3, 0.5])))
    see((k * torch.tensor([0.0, 1.0, -1.0])).sum(-1))


def one_hot_guide():
    pyro.sample("k", dist.OneHotCategorical(pyro.param("p", torch.tensor([0.3, 0.3, 0.4]))))


def normal():
    see(pyro.sample("x", dist.Normal(0.0, 1.0)))


def small_scale_guide():
    pyro.sample("x", dist.Normal(pyro.param("loc", torch.tensor(0.3)), pyro.param("scale", torch.tensor(0.05))))


def fake_normal():
    see(pyro.sample("x", fakes.NonreparameterizedNormal(0.0, 1.0)))


def fake_guide():
    fn = fakes.NonreparameterizedNormal(pyro.param("loc", torch.tensor(0.3)), pyro.param("scale", torch.tensor(0.8)))
    pyro.sample("x", fn)


def no_path_guide():
    pyro.sample("x", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 0.9).has_rsample_(False))


def rounded():
    x = pyro.sample("x", dist.Bernoulli(0.3))
    pyro.sample("y", dist.Bernoulli((2 * x).round().clamp(min=0.2, max=0.8)), obs=torch.tensor(0.0))


def probability_of_the_model():
    p = pyro.param("prior", torch.tensor(0.05))
    with pyro.plate("rows", 3):
        see(pyro.sample("x", dist.Bernoulli(p)), Y3)


def rows_guide():
    with pyro.plate("rows", 3):
        pyro.sample("x", dist.Bernoulli(p_of()))


def likelihood_probability():
    k = pyro.sample("x", dist.Bernoulli(0.5))
    p = pyro.param("rates", torch.tensor([0.03, 0.95]))
    pyro.sample("y", dist.Bernoulli(p[k.long()]), obs=torch.tensor(1.0))


def gradient_inside_guide():
    """A step of Newton's method inside of the guide, by autograd."""
    m = pyro.param("loc", torch.tensor(0.4))
    with torch.enable_grad():
        x = torch.zeros((), requires_grad=True)
        (slope,) = torch.autograd.grad((x - 0.3) ** 2, x)
    pyro.sample("x", dist.Normal(m - 0.5 * slope, 0.7))


def gradient_without_enabling():
    m = pyro.param("loc", torch.tensor(0.4))
    x = torch.zeros((), requires_grad=True)
    (slope,) = torch.autograd.grad((x - 0.3) ** 2, x)
    pyro.sample("x", dist.Normal(m - 0.5 * slope, 0.7))


def backward_inside():
    m = pyro.param("loc", torch.tensor(0.4))
    x = torch.zeros((), requires_grad=True)
    ((x - 0.3) ** 2).backward()
    pyro.sample("x", dist.Normal(m - 0.5 * x.grad, 0.7))


def matrix_model():
    x = pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    cov = pyro.param("cov", torch.tensor([[1.0, 0.97], [0.97, 1.0]]))
    pyro.sample("y", dist.MultivariateNormal(x, covariance_matrix=cov), obs=torch.tensor([0.3, -0.2]))


def matrix_guide():
    pyro.sample("x", dist.Normal(pyro.param("loc", torch.zeros(2)), 0.5).to_event(1))


def scale_in_event():
    with pyro.plate("rows", 3):
        see(pyro.sample("x", dist.Normal(0.0, 1.0)), Y3)


def masked_guide():
    with pyro.plate("rows", 3), poutine.mask(mask=torch.tensor([True, False, True])):
        pyro.sample("x", dist.Normal(pyro.param("loc", torch.zeros(3)), 0.5))


def masked_model():
    with pyro.plate("rows", 3), poutine.mask(mask=torch.tensor([True, False, True])):
        see(pyro.sample("x", dist.Normal(0.0, 1.0)), Y3)


def false_on_both_sides():
    x = pyro.sample("x", dist.Normal(0.0, 1.0).mask(False))
    see(pyro.sample("z", dist.Normal(x, 1.0)))


def false_guide():
    x = pyro.sample("x", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 1.0).mask(False))
    pyro.sample("z", dist.Normal(0.5 * x + pyro.param("shift", torch.tensor(0.2)), 1.0))


def true_on_both_sides():
    x = pyro.sample("x", dist.Normal(0.0, 1.0).mask(True))
    see(pyro.sample("z", dist.Normal(x, 1.0)))


def true_guide():
    x = pyro.sample("x", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 1.0).mask(True))
    pyro.sample("z", dist.Normal(x, 1.0))


def constrained_guide():
    p = pyro.param("p", torch.tensor(0.3), constraint=constraints.interval(0.2, 0.9))
    pyro.sample("x", dist.Bernoulli(p))


def beta_model():
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("rows", 3):
        pyro.sample("y", dist.Bernoulli(p), obs=torch.tensor([1.0, 0.0, 1.0]))


def beta_guide():
    pyro.sample("p", dist.Beta(pyro.param("a", torch.tensor(3.0)), pyro.param("b", torch.tensor(2.5))))


def fake_beta_guide():
    a, b = pyro.param("a", torch.tensor(3.0)), pyro.param("b", torch.tensor(2.5))
    pyro.sample("p", fakes.NonreparameterizedBeta(a, b))


def bound_model():
    """The guide's support is inside of the model's, and ends where a parameter without a constraint says."""
    see(pyro.sample("x", dist.Uniform(0.0, 1.0)))


CASES = {
    "probability near one": Case(coin, at_the_edge),
    "probability near zero": Case(coin, tiny),
    "probability in an interval": Case(coin, constrained_guide),
    "probabilities of categories": Case(categories, categories_guide),
    "probabilities of one-hot categories": Case(one_hot, one_hot_guide),
    "small scale": Case(normal, small_scale_guide),
    "scale without a constraint, score": Case(normal, fake_guide, n=400),
    "without rsample on both sides": Case(fake_normal, fake_guide, n=400),
    "has_rsample_(False)": Case(normal, no_path_guide, n=200),
    "rounded and clamped": Case(rounded, at_the_edge),
    "probability of the model": Case(probability_of_the_model, rows_guide),
    "probability of the data": Case(likelihood_probability, at_the_edge),
    "autograd in the guide, grad enabled": Case(normal, gradient_inside_guide, n=60),
    "autograd in the guide": Case(normal, gradient_without_enabling, n=60),
    "backward in the guide": Case(normal, backward_inside, n=60),
    "covariance without a constraint": Case(matrix_model, matrix_guide, n=100),
    "mask on both sides": Case(masked_model, masked_guide, n=100),
    "mask(False) on both sides": Case(false_on_both_sides, false_guide, n=100),
    "mask(True) on both sides": Case(true_on_both_sides, true_guide, n=100),
    "Beta": Case(beta_model, beta_guide, n=100),
    "Beta without rsample": Case(beta_model, fake_beta_guide, n=200),
}

"""The gradient of a loss in all parameters of the current store, beside autograd on the same function."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch.distributions import constraints

from credo.inference.objective.elbo import differentiable_loss
from credo.inference.objective.gradients import flat_gradient, gradients
from credo.inference.pair.pair import Pair
from credo.inference.planning.choose import make_plan
from credo.inference.runtime.generators import noise

X = torch.linspace(-1.0, 1.0, 8)


def loss():
    scale = pyro.param("scale", torch.tensor([0.5, 2.0]), constraint=constraints.positive)
    return (scale**2).sum() + 3 * pyro.param("loc", torch.tensor(1.0))


def test_gradients_are_in_unconstrained_space_and_zero_where_a_parameter_is_not_used():
    pyro.param("unused", torch.ones(3))
    loss()
    found = gradients(loss)
    assert found["unused"].tolist() == [0.0, 0.0, 0.0] and found["loc"].item() == 3.0
    u = torch.tensor([0.5, 2.0]).log().requires_grad_()
    (wanted,) = torch.autograd.grad((u.exp() ** 2).sum(), u)
    assert torch.allclose(found["scale"], wanted)
    assert torch.equal(flat_gradient(loss), torch.cat([g.flatten() for g in found.values()]))


def regression(x):
    w, s = pyro.sample("w", dist.Normal(0.0, 2.0)), pyro.sample("s", dist.LogNormal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w * x, s), obs=x.sin())


def schools(x):
    mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(2.0))
    with pyro.plate("J", len(x)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, 0.5), obs=x)


def coin(x):
    p = pyro.sample("p", dist.Beta(2.0, 3.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Bernoulli(p), obs=(x > 0).float())


def topics(x):
    p = pyro.sample("p", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Categorical(p), obs=(x > 0).long())


def logistic(x):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("N", len(x)), poutine.scale(scale=2.5):
        pyro.sample("y", dist.Bernoulli(logits=w[0] + w[1] * x), obs=(x > 0).float())


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("model", [regression, schools, coin, topics, logistic])
def test_an_autonormal_has_the_gradient_of_pyros_elbo_at_the_same_noise(model, seed):
    guide = AutoNormal(model, init_scale=0.3)
    guide(X)
    pair, leaves = Pair(model, guide, (X,)), [p for _, p in pyro.get_param_store().named_parameters()]
    plan = make_plan(pair, poutine.trace(guide).get_trace(X), True).with_term("log q")
    assert {e.estimator for e in plan.entries} == {"pathwise"}

    def gradient(loss):
        with noise(seed):
            value = loss()
        return value.item(), torch.cat([g.flatten() for g in torch.autograd.grad(value, leaves)])

    ours = gradient(lambda: differentiable_loss(plan.recipe, pair, 1, False, 1.0, {})[1])
    pyros = gradient(lambda: Trace_ELBO().differentiable_loss(model, guide, X))
    assert ours[0] == pytest.approx(pyros[0], rel=1e-5)
    assert torch.allclose(ours[1], pyros[1], rtol=1e-4, atol=1e-4)

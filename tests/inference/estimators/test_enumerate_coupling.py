"""Coupling between rows that is easily overlooked, and values that are impossible."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import credo
from tests.cases.repeats import seeds

Y = torch.tensor([1.3, 0.2, 2.0])


def local(kind):
    def guide(y):
        with pyro.plate("N", len(y)):
            pyro.sample("k", kind())

    return guide


def coin():
    return dist.Bernoulli(logits=pyro.param("u", torch.tensor(0.4)))


def five():
    return dist.Categorical(logits=pyro.param("u", torch.linspace(-1.0, 1.0, 5)))


def strength_zero_outside(y):
    """J starts at zero, where the sum of the row's values moves nothing."""
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(k, 1.0), obs=y)
    pyro.sample("s", dist.Normal(pyro.param("J", torch.tensor(0.0)) * k.sum(-1), 1.0), obs=torch.tensor(2.0))


def strength_zero_inside(y):
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(k + pyro.param("J", torch.tensor(0.0)) * k.roll(1, -1), 1.0), obs=y)


def rare_outside(y):
    """Five values and three rows: that any row has the last one must not be overlooked."""
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Categorical(torch.ones(5)))
        pyro.sample("y", dist.Normal(k.float(), 1.0), obs=y)
    pyro.factor("any", -2.0 * (k == 4).any(-1))


def rare_inside(y):
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Categorical(torch.ones(5)))
        pyro.sample("y", dist.Normal(k - 2.0 * (k == 4).any(-1, keepdim=True), 1.0), obs=y)


@pytest.mark.parametrize("seed", seeds(5))
@pytest.mark.parametrize(("model", "kind"), [(strength_zero_outside, coin), (rare_outside, five)])
def test_what_leaves_the_plate_is_not_summed_over(model, kind, seed):
    row = credo.plan(model, local(kind), Y, seed=seed).frame.loc["k"]
    assert row["estimator"] == "score" and "depends on its values in other rows" in row["reason"]


@pytest.mark.parametrize("seed", seeds(5))
@pytest.mark.parametrize(("model", "kind"), [(strength_zero_inside, coin), (rare_inside, five)])
def test_rows_that_look_at_each_other_are_not_summed_over(model, kind, seed):
    row = credo.plan(model, local(kind), Y, seed=seed, plan="fast").frame.loc["k"]
    assert row["estimator"] == "score" and "depends on its values in other rows" in row["reason"]


def test_a_value_that_the_guide_excludes_costs_nothing():
    """E_q[log p(k, y) - log q(k)] over the two values that are left; the third has q = 0, and log q = -inf."""

    def model(y):
        k = pyro.sample("k", dist.Categorical(torch.ones(3)))
        pyro.sample("y", dist.Normal(k.float(), 1.0), obs=y)

    def guide(y):
        u = pyro.param("u", torch.tensor([0.2, -0.1]))
        pyro.sample("k", dist.Categorical(logits=torch.cat([u, torch.tensor([-math.inf])])))

    y = torch.tensor(0.8)
    runner = credo.SVI(model, guide)
    assert runner.prepare(y).estimator("k") == "enumerate"
    u = torch.tensor([0.2, -0.1], dtype=torch.float64, requires_grad=True)
    q = u.softmax(0)
    log_p = torch.stack([dist.Normal(float(k), 1.0).log_prob(y.double()) for k in (0, 1)]) - math.log(3)
    loss = -(q * (log_p - q.log())).sum()
    assert runner.evaluate_loss(y) == pytest.approx(loss.item(), abs=1e-6)
    (slope,) = torch.autograd.grad(loss, u)
    assert runner.gradients(y)["u"].tolist() == pytest.approx(slope.tolist(), abs=1e-6)


def test_dropout_layers_are_not_taken_for_rows_that_look_at_each_other():
    net = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 2))

    def model(y):
        pyro.module("net", net)
        with pyro.plate("N", len(y)):
            k = pyro.sample("k", dist.Bernoulli(0.5))
            pyro.sample("y", dist.Normal(net(y[:, None])[..., 0] + k, 1.0), obs=y)

    assert credo.plan(model, local(coin), Y).estimator("k") == "enumerate"
    assert net.training and net[1].training


def test_a_branch_with_sites_of_its_own_falls_back_to_the_score():
    def model(y):
        k = pyro.sample("k", dist.Bernoulli(0.5))
        with pyro.plate("N", len(y)):
            pyro.sample("high" if k.item() else "low", dist.Normal(k, 1.0), obs=y)

    def guide(y):
        pyro.sample("k", coin())

    fit = credo.fit(model, guide, Y, steps=30, progress=False)
    row = fit.plan.frame.loc["k"]
    assert row["estimator"] == "score" and "other sites for some of its values" in row["reason"]
    assert all(math.isfinite(loss) for loss in fit.losses)

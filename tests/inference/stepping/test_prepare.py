"""What a run finds out when it meets its data: how many draws a step takes, how many latents there are, and warm-up."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.distributions import constraints as c

import credo
from credo.inference.objective.elbo import differentiable_loss
from credo.inference.objective.gradients import gradients
from credo.inference.pair.pair import Pair
from credo.inference.runtime.parameters import unconstrained
from credo.inference.runtime.state import entered
from credo.inference.stepping.prepare import WARMUP
from credo.inference.stepping.steps import Steps

Y = torch.tensor([1.3, 0.2, 2.0])


def model(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def guide(y):
    scale = pyro.param("scale", torch.tensor(0.6), constraint=c.positive)
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.3)), scale))


def prepared(model, guide, *data, **options):
    runner = credo.SVI(model, guide, **options)
    runner.prepare(*data)
    return runner._prepared


def multiplying(n):
    """2 n^3 floating point operations a draw, of two numbers of data."""

    def model(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        matrix = torch.full((n, n), 1.0 / n)
        pyro.sample("y", dist.Normal(((matrix * z) @ matrix).sum() / n, 1.0).expand([2]).to_event(1), obs=y)

    return model


def branching(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z if z > 0 else 0 * z, 1.0), obs=y)


@pytest.mark.parametrize(
    ("program", "y", "options", "particles"),
    [
        (model, Y, {}, 32),
        (model, Y, {"particles": 3}, 3),
        (model, Y, {"plan": {"z": "score"}}, 32),
        (branching, Y, {}, 1),
        (branching, Y, {"plan": {"z": "score"}}, 2),
        (multiplying(400), Y[:2], {}, 1),
        (model, torch.zeros(3 * 10**5), {}, 1),
        (model, torch.zeros(3 * 10**5), {"batch_size": 10}, 32),
    ],
    ids=["cheap", "asked for", "score", "branching", "branching by score", "much work", "many data", "in batches"],
)
def test_the_number_of_draws_is_counted_not_timed(program, y, options, particles):
    assert prepared(program, guide, y, **options).particles == particles


def rows_model(y):
    with pyro.plate("N", len(y)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(z.sum(-1), 1.0), obs=y)


def rows_guide(y):
    w = pyro.param("w", torch.tensor([0.1, 0.2]))
    with pyro.plate("N", len(y)):
        pyro.sample("z", dist.Normal(w * y[:, None], 1.0).to_event(1))


def flat_model(y, latents):
    z = pyro.sample("z", dist.Normal(torch.zeros(latents), 1.0).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z.sum(), 1.0), obs=y)


def flat_guide(y, latents):
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.zeros(latents)), 1.0).to_event(1))


def test_latents_are_counted_for_all_rows():
    y = torch.arange(10.0)
    assert prepared(model, guide, y).latents == 1
    assert prepared(rows_model, rows_guide, y).latents == 20
    assert prepared(rows_model, rows_guide, y, batch_size=4).latents == 20
    assert prepared(rows_model, rows_guide, y, batch_size=3).latents == 20


@pytest.mark.parametrize(("latents", "warmup"), [(1, 0), (3, 0), (4, WARMUP), (50, WARMUP)])
def test_a_run_warms_up_where_latents_outnumber_the_observations(latents, warmup):
    found = prepared(lambda y: flat_model(y, latents), lambda y: flat_guide(y, latents), Y)
    assert found.latents == latents and found.warmup == warmup


def test_in_batches_too_and_with_the_score_function():
    y = torch.arange(10.0)
    assert prepared(rows_model, rows_guide, y, batch_size=3).warmup == WARMUP
    assert prepared(rows_model, rows_guide, y, plan={"z": "score"}).warmup == WARMUP
    three = prepared(lambda y: flat_model(y, 5), lambda y: flat_guide(y, 5), y, batch_size=3)
    assert three.warmup == 0  # five latents, ten observations, of which a step sees three


def coin_model(y):
    k = pyro.sample("k", dist.Bernoulli(0.3))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(2 * k, 1.0), obs=y)


def coin_guide(y):
    pyro.sample("k", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.4))))


@pytest.mark.parametrize("kl_weight", [0.0, 0.25, 1.0])
def test_warming_up_weights_the_gradient_of_the_divergence_and_reports_the_loss_as_it_is(kl_weight):
    runner, pair = credo.SVI(coin_model, coin_guide), Pair(coin_model, coin_guide, (Y,))
    plan = runner.prepare(Y)
    with entered(runner._prepared.state):
        loss, surrogate = differentiable_loss(plan.recipe, pair, 2, True, kl_weight)
        found = gradients(lambda: surrogate)["logit"].item()
        logit = unconstrained()["logit"].detach().double().requires_grad_()
    q, y = torch.sigmoid(logit), Y.double()
    kl = kl_divergence(Bernoulli(q), Bernoulli(torch.tensor(0.3).double()))
    fits = q * Normal(2.0, 1.0).log_prob(y).sum() + (1 - q) * Normal(0.0, 1.0).log_prob(y).sum()
    assert loss == pytest.approx((kl - fits).item(), rel=1e-5)
    assert found == pytest.approx(torch.autograd.grad(kl_weight * kl - fits, logit)[0].item(), rel=1e-4)


@pytest.mark.parametrize("steps", [None, 400, 3000])
def test_the_weight_of_the_divergence_rises_to_one_and_stays(steps, monkeypatch):
    """By 1 / (warmup + 1) a step; a run of a given number of steps spends at most a quarter on it."""
    runner = credo.SVI(lambda y: flat_model(y, 5), lambda y: flat_guide(y, 5), particles=1, compile=False)
    seen, loss = [], Steps.loss

    def noted(self, pair, plan, kl_weight=1.0):
        seen.append(kl_weight)
        return loss(self, pair, plan, kl_weight)

    monkeypatch.setattr(Steps, "loss", noted)
    fit = runner.run(Y, steps=steps)
    warmup = WARMUP if steps is None else min(WARMUP, steps // 4)
    assert len(seen) == len(fit.losses) > warmup
    assert seen[:warmup] == pytest.approx([(i + 1) / (warmup + 1) for i in range(warmup)])
    assert set(seen[warmup:]) == {1.0}
    runner.run(Y, steps=10)
    assert seen[-10:] == [1.0] * 10


def test_a_run_by_batches_looks_at_all_rows_twice():
    """Once to check the pair, once to see whether it repeats itself: a pass takes as long as an epoch."""
    rows = []

    def watched(y):
        rows.append(len(y))
        return model(y)

    prepared(watched, guide, torch.linspace(-1.0, 1.0, 40), batch_size=4, plan="fast")
    assert rows.count(40) == 2

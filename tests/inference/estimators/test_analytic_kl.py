"""The divergence from the prior in closed form: that it is unbiased, and where it must not be used."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch.distributions import Gamma, Normal, kl_divergence
from torch.distributions import constraints as c

import credo
from credo.inference.objective.elbo import differentiable_loss
from credo.inference.objective.gradients import gradients
from credo.inference.pair.pair import Pair
from credo.inference.planning.legal import examine
from credo.inference.runtime.parameters import unconstrained
from credo.inference.runtime.state import entered
from tests.cases.repeats import seeds

Y = torch.tensor([1.3, 0.2, 2.0])


def known(model, guide, *data, seed=0):
    runner = credo.SVI(model, guide, seed=seed)
    return runner.prepare(*data).kl


def observe(y, mean=0.0, scale=1.0):
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(mean, scale), obs=y)


def normal(name, loc=0.4, scale=0.6):
    loc = pyro.param(f"{name}_loc", torch.tensor(loc))
    return dist.Normal(loc, pyro.param(f"{name}_scale", torch.tensor(scale), constraint=c.positive))


def idle_model(y):
    """The data says nothing of z and r: what is left of their part is KL alone, without noise."""
    r = pyro.sample("r", dist.Gamma(2.0, 3.0))
    with pyro.plate("units", 2):
        pyro.sample("z", dist.Normal(torch.zeros(3), 2.0).to_event(1))
    observe(y, 0 * r)


def idle_guide(y):
    shape = pyro.param("shape", torch.tensor(1.7), constraint=c.positive)
    pyro.sample("r", dist.Gamma(shape, 2.5))
    with pyro.plate("units", 2):
        pyro.sample("z", normal("z").expand([2, 3]).to_event(1))


@pytest.mark.parametrize("vectorised", [True, False], ids=["at once", "one by one"])
def test_where_the_data_says_nothing_the_loss_and_gradient_are_exact(vectorised):
    runner, pair = credo.SVI(idle_model, idle_guide), Pair(idle_model, idle_guide, (Y,))
    plan = runner.prepare(Y)
    assert (
        plan.kl == {"r", "z"}
        and plan.term == "analytic KL"
        and list(plan.frame["term"]) == ["analytic KL", "analytic KL"]
    )
    with entered(runner._prepared.state):
        loss, surrogate = differentiable_loss(plan.recipe, pair, 3, vectorised)
        found = gradients(lambda: surrogate)
        noisy = {differentiable_loss(plan.with_term("log q").recipe, pair, 3, vectorised)[0] for _ in range(3)}
        p = {name: leaf.detach().double().requires_grad_() for name, leaf in unconstrained().items()}
    kl = kl_divergence(Gamma(p["shape"].exp(), torch.tensor(2.5).double()), Gamma(*torch.tensor([2.0, 3.0]).double()))
    kl = kl + 6 * kl_divergence(Normal(p["z_loc"], p["z_scale"].exp()), Normal(0.0, 2.0))
    exact = torch.autograd.grad(kl, list(p.values()))
    assert loss == pytest.approx((kl - Normal(0.0, 1.0).log_prob(Y).sum()).item(), rel=1e-5)
    assert len(noisy) == 3  # the draws are there, and do not matter
    for name, slope in zip(p, exact, strict=True):
        assert found[name].item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("factor", [2.0, 0.25])
def test_the_same_scale_on_both_sides_is_that_of_the_divergence(factor):
    model, guide = poutine.scale(idle_model, scale=factor), poutine.scale(idle_guide, scale=factor)
    once = credo.SVI(idle_model, idle_guide).evaluate_loss(Y)
    runner = credo.SVI(model, guide)
    assert runner.prepare(Y).kl == {"r", "z"}
    assert runner.evaluate_loss(Y) == pytest.approx(factor * once, rel=1e-5)


def guide_ahead(y):
    """z before k, and k from z."""
    z = pyro.sample("z", normal("z"))
    pyro.sample("k", dist.Bernoulli(logits=2 * z))


def crossed_normal(y):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    z = pyro.sample("z", dist.Normal(w, 1.0))
    observe(y, z)


def crossed_normal_guide(y):
    z = pyro.sample("z", normal("z"))
    pyro.sample("w", dist.Normal(0.5 * z, pyro.param("s", torch.tensor(0.7), constraint=c.positive)))


def below(y):
    """The guide goes the same way as the model: KL is right given w."""
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    observe(y, pyro.sample("z", dist.Normal(w, 1.0)))


def below_guide(y):
    w = pyro.sample("w", normal("w"))
    pyro.sample("z", dist.Normal(0.5 * w, pyro.param("s", torch.tensor(0.7), constraint=c.positive)))


def two(y):
    pyro.sample("w", dist.Normal(0.0, 1.0))
    observe(y, pyro.sample("z", dist.Normal(0.0, 1.0)))


def test_a_prior_that_depends_on_a_draw_is_left_to_the_draws():
    assert known(crossed_normal, crossed_normal_guide, Y) == {"w"}
    assert known(below, below_guide, Y) == {"w", "z"}  # E over w of KL(q(z | w) || p(z | w))
    assert known(two, below_guide, Y) == {"w", "z"}  # the guide may: E over w of KL(q(z | w) || p(z))


def crossed_finite(y):
    """z's prior depends on a coin, and the coin's guide on z: KL(q(z) || p(z | k)) would be wrong."""
    k = pyro.sample("k", dist.Bernoulli(0.3))
    z = pyro.sample("z", dist.Normal(3 * k, 1.0))
    observe(y, z)


def test_a_prior_that_depends_on_a_coin_is_left_to_the_draws_whatever_the_coin_shows():
    found = [known(crossed_finite, guide_ahead, Y, seed=seed) for seed in range(20)]
    assert found == [frozenset()] * 20


def crossed_exact(p):
    """By quadrature over z: the mean of sum_k q(k | z) (log q(z) + log q(k | z) - log p)."""
    z = torch.linspace(-8.0, 8.0, 20_001).double()
    q = Normal(p["z_loc"], p["z_scale"].exp())
    total = 0.0
    for k, prior in ((0.0, 0.7), (1.0, 0.3)):
        log_q = torch.nn.functional.logsigmoid(2 * z if k else -2 * z)
        fits = Normal(z[:, None], 1.0).log_prob(Y.double()).sum(1)
        log_p = torch.tensor(prior).double().log() + Normal(3 * k, 1.0).log_prob(z) + fits
        total = total + q.log_prob(z).exp() * log_q.exp() * (q.log_prob(z) + log_q - log_p)
    return torch.trapezoid(total, z)


@pytest.mark.parametrize("seed", seeds(4))
def test_a_crossed_pair_is_unbiased(seed):
    runner, pair = credo.SVI(crossed_finite, guide_ahead, seed=seed), Pair(crossed_finite, guide_ahead, (Y,))
    plan, rows = runner.prepare(Y), []
    with entered(runner._prepared.state):
        for _ in range(60):
            loss, surrogate = differentiable_loss(plan.recipe, pair, 200, True)
            rows.append(torch.stack([torch.tensor(loss), *gradients(lambda s=surrogate: s).values()]).double())
        p = {name: leaf.detach().double().requires_grad_() for name, leaf in unconstrained().items()}
    exact = crossed_exact(p)
    exact = torch.stack([exact.detach(), *torch.autograd.grad(exact, list(p.values()))])
    rows = torch.stack(rows)
    z = (rows.mean(0) - exact) / (rows.std(0) / 60**0.5)
    assert z.abs().max() < 4.5, z


def one_model(y):
    observe(y, pyro.sample("z", dist.Normal(0.0, 1.0)))


def one_guide(y):
    pyro.sample("z", normal("z"))


def local_model(y):
    with pyro.plate("N", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def local_guide(y):
    with pyro.plate("N", len(y)):
        pyro.sample("z", normal("z"))


def point_guide(y):
    pyro.sample("z", dist.Delta(pyro.param("at", torch.tensor(0.3))))


def masked_model(y):
    with pyro.plate("N", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).mask(y > 1))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def half_cauchy_model(y):
    observe(y, 0.0, pyro.sample("z", dist.HalfCauchy(1.0)))


def log_normal_guide(y):
    loc = pyro.param("loc", torch.tensor(0.1))
    pyro.sample("z", dist.LogNormal(loc, 0.5))


mask = torch.tensor([True, False, True])
ONE = frozenset({"z"})
CASES = {  # model, guide, whether the divergence of z is used
    "a normal": (one_model, one_guide, ONE),
    "scaled in the model alone": (poutine.scale(one_model, scale=2.0), one_guide, frozenset()),
    "scaled in the guide alone": (one_model, poutine.scale(one_guide, scale=2.0), frozenset()),
    "annealed prior": (poutine.scale(local_model, scale=0.1), local_guide, frozenset()),
    "masked handler": (poutine.mask(local_model, mask=mask), poutine.mask(local_guide, mask=mask), ONE),
    "masked distribution": (masked_model, local_guide, frozenset()),
    "a point": (one_model, point_guide, frozenset()),
    "no closed form": (half_cauchy_model, log_normal_guide, frozenset()),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_used_where_it_is_right_and_nowhere_else(name):
    model, guide, sites = CASES[name]
    plan = credo.SVI(model, guide).prepare(Y)
    assert plan.kl == sites
    assert (plan.term == "analytic KL") is bool(sites) and ("analytic KL" in plan.terms) is bool(sites)


def test_a_weight_for_each_row_is_no_error():
    """poutine.scale takes a tensor; KL is right if both sides have the same."""
    weight = torch.tensor([1.0, 2.0, 0.5])
    model, guide = poutine.scale(local_model, scale=weight), poutine.scale(local_guide, scale=weight)
    runner = credo.SVI(model, guide, particles=2000)
    kl = kl_divergence(Normal(0.4, 0.6), Normal(0.0, 1.0))
    fits = Normal(0.4, 1.0).log_prob(Y) - 0.5 * 0.36
    assert runner.evaluate_loss(Y) == pytest.approx((weight * (kl - fits)).sum().item(), abs=0.15)


def test_looking_moves_no_parameter():
    runner = credo.SVI(one_model, one_guide)
    runner.prepare(Y)
    with entered(runner._prepared.state):
        before = {name: leaf.detach().clone() for name, leaf in unconstrained().items()}
        found = examine(Pair(one_model, one_guide, (Y,)), poutine.trace(one_guide).get_trace(Y), True).facts
        assert found.kl == {"z": "z"} and not found.improper
        assert all(torch.equal(before[n], leaf) and leaf.grad is None for n, leaf in unconstrained().items())

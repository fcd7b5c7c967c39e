"""One-flip marginalisation: against sums over all values, and exact where a unit has nothing random beside it."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import norm

import credo
from tests.cases.elbo.coins import COINS
from tests.cases.elbo.counts import mixed_elbo, mixed_guide, mixed_model
from tests.cases.elbo.expectations import Case, Y, coin, coin_of, corners, log_normal, param, positive
from tests.cases.gradients import draws_and_exact

DATA = Y.double()


def apart_model(y):
    """Each row has a unit of its own, and says nothing of those of other rows."""
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(2 * k, 1.0), obs=y)


def apart_guide(y):
    with pyro.plate("N", len(y)):
        pyro.sample("k", dist.Bernoulli(logits=param("u", [0.4, -0.6, 0.9])))


def apart_elbo(p):
    total = 0.0
    for k in (0, 1):
        log_q = coin(p["u"], k)
        total = total + (log_q.exp() * (coin_of(0.3, k) + log_normal(DATA, 2 * k) - log_q)).sum()
    return total


def alone_model(y):
    k = pyro.sample("k", dist.Categorical(torch.tensor([[0.5, 0.2, 0.3]])).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(0.8 * k[..., 0], 1.0), obs=y)


def alone_guide(y):
    pyro.sample("k", dist.Categorical(logits=param("u", [[0.4, -0.3, 0.1]])).to_event(1))


def alone_elbo(p):
    log_q, k = p["u"][0].log_softmax(0), torch.arange(3).double()
    prior = torch.tensor([0.5, 0.2, 0.3]).double().log()
    return (log_q.exp() * (prior + log_normal(DATA, 0.8 * k[:, None]).sum(-1) - log_q)).sum()


def smooth_model(y):
    """Units beside a normal, in one mean."""
    h = pyro.sample("h", dist.Bernoulli(torch.full((2,), 0.3)).to_event(1))
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(h[..., 0] - 0.5 * h[..., 1] + z, 1.0), obs=y)


def smooth_guide(y):
    """The normal looks at the units: it is drawn anew for each flip."""
    h = pyro.sample("h", dist.Bernoulli(logits=param("u", [0.3, -0.4])).to_event(1))
    pyro.sample("z", dist.Normal(param("m", 0.4) - param("a", 0.7) * h[..., 0], positive("s", 0.5)))


def smooth_elbo(p):
    total = 0.0
    for h in corners(2):
        log_q, mean, s = coin(p["u"], h).sum(), p["m"] - p["a"] * h[0], p["s"]
        kl = 0.5 * (s**2 + mean**2 - 1) - s.log()
        fit = log_normal(DATA, h[0] - 0.5 * h[1] + mean, 1.0, s**2).sum()
        total = total + log_q.exp() * (coin_of(0.3, h).sum() - log_q + fit - kl)
    return total


ALONE = {  # nothing else is random: one draw's gradient is the exact one
    "rows of one unit": (Case(apart_model, apart_guide, apart_elbo), "k"),
    "one categorical unit": (Case(alone_model, alone_guide, alone_elbo), "k"),
}
MEAN = {  # (pair, plan): right on average
    "units": (COINS["belief net"], {"h": "one-flip"}),
    "categorical units": (COINS["categorical units"], {"k": "one-flip"}),
    "units in rows, a later layer enumerated": (COINS["belief net, two layers"], {"h": "one-flip"}),
    "two layers, both flipped": (COINS["belief net, two layers"], {"h": "one-flip", "top": "one-flip"}),
    "a later layer by its score": (COINS["belief net, two layers"], {"h": "one-flip", "top": "score"}),
    "autoregressive, the rest enumerated": (COINS["autoregressive guide"], {"x1": "one-flip"}),
    "autoregressive, all flipped": (COINS["autoregressive guide"], dict.fromkeys(("x1", "x2", "x3"), "one-flip")),
    "crossed": (COINS["coins, crossed"], {"b": "one-flip"}),
    "above a normal and a coin": (COINS["coin, normal, coin"], {"a": "one-flip"}),
    "after a normal": (COINS["coin, normal, coin"], {"b": "one-flip"}),
    "after a count": (Case(mixed_model, mixed_guide, mixed_elbo), {"k": "one-flip"}),
    "beside a normal that looks": (Case(smooth_model, smooth_guide, smooth_elbo), {"h": "one-flip"}),
    "auxiliary": (COINS["auxiliary coin"], {"u": "one-flip"}),
}


def runner_of(case, plan, particles, term=None, seed=3):
    runner = credo.SVI(case.model, case.guide, plan=plan, particles=particles, seed=seed, progress=False)
    made = runner.prepare(*case.data)
    runner.plan = made if term is None else made.with_term(term)
    return runner


@pytest.mark.parametrize("term", ["analytic KL", "log q"])
@pytest.mark.parametrize("name", ALONE)
def test_a_unit_alone_has_an_exact_gradient_from_one_draw(name, term):
    case, site = ALONE[name]
    runner = runner_of(case, {site: "one-flip"}, 1, term)
    assert runner.plan.estimator(site) == "one-flip" and runner.plan.frame["term"][site] == term
    rows, exact = draws_and_exact(runner, case.data, case.elbo, 8)
    assert len({tuple(row.tolist()) for row in rows[:, 1:].round(decimals=4)}) == 1 or term == "log q"
    torch.testing.assert_close(rows[:, 1:], exact[1:].expand_as(rows[:, 1:]), atol=2e-5, rtol=2e-5)
    assert exact[1:].abs().max() > 0.1  # there is something to get wrong


@pytest.mark.parametrize("name", MEAN)
def test_the_mean_is_the_sum_over_all_values(name):
    case, plan = MEAN[name]
    runner = runner_of(case, plan, 80)
    assert {site: runner.plan.estimator(site) for site in plan} == plan
    for term in ("analytic KL", "log q"):
        runner.plan = runner.plan.with_term(term)
        rows, exact = draws_and_exact(runner, case.data, case.elbo, 16)
        off, error = (rows.mean(0) - exact)[1:], rows.std(0)[1:] / 4
        noisy = error > 1e-5 * (1 + exact[1:].abs())
        assert (off.abs() <= 5e-5 * (1 + exact[1:].abs()))[~noisy].all(), off
        assert not noisy.any() or (off / error)[noisy].abs().max() < 1.4 * norm.isf(1e-4 / 2 / len(off)), off / error


def variance(plan, site="h", case=COINS["belief net"]):
    rows, _ = draws_and_exact(runner_of(case, {site: plan}, 4), case.data, case.elbo, 40)
    return rows[:, 1:].var(0).sum().item()


def test_it_has_less_noise_than_the_score_function():
    """Given the others each unit is summed over: by Rao and Blackwell less, and here much."""
    assert variance("one-flip") < 0.3 * variance("score")


def test_it_is_refused_where_rows_look_at_each_other():
    def model(y):
        with pyro.plate("N", len(y)):
            k = pyro.sample("k", dist.Bernoulli(0.3))
            pyro.sample("y", dist.Normal(k - k.mean(-1, keepdim=True), 1.0), obs=y)

    with pytest.raises(ValueError, match=r"'k'.*the draw of a row moves the costs of other rows"):
        credo.SVI(model, apart_guide, plan={"k": "one-flip"}, progress=False).prepare(Y)


def test_units_of_a_plate_that_is_a_loop_are_flipped_beside_enumerated_ones():
    """So many coins that not all can be enumerated; the plate's own index is no draw, and stays out of the flips."""
    y = torch.linspace(-1, 2, 10)

    def model(y):
        for i in pyro.plate("N", len(y)):
            k = pyro.sample(f"k{i}", dist.Bernoulli(0.3))
            pyro.sample(f"y{i}", dist.Normal(2 * k, 1.0), obs=y[i])

    def guide(y):
        u = param("u", [0.1 * i for i in range(10)])
        for i in pyro.plate("N", len(y)):
            pyro.sample(f"k{i}", dist.Bernoulli(logits=u[i]))

    def elbo(p):
        total = 0.0
        for k in (0, 1):
            log_q = coin(p["u"], k)
            total = total + (log_q.exp() * (coin_of(0.3, k) + log_normal(y.double(), 2 * k) - log_q)).sum()
        return total

    runner = runner_of(Case(model, guide, elbo, data=(y,)), None, 1)
    assert set(runner.plan.frame["estimator"]) == {"enumerate", "one-flip"}
    rows, exact = draws_and_exact(runner, (y,), elbo, 2)
    torch.testing.assert_close(rows[:, 1:], exact[1:].expand_as(rows[:, 1:]), atol=2e-4, rtol=2e-4)

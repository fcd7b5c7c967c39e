"""Plans compete: repeatable, within a budget, won by what is known to win, and measured rightly."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints as c

import credo
from credo.inference.pair.pair import Pair
from credo.inference.planning import race as racing
from credo.inference.planning.race import Contest, how_many, measured, race, with_measured
from credo.inference.runtime.state import entered
from credo.inference.variational import races

Y = torch.tensor([1.3, 0.2, 2.0])
N = len(Y)


def model(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def guide_of(mean, sd, learnt=False):
    def guide(y):
        scale = pyro.param("s", torch.tensor(sd), constraint=c.positive) if learnt else sd
        pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(mean)), scale))

    return guide


guide = guide_of(0.3, 0.4)
AT_POSTERIOR = guide_of((Y.sum() / (N + 1)).item(), (N + 1) ** -0.5, learnt=True)


def wide_model(y):
    """A normal, a count, a coin and units: every kind of rival."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    n = pyro.sample("n", dist.Poisson(torch.tensor(1.0)))
    k = pyro.sample("k", dist.Bernoulli(0.3))
    h = pyro.sample("h", dist.Bernoulli(torch.full((3,), 0.3)).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z + n + k + h.sum(-1), 1.0), obs=y)


def wide_guide(y):
    pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.2)), 0.7))
    pyro.sample("n", dist.Poisson(pyro.param("r", torch.tensor(0.8), constraint=c.positive)))
    pyro.sample("k", dist.Bernoulli(logits=pyro.param("u", torch.tensor(0.1))))
    pyro.sample("h", dist.Bernoulli(logits=pyro.param("v", torch.zeros(3))).to_event(1))


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """A race may take a fifth of a second's work here."""
    monkeypatch.setattr(races, "SECOND", 2e5)


@pytest.fixture
def counted(monkeypatch):
    """How many gradients were taken, those of `work` too."""
    calls, real = [], racing.flat_gradient
    monkeypatch.setattr(racing, "flat_gradient", lambda loss: calls.append(1) or real(loss))
    return calls


def ready(model, guide, *data, particles=4, plan="fast", seed=0):
    runner = credo.SVI(model, guide, particles=particles, plan=plan, seed=seed, progress=False)
    runner.prepare(*data)
    return runner, Pair(model, guide, data)


def test_the_same_seed_gives_the_same_plan(monkeypatch):
    monkeypatch.setattr(races, "SECOND", 1e6)
    one, two, other = (credo.plan(model, guide, Y, seed=seed, particles=2) for seed in (3, 3, 4))
    assert one == two and one.frame.equals(two.frame)
    assert (one.variance, one.microseconds) == (two.variance, two.microseconds)
    assert None is not one.variance != other.variance


def test_at_the_posterior_sticking_the_landing_wins_and_has_no_noise():
    plan = credo.plan(model, AT_POSTERIOR, Y)
    assert plan.frame["term"]["z"] == "sticking the landing" and plan.variance < 1e-8


def test_far_from_it_with_much_data_said_by_the_prior_alone_a_closed_divergence_wins():
    """The data says nothing: the KL is all there is, and exact."""

    def idle(y):
        pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)

    plan = credo.plan(idle, guide_of(2.0, 0.2, learnt=True), Y)
    assert plan.frame["term"]["z"] == "analytic KL" and plan.variance == 0.0


VARIANCE = {  # of the gradient by m: z = m + s eps in it N times with the KL, N + 1 times with log p, less eps / s
    "analytic KL": (N * 0.4) ** 2,
    "log q": ((N + 1) * 0.4) ** 2,
    "sticking the landing": ((N + 1) * 0.4 - 1 / 0.4) ** 2,
}


@pytest.mark.parametrize("term", VARIANCE)
@pytest.mark.parametrize("particles", [1, 4])
def test_the_variance_measured_is_the_one_that_it_has(term, particles):
    runner, pair = ready(model, guide, Y)
    plan = runner.plan.with_term(term)
    with entered(runner._prepared.state):
        result = measured(Contest(pair, particles, True), plan, 400, 0)
        noted = with_measured(pair, plan, result)
    exact = VARIANCE[term] / particles
    assert noted.variance == pytest.approx(exact, rel=0.3)  # 4 sd of a variance of 400 draws
    assert noted.frame["variance"]["z"] == pytest.approx(noted.variance)
    assert result.product == pytest.approx(noted.variance * noted.microseconds, rel=1e-6)


def test_to_a_site_belongs_the_variance_of_its_own_parameters():
    def two(y):
        pyro.sample("w", dist.Normal(0.0, 1.0))
        model(y)

    def two_guide(y):
        pyro.sample("w", dist.Normal(pyro.param("w_m", torch.tensor(0.5)), 0.3))
        guide(y)

    runner, pair = ready(two, two_guide, Y)
    with entered(runner._prepared.state):
        plan = runner.plan.with_term("log q")
        noted = with_measured(pair, plan, measured(Contest(pair, 1, True), plan, 400, 0)).frame["variance"]
    assert noted["w"] == pytest.approx(0.3**2, rel=0.3)  # of w alone, which no data sees
    assert noted["z"] == pytest.approx(VARIANCE["log q"], rel=0.3)


def test_antithetic_pairs_win_where_the_gradient_is_linear_in_the_noise():
    plan = credo.plan(model, guide_of(0.3, 0.4), Y, particles=8)
    assert plan.antithetic or plan.frame["term"]["z"] == "sticking the landing"
    runner, pair = ready(model, guide, Y, particles=8)
    with entered(runner._prepared.state):
        plan = runner.plan.with_term("log q")._replace(asked=frozenset("z"))
        pairs, single = (measured(Contest(pair, 8, True), plan.with_antithetic(a), 20, 0) for a in (True, False))
    assert pairs.draws.var(0).sum() < 1e-9 < single.draws.var(0).sum()


@pytest.mark.parametrize("budget", [40, 100, 400])
def test_a_race_keeps_to_its_budget(budget, counted):
    runner, pair = ready(wide_model, wide_guide, Y)
    with entered(runner._prepared.state):
        rivals = [racing._rivals(runner.plan, sites) for sites in racing._alike(runner.plan)]
        runners = sum(len(r) for r in rivals if len(r) > 1) + 2
        one = racing.work(racing._gradient(Contest(pair, 4, True), runner.plan)).eager
        counted.clear()
        found = race(Contest(pair, 4, True), runner.plan, budget * one)
    works = 2 * (1 + runners + 2 * len(rivals) + 3)  # each gradient is run twice to count its work
    assert len(counted) <= 1.25 * budget + works
    if budget == 400:
        assert found.variance is not None and len(counted) > 100


def test_a_race_that_would_cost_too_much_is_not_run(counted):
    runner, pair = ready(wide_model, wide_guide, Y)
    with entered(runner._prepared.state):
        one = racing.work(racing._gradient(Contest(pair, 4, True), runner.plan)).eager
        counted.clear()
        found = race(Contest(pair, 4, True), runner.plan, 10 * one)
    assert found is runner.plan and len(counted) == 2  # its work


def test_fast_measures_nothing(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("measured")

    monkeypatch.setattr(races, "race", refuse)
    monkeypatch.setattr(racing, "measured", refuse)
    plan = credo.plan(wide_model, wide_guide, Y, plan="fast")
    assert plan.variance is None and plan.frame["variance"].isna().all()
    assert list(plan.frame["estimator"]) == ["pathwise", "score", "enumerate", "one-flip"]
    fit = credo.fit(wide_model, wide_guide, Y, plan="fast", particles=2, steps=races.START, progress=False)
    assert fit.plan == plan


def test_a_plan_given_is_repeated_exactly():
    made = credo.plan(wide_model, wide_guide, Y, particles=8).with_term("log q").with_antithetic(True)
    made = made.with_choice("h", "score", "log q")._replace(particles=6)
    runner = credo.SVI(wide_model, wide_guide, plan=made, progress=False)
    again = runner.prepare(Y)
    assert again == made and again.entries == made.entries and again.antithetic and again.particles == 6
    assert runner._prepared.particles == 6
    fit = runner.run(Y, steps=races.START)
    assert fit.plan == made and fit.plan.particles == 6  # no race during the run


def test_more_data_fewer_particles():
    found = []
    for n in (3, 200_000):
        runner, pair = ready(model, guide, torch.ones(n))
        with entered(runner._prepared.state):
            found.append(how_many(pair, runner.plan, True))
            assert how_many(pair, runner.plan, False) == 1
    assert found == sorted(found, reverse=True) and found[0] > found[-1]
    assert set(found) <= {1, 2, 4, 8, 16, 32}


def test_a_score_site_has_two_particles_at_least():
    """The baseline of one is the other."""
    runner, pair = ready(wide_model, wide_guide, Y)
    with entered(runner._prepared.state):
        assert runner.plan.needs_score
        assert how_many(pair, runner.plan, False) == 2 <= how_many(pair, runner.plan, True)

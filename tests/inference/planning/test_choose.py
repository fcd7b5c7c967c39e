"""Which estimator each site gets: the first legal one, the one asked for, or that of an earlier plan."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import credo
from credo.inference.pair.pair import Pair
from credo.inference.planning.choose import make_plan
from credo.inference.planning.legal import ESTIMATORS
from credo.inference.runtime.state import entered, new_state
from tests.cases.planned import X, guide, model


def test_a_score_site_and_a_finite_one_share_an_objective():
    table = credo.plan(model, guide, X, plan={"loc": "score"}).frame
    assert list(table["estimator"]) == ["score", "pathwise", "pathwise", "enumerate"]
    assert list(table["baseline"]) == ["leave one out", "-", "-", "-"]
    assert "pathwise is legal too" in table.loc["loc", "reason"]


def test_an_override_is_carried_out_and_can_be_repeated():
    fit = credo.fit(model, guide, X, plan={"loc": "score"}, steps=3)
    assert fit.plan.estimator("loc") == "score" and "asked for" in fit.plan.frame.loc["loc", "reason"]
    again = credo.fit(model, guide, X, plan=fit.plan, steps=3)
    assert again.plan == fit.plan and again.losses == fit.losses
    assert credo.fit(model, guide, X, steps=3).losses != fit.losses


def step(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal((z > 0).float(), 1.0), obs=x)


def step_guide(x):
    pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.1)), 1.0))


def test_what_is_not_legal_is_carried_out_only_by_force_and_with_a_warning():
    with pytest.raises(ValueError, match="'pathwise' is not legal: the log density jumps"):
        credo.plan(step, step_guide, X, plan={"z": "pathwise"})
    with pytest.warns(UserWarning, match="'z': 'pathwise' was forced, its gradient is biased"):
        forced = credo.plan(step, step_guide, X, plan={"z": "pathwise"}, force=True)
    assert forced.estimator("z") == "pathwise" and "forced, though" in forced.frame.loc["z", "reason"]
    with pytest.raises(ValueError, match="'k': 'pathwise' is not legal: Bernoulli has no rsample"):
        credo.plan(model, guide, X, plan={"k": "pathwise"}, force=True)  # nobody can


def test_the_fast_plan_measures_nothing_and_another_word_is_refused():
    fast = credo.plan(model, guide, X, plan="fast")
    assert fast.variance is None and fast.frame["variance"].isna().all()
    assert list(fast.frame["term"]) == ["analytic KL", "analytic KL", "log q", "log q"]
    with pytest.raises(ValueError, match="plan: got 'quick', wanted 'fast'"):
        credo.fit(model, guide, X, plan="quick")


def made(overrides=None):
    with entered(new_state((model, guide), 0, torch.device("cpu"))):
        return make_plan(Pair(model, guide, (X,)), poutine.trace(guide).get_trace(X), True, overrides)


def test_without_measurements_the_first_legal_estimator_is_taken():
    plan = made()
    for site, options in plan.facts.options.items():
        legal = [e.name for e in ESTIMATORS if options[e.name] is None]
        assert legal and plan.estimator(site) == legal[0]
    assert {e.site for e in plan.entries if e.term == "analytic KL"} == {"loc", "rate"}
    assert plan.variance is None and plan.asked == set()


def test_an_earlier_plan_is_repeated_also_where_nobody_asked_for_its_choice():
    earlier = made({"loc": "score"})
    earlier = earlier.with_choice("rate", "pathwise", "log q")
    again = made(earlier)
    assert again.entries == earlier.entries
    assert again != made({"loc": "score"})

"""The look at a fit, whatever found it, and its weighted draws as an approximation."""

import dataclasses
import math
import time
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.gaussian.density import prepared
from credo.inference.gaussian.full_rank import weights_of
from credo.inference.gaussian.full_rank_normal import FullRankNormal
from credo.inference.gaussian.psis import importance
from credo.inference.importance import correct_fit as module
from credo.inference.importance.budget import deadline
from credo.inference.importance.correct_fit import look_at, look_at_normal, moments, unconstrained
from credo.inference.importance.guide_draws import guide_draws_weighed
from credo.inference.posterior.verdict import Verdict
from credo.inference.runtime.defaults import default_dtype
from credo.inference.runtime.state import entered
from tests.cases.repeats import seeds


def model(y):
    a = pyro.sample("a", dist.Normal(0.0, 10.0))
    s = pyro.sample("s", dist.LogNormal(0.0, 1.0))
    pyro.deterministic("double", 2 * a)
    pyro.sample("y", dist.Normal(a + s.log(), 0.5), obs=y)


def trained(y):
    """A parameter of the model, which a density keeps at its trained value."""
    a = pyro.sample("a", dist.Normal(pyro.param("prior", torch.tensor(0.0)), 1.0))
    pyro.sample("y", dist.Normal(a, 1.0), obs=y)


def counts(y):
    """A latent that no density of fixed continuous latents has."""
    n = pyro.sample("n", dist.Poisson(3.0))
    pyro.sample("y", dist.Normal(n, 1.0), obs=y)


def count_guide(y):
    pyro.sample("n", dist.Poisson(pyro.param("rate", torch.tensor(3.0))))


Y = torch.tensor(2.0)


def test_weighted_draws_hold_the_correlation_that_mean_field_misses():
    fit = credo.fit(model, "mean_field", Y, steps=30, plan="fast", progress=False)
    look = look_at(fit, seconds=2.0)
    assert look.correction.trusted
    weights, a = look.correction.importance.log_weights.exp(), look.correction.values["a"]
    sd = math.sqrt(100 * 1.25 / 101.25)  # y given a is N(a, 1 + 0.25)
    assert (weights @ (a - weights @ a).square()).sqrt().item() == pytest.approx(sd, rel=0.06)


def test_draws_and_summary_and_predictions_are_those_of_the_weighted_draws():
    fit = credo.fit(model, "mean_field", Y, steps=30, plan="fast", progress=False)
    drawn, table = fit.corrected(4000), fit.summary(corrected=True)
    sd = math.sqrt(100 * 1.25 / 101.25)
    assert drawn["a"].std().item() == pytest.approx(sd, rel=0.1)
    assert torch.equal(drawn["double"], 2 * drawn["a"]) and drawn["a"].dtype == fit.sample(1)["a"].dtype
    assert table.loc["a", "sd"] == pytest.approx(sd, rel=0.1)
    weights, a = fit.reweighted.correction.importance.log_weights.exp(), fit.reweighted.correction.values["a"]
    error = (weights.square() @ (a - weights @ a).square()).sqrt().item()  # Owen 2013, eq. 9.9
    assert table.loc["a", "error"] == pytest.approx(error, rel=1e-4) and "error" not in fit.summary(100)
    assert fit.predict(500, corrected=True)["y"].shape == (500,)
    assert credo.predict(fit, 500, corrected=True)["y"].std().item() == pytest.approx(0.7, rel=0.15)
    assert not torch.equal(drawn["a"], fit.corrected(4000, seed=1)["a"])


def test_parameters_of_the_model_keep_their_trained_values():
    fit = credo.fit(trained, "mean_field", Y, steps=30, plan="fast", progress=False)
    look = look_at(fit, seconds=2.0)
    weights, a = look.correction.importance.log_weights.exp(), look.correction.values["a"]
    assert (weights @ a).item() == pytest.approx((2 + fit.params["prior"].item()) / 2, abs=0.05)


def many(y):
    pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=y)


@pytest.mark.filterwarnings("ignore:site 'a'")
@pytest.mark.parametrize(("of_a", "good"), [(dist.Normal(0.0, 1.0), True), (dist.HalfNormal(1.0), False)])
def test_of_many_latents_the_draws_of_a_good_guide_are_themselves_the_weighted_ones(of_a, good):
    def guide(y):
        pyro.sample("a", of_a)
        with pyro.plate("N", len(y)):
            pyro.sample("z", dist.Normal(y / 2 + pyro.param("off", torch.tensor(0.0)), 0.5**0.5))

    y = torch.randn(200, generator=torch.Generator().manual_seed(1))
    look = look_at(credo.fit(many, guide, y, steps=0, progress=False), seconds=8.0)
    assert look.importance.reliable and look.correction.trusted == good


def test_a_model_without_a_density_has_no_correction_and_says_why():
    fit = credo.fit(counts, count_guide, Y, steps=2, progress=False)
    look = look_at(fit, seconds=1.0)
    assert look.correction is None and "Poisson is discrete" in look.unseen
    with pytest.raises(ValueError, match=r"corrected: no weighted draws.*Poisson.*credo.reference"):
        fit.corrected(10)


def test_moments_of_a_guide_are_unconstrained():
    fit = credo.fit(model, "mean_field", Y, steps=2, progress=False)
    density, _, _ = prepared(model, (Y,), torch.device("cpu"), 0)
    guide = guide_draws_weighed(fit, 4000, 0)
    us = unconstrained(density, guide.values)
    torch.testing.assert_close(us[:, 1], guide.values["s"].double().log())
    normal = moments(density, guide)
    torch.testing.assert_close(normal.mean, us.mean(0))
    torch.testing.assert_close(normal.sd, us.std(0), rtol=0.02, atol=0)
    stuck = guide._replace(values=guide.values | {"a": torch.ones(4000)})
    assert moments(density, stuck) is None


@pytest.fixture
def ticks(monkeypatch):
    """A clock that stands still but where a model winds it."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(time, "process_time", lambda: now.seconds)
    return now


def dear(ticks):
    """A model each run of which takes 4 ms of CPU, however many draws are made at once: `vmap` does not take it."""

    def model(y):
        a = pyro.sample("a", dist.Normal(0.0, 10.0))
        s = pyro.sample("s", dist.HalfCauchy(1.0))
        float(a.detach())
        ticks.seconds += 0.004
        with pyro.plate("N", 3):
            pyro.sample("y", dist.Normal(a, s), obs=y)

    return model


@pytest.mark.parametrize("seconds", [0.1, 0.6])
def test_a_look_keeps_its_budget_whatever_a_run_of_the_model_costs(seconds, ticks):
    y = torch.tensor([1.0, 2.0, 0.5])
    fit = credo.fit(dear(ticks), "mean_field", y, steps=3, plan="fast", progress=False)
    begun = ticks.seconds
    look = look_at(fit, seconds=seconds)
    assert ticks.seconds - begun < 1.5 * seconds + 0.02
    assert look is None or (look.correction is None and "too long" in look.unseen)


def test_the_look_at_a_normal_keeps_its_budget(ticks):
    density, state, _ = prepared(dear(ticks), (torch.tensor([1.0, 2.0, 0.5]),), torch.device("cpu"), 0)
    with entered(state), default_dtype(torch.float64):
        normal = FullRankNormal(torch.tensor([1.0, -0.3]).double(), torch.eye(2).double() / 2)
        weighed = weights_of(density.at_each, normal, 30, 0)
        uneven = weighed._replace(importance=importance(torch.arange(30.0)))
        begun = ticks.seconds
        look = look_at_normal(density, normal, uneven, [], seconds=0.2)
        assert ticks.seconds - begun < 0.32 and look.correction is None and "too long" in look.unseen


@pytest.mark.parametrize("heavy", [True, False])
def test_a_right_normal_needs_no_wider_look_where_that_is_much_work_and_else_is_not_believed_without_it(heavy, ticks):
    """What is much work is counted: no clock says it. What the clock cuts short settles nothing."""
    model = dear(ticks)

    def worked(y):
        model(y)
        if heavy:
            torch.ones(4_000_000).exp()

    density, state, _ = prepared(worked, (torch.tensor([1.0, 2.0, 0.5]),), torch.device("cpu"), 0)
    with entered(state), default_dtype(torch.float64):
        normal = FullRankNormal(torch.tensor([1.0, -0.3]).double(), torch.eye(2).double() / 2)
        weighed = weights_of(density.at_each, normal, 5, 0)
        even = weighed._replace(importance=importance(torch.zeros(5)))
        look = look_at_normal(density, normal, even, [], seconds=9.0)
        if heavy:
            assert look.correction.trusted
            torch.testing.assert_close(look.guide.values["s"], weighed.us[:, 1].exp())
        else:
            assert look.correction is None and "too long" in look.unseen


def scale(y):
    """A posterior whose right tail is a power, of which a normal of log s knows nothing."""
    s = pyro.sample("s", dist.HalfCauchy(3.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Weibull(s, 1.0), obs=y)


@pytest.mark.parametrize(("rows", "trusted"), [(200, True), (3, False)])
def test_a_wider_mixture_sees_the_tails_that_the_draws_of_a_normal_do_not(rows, trusted):
    """The posterior of 1 / s is nearly a Gamma(rows, sum of y); of s the sd is 1 / sqrt(rows - 2) of the mean."""
    y = torch.full((rows,), 2.0)
    fit = credo.fit(scale, "full_rank", y)
    t = torch.linspace(-3, 14, 200_001, dtype=torch.float64)
    logs = -rows * t - 2 * rows * (-t).exp() - (1 + (t.exp() / 3) ** 2).log() + t
    p, s = logs.softmax(0), t.exp()
    sd = (p @ (s - p @ s).square()).sqrt().item()
    drawn = fit.sample(50_000)["s"].std().item()
    assert (fit.verdict.trust == "yes") == trusted
    assert (drawn == pytest.approx(sd, rel=0.1)) == trusted
    assert fit.corrected(50_000)["s"].std().item() == pytest.approx(sd, rel=0.15)


@pytest.mark.parametrize("much", [True, False])
def test_a_search_for_modes_that_the_clock_forbids_settles_nothing_where_it_is_little_work(much, monkeypatch):
    monkeypatch.setattr(module, "affordable", lambda *_: (400, False))
    monkeypatch.setattr(module, "heavy", lambda _: much)
    density, state, _ = prepared(model, (torch.tensor(1.5),), torch.device("cpu"), 0)
    D = len(density.first)
    with entered(state), default_dtype(torch.float64):
        normal = FullRankNormal(torch.zeros(D).double(), torch.eye(D).double())
        found = module._of_normals(density, [normal], deadline(60.0, torch.device("cpu")), 0, search=True)
    assert (found == module.TOO_LONG) is not much


@pytest.mark.parametrize("slowness", [20, 500, 20_000])
def test_no_machine_is_so_slow_that_a_wrong_fit_is_believed(slowness, monkeypatch):
    real = time.process_time
    monkeypatch.setattr(time, "process_time", lambda: slowness * real())
    assert credo.fit(scale, "full_rank", torch.full((3,), 2.0)).verdict.trust != "yes"


def test_after_yes_without_weighted_draws_the_draws_of_the_guide_are_the_corrected_ones():
    fit = credo.fit(trained, "mean_field", Y, steps=3, plan="fast", progress=False)
    right = dataclasses.replace(fit, verdict=Verdict("yes", 0.1, ("right",), ""), correction=None)
    assert torch.equal(right.corrected(50)["a"], right.sample(50)["a"])
    wrong = dataclasses.replace(fit, verdict=Verdict("no", 0.1, ("wrong",), ""), correction=None)
    assert not torch.equal(wrong.corrected(50)["a"], wrong.sample(50)["a"])


def product(y):
    """Two modes, 4 to 6 sds apart, of both signs: the posterior of (a, b) is that of (-a, -b)."""
    a, b = pyro.sample("a", dist.Normal(0.0, 2.0)), pyro.sample("b", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(a * b, 0.3), obs=y)


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.filterwarnings("ignore")
def test_both_signs_are_in_the_weighted_draws_though_the_normal_has_one_of_them(seed):
    fit = credo.fit(product, "full_rank", torch.tensor(4.0), seed=seed)
    x = torch.linspace(-12, 12, 1501, dtype=torch.float64)
    a, b = torch.meshgrid(x, x, indexing="ij")
    p = (-(a**2) / 8 - b**2 / 2 - ((a * b - 4) / 0.3) ** 2 / 2).flatten().softmax(0)
    assert fit.verdict.trust == "corrected"
    drawn = fit.corrected(20_000)
    for name, value in (("a", a), ("b", b)):
        sd = (p @ value.flatten().square()).sqrt().item()
        assert drawn[name].mean().item() == pytest.approx(0.0, abs=0.15 * sd)
        assert drawn[name].std().item() == pytest.approx(sd, rel=0.1)


def test_an_error_of_the_model_at_a_far_draw_loses_no_fit():
    """The draws of the wider mixture go where those of the normal do not."""

    def brittle(y):
        s = pyro.sample("s", dist.LogNormal(0.0, 1.0))
        if torch._C._functorch.is_batchedtensor(s) or s > 1e6:
            raise KeyError("s")
        pyro.sample("y", dist.Normal(0.0, s), obs=y)

    density, state, _ = prepared(brittle, (torch.tensor(1.0),), torch.device("cpu"), 0)
    with entered(state), default_dtype(torch.float64):
        normal = FullRankNormal(torch.zeros(1).double(), torch.full((1, 1), 10.0).double())
        weighed = weights_of(density.at_each, FullRankNormal(normal.mean, 0.1 * normal.factor), 30, 0)
        uneven = weighed._replace(importance=importance(torch.arange(30.0)))
        look = look_at_normal(density, normal, uneven, [], seconds=3.0)
    assert look.correction is None and look.unseen == "not looked at: KeyError: 's'"

"""Weighted draws of posteriors beside closed forms; what cannot be trusted says why."""

import math
from contextlib import nullcontext
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.gaussian.density import prepared
from credo.inference.gaussian.full_rank_normal import FullRankNormal
from credo.inference.gaussian.psis import importance
from credo.inference.importance import correction as module
from credo.inference.importance.adapted import Drawn
from credo.inference.importance.budget import OutOfTime, deadline
from credo.inference.importance.chart import Chart
from credo.inference.importance.correction import correction
from credo.inference.runtime.defaults import default_dtype
from credo.inference.runtime.state import entered
from tests.cases.improper import improper
from tests.cases.repeats import seeds

CPU = torch.device("cpu")


def corrected(model, *data, seed=0, **options):
    density, state, _ = prepared(model, data, CPU, 0)
    with entered(state), default_dtype(torch.float64):
        return correction(density, [], seed=seed, **options)


def moments(found, name):
    weights, values = found.importance.log_weights.exp(), found.values[name]
    mean = weights @ values
    return mean.item(), (weights @ (values - mean).square()).sqrt().item()


def coin(y):
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Bernoulli(p), obs=y)


def two_modes(y):
    """a is 2 or -2, give or take."""
    a = pyro.sample("a", dist.Normal(0.0, 2.0))
    pyro.sample("y", dist.Normal(a**2, 0.3), obs=y)


def groups(y):
    """Groups of one row each, whose sd is known: y ~ N(mu, tau^2 + 1) once the latents of the groups are out."""
    tau = pyro.sample("tau", dist.HalfNormal(2.0))
    with pyro.plate("J", len(y)):
        theta = pyro.sample("theta", dist.Normal(0.0, tau))
        pyro.sample("y", dist.Normal(theta, 1.0), obs=y)


def vague(y):
    a = pyro.sample("a", dist.Normal(0.0, 1e3))
    b = pyro.sample("b", dist.Normal(0.0, 1e3))
    pyro.sample("y", dist.Normal(a + b, 1.0), obs=y)


def no_scale(y):
    """The density of log s goes to a constant, up to where s overflows."""
    s = pyro.sample("s", dist.LogNormal(0.0, 1.0))
    pyro.factor("no prior", s.log() ** 2 / 2 + s.log())
    pyro.sample("y", dist.Normal(0.0, s), obs=y)


def scale(y):
    """The same with a wide prior."""
    s = pyro.sample("s", dist.LogNormal(0.0, 5.0))
    pyro.sample("y", dist.Normal(0.0, s), obs=y)


def heavy(y):
    a = pyro.sample("a", dist.StudentT(3.0, 0.0, 1.0))
    pyro.sample("y", dist.Normal(a, 30.0), obs=y)


def test_a_beta_and_its_evidence():
    found = corrected(coin, torch.tensor([1.0, 1.0, 0.0, 1.0]))
    assert found.trusted and moments(found, "p") == pytest.approx((5 / 8, math.sqrt(15 / 64 / 9)), abs=0.01)
    evidence = math.log(6 * math.gamma(5) * math.gamma(3) / math.gamma(8))
    assert found.importance.log_evidence == pytest.approx(evidence, abs=3 * found.importance.log_evidence_error + 1e-3)


@pytest.mark.parametrize("seed", seeds(2))
def test_both_modes_are_there(seed):
    found = corrected(two_modes, torch.tensor(4.0), seed=seed)
    x = torch.linspace(-4, 4, 20_001, dtype=torch.float64)
    log_p = -(x**2) / 8 - math.log(2 * math.sqrt(2 * math.pi)) - ((x**2 - 4) / 0.3) ** 2 / 2
    log_p = log_p - math.log(0.3 * math.sqrt(2 * math.pi))
    evidence = (log_p.logsumexp(0) + (x[1] - x[0]).log()).item()
    sd = math.sqrt((log_p.softmax(0) @ x.square()).item())
    mean, spread = moments(found, "a")
    assert found.trusted and abs(mean) < 0.2 and spread == pytest.approx(sd, rel=0.02)
    assert found.importance.log_evidence == pytest.approx(evidence, abs=3.5 * found.importance.log_evidence_error)


def test_a_funnel_of_groups_is_seen_with_its_groups_decentred():
    y = torch.tensor([0.3, -0.6, 0.2, 1.0, -0.9, 0.1])
    found = corrected(groups, y)
    tau = torch.linspace(1e-4, 12, 20_000, dtype=torch.float64)
    var = tau.square() + 1
    log_p = -(tau**2) / 8 - 3 * var.log() - y.square().sum() / 2 / var
    p = log_p.softmax(0)
    mean = (p @ tau).item()
    sd = math.sqrt((p @ (tau - mean).square()).item())
    assert found.trusted and moments(found, "tau") == pytest.approx((mean, sd), rel=0.08)


@pytest.mark.parametrize(
    ("model", "doubt"),
    [(improper, "does not fall along 'a'"), (no_scale, "'s' varies"), (vague, ""), (scale, ""), (heavy, "")],
)
def test_a_density_that_does_not_fall_is_improper_and_a_wide_or_heavy_one_is_not(model, doubt):
    found = corrected(model, torch.tensor(1.0))
    assert doubt in found.doubt and found.trusted == (not doubt)


def rows(y, free):
    """Rows with a mean each, the first ones of which have no prior where they are free."""
    with pyro.plate("N", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)
    pyro.factor("neither prior nor data", (z - y / 2)[:free].square().sum())


@pytest.mark.parametrize(("free", "doubt"), [(0, ""), (1, "does not fall along 'z'")])
@pytest.mark.parametrize("draws", [400, 4000])  # fewer than 4 for each latent, and more
def test_draws_of_many_latents_lie_far_below_their_centre_also_where_the_posterior_is_proper(draws, free, doubt):
    y = torch.randn(200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    density, state, _ = prepared(rows, (y, free), CPU, 0)
    with entered(state), default_dtype(torch.float64):
        normal = FullRankNormal(y / 2, torch.full_like(y, 0.5**0.5).diag())
        found = correction(density, [normal], draws=draws)
    assert doubt in found.doubt and found.trusted == (not doubt)


def test_without_the_other_mode_among_the_normals_a_search_finds_it():
    density, state, _ = prepared(two_modes, (torch.tensor(4.0),), CPU, 0)
    with entered(state), default_dtype(torch.float64):
        searched = correction(density, [], seed=0)
    assert (searched.values["a"] > 0).any() and (searched.values["a"] < 0).any()


NORMAL = FullRankNormal(torch.zeros(1).double(), torch.eye(1).double())


@pytest.mark.parametrize("cut", [True, False])
def test_draws_that_the_clock_cut_short_are_not_believed_however_even_their_weights(cut, monkeypatch):
    log_weights = 1e-3 * torch.randn(4000, generator=torch.Generator().manual_seed(0)).double()
    drawn = Drawn(log_weights[:, None], log_weights, importance(log_weights), None, 0, cut)
    monkeypatch.setattr(module, "adapted", lambda *_, **__: drawn)
    with pytest.raises(OutOfTime) if cut else nullcontext():
        assert not module._look(SimpleNamespace(values=None, by=None), [NORMAL], 4000, 0).doubt


def test_a_thin_tail_of_groups_is_not_believed_without_the_time_to_see_it(monkeypatch):
    thin = SimpleNamespace(doubt="", drawn=SimpleNamespace(importance=SimpleNamespace(ess=4000.0, k_hat=0.5)))
    monkeypatch.setattr(module, "decentred", lambda *_: object())
    monkeypatch.setattr(module, "_look", lambda *_, **__: thin)
    density, state, _ = prepared(coin, (torch.ones(3),), CPU, 0)
    with entered(state), default_dtype(torch.float64), pytest.raises(OutOfTime):
        module._looks(Chart(density, by=deadline(-1.0, CPU)), [NORMAL], 4000, 0, False)

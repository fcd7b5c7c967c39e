"""Verdicts: failures on purpose are never trusted, sound fits are; each answer has its reason and what to do."""

import dataclasses
import math
import pickle
import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import credo
from credo.inference.importance import correct_fit
from tests.cases.verdicts import Y, fitted, mean, normals, total


def banana(y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Normal(a**2, 0.3))
    pyro.sample("y", dist.Normal(b, 3.0), obs=y)


def two_modes(y):
    a = pyro.sample("a", dist.Normal(0.0, 2.0))
    pyro.sample("y", dist.Normal(a**2, 0.3), obs=y)


def one_mode(y):
    """The same without the other sign."""
    a = pyro.sample("a", dist.LogNormal(0.5, 0.5))
    pyro.sample("y", dist.Normal(a**2, 0.3), obs=y)


def cone(y):
    a, b = pyro.sample("a", dist.Normal(0.0, 1.0)), pyro.sample("b", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(a**2 + b, 0.1), obs=y)


def uniform(y):
    low = pyro.param("low", torch.tensor(1.0))
    pyro.sample("a", dist.Uniform(low, low + 0.4))


def half(y):
    pyro.sample("a", dist.HalfNormal(pyro.param("s", torch.tensor(1.0), constraint=constraints.positive)))


def switched(y):
    """k is 0 or 1 at random, whatever y is."""
    pyro.sample("k", dist.Bernoulli(0.5))
    mean(y)


def switch(p):
    """A guide that has the posterior but for k."""

    def guide(y):
        pyro.sample("k", dist.Bernoulli(p))
        pyro.sample("a", dist.Normal(pyro.param("loc", torch.tensor(2.0)), 0.5**0.5))

    return guide


def related(y):
    """r is the correlation of the two columns of y; at draws of its prior beyond 1 there is none."""
    r = pyro.sample("r", dist.Normal(0.0, 1.0))
    root = torch.linalg.cholesky(torch.eye(2) + r * torch.eye(2).flip(0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.MultivariateNormal(torch.zeros(2), scale_tril=root), obs=y)


FAILURES = {
    "banana": (banana, normals("a", "b")),
    "two modes": (two_modes, normals("a")),
    "two modes, full rank": (two_modes, "full_rank"),
    "cone": (cone, "full_rank"),
    "unidentified sum": (total, normals("a", "b")),
    "narrow support": (mean, uniform),
    "half of the support": (mean, half),
}
SOUND = {
    "mean": (mean, normals("a")),
    "one mode": (one_mode, "full_rank"),
    "sum": (total, "full_rank"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_on_purpose_is_corrected_or_not_trusted(name):
    model, guide = FAILURES[name]
    y = torch.tensor(0.3) if model is mean else Y
    verdict = credo.check(fitted(model, guide, y))
    assert verdict.trust in ("corrected", "no") and verdict.reasons and verdict.remedy


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_fit_is_trusted(name):
    model, guide = SOUND[name]
    assert credo.check(fitted(model, guide, Y)).trust == "yes"


def test_the_reason_names_the_latents_and_their_sds():
    verdict = credo.check(fitted(total, normals("a", "b"), Y))
    assert verdict.trust == "corrected" and "its sd is 9" in verdict.reasons[0] and "too small" in verdict.reasons[0]
    assert "fit.corrected(n)" in verdict.remedy and "full_rank" in verdict.remedy
    assert repr(verdict).startswith("trust: corrected (") and "\n" not in repr(verdict)


@pytest.mark.parametrize(
    ("p", "trust", "reason"), [(0.5, "yes", "agree"), (0.9, "no", r"k: its mean is 0\.[78]\d? sds too large")]
)
def test_a_finite_latent_of_the_guide_is_compared_by_its_own_weights(p, trust, reason):
    verdict = credo.check(fitted(switched, switch(p), Y, lr=1e-3))
    assert verdict.trust == trust and re.search(reason, verdict.reasons[0])
    assert ("leave site 'k' out of the guide" in verdict.remedy) == (trust == "no")
    left_out = credo.check(fitted(switched, normals("a", scale=0.5**0.5), Y, lr=1e-2, steps=400))
    assert left_out.trust == "yes"  # the remedy works


def test_weighted_draws_do_not_hold_a_finite_latent_of_the_guide():
    def guide(y):
        pyro.sample("k", dist.Bernoulli(0.5))
        pyro.sample("a", dist.Normal(pyro.param("loc", torch.tensor(2.0)), 0.4))

    verdict = credo.check(fitted(switched, guide, Y, lr=1e-3))
    assert verdict.trust == "corrected" and "without k" in verdict.remedy


def test_starting_points_without_a_density_are_passed_over():
    e = torch.randn(200, 2, generator=torch.Generator().manual_seed(1))
    fit = credo.fit(related, None, torch.stack([e[:, 0], 0.25 * e[:, 0] + 0.9375**0.5 * e[:, 1]], 1))
    assert fit.method == "full rank" and fit.verdict.trust == "yes"
    assert fit.sample(1000)["r"].mean().item() == pytest.approx(0.25, abs=0.2)


@pytest.mark.parametrize("error", [torch.linalg.LinAlgError("no factor\nand more"), RuntimeError("no factor")])
def test_a_check_that_meets_an_error_of_the_program_is_unknown_and_says_which(monkeypatch, error):
    def broken(*args, **kwargs):
        raise error

    fit = fitted(mean, normals("a"), Y, steps=3)
    for place in ("importance.correct_fit.prepared", "evaluation.check.look_at"):
        monkeypatch.setattr(f"credo.inference.{place}", broken)
        verdict = credo.check(fit)
        assert verdict.trust in ("unknown", "no") and verdict.reasons[-1].endswith("no factor")


def test_a_value_that_the_guide_never_draws_is_missed_mass():
    verdict = credo.check(fitted(switched, switch(1.0), Y, lr=1e-3))
    assert verdict.trust == "no" and "the guide has 50% of p(data)" in repr(verdict)


def test_after_yes_the_weighted_draws_are_there_as_long_as_they_are_small(monkeypatch):
    fit = fitted(total, "full_rank", Y)
    assert fit.verdict.trust == "yes" and fit.corrected(100)["a"].shape == (100,)
    assert fit.reweighted.correction is fit.correction is not None
    monkeypatch.setattr("credo.inference.evaluation.check.KEPT", 100)
    assert fitted(total, "full_rank", Y).correction is None


def test_a_fit_without_steps_has_its_verdict_and_its_evidence():
    fit = fitted(cone, "full_rank", Y)
    assert fit.verdict.trust == "corrected" and fit.correction is not None
    assert pickle.loads(pickle.dumps(fit.verdict)) == fit.verdict
    assert credo.fit(total, "full_rank", Y).verdict.trust == "yes"
    x = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    a, b = torch.meshgrid(x, x, indexing="ij")
    logs = -(a**2 + b**2) / 2 - ((a**2 + b - 4) / 0.1) ** 2 / 2 - math.log(0.1) - 1.5 * math.log(2 * math.pi)
    exact = (logs.flatten().logsumexp(0) + 2 * (x[1] - x[0]).log()).item()
    assert fit.importance.log_evidence == pytest.approx(exact, abs=3 * fit.importance.log_evidence_error + 0.01)


def test_a_point_estimate_is_unknown_and_a_start_far_away_is_not_trusted():
    found = credo.check(fitted(mean, "map", Y, steps=20))
    assert found.trust == "unknown" and "point estimate" in found.reasons[0]
    far = fitted(mean, lambda y: pyro.sample("a", dist.Normal(pyro.param("m", torch.tensor(1e6)), 1.0)), Y, steps=3)
    assert credo.check(far).trust in ("no", "corrected")


def test_a_long_run_by_svi_has_its_verdict_and_a_short_one_says_that_nobody_looked(monkeypatch):
    monkeypatch.setattr("credo.inference.evaluation.check.SHARE", 10.0)  # of a fit of any length
    assert fitted(mean, normals("a"), Y).verdict.trust == "yes"
    monkeypatch.setattr("credo.inference.evaluation.check.SHARE", 1e-9)
    fit = fitted(mean, normals("a"), Y, steps=3)
    assert fit.verdict.trust == "unknown" and "credo.check(fit)" in fit.verdict.remedy


def test_an_error_of_the_program_during_the_look_leaves_the_fit(monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("credo.inference.evaluation.check.SHARE", 10.0)
    monkeypatch.setattr("credo.inference.evaluation.check.look_at", broken)
    fit = fitted(mean, normals("a"), Y, steps=3)
    assert fit.verdict.trust == "unknown" and "ZeroDivisionError" in fit.verdict.reasons[0]


def test_compare_takes_the_weighted_draws_on_request():
    fit = fitted(total, normals("a", "b"), Y)
    table = credo.compare(fit, corrected=True)
    assert table["error in sds"].abs().max() < 0.1 and (table["sd ratio"] - 1).abs().max() < 0.1
    assert credo.compare(fit)["sd ratio"].max() < 0.2
    exact = credo.exact(total, Y).log_evidence
    found = credo.check(fit), fit.reweighted.correction.importance
    assert found[1].log_evidence == pytest.approx(exact, abs=3 * found[1].log_evidence_error + 1e-3)
    assert "by their weights" in table.attrs["gap_in_words"] and math.isnan(table.attrs["evidence_gap"])


def test_what_a_check_has_found_is_what_is_drawn_and_takes_no_time_again(monkeypatch):
    fit = dataclasses.replace(fitted(total, normals("a", "b"), Y), verdict=None, correction=None)
    assert credo.check(fit, seed=3).trust == "corrected"
    monkeypatch.setattr(correct_fit, "look_at", None)
    sd = credo.exact(total, Y).marginals["a"].stddev.item()
    assert fit.corrected(2000)["a"].std().item() == pytest.approx(sd, rel=0.1)


def test_weighted_draws_of_the_posterior_are_right_by_their_correction():
    fit = fitted(total, normals("a", "b"), Y)
    verdict = credo.check(fit.reweighted)
    assert verdict.trust == "yes" and "weighted draws" in verdict.reasons[0]
    assert verdict.k_hat == fit.reweighted.correction.importance.k_hat


def test_a_verdict_that_was_no_does_not_stay_so_when_there_is_more_time(monkeypatch):
    fit = fitted(total, "full_rank", Y)
    refused = dataclasses.replace(fit, stopped=fit.stopped.replace("converged", "at rest, but not at the posterior"))
    assert credo.check(refused).trust == "yes"
    assert credo.check(dataclasses.replace(fit, stopped="not converged: it moves")).trust == "corrected"


def test_a_check_does_not_send_to_itself(monkeypatch):
    monkeypatch.setattr("credo.inference.evaluation.check.look_at", lambda *args, **kwargs: None)
    verdict = credo.check(fitted(mean, normals("a"), Y, steps=3))
    assert verdict.trust == "unknown" and "credo.check" not in verdict.remedy and "credo.reference" in verdict.remedy


def test_the_remedy_of_full_rank_is_not_full_rank():
    assert "full_rank" not in fitted(cone, "full_rank", Y).verdict.remedy


def single(y):
    """A factor in single precision, which a density in double precision does not take."""
    f = pyro.sample("f", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    pyro.sample("y", dist.Poisson((ROOT @ f).exp()).to_event(1), obs=y)


ROOT = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [0.2, 0.3, 0.9]])


def test_a_model_in_single_precision_can_be_checked():
    fit = fitted(single, "full_rank", torch.tensor([3.0, 1.0, 2.0]))
    assert fit.params["AutoMultivariateNormal.loc"].dtype == torch.float32
    assert fit.verdict.trust in ("yes", "corrected") and credo.check(fit).trust in ("yes", "corrected")


@pytest.mark.parametrize("call", [credo.check, credo.compare])
def test_what_is_no_fit_is_named(call):
    with pytest.raises(ValueError, match=r"fit: got \{'a': 1\}, wanted a fit, as credo.fit returns it"):
        call({"a": 1})

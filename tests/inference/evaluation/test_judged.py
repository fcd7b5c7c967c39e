"""What is seen of a fit, in one of four answers: each has its reason, and noise neither makes nor hides one."""

import math

import pyro.distributions as dist
import pytest
import torch

from credo.inference.evaluation.judged import judged
from credo.inference.gaussian.psis import importance
from credo.inference.importance.correct_fit import Look, look_at
from credo.inference.importance.correction import Correction
from credo.inference.importance.guide_draws import GuideDraws
from tests.cases.verdicts import Y, fitted, mean, normals, total


def test_draws_that_are_not_finite_are_a_reason_for_no():
    fit = fitted(mean, normals("a"), Y)
    look = look_at(fit, seconds=1.0)
    assert judged(look, fit).trust == "yes"
    look.guide.values["a"][3] = math.nan
    verdict = judged(look, fit)
    assert verdict.trust == "no" and f"a: NaN or infinite in 1 of {len(look.guide.values['a']):,}" in verdict.reasons[0]


@pytest.mark.parametrize(("ess", "trust"), [(0.8, "yes"), (0.2, "corrected")])
def test_k_hat_of_nearly_even_weights_alone_is_no_reason(ess, trust):
    fit = fitted(total, "full_rank", Y)
    look = look_at(fit, seconds=2.0)
    own = look.importance._replace(k_hat=1.2, ess=ess * len(look.importance.log_weights))
    assert judged(look._replace(importance=own), fit).trust == trust


@pytest.mark.parametrize(("sd", "trust"), [(0.93, "yes"), (0.8, "corrected")])
def test_the_noise_of_few_weighted_draws_does_not_hide_an_sd_that_is_a_fifth_too_small(sd, trust):
    def draws(n):
        return {"a": dist.Normal(0.0, 1.0).icdf((torch.arange(n).double() + 0.5) / n)}

    fit = fitted(total, "full_rank", Y)
    few, many = importance(torch.zeros(300)), importance(torch.zeros(2000))
    guide = GuideDraws({"a": sd * draws(2000)["a"]}, torch.zeros(2000))
    verdict = judged(Look(guide, many, Correction(draws(300), few, "")), fit)
    assert verdict.trust == trust and ("too small" in verdict.reasons[0]) == (trust == "corrected")


def test_a_fit_that_nobody_could_look_at_in_the_time_says_what_to_do():
    fit = fitted(total, "full_rank", Y)
    look = look_at(fit, seconds=2.0)._replace(correction=None, unseen="it takes too long")
    verdict = judged(look, fit)
    assert verdict.trust == "unknown" and "too long" in verdict.reasons[0] and "credo.check(fit)" in verdict.remedy

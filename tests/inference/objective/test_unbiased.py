"""Every gradient estimator that credo picks is right on average: draws against autograd of the exact ELBO.

The pairs are in `tests.cases.elbo`. Each is run as credo plans it, and with estimators asked for where they are legal.
"""

from functools import cache
from typing import NamedTuple

import pytest
import torch
from scipy.stats import norm

import credo
from tests.cases.elbo import REFUSED, ZOO
from tests.cases.gradients import draws_and_exact

RUNS = {f"{name}, {plan}" if plan else name: (case, plan) for name, case in ZOO.items() for plan in (None, *case.plans)}
ALPHA = 1e-4  # of all z-scores together (Bonferroni)
OVERLOOKED = 0.3  # of the largest entry of the gradient: a bias of this size must show


class Scores(NamedTuple):
    """What a run of a case found."""

    z: torch.Tensor  # of the loss and of each entry of the gradient that varies
    error: float  # of the largest entry of the gradient, over that entry
    off: torch.Tensor  # of each entry that does not vary, over its rounding


@cache
def scores(name):
    case, plan = RUNS[name]
    seed = list(RUNS).index(name)
    runner = credo.SVI(case.model, case.guide, plan=plan, particles=case.particles, seed=seed, progress=False)
    rows, exact = draws_and_exact(runner, case.data, case.elbo, case.n)
    error, off = rows.std(0) / case.n**0.5, rows.mean(0) - exact
    rounding = 2e-5 * (1 + exact.abs())
    noisy, largest = rows.std(0) > rounding, 1 + exact[1:].abs().argmax()
    return Scores((off / error)[noisy], (error / exact.abs())[largest].item(), (off.abs() / rounding)[~noisy])


@pytest.mark.parametrize("name", RUNS)
def test_the_mean_gradient_is_that_of_the_exact_elbo(name):
    z, error, off = scores(name)
    assert not (off > 1).any(), off
    critical = norm.isf(ALPHA / 2 / max(1, len(z)))
    assert critical * error < OVERLOOKED
    assert not len(z) or z.abs().max() < critical, z


def test_no_estimator_is_biased_by_less_than_each_test_can_see():
    """All together: a small bias in many places shows in the mean square of the z-scores, which is 1 without."""
    z = torch.cat([scores(name).z for name in RUNS])
    assert len(z) > 100
    assert z.square().mean().sqrt() <= 1.2
    assert z.abs().max() < norm.isf(ALPHA / 2 / len(z))


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_unbiased_estimator_is_refused_by_name(name, unchanged):
    case, plan, site = REFUSED[name]
    with unchanged(), pytest.raises(ValueError, match=f"'{site}'"):
        credo.SVI(case.model, case.guide, plan=plan, progress=False).gradients(*case.data)


def test_a_prior_that_looks_at_a_count_is_left_to_the_draws_whatever_the_count():
    case = ZOO["count below, crossed"]
    found = [credo.SVI(case.model, case.guide, seed=s).prepare(*case.data).kl for s in range(14)]
    assert found == [{"n"}] * 14  # the count's own KL is right: nothing that its prior depends on is drawn from it

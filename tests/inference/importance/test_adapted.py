"""Adaptive importance sampling beside closed forms: log p(data) = log of an integral, means and sds."""

import math

import pytest
import torch

from credo.inference.gaussian.full_rank_normal import FullRankNormal
from credo.inference.importance.adapted import adapted
from tests.cases.densities import BANANA, FUNNEL, MODES
from tests.cases.repeats import seeds

ONE = [FullRankNormal(torch.zeros(2).double(), torch.eye(2).double())]
FAR = [FullRankNormal(torch.full((2,), m).double(), torch.eye(2).double()) for m in (4.0, -4.0)]


def ring(u):
    return -(((u.square().sum().sqrt() - 3) / 0.2) ** 2) / 2


CASES = {
    "banana": (BANANA.f, ONE, math.log(2 * math.pi * math.sqrt(0.1))),
    "two modes": (MODES.f, FAR, math.log(4 * math.pi)),
    "ring": (ring, ONE, math.log(2 * math.pi * 3 * 0.2 * math.sqrt(2 * math.pi))),
}


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize("name", CASES)
def test_curved_posteriors_and_several_modes_are_held_by_a_mixture(name, seed):
    f, normals, evidence = CASES[name]
    drawn = adapted(torch.func.vmap(f), normals, draws=4000, seed=seed)
    found = drawn.importance
    assert found.reliable and found.ess > 400
    assert found.log_evidence == pytest.approx(evidence, abs=3.5 * found.log_evidence_error + 0.01)
    weights = found.log_weights.exp()
    mean = {"banana": [0.0, 1.0]}.get(name, [0.0, 0.0])
    sd = {"banana": [1.0, math.sqrt(2.1)], "two modes": [math.sqrt(17.0)] * 2}.get(name, [math.sqrt(4.54)] * 2)
    torch.testing.assert_close(
        weights @ drawn.us, torch.tensor(mean).double(), atol=4 * max(sd) / found.ess**0.5, rtol=0
    )
    spread = (weights @ (drawn.us - weights @ drawn.us).square()).sqrt()
    torch.testing.assert_close(spread, torch.tensor(sd).double(), atol=0, rtol=0.15)


def test_nothing_is_fitted_where_the_first_mixture_is_good():
    drawn = adapted(torch.func.vmap(lambda u: -u.square().sum() / 2), ONE, draws=1000)
    assert drawn.rounds == 0 and drawn.importance.log_evidence == pytest.approx(math.log(2 * math.pi), abs=0.05)


def test_a_funnel_is_not_held_and_its_draws_are_worth_little():
    start = [FullRankNormal(torch.zeros(10).double(), torch.eye(10).double())]
    drawn = adapted(torch.func.vmap(FUNNEL.f), start, draws=2000)
    assert drawn.rounds > 1 and drawn.importance.ess < 400

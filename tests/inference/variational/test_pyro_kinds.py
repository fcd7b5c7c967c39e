"""Pairs after the kinds of Pyro's own tests run as they are, with the right mean gradient, or are refused by name.

The oracle tries all that a pair can draw (`tests.cases.pyro_kinds.exhaustive`), or is an ELBO of Pyro's that is exact.
"""

import pytest
import torch
from pyro import get_param_store
from scipy.stats import norm

import credo
from credo.inference.objective.gradients import gradients
from credo.inference.runtime.state import entered
from tests.cases.gradients import draw
from tests.cases.pyro_kinds import REFUSED, RUN, subsampled
from tests.cases.pyro_kinds.exhaustive import exact_loss

ALPHA = 1e-5
PARTICLES = 8


def exact(runner, case):
    """(the exact -ELBO, its gradient as one vector), at the runner's parameters."""
    with entered(runner._prepared.state):
        loss = exact_loss(case)
        return loss.detach().double(), torch.cat([g.flatten() for g in gradients(lambda: exact_loss(case)).values()])


@pytest.mark.parametrize("name", RUN)
def test_a_pair_runs_and_its_mean_gradient_is_exact(name):
    case = RUN[name]
    runner = credo.SVI(case.model, case.guide, particles=PARTICLES, seed=list(RUN).index(name), progress=False)
    runner.prepare(*case.data)
    loss, gradient = exact(runner, case)
    draws = [draw(runner, case.data) for _ in range(case.n)]
    rows = torch.stack([torch.cat([torch.tensor([found]), *(v.flatten() for v in g.values())]) for found, g in draws])
    off = rows.double().mean(0) - torch.cat([loss[None], gradient.double()])
    sd, rounding = rows.double().std(0), 1e-4 * (1 + gradient.abs().max())
    noisy = sd > rounding
    assert not (off.abs() > rounding)[~noisy].any(), off
    z = (off / (sd / case.n**0.5))[noisy]
    assert not len(z) or z.abs().max() < norm.isf(ALPHA / 2 / len(z)), z
    assert not get_param_store().keys()
    runner.run(*case.data, steps=3)


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_is_refused_by_name(name, unchanged):
    case = REFUSED[name]
    with unchanged(), pytest.raises((ValueError, RuntimeError), match=case.refused) as caught:
        credo.SVI(case.model, case.guide, progress=False).prepare(*case.data)
    assert type(caught.value) is ValueError or "credo" in "".join(caught.value.__notes__)


def test_a_loop_over_the_same_rows_in_each_step_is_refused():
    model, guide = subsampled.chosen_model, subsampled.global_guide
    with pytest.raises(ValueError, match="plate 'rows' takes the same rows in each step, 2 of 3"):
        credo.SVI(model, guide, progress=False).run(*subsampled.DATA, steps=3)

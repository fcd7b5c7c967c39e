"""Stages of a longest length, and the steps of a warm-up before the first."""

import pytest
import torch

from credo.inference.convergence.convergence import ANNEAL, EXTENDED, MAX_STAGES, Convergence, Gain
from credo.inference.stepping.steps import StepBlock
from credo.inference.variational.endings import UntilConverged
from credo.inference.variational.loop import loop


@pytest.mark.parametrize(
    ("longest", "first", "ends"), [(1000, 2000, 1000), (400, 800, 400), (310, 650, 325), (25, 300, 300)]
)
def test_a_stage_of_a_run_that_never_rests_has_a_longest_length(longest, first, ends):
    """Steps of a stage, in whole blocks of 25 or 50; the first check is at 300. The first stage takes twice as long,
    since the run gains.
    """
    watch = Convergence(lambda new, old: Gain(1.0, 0.0, 0.0), lambda: longest)
    lengths, length, actions = [], 0, []
    for step in range(20_000):
        length += 1
        actions.append(watch.add(torch.tensor([0.1 * step])))
        if actions[-1] in ("anneal", "stop"):
            lengths, length = [*lengths, length], 0
        if actions[-1] == "stop":
            break
    assert lengths == [first, *[ends] * (MAX_STAGES - 1)]
    assert watch.stages == MAX_STAGES and watch.verdict.startswith("not converged")


def test_without_a_longest_length_such_a_stage_goes_on():
    watch = Convergence(lambda new, old: Gain(1.0, 0.0, 0.0))
    assert {watch.add(torch.tensor([0.1 * step])) for step in range(20_000)} == {"go on", "replan"}


def test_a_stage_that_comes_to_rest_earlier_does_not_wait_for_its_longest_length():
    torch.manual_seed(2)
    watch = Convergence(lambda new, old: Gain(0.0, 0.0, 0.0), lambda: 10_000)
    actions = [watch.add(torch.randn(50)) for _ in range(5000)]
    assert actions.index("anneal") < 2000


def run_loop(warmup=0):
    """(average, why it ended, factors of the learning rate, steps taken) of iterates 0, 1, 2, ... that never rest."""
    steps, rates = [], []

    def take_steps(most):
        steps.append(len(steps))
        return StepBlock([1.0], torch.tensor([float(steps[-1])]))

    convergence = Convergence(lambda new, old: Gain(1.0, 0.0, 0.0), longest=lambda: 400)
    average, stopped = loop(take_steps, UntilConverged(convergence, rates.append, warmup), total=None, progress=False)
    return average.item(), stopped, rates, len(steps)


def test_the_steps_of_a_warmup_come_before_the_first_stage():
    plain, warmed = run_loop(), run_loop(warmup=130)
    assert plain[3] == (EXTENDED + MAX_STAGES - 1) * 400 and warmed[3] == plain[3] + 130
    assert warmed[0] == plain[0] + 130 and warmed[1] == plain[1] and "still gaining 10 " in plain[1]
    assert warmed[2] == plain[2]
    # the first stage is checked at 300, 400, 525 and 700 steps on its way to 800; the others at 300 to 400
    assert plain[2] == pytest.approx([1.0] * 4 + [ANNEAL**k for k in range(1, MAX_STAGES) for _ in range(2)])

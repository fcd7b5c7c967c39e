"""When a run ends and which iterates it averages, beside iterates whose averages are known."""

import pytest
import torch

from credo.inference.convergence.convergence import ANNEAL
from credo.inference.stepping.steps import StepBlock
from credo.inference.variational.endings import MAX_STEPS, FixedSteps, UntilConverged


def taken(first, last):
    """The block of steps `first` to `last`, after each of which the parameter is the number of the step."""
    numbers = range(first, last + 1)
    return StepBlock([0.0] * len(numbers), torch.tensor([float(sum(numbers))]))


def to_the_end(ending, longest):
    """Takes blocks of at most `longest` steps, as the loop does; returns the steps at which a block ended."""
    done, ends = 0, []
    while done < ending.limit:
        first, done = done + 1, min(ending.pause(done), done + longest)
        ends.append(done)
        if ending.after(taken(first, done), done):
            break
    return ends


@pytest.mark.parametrize("longest", [1, 3, 1000])
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7, 40, 41])
def test_a_number_of_steps_averages_its_last_quarter_and_plans_anew_half_way(limit, longest):
    rates = []
    ending = FixedSteps(limit, rates.append)
    ends = to_the_end(ending, longest)
    assert ends[-1] == limit
    quarter = max(1, limit // 4)
    assert ending.average().item() == pytest.approx(sum(range(limit - quarter + 1, limit + 1)) / quarter)
    assert rates == ([1.0] if limit > 1 else [])
    assert limit == 1 or limit // 2 in ends


class Stages:
    """Stands in for `Convergence`: says the words it is given, one for each block."""

    def __init__(self, *actions):
        self.actions, self.seen, self.stages, self.verdict = list(actions), [], 1, "converged"
        self.iterates = type("Iterates", (), {"room": 25})

    def add(self, total, count):
        self.seen.append((total.item(), count))
        action = self.actions.pop(0)
        self.stages += action == "anneal"
        return action

    def average(self):
        return torch.tensor([3.0])


def test_a_run_until_converged_ends_when_it_is_told_and_plans_anew_when_it_is_told():
    stages, rates = Stages("go on", "replan", "anneal", "go on", "anneal", "stop", "go on"), []
    ending = UntilConverged(stages, rates.append)
    assert to_the_end(ending, 1000) == [25, 50, 75, 100, 125, 150]
    assert rates == pytest.approx([1.0, ANNEAL, ANNEAL**2])
    assert ending.average().item() == 3.0 and ending.at_limit == "not converged in 50,000 steps"
    assert ending.limit == MAX_STEPS


def test_a_run_goes_on_from_the_point_that_it_is_told():
    moved, rates = [], []
    ending = UntilConverged(
        Stages("go on", "move", "stop"), rates.append, move=lambda point: moved.append(point.item())
    )
    assert to_the_end(ending, 1000) == [25, 50, 75]
    assert moved == [3.0] and rates == [1.0]


def test_the_steps_of_the_warm_up_do_not_count():
    stages = Stages(*["go on"] * 2, "stop")
    ending = UntilConverged(stages, lambda rate: None, warmup=40)
    assert to_the_end(ending, 1000) == [25, 40, 65, 90, 115]
    assert stages.seen == [(sum(range(n + 1, n + 26)), 25) for n in (40, 65, 90)]


def test_the_limit_is_not_overrun():
    ending = UntilConverged(Stages(*["go on"] * 5), lambda rate: None, limit=60)
    assert to_the_end(ending, 1000) == [25, 50, 60]

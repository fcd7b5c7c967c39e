"""Which steps are replayed, and the reason that a run gives for those that are not.

Oracle: the same run with compile=False, seed for seed. Steps are recorded after some twenty, and probed after 2^k.
"""

import pytest
import torch

from credo.inference.capture.captures import GRAPHS, SIGNATURES, Captures
from credo.inference.capture.replay import PROBES, EagerStep, StepInputs, one_step
from credo.inference.capture.signature import Signature
from tests.cases.replay import accepted, changing, refused
from tests.cases.replay.changing import SWITCH
from tests.cases.replay.compared import check_equal, check_place, replays, steps

LONG = 140  # steps: until after two probes that follow the switch


def name(f):
    return f.__name__


def parabola():
    """A step on tensors alone, without model, guide and ELBO: (leaf - target)^2 by gradient descent."""
    leaf, target = torch.tensor([3.0], requires_grad=True), torch.tensor([1.0])

    def loss(baselines):
        value = ((leaf - target) ** 2).sum()
        return value, value

    return EagerStep(loss, StepInputs([leaf], {}, [], [target], []), torch.optim.SGD([leaf], lr=0.25))


def signature(choice="a", setting=0, outside=()):
    return Signature((choice,), (setting,), outside, ())


def test_a_step_of_plain_tensors_is_replayed_after_the_patience():
    captures, step = Captures({}), parabola()
    assert [captures.find(signature(), step, patience=2) for _ in range(2)] == [None, None]
    assert captures.summary == "eager: too few steps"
    replay = captures.find(signature(), step, patience=2)
    assert [one_step(replay) for _ in range(3)] == [4.0, 1.0, 0.25]
    assert step.inputs.leaves[0].item() == 1.25 and replay.recorded.taken == 3
    assert captures.summary.startswith("captured once")


def test_a_run_keeps_so_many_graphs_of_the_same_choices():
    captures, step = Captures({}), parabola()
    found = [captures.find(signature(setting=i), step, patience=0) for i in range(GRAPHS + 1)]
    assert all(found[:-1]) and found[-1] is None
    assert captures.find(signature("another"), step, patience=0) is not None
    assert list(captures.recorded) == [signature("another")]


def test_eager_steps_are_counted_for_so_many_signatures_at_a_time():
    captures, step = Captures({}), parabola()
    for i in range(SIGNATURES + 2):
        assert captures.find(signature(setting=i), step, patience=1) is None
    assert len(captures.eager_steps) == 1
    assert captures.summary == "eager: too few steps"


def test_a_number_outside_that_changes_at_every_step_is_named():
    now = {"n": 0}
    captures, step = Captures({"file.n": lambda: now["n"]}, " at file.py:1: `def f():`"), parabola()
    for i in range(1, PROBES + 3):
        now["n"] = i
        captures.find(signature(outside=(i,)), step, patience=100)
    assert captures.summary == (
        "eager: 'n', a number outside of the program, changes at every step at file.py:1: `def f():`"
    )


def test_a_number_outside_that_the_program_changes_is_named():
    now = {"n": 0}
    step = parabola()

    def counting(baselines):
        now["n"] += 1
        return step.loss(baselines)

    captures = Captures({"file.n": lambda: now["n"]})
    assert captures.find(signature(outside=(0,)), step._replace(loss=counting), patience=0) is None
    assert captures.summary == "eager: the program changes 'n', a number outside of it, while it runs"


@pytest.mark.filterwarnings("ignore:.*outside of a sample site")
@pytest.mark.parametrize("make", refused.EAGER, ids=name)
def test_what_cannot_be_replayed_runs_as_if_nobody_had_tried_and_the_line_is_named(make):
    check_place(check_equal(make), make)


@pytest.mark.filterwarnings("ignore:.*another density each time")
@pytest.mark.parametrize("make", refused.COUNTING, ids=name)
def test_what_counts_its_calls_is_not_replayed_and_the_line_is_named(make):
    check_place(steps(make, True)[0], make)


@pytest.mark.parametrize("make", changing.SWITCHED, ids=name)
def test_what_the_user_switches_late_is_noticed_at_the_next_look(make):
    """At once, or by the probe at step 64; the steps up to then may be those from before the switch."""
    runner, losses, _ = steps(make, True, LONG)
    eager, wanted, _ = steps(make, False, LONG)
    assert losses[:SWITCH] == pytest.approx(wanted[:SWITCH], rel=1e-5)
    if replays(runner):  # anew, at the switch
        assert losses == pytest.approx(wanted, rel=1e-5)
    else:
        check_place(runner, make)
    assert runner.params.keys() == eager.params.keys()
    assert sum(losses[-20:]) == pytest.approx(sum(wanted[-20:]), rel=0.03)


def test_a_pair_runs_eagerly_if_asked_to():
    runner, _, _ = steps(accepted.where, False)
    assert runner.plan.compiled.startswith("eager: ")

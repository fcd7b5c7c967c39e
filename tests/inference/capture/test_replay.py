"""A step that is captured and replayed gives what the eager one gives, or is not replayed and says why.

Oracle: the same run with compile=False, seed for seed. Captures happen after some twenty steps, probes at steps 2^k.
"""

import inspect
import math
import re

import pytest
import torch

import credo
from tests.cases.replay import accepted as replayed
from tests.cases.replay import changing
from tests.cases.replay import refused as awkward
from tests.cases.replay.changing import SWITCH

STEPS, LONG = 60, 140  # LONG: until after two looks at 2^k that follow the switch
PLACE = re.compile(r"(\w+\.py):(\d+): `(.+)`$")


def name(f):
    return f.__name__


def steps(make, compile, n=STEPS):
    """(the runner, its losses, what it draws next): the last one differs where a generator or a buffer does."""
    model, guide, before = make()
    runner = credo.SVI(model, guide, compile=compile, progress=False, seed=0)
    losses = [runner.step(*before(i)) for i in range(n)]
    return runner, losses, runner.evaluate_loss(*before(n))


def replays(runner):
    """Whether it does; if not, there is one line that says why."""
    compiled = runner.plan.compiled
    assert "\n" not in compiled
    if compiled.startswith("captured"):
        return True
    assert re.match(r"eager: \S", compiled)
    return False


def check_place(runner, make):
    """The reason ends with a line of the pair, the guilty one if that is marked."""
    assert not replays(runner)
    found = PLACE.search(runner.plan.compiled)
    assert found, runner.plan.compiled
    lines, first = inspect.getsourcelines(make)
    file, number, text = found.groups()
    assert inspect.getsourcefile(make).endswith(file)
    at = int(number) - first
    assert 0 <= at < len(lines), runner.plan.compiled
    assert lines[at].strip().startswith(text)
    marked = [i for i, line in enumerate(lines) if "# here" in line]
    assert at in (marked or [at]), runner.plan.compiled


def check_equal(make, n=STEPS):
    """Two runs, of which the first is returned."""
    runner, losses, drawn = steps(make, True, n)
    eager, wanted, drawn_there = steps(make, False, n)
    assert len(losses) == len(wanted) == n and len(set(wanted)) > n // 4
    assert losses == pytest.approx(wanted, rel=1e-5)
    assert drawn == pytest.approx(drawn_there, rel=1e-5)
    assert runner.losses == pytest.approx(eager.losses, rel=1e-5)
    assert runner.params.keys() == eager.params.keys()
    for key, value in eager.params.items():
        torch.testing.assert_close(runner.params[key], value, rtol=1e-4, atol=1e-5)
    return runner


@pytest.mark.parametrize("make", replayed.REPLAYED + changing.CHANGING, ids=name)
def test_what_can_be_replayed_is_and_gives_the_losses_of_the_eager_run(make):
    assert replays(check_equal(make))


@pytest.mark.parametrize("make", changing.EITHER, ids=name)
def test_what_may_be_replayed_gives_the_losses_of_the_eager_run(make):
    replays(check_equal(make))


@pytest.mark.parametrize("make", awkward.EAGER, ids=name)
def test_what_cannot_be_replayed_runs_as_if_nobody_had_tried_and_the_line_is_named(make):
    check_place(check_equal(make), make)


@pytest.mark.parametrize("make", awkward.COUNTING, ids=name)
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
    runner, _, _ = steps(replayed.where, False)
    assert runner.plan.compiled.startswith("eager: ")


def test_losses_that_are_not_finite_are_told_and_not_kept():
    """Or `overflowing` above tests nothing."""
    runner, losses, _ = steps(changing.overflowing, True)
    assert [i for i, value in enumerate(losses) if not math.isfinite(value)] == [5, 45]
    assert len(runner.losses) == STEPS - 2
    assert replays(runner)


def test_buffers_are_moved_once_by_each_step():
    """Batch norm counts its calls: those of a capture, of a probe and of a warm-up of the compiler are taken back."""
    (runner, *_), (eager, *_) = (steps(replayed.running_moments, compile) for compile in (True, False))
    found, wanted = (
        {key: value for m in r._ready.state.modules.values() for key, value in m["_buffers"].items()}
        for r in (runner, eager)
    )
    assert wanted.keys() == {"running_mean", "running_var", "num_batches_tracked"} == found.keys()
    assert found["num_batches_tracked"].item() == wanted["num_batches_tracked"].item() > STEPS
    for key in ("running_mean", "running_var"):
        torch.testing.assert_close(found[key], wanted[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [replayed.dropout, awkward.python_noise, awkward.branch], ids=name)
def test_a_run_leaves_the_process_as_it_was(make, unchanged):
    model, guide, before = make()
    runner = credo.SVI(model, guide, compile=True, progress=False)
    with unchanged():
        for step in range(STEPS):
            runner.step(*before(step))
    replays(runner)


def test_the_users_own_network_stays_as_it_was():
    model, guide, before = replayed.running_moments()
    (net,) = [cell.cell_contents for cell in model.__closure__]
    state = {key: value.clone() for key, value in net.state_dict().items()}
    leaves = [(id(p), p.requires_grad, p.grad) for p in net.parameters()]
    runner = credo.SVI(model, guide, compile=True, progress=False)
    for step in range(STEPS):
        runner.step(*before(step))
    assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())
    assert leaves == [(id(p), p.requires_grad, p.grad) for p in net.parameters()]


def test_two_runs_side_by_side_over_one_network_do_not_touch_each_other():
    alone = steps(replayed.dropout, False)[1]
    model, guide, before = replayed.dropout()
    runners = [credo.SVI(model, guide, compile=True, progress=False, seed=seed) for seed in (0, 1)]
    both = [[runner.step(*before(step)) for runner in runners] for step in range(STEPS)]
    assert [one for one, _ in both] == pytest.approx(alone, rel=1e-5)
    assert all(one != two for one, two in both)


@pytest.mark.parametrize("particles", [1, 3])
def test_the_particles_asked_for_are_replayed(particles):
    """One particle of a score function has a moving average for a baseline, which the run keeps."""

    def run(compile):
        model, guide, before = replayed.counts()
        runner = credo.SVI(model, guide, compile=compile, progress=False, particles=particles)
        losses = [runner.step(*before(step)) for step in range(STEPS)]
        return runner, losses, runner.params["rate"].item()

    runner, losses, rate = run(True)
    _, wanted, wanted_rate = run(False)
    assert runner.plan.estimator("k") == "score"
    assert losses == pytest.approx(wanted, rel=1e-5) and rate == pytest.approx(wanted_rate, rel=1e-4)
    assert replays(runner)


def test_a_run_that_is_warming_up_is_replayed_with_the_weight_of_each_step():
    """More latents than data: log q - log p enters the gradient by a weight that grows with the steps."""

    def run(compile):
        model, _, before = replayed.crowded()
        runner = credo.SVI(model, None, compile=compile, progress=False, plan="fast")
        return runner, runner.run(*before(0), steps=220).losses

    (runner, losses), (_, wanted) = run(True), run(False)
    assert losses == pytest.approx(wanted, rel=1e-5)
    assert replays(runner)


@pytest.mark.parametrize("n", [300, None])
def test_a_run_follows_steps_and_steps_follow_a_run(n):
    """A run puts averages into the parameters, and until converged it lowers the learning rate: graphs see both."""

    def mixed(compile):
        model, guide, before = replayed.where()
        runner = credo.SVI(model, guide, compile=compile, progress=False, plan="fast")
        for step in range(30):
            runner.step(*before(step))
        stopped = runner.run(*before(0), steps=n).stopped
        for step in range(30):
            runner.step(*before(step))
        return runner, stopped

    (runner, stopped), (eager, wanted) = mixed(True), mixed(False)
    assert stopped == wanted
    assert runner.losses == pytest.approx(eager.losses, rel=1e-5)
    assert replays(runner)

"""A replayed step gives what the eager step gives.

Oracle: the same run with compile=False, seed for seed. Steps are recorded after some twenty, and probed after 2^k.
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import credo
from tests.cases.elbo.expectations import observe, param
from tests.cases.replay import accepted as replayed
from tests.cases.replay import changing
from tests.cases.replay import refused as awkward
from tests.cases.replay.compared import STEPS, check_equal, check_equal_runs, replays, steps

# The programs here step on other data, count their calls or draw noise of their own on purpose, which credo warns of.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{words}")
    for words in (
        "the steps get different data",
        ".*the model gives it another density each time",
        ".*the model draws random numbers outside of a sample site",
    )
]
X = torch.tensor([1.0, 2.0, 3.0])


def name(f):
    return f.__name__


@pytest.mark.parametrize("make", replayed.REPLAYED + changing.CHANGING, ids=name)
def test_what_can_be_replayed_is_and_gives_the_losses_of_the_eager_run(make):
    assert replays(check_equal(make))


@pytest.mark.parametrize("make", changing.EITHER, ids=name)
def test_what_may_be_replayed_gives_the_losses_of_the_eager_run(make):
    replays(check_equal(make))


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
        {key: value for m in r._prepared.state.modules.values() for key, value in m["_buffers"].items()}
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


def test_gradients_that_are_laid_out_otherwise_than_their_parameter_update_it_rightly():
    """The gradient of a sum is one number, expanded; of a transposed parameter, transposed. Updates go by memory."""

    def model(y):
        b, c = param("b", torch.zeros(5, 3)), param("c", torch.zeros(2, 3))
        pyro.sample("s", dist.LogNormal(0.0, 1.0))
        observe(y, b.sum() + (c.T * torch.arange(6.0).reshape(3, 2)).sum())

    def guide(y):
        pyro.sample("s", dist.LogNormal(param("m", 0.0), pyro.param("t", torch.tensor(1.0), constraints.positive)))

    svi = check_equal_runs(model, guide, (X,))
    assert svi.plan.compiled.startswith("captured")
    b = svi.params["b"]
    assert torch.allclose(b, b[0, 0]) and b[0, 0] != 0


def test_a_loss_that_is_not_finite_leaves_the_baseline_alone():
    def model(y):
        k = pyro.sample("k", dist.Poisson(2.0))
        observe(y, k)

    def guide(y):
        pyro.sample("k", dist.Poisson(pyro.param("rate", torch.tensor(2.0), constraints.positive)))

    for compile in (True, False):
        svi = credo.SVI(model, guide, compile=compile, progress=False, particles=1)
        for step in range(60):
            svi.step(X * 1e30 if step in (5, 45) else X)
        assert svi._steps.baselines["k"].isfinite() and torch.isfinite(svi.params["rate"])

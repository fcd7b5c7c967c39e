"""Learning rates that follow the step. Oracles: torch's own loop with its own schedulers, and runs cut in pieces."""

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints
from torch.optim import lr_scheduler

import credo
from credo.inference.updates.schedule import NoRate, Schedule, rate_of_step, rates_of_steps, schedule_of

Y = torch.tensor([1.3, 0.2, 2.0, 0.7])
COSINE = functools.partial(lr_scheduler.CosineAnnealingLR, T_max=40)


def model(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def point(y):
    """A guide whose ELBO has no noise: the gradient of the mode, so that torch's own loop takes the same steps."""
    pyro.sample("z", dist.Delta(pyro.param("loc", torch.tensor(0.3))))


def guide(y):
    loc = pyro.param("loc", torch.tensor(0.3))
    pyro.sample("z", dist.Normal(loc, pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)))


def of_torch(make, optim, scheduler, steps, clip=None):
    """The path of loc by a loop of plain torch."""
    loc = torch.tensor(0.3, requires_grad=True)
    optimiser = optim([loc])
    schedule = scheduler(optimiser)
    path = []
    for _ in range(steps):
        optimiser.zero_grad()
        (loc**2 / 2 + ((Y - loc) ** 2).sum() / 2).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_([loc], clip)
        optimiser.step()
        schedule.step()
        path.append(loc.item())
    return path


SCHEDULERS = {
    "cosine": COSINE,
    "exponential": functools.partial(lr_scheduler.ExponentialLR, gamma=0.9),
    "one cycle": functools.partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=50, cycle_momentum=False),
    "steps": functools.partial(lr_scheduler.StepLR, step_size=7),
    "sequence": lambda optimiser: lr_scheduler.SequentialLR(
        optimiser,
        [lr_scheduler.LinearLR(optimiser, 0.1, total_iters=5), lr_scheduler.ExponentialLR(optimiser, 0.95)],
        milestones=[10],
    ),
    "lambda": functools.partial(lr_scheduler.LambdaLR, lr_lambda=lambda t: 1 / (1 + t)),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter")  # of torch's SequentialLR, in this loop and in credo's
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("compile", [False, True])
def test_a_scheduler_takes_the_steps_of_a_loop_of_torch(name, compile):
    optim = functools.partial(torch.optim.SGD, lr=0.05)
    runner = credo.SVI(model, point, optim, lr=SCHEDULERS[name], plan="fast", particles=1, compile=compile)
    path = []
    for _ in range(50):
        runner.step(Y)
        path.append(runner.params["loc"].item())
    assert path == pytest.approx(of_torch(model, optim, SCHEDULERS[name], 50), abs=1e-6)


@pytest.mark.parametrize("optim", [None, torch.optim.SGD])
def test_a_function_of_the_step_is_the_rate(optim):
    """A constant function is the number; the last steps of a fall to zero move nothing."""
    options = {"plan": "fast", "particles": 2, "progress": False, "optim": optim, "steps": 80}
    plain = credo.fit(model, guide, Y, lr=0.01, **options)
    assert credo.fit(model, guide, Y, lr=lambda step: 0.01, **options).losses == plain.losses
    asked, seen = [], []

    def falling(step):
        asked.append(step)
        return 0.01 * (step < 40)

    watched = {"callback": lambda svi, step, loss: seen.append(svi.params["loc"].item()), "callback_every": 20}
    fit = credo.fit(model, guide, Y, lr=falling, **options, **watched)
    assert fit.losses[:41] == plain.losses[:41] and seen[1:] == [seen[1]] * 3 and seen[0] != seen[1]
    assert set(asked) == set(range(80))


def test_a_rate_that_begins_at_zero_rises():
    fit = credo.fit(model, guide, Y, lr=lambda step: min(0.05, 0.0005 * step), steps=600, plan="fast", progress=False)
    assert fit.params["loc"].item() == pytest.approx(Y.sum().item() / 5, abs=0.1)


def test_a_run_in_pieces_has_the_rates_of_the_whole():
    losses = []
    for pieces in ([60], [20, 1, 39]):
        runner = credo.SVI(model, guide, lr=COSINE, plan="fast", particles=2, progress=False)
        for steps in pieces:
            runner.run(Y, steps=steps)
        losses.append(runner.losses)
    assert losses[0][:20] == losses[1][:20]  # after that a run goes on from the average of its iterates


def test_a_run_until_converged_lowers_a_schedule_and_says_when_it_fell_too_far():
    found = credo.fit(model, guide, Y, lr=lambda step: 0.05, plan="fast", progress=False)
    assert found.converged and found.params["loc"].item() == pytest.approx(Y.sum().item() / 5, abs=0.05)
    with pytest.warns(UserWarning, match="the schedule lowered the learning rate from 0.05 to .*give steps="):
        fit = credo.fit(model, guide, Y, lr=lambda step: 0.05 * 0.98**step, plan="fast", progress=False)
    assert not fit.converged and "parameters hardly move" in fit.stopped


@pytest.mark.parametrize(
    ("lr", "words"),
    [
        ("fast", "lr: got 'fast', wanted a positive learning rate, a function of the step, or a scheduler"),
        (lambda step: "x", "lr: the schedule gave 'x' at step 0, wanted a number"),
        (lambda step: -1.0, "lr: the schedule gave -1.0 at step 0"),
        (lambda step: 1 / step, "lr: the schedule failed at step 0 .ZeroDivisionError"),
        (lr_scheduler.CosineAnnealingLR, "lr: CosineAnnealingLR cannot be made .*T_max"),
        (lr_scheduler.ReduceLROnPlateau, "lr: ReduceLROnPlateau waits for the loss"),
        (functools.partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=9), "changes betas too.*cycle_momentum"),
        (
            lr_scheduler.ExponentialLR(torch.optim.SGD([torch.zeros(1)], lr=1.0), 0.9),
            "lr: got an instance of ExponentialLR, which schedules another optimiser",
        ),
    ],
    ids=["word", "text", "negative", "fails", "without settings", "plateau", "momentum", "instance"],
)
def test_what_is_no_schedule_is_refused(lr, words):
    with pytest.raises(ValueError, match=words):
        credo.SVI(model, guide, lr=lr)


@pytest.mark.parametrize("compile", [False, True])
def test_a_schedule_that_ends_too_early_ends_the_run_with_the_fit(compile):
    one_cycle = functools.partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=30, cycle_momentum=False)
    options = {"plan": "fast", "particles": 1, "compile": compile, "progress": False}
    assert len(credo.fit(model, guide, Y, lr=one_cycle, steps=31, **options).losses) == 31
    with pytest.raises(NoRate, match="lr: OneCycleLR gives no rate for step 31") as caught:
        credo.fit(model, guide, Y, lr=one_cycle, steps=60, **options)
    assert len(caught.value.fit.losses) == 31
    with pytest.raises(NoRate, match="the schedule gave nan at step 12"):
        credo.fit(model, guide, Y, lr=lambda step: 0.01 if step < 12 else float("nan"), steps=60, **options)


def test_the_rates_of_many_steps_are_those_of_each():
    """Of parameters whose rate was lowered, and of an optimiser that lowers it itself."""
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    schedule = Schedule(lambda t: 0.1 / (1 + t), 0.1)
    optimiser.param_groups[0]["lr"] *= 0.3
    each = []
    for t in range(5):
        with rate_of_step(schedule, optimiser, t):
            each.append(optimiser.param_groups[0]["lr"])
    assert rates_of_steps(schedule, optimiser, 0, 5) == pytest.approx(each)
    assert each == pytest.approx([0.3 * 0.1 / (1 + t) for t in range(5)])
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.03)
    optimiser.param_groups[0]["lrd"] = 0.5
    assert rates_of_steps(schedule, optimiser, 0, 2) == pytest.approx([each[0], each[1] / 2])
    with rate_of_step(None, optimiser, 3):
        assert optimiser.param_groups[0]["lr"] == pytest.approx(0.03)
    assert rates_of_steps(None, optimiser, 0, 5) is None and schedule_of(0.1, 0.02) is None


def test_a_parameter_that_appears_at_the_first_step_has_its_rate():
    def late(y):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.3)), 0.5))
        if seen:
            pyro.param("late", torch.tensor(1.0))
        seen.append(1)

    seen = []
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    with rate_of_step(Schedule(lambda t: 0.0, 0.1), optimiser, 0):
        optimiser.add_param_group({"params": [torch.zeros(2)]})
        assert optimiser.param_groups[1]["lr"] == 0.0
    assert [group["lr"] for group in optimiser.param_groups] == [0.1, 0.1]


@pytest.mark.parametrize("compile", [False, True], ids=["eager", "compiled"])
def test_a_fit_knows_where_a_flat_rate_fell(compile):
    """By hand: after 20 and 40 updates of a rate that is cut to a tenth; a rate that always falls has no such place."""
    settings = {"steps": 50, "compile": compile, "progress": False}
    stepped = functools.partial(lr_scheduler.StepLR, step_size=20, gamma=0.1)
    assert credo.fit(model, guide, Y, lr=stepped, **settings).falls == (20, 40)
    assert credo.fit(model, guide, Y, lr=COSINE, **settings).falls == ()
    assert credo.fit(model, guide, Y, lr=0.1, **settings).falls == ()


@pytest.mark.parametrize("rate", ["0.05", True, b"1"])
def test_what_only_looks_like_a_rate_is_refused(rate):
    with pytest.raises(NoRate, match="at step 3, wanted a number"):
        Schedule(lambda step: rate, 0.1).rate(3)
    assert Schedule(lambda step: torch.tensor(0.05), 0.1).rate(3) == torch.tensor(0.05).item()

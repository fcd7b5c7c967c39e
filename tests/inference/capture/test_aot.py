"""The update inside of a compiled step. Oracle: torch's and Pyro's own optimisers, and the run it was captured from."""

from functools import partial

import pytest
import torch
from pyro.optim.clipped_adam import ClippedAdam

import credo
from credo.inference.capture import native
from credo.inference.capture.aot import step_function, unflatten
from credo.inference.capture.optimiser_state import read_state, settings, unsupported
from credo.inference.capture.replay import Replay, StepInputs
from credo.inference.capture.rules import RULES
from credo.inference.runtime.generators import noise
from credo.inference.runtime.parameters import unconstrained
from credo.inference.runtime.state import entered

OPTIMISERS = [
    partial(torch.optim.Adam, lr=1e-3),
    partial(torch.optim.Adam, lr=0.02, betas=(0.9, 0.99), weight_decay=0.1),
    partial(torch.optim.AdamW, lr=0.02, betas=(0.5, 0.7), weight_decay=0.1),
    partial(ClippedAdam, lr=0.02, clip_norm=0.3, weight_decay=0.1),
    partial(ClippedAdam, lr=0.02, lrd=0.9),
    partial(torch.optim.SGD, lr=0.02),
    partial(torch.optim.SGD, lr=0.02, weight_decay=0.1, momentum=0.9, dampening=0.3),
    partial(torch.optim.SGD, lr=0.02, momentum=0.9, nesterov=True),
]
NAMES = [f"{make.func.__name__}-{'-'.join(make.keywords)}" for make in OPTIMISERS]


@pytest.mark.parametrize("make", OPTIMISERS, ids=NAMES)
def test_the_update_is_the_optimisers_own(make):
    """100 steps, gradients of many sizes. The first is the optimiser's own: it makes the state."""
    torch.manual_seed(0)
    leaf = torch.randn(7, dtype=torch.float64, requires_grad=True)
    optimiser = make([leaf])
    sizes = 10.0 ** torch.arange(-9.0, 5.0, 2.0, dtype=torch.float64)
    leaf.grad = torch.randn(7, dtype=torch.float64) * sizes
    optimiser.step()
    assert unsupported(optimiser) is None
    options = settings(optimiser)
    names = [n for n in ("exp_avg", "exp_avg_sq", "momentum_buffer") if n in optimiser.state[leaf]]
    state = (leaf.detach().clone(), *(optimiser.state[leaf][name].clone() for name in names))
    rate = optimiser.param_groups[0]["lr"]
    for t in range(2, 101):
        leaf.grad = torch.randn(7, dtype=torch.float64) * sizes
        powers = [beta**t for beta in options.get("betas", (1.0, 1.0))]
        rate *= options.get("lrd", 1.0)
        clock = torch.tensor([*powers, rate], dtype=torch.float64)
        state = RULES[type(optimiser).__name__](state, leaf.grad.clone(), clock, options)
        optimiser.step()
        torch.testing.assert_close(state[0], leaf.detach(), rtol=1e-9, atol=1e-12)
    for mine, name in zip(state[1:], names, strict=True):
        torch.testing.assert_close(mine, optimiser.state[leaf][name], rtol=1e-9, atol=1e-30)


def captured(name="linear_regression", rows=50, **options):
    """(a runner after 25 steps on some rows, of which the last are replayed; its recorded step; the data)."""
    pair = credo.load(name)
    data = tuple(d[:rows] if isinstance(d, torch.Tensor) else d for d in pair.data())
    runner = credo.SVI(pair.model, pair.guide, progress=False, plan="fast", **options)
    for _ in range(25):
        runner.step(*data)
    (recorded,) = runner._captures.recorded.values()
    return runner, recorded, data


def replay_of(runner, recorded, data):
    values = [v for v in runner._begin(data)[0].data if isinstance(v, torch.Tensor)]
    inputs = StepInputs(list(unconstrained().values()), runner._steps.baselines, [], values, [])
    return Replay(recorded, inputs, runner._steps.optimiser)


@pytest.mark.parametrize("small", [0, 10**6])
@pytest.mark.parametrize(("name", "clip"), [("coin_toss", None), ("linear_regression", None), ("coin_toss", 0.1)])
def test_the_step_that_is_compiled_is_the_step_of_the_run(name, clip, small, monkeypatch):
    """Carried out by torch as it is, from the same state and noise: loss, parameters, moments, sums of iterates."""
    monkeypatch.setattr(native, "SMALL", small)
    runner, recorded, data = captured(name, clip=clip)
    with entered(runner._prepared.state):
        replay = replay_of(runner, recorded, data)
        job = native.compile_job(replay)
        assert job.settings.get("clip") == clip
        assert (job.shapes is not None) is (small > 0)
        flat = [t.clone() for part in read_state(replay, small > 0) for t in part]
        with noise(7), torch.no_grad():
            losses = [step_function(job)(*flat)[0].item() for _ in range(5)]
        torch.manual_seed(7)
        totals, wanted = 0.0, []
        for _ in range(5):
            wanted.append(runner._take_steps(runner._begin(data)[0]).losses[0])
            totals = totals + torch.cat([p.detach().flatten() for p in replay.inputs.leaves]).double()
        assert losses == pytest.approx(wanted, rel=1e-6)
        x, expected = unflatten(flat, job.sizes), read_state(replay, True)
        for kind in ("leaves", "first", "second"):
            found = torch.cat([t.flatten() for t in getattr(x, kind)])
            torch.testing.assert_close(found, getattr(expected, kind)[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(torch.cat([t.flatten().double() for t in x.totals]), totals, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(x.clock[0], expected.clock[0])


def test_a_step_whose_loss_is_not_finite_changes_nothing():
    runner, recorded, data = captured()
    with entered(runner._prepared.state):
        replay = replay_of(runner, recorded, data)
        inputs = replay.inputs
        replay = replay._replace(inputs=inputs._replace(data=[d * float("nan") for d in inputs.data]))
        job = native.compile_job(replay)
        flat = [t.clone() for part in read_state(replay, True) for t in part]
        before = unflatten([t.clone() for t in flat], job.sizes)
        with torch.no_grad():
            assert not step_function(job)(*flat)[0].isfinite()
        after = unflatten(flat, job.sizes)
        for kind in ("leaves", "first", "second", "clock"):
            for a, b in zip(getattr(before, kind), getattr(after, kind), strict=True):
                assert torch.equal(a, b), kind

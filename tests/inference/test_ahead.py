"""The update inside of a compiled step. Oracle: torch's own Adam, and the run that the step was captured from."""

import pytest
import torch

import credo
from credo.inference import machine
from credo.inference.ahead import Inputs, adam, inputs, step
from credo.inference.scope import entered, noise, unconstrained


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("betas", "rate"), [((0.9, 0.999), 1e-3), ((0.9, 0.99), 0.02), ((0.5, 0.7), 1.0)])
def test_adam_is_torchs(dtype, betas, rate):
    torch.manual_seed(0)
    leaf = torch.randn(7, dtype=dtype, requires_grad=True)
    optimiser = torch.optim.Adam([leaf], lr=rate, betas=betas)
    p, first, second = leaf.detach().clone(), torch.zeros(7, dtype=dtype), torch.zeros(7, dtype=dtype)
    for t in range(1, 101):
        gradient = torch.randn(7, dtype=dtype) * 10.0 ** torch.arange(-9.0, 5.0, 2.0, dtype=dtype)
        leaf.grad = gradient.clone()
        optimiser.step()
        powers = [torch.tensor(beta**t, dtype=torch.float64) for beta in betas]
        p, first, second = adam(
            p, gradient, first, second, powers, torch.tensor(rate, dtype=torch.float64), betas, 1e-8
        )
        close = {"rtol": 1e-4, "atol": 1e-5 * rate} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-12}
        torch.testing.assert_close(p, leaf.detach(), **close)


def captured(name="linear_regression", rows=50):
    """A runner after 25 steps on some rows, of which the last are replayed, and its replay."""
    pair = credo.load(name)
    data = tuple(d[:rows] if isinstance(d, torch.Tensor) else d for d in pair.data())
    runner = credo.SVI(pair.model, pair.guide, progress=False, plan="fast")
    for _ in range(25):
        runner.step(*data)
    (replay,) = runner._compiled.replays.values()
    return runner, replay, data


def live_of(runner, replay, data):
    from credo.inference.replay import Live

    values = [v for v in runner._begin(data)[0].data if isinstance(v, torch.Tensor)]
    return Live(list(unconstrained().values()), runner._steps.averages, [], values, [])


@pytest.mark.parametrize("name", ["coin_toss", "linear_regression"])
def test_the_step_that_is_compiled_is_the_step_of_the_run(name):
    """Carried out by torch as it is, from the same state and noise: loss, parameters, moments, sums of iterates."""
    runner, replay, data = captured(name)
    with entered(runner._ready.state):
        live = live_of(runner, replay, data)
        job = machine.job_of(replay, live, runner._steps.optimiser)
        x = Inputs(*([t.clone() for t in part] for part in machine._inputs(replay, live, runner._steps.optimiser)))
        with noise(7), torch.no_grad():
            losses = [step(job)(*(t for part in x for t in part))[0].item() for _ in range(5)]
        torch.manual_seed(7)
        totals = [torch.zeros_like(p) for p in live.leaves]
        wanted = []
        for _ in range(5):
            wanted.append(runner._advance(runner._begin(data)[0]).losses[0])
            totals = [total + p.detach() for total, p in zip(totals, live.leaves, strict=True)]
        assert losses == pytest.approx(wanted, rel=1e-6)
        states = [runner._steps.optimiser.state[p] for p in live.leaves]
        for part, wanted_part in (
            (x.leaves, [p.detach() for p in live.leaves]),
            (x.first, [s["exp_avg"] for s in states]),
            (x.second, [s["exp_avg_sq"] for s in states]),
            (x.totals, totals),
        ):
            for a, b in zip(part, wanted_part, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        assert x.clock[0].item() == pytest.approx(0.9 ** states[0]["step"].item())


def test_a_step_whose_loss_is_not_finite_changes_nothing():
    runner, replay, data = captured()
    with entered(runner._ready.state):
        live = live_of(runner, replay, data)
        live = live._replace(data=[d * float("nan") for d in live.data])
        job = machine.job_of(replay, live, runner._steps.optimiser)
        flat = [t.clone() for part in machine._inputs(replay, live, runner._steps.optimiser) for t in part]
        before = inputs([t.clone() for t in flat], job.sizes)
        with torch.no_grad():
            assert not step(job)(*flat)[0].isfinite()
        after = inputs(flat, job.sizes)
        for kind in ("leaves", "first", "second", "clock"):
            for a, b in zip(getattr(before, kind), getattr(after, kind), strict=True):
                assert torch.equal(a, b), kind

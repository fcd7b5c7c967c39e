"""The steps of a run: compared with updates by hand, and what a step that fails leaves behind."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Normal, kl_divergence

import credo
from credo.inference.pair.pair import Pair
from credo.inference.runtime.parameters import flat_parameters, unconstrained
from credo.inference.runtime.state import entered
from credo.inference.stepping.steps import FEW
from tests.cases.normal_mean import Y, guide, model


def begun(program=model, q=guide, **options):
    """The runner, its steps, its pair and its plan."""
    runner = credo.SVI(program, q, compile=False, progress=False, **options)
    plan = runner.prepare(Y)
    return runner, runner._steps, Pair(program, q, (Y,)), plan


def test_a_step_is_one_of_gradient_descent():
    """With analytic KL: d/dm of KL(N(m, 0.6^2) || N(0, 2^2)) = m / 4; of the data: the mean over draws of y - z."""
    runner, steps, pair, plan = begun(optim=torch.optim.SGD, lr=0.01, particles=20_000, plan="fast")
    assert plan.entries[0].term == "analytic KL"
    with entered(runner._prepared.state):
        block = steps.take_steps(pair, plan)
        m = unconstrained()["m"].item()
    slope = 0.5 / 4 - (Y - 0.5).sum().item()
    assert m == pytest.approx(0.5 - 0.01 * slope, abs=0.01 * 5 * 3 * 0.6 / 20_000**0.5)
    exact = kl_divergence(Normal(torch.tensor(0.5), 0.6), Normal(0.0, 2.0)) - Normal(0.5, 1.0).log_prob(Y).sum() + 0.54
    assert block.losses[0] == pytest.approx(exact.item(), abs=0.1)
    assert block.total.item() == m and steps.taken == 1


def test_the_learning_rate_falls_from_where_the_run_began():
    _, steps, _, _ = begun(lr=0.2)
    for rate in (0.5, 0.25, 1.0):
        steps.set_rate(rate)
        assert [group["lr"] for group in steps.optimiser.param_groups] == pytest.approx([0.2 * rate])


def test_the_number_of_draws_one_by_one_is_what_was_asked_for_or_few():
    assert begun(particles=20)[1].few == 20
    steps = begun()[1]
    assert steps.few == min(steps.particles, FEW)


def test_a_program_that_fails_under_vmap_is_run_one_by_one_and_another_error_is_raised():
    steps = begun(particles=5)[1]
    steps.vectorised, seen = True, []

    def compute(particles, together):
        seen.append((particles, together))
        if together:
            raise RuntimeError("vmap: data-dependent control flow")
        return "done"

    assert steps.batched(compute) == "done" and not steps.vectorised
    assert seen == [(5, True), (1, False), (5, False)]
    assert steps.batched(compute) == "done" and len(seen) == 4
    steps.vectorised = True
    with pytest.raises(RuntimeError, match="mine"):
        steps.batched(lambda particles, together: (_ for _ in ()).throw(RuntimeError("mine")))
    assert steps.vectorised


def test_a_program_that_makes_a_parameter_goes_on_at_once():
    runner, steps, _, _ = begun(particles=5)
    steps.vectorised = True

    def compute(particles, together):
        if together and "late" not in unconstrained():
            raise RuntimeError("vmap: no parameter can be created here")
        pyro.param("late", torch.tensor(1.0))
        return particles, together

    with entered(runner._prepared.state):
        assert steps.batched(compute) == (5, True) and steps.vectorised


def test_a_step_that_is_not_finite_changes_nothing():
    broken = []

    def breaking(y):
        z = pyro.sample("z", dist.Normal(0.0, 2.0))
        n = pyro.sample("n", dist.Poisson(2.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z + n + (math.inf if broken else 0.0), 1.0), obs=y)

    def score_guide(y):
        guide(y)
        pyro.sample("n", dist.Poisson(pyro.param("rate", torch.tensor(2.0))))

    runner, steps, pair, plan = begun(breaking, score_guide, plan="fast", particles=1)
    with entered(runner._prepared.state):
        steps.take_steps(pair, plan)
        kept = flat_parameters(unconstrained().values()), {k: v.clone() for k, v in steps.baselines.items()}
        broken.append(True)
        block = steps.take_steps(pair, plan)
        assert not math.isfinite(block.losses[0]) and steps.taken == 1
        assert torch.equal(block.total, kept[0]) and steps.baselines.keys() == kept[1].keys() != set()
        assert all(torch.equal(steps.baselines[k], v) for k, v in kept[1].items())
        broken.clear()
        assert math.isfinite(steps.take_steps(pair, plan).losses[0]) and steps.taken == 2


@pytest.mark.parametrize(("steps", "words"), [(40, "eager: too few steps"), (200, "captured once")])
def test_a_run_of_few_steps_is_not_recorded(steps, words):
    """A recording costs what the replays of some 40 steps save."""
    fit = credo.fit(model, guide, Y, steps=steps, plan="fast", progress=False)
    assert fit.plan.compiled.startswith(words) and len(fit.losses) == steps


@pytest.mark.parametrize("pair", ["bnn_classifier", "vae"])
def test_products_in_bfloat16_leave_the_gradient_where_it_is(pair):
    """The same noise in both: bfloat16 has 8 binary digits, so one gradient differs from the other by per cents."""
    pair = credo.load(pair)
    data = [d[:60] if isinstance(d, torch.Tensor) else d for d in pair.data()]
    one, two = (
        credo.SVI(pair.model, pair.guide, plan="fast", particles=1, precision=precision).gradients(*data)
        for precision in (None, "bf16")
    )
    assert all(g.dtype == torch.float32 for g in two.values())
    a, b = (torch.cat([g.flatten() for g in found.values()]) for found in (one, two))
    assert 1e-4 < (a - b).norm() / a.norm() < 0.05


def test_products_in_bfloat16_are_recorded():
    pair = credo.load("bnn_classifier")
    net, x, y = pair.data()
    runners = [
        credo.SVI(pair.model, pair.guide, plan="fast", precision="bf16", compile=compile, batch_size=50, progress=False)
        for compile in (True, False)
    ]
    recorded, eager = ([one.step(net, x, y) for _ in range(30)] for one in runners)
    assert runners[0].plan.compiled.startswith("captured once")
    assert recorded == pytest.approx(eager, rel=1e-4)

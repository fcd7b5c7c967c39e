"""The updates that compiled steps take. Oracles: eager steps of the optimiser, and eager runs.

Adam, AdamW, ClippedAdam and SGD are compared with torch's and Pyro's own in `test_aot.py`, and one natural gradient
step with its formula in `updates/test_natural.py`.
"""

import time

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints

import credo
from credo.inference.capture import compiler, native
from credo.inference.capture.native import NativeLoop
from credo.inference.capture.rules import UPDATES
from credo.inference.updates.natural import Natural
from tests.cases.interpreted import interpreted

X = torch.linspace(-1, 1, 12)


def test_a_natural_update_of_lists_is_the_optimisers_own():
    """Parameters of all roles in an order that mixes them, three steps."""
    torch.manual_seed(0)
    leaves = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(6)]
    pairs = [(4, 0, "softplus"), (1, 5, "half_exp")]
    optimiser = Natural(leaves, 0.02, pairs)
    now = [p.detach().clone() for p in leaves]
    first, second = ([torch.zeros(3, dtype=torch.float64) for _ in range(n)] for n in (4, 2))
    options = {**optimiser.param_groups[0], "pairs": pairs}
    for t in (1, 2, 3):
        gradients = [torch.randn(3, dtype=torch.float64) for _ in leaves]
        for p, g in zip(leaves, gradients, strict=True):
            p.grad = g.clone()
        optimiser.step()
        clock = torch.tensor([0.9**t, 0.99**t, 0.02], dtype=torch.float64)
        now, first, second = UPDATES["Natural"](now, gradients, first, second, clock, options)
        torch.testing.assert_close(now, [p.detach() for p in leaves], rtol=1e-12, atol=0)
    kept = [leaves[i] for i in (1, 2, 3, 4)]
    torch.testing.assert_close(first, [optimiser.state[p]["exp_avg"] for p in kept], rtol=1e-12, atol=0)
    torch.testing.assert_close(second, [optimiser.state[p]["exp_avg_sq"] for p in kept[1:3]], rtol=1e-12, atol=0)


def model(x):
    sd = pyro.sample("sd", dist.LogNormal(0.0, 1.0))
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(w[0] + w[1] * x + w[2] * x**2, sd), obs=1 + x.sin())


def guide(x):
    loc = pyro.param("loc", torch.zeros(3))
    scale = pyro.param("scale", torch.full((3,), 0.3), constraint=constraints.softplus_positive)
    pyro.sample("w", dist.Normal(loc, scale).to_event(1))
    pyro.sample("sd", dist.Gamma(pyro.param("a", torch.tensor(3.0), constraint=constraints.positive), 4.0))


def runner(**options):
    return credo.SVI(model, guide, "natural", progress=False, plan="fast", particles=2, **options)


def same(one, two, atol=1e-5):
    torch.testing.assert_close(torch.tensor(one.losses), torch.tensor(two.losses), rtol=1e-4, atol=1e-4)
    for name, value in one.params.items():
        torch.testing.assert_close(value, two.params[name], rtol=atol, atol=atol)


@pytest.mark.parametrize("small", [0, 10**6], ids=["tensor by tensor", "flat"])
@pytest.mark.parametrize("options", [{}, {"clip": 5.0, "batch_size": 4, "lr": lambda t: 0.02 / (1 + t / 30)}])
def test_natural_steps_are_the_same_eager_replayed_and_compiled(small, options, monkeypatch):
    """The compiled function run by Python. A shortened run is compared: chaos doubles rounding errors on the way."""
    monkeypatch.setattr(native, "SMALL", small)
    fits = [runner(compile=False, **options), runner(**options), runner(**options)]
    for i, svi in enumerate(fits):
        if i == 2:
            monkeypatch.setattr(native, "open_library", loops_of_rates)
        svi.run(X, steps=80)
    same(fits[0], fits[1])
    same(fits[0], fits[2])
    assert [isinstance(native_of(svi), NativeLoop) for svi in fits[1:]] == [False, True]


def test_loops_of_ones_own_and_a_state_that_is_loaded_go_on_as_they_were(monkeypatch):
    """Steps taken again in place, then a runner that loads the state of another."""
    monkeypatch.setattr(native, "open_library", interpreted)
    eager, compiled, loaded = runner(compile=False), runner(), runner(compile=False)
    for svi in (eager, compiled):
        for _ in range(60):
            svi.step(X)
    same(eager, compiled)
    assert compiled._steps.kept
    loaded.load_state_dict(compiled.state_dict())
    for svi in (eager, loaded):
        for _ in range(10):
            svi.step(X)
    same(eager, loaded)


def loops_of_rates(job):
    """`interpreted` for steps whose learning rate is scheduled."""
    step = interpreted(job)

    def loop(tensors, stacked, count, rates=None):
        losses = []
        for k in range(count):
            if rates is not None:
                rates[0][2] = rates[1][k]
            losses += step([*(t[k : k + 1] for t in tensors[:stacked]), *tensors[stacked:]], stacked, 1)
        return losses

    return loop


def native_of(svi):
    (recorded,) = svi._captures.recorded.values()
    return recorded.native


@pytest.mark.slow
@pytest.mark.skipif(not compiler.has_compiler(), reason="no C++ compiler here")
def test_natural_steps_in_machine_code_are_the_eager_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("CREDO_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "PATIENCE", 0.0)
    eager, first = runner(compile=False), runner()
    first.run(X, steps=300)
    end = time.monotonic() + 240
    while not isinstance(native_of(first), NativeLoop) and time.monotonic() < end:
        first.run(X, steps=100)
        assert not isinstance(native_of(first), str), native_of(first)
    compiled = runner()  # opens the library
    compiled.run(X, steps=60), eager.run(X, steps=60)
    assert isinstance(native_of(compiled), NativeLoop) and compiled.plan.compiled == "captured once, compiled"
    same(eager, compiled)

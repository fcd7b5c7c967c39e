"""One pair run twice, with recorded steps and without: losses, parameters and draws are compared."""

import inspect
import re

import pytest
import torch

import credo

STEPS = 60
PLACE = re.compile(r"(\w+\.py):(\d+): `(.+)`$")


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


def check_equal_runs(model, guide, data, **options):
    """50 steps of two runs of a model and a guide on data, of which the first is returned."""
    found = []
    for compile in (True, False):
        svi = credo.SVI(model, guide, compile=compile, progress=False, **options)
        for _ in range(50):
            svi.step(*data)
        found.append(svi)
    one, two = found
    assert one.losses == pytest.approx(two.losses, rel=1e-5)
    for name, value in two.params.items():
        torch.testing.assert_close(one.params[name], value, rtol=1e-4, atol=1e-5)
    return one

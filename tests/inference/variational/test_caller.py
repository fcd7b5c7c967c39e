"""Warnings of a run show the user's line, also when the run ends early."""

import warnings
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from tests.cases.interruptions import Armed, breaking, interrupting

Y = torch.tensor([1.0, 2.0, 0.3])


def model(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def detached(y):
    """`loc` gets no gradient."""
    loc = pyro.param("loc", torch.tensor(0.3))
    pyro.sample("z", dist.Normal(loc.detach(), pyro.param("scale", torch.tensor(0.0)).exp()))


CALLS = {
    "fit": lambda program: credo.fit(program, detached, Y, steps=3, compile=False),
    "run": lambda program: credo.SVI(program, detached, compile=False).run(Y, steps=3),
    "step": lambda program: credo.SVI(program, detached, compile=False).step(Y),
    "until converged": lambda program: credo.fit(program, detached, Y, compile=False, particles=1),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_warning_shows_the_line_of_the_user_once(call):
    with pytest.warns(UserWarning, match="'loc' gets no gradient") as caught:
        CALLS[call](model)
    assert [Path(w.filename) for w in caught] == [Path(__file__)]
    line = Path(__file__).read_text().splitlines()[caught[0].lineno - 1]
    assert line.strip().startswith(f'"{call}": lambda')


def test_a_runner_warns_of_a_parameter_at_its_first_step_only():
    runner = credo.SVI(model, detached, compile=False)
    with pytest.warns(UserWarning, match="'loc' gets no gradient"):
        runner.step(Y)
    runner.step(Y)  # a warning would be an error here
    runner.run(Y, steps=3)


def test_a_warning_is_not_lost_when_the_run_fails_or_is_interrupted():
    for strike, fails in ((breaking(after=30), True), (interrupting(at=60), False)):
        program = Armed(model, strike)
        runner = credo.SVI(program, detached, compile=False, plan="fast", particles=1)
        runner.prepare(Y)
        program.calls = 0  # from here each run of the model is a check or a step
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if fails:
                with pytest.raises(credo.Diverged):
                    runner.run(Y, steps=50)
            else:
                assert "interrupted" in runner.run(Y, steps=50).stopped
        assert [Path(w.filename) for w in caught] == [Path(__file__)]


def stepping(y):
    """The log density jumps in z."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal((z > 0).float(), 1.0), obs=y)


def normal(y):
    pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.3)), 1.0))


FORCED = {
    "plan": lambda options: credo.plan(stepping, normal, Y, **options),
    "prepare": lambda options: credo.SVI(stepping, normal, **options).prepare(Y),
    "race": lambda options: credo.SVI(stepping, normal, **options).race(Y),
    "gradients": lambda options: credo.SVI(stepping, normal, **options).gradients(Y),
    "evaluate_loss": lambda options: credo.SVI(stepping, normal, **options).evaluate_loss(Y),
}


@pytest.mark.parametrize("call", FORCED)
def test_a_forced_estimator_is_warned_of_at_the_line_of_the_user(call):
    with pytest.warns(UserWarning, match="'z': 'pathwise' was forced, its gradient is biased") as caught:
        FORCED[call]({"plan": {"z": "pathwise"}, "force": True})
    assert [Path(w.filename) for w in caught] == [Path(__file__)]
    assert f'"{call}": lambda' in Path(__file__).read_text().splitlines()[caught[0].lineno - 1]


@pytest.mark.parametrize("error", [credo.Diverged, RuntimeError])
def test_a_warning_that_is_an_error_does_not_replace_an_error(error):
    def failing(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        if error is RuntimeError and runner.losses:
            raise RuntimeError("of the user")
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z * (1.0 if not runner.losses else torch.nan), 1.0), obs=y)

    runner = credo.SVI(failing, detached, compile=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error):
            runner.run(Y, steps=5)


@pytest.mark.parametrize("call", ["fit", "run"])
def test_a_warning_that_is_an_error_has_the_fit_and_the_other_warnings(call):
    """With `python -W error` a finished run is not lost."""

    def belief(y):
        pyro.sample(
            "z", dist.Normal(pyro.param("loc", torch.tensor(0.3)).detach(), pyro.param("scale", torch.ones(())))
        )
        pyro.param("unused", torch.tensor(1.0))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="gets no gradient") as caught:
            if call == "fit":
                credo.fit(model, belief, Y, steps=300, compile=False)
            else:
                credo.SVI(model, belief, compile=False).run(Y, steps=300)
    fit, notes = caught.value.fit, caught.value.__notes__
    assert len(fit.losses) == 300 and fit.sample(3)["z"].shape == (3,)
    assert "gets no gradient" in notes[0] and ".fit of this warning" in notes[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"particles": 1}, "give batch_size="),
        ({"batch_size": 2, "particles": 1}, r"lower batch_size \(2 now\)"),
        ({"particles": 3}, r"give batch_size= or lower particles \(3 now\)"),
    ],
)
def test_out_of_memory_names_what_to_lower_and_keeps_what_was_learnt(options, words):
    left = [10_000]  # calls of the model until memory is full

    def model(x):
        left[0] -= 1
        if left[0] < 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(m, 1.0), obs=x)

    x = torch.ones(4)
    svi = credo.SVI(model, None, compile=False, progress=False, **options)
    svi.run(x, steps=10)
    left[0] = 40
    with pytest.raises(MemoryError, match=f"out of memory: {words}. What was learnt is kept") as caught:
        svi.run(x, steps=100)
    taken = len(caught.value.fit.losses)
    assert 10 < taken == len(svi.losses) < 110
    left[0] = 10_000
    assert len(svi.run(x, steps=10).losses) == taken + 10

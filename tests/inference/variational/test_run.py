"""What a run keeps when a step goes wrong: at one draw, from some step on, or after the last step."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.variational import run as module
from credo.inference.variational.races import Races
from tests.cases.five_rows import Y, guide, model
from tests.cases.interruptions import Armed


def posterior_is_found(fit):
    """N(sum y / 5, 1/5)."""
    assert fit.params["loc"].item() == pytest.approx(Y.sum().item() / 5, abs=0.1 * 5**-0.5)
    assert fit.params["scale"].item() == pytest.approx(5**-0.5, rel=0.06)


def seldom(what):
    """The model, except that `what` happens at draws further than 2.4 sds above the posterior mean: 8 in 1,000."""

    def program(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        far = (z > 0.84 + 2.4 * 5**-0.5).to(y.dtype)
        y = y + what(far)
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    return program


def without_density(far):
    return torch.where(far > 0, torch.nan, 0.0)


def singular(far):
    """Raises LinAlgError if far."""
    return torch.linalg.cholesky((1 - far)[None, None]).sum() - 1


def refused(far):
    if far:
        raise ValueError("far is not supported")
    return 0.0


def asserted(far):
    assert not far, "far"
    return 0.0


@pytest.mark.parametrize("what", [without_density, singular, refused, asserted])
@pytest.mark.parametrize("compile", [False, True])
def test_a_step_that_fails_at_one_draw_is_skipped(what, compile):
    with pytest.warns(UserWarning, match="of 1,5.. steps were skipped; the first: .* at step"):
        fit = credo.fit(seldom(what), guide, Y, steps=1500, lr=0.03, particles=1, plan="fast", compile=compile)
    assert len(fit.losses) == 1500 and all(loss == loss for loss in fit.losses)
    posterior_is_found(fit)


def test_a_gradient_that_is_not_finite_updates_nothing():
    """sqrt(0) has an infinite slope, which `where` multiplies by zero: NaN at a finite loss."""

    def program(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        far = z > 0.84 + 2.4 * 5**-0.5
        root = torch.where(far, 0.0, 1.0) * torch.ones(())
        slope = torch.sqrt(torch.where(far, 0 * z, 1 + 0 * z))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z + 0 * slope * root, 1.0), obs=y)

    for compile in (False, True):
        with pytest.warns(UserWarning, match="-ELBO became nan"):
            fit = credo.fit(program, guide, Y, steps=1500, lr=0.03, particles=1, plan="fast", compile=compile)
        assert all(loss == loss for loss in fit.losses)
        posterior_is_found(fit)


def test_a_run_without_bad_steps_warns_of_nothing():
    posterior_is_found(credo.fit(seldom(lambda far: 0 * far), guide, Y, steps=1500, lr=0.03))


def begins(after, what):
    """A program in which `what(y)` replaces the data after so many steps; its data are checked before."""
    return Armed(model, lambda calls, y: what(y) if calls > after else y)


def run_on(program, steps=200, **options):
    runner = credo.SVI(program, guide, particles=1, plan="fast", compile=False, **options)
    runner.prepare(Y)
    program.calls = 0
    return runner.run(Y, steps=steps)


def divided(y):
    return y / (1 // 0)


def of_no_definite_sign(y):
    torch.linalg.cholesky(-torch.eye(2))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda y: y * torch.nan, "-ELBO became nan at step 99.*site 'y': log_prob is nan under Normal.*observed"),
        (divided, "ZeroDivisionError: .* at test_run.py:.*1 // 0"),
        (of_no_definite_sign, "LinAlgError: .*positive-definite.*torch.linalg.cholesky"),
    ],
)
def test_too_many_bad_steps_say_where_and_keep_the_fit(what, words):
    with pytest.raises(credo.Diverged, match=words) as caught:
        run_on(program := begins(98, what))
    fit, program.calls = caught.value.fit, -float("inf")
    assert len(fit.losses) == 98 and fit.sample(3)["z"].isfinite().all() and "step 99" in fit.stopped


def full(y):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("what", [full, lambda y: y + None, lambda y: y[:3] + y[:2]])
def test_an_error_of_the_program_carries_the_fit_so_far(what):
    with pytest.raises((OSError, TypeError, RuntimeError)) as caught:
        run_on(begins(98, what))
    assert not isinstance(caught.value, credo.Diverged)
    assert len(caught.value.fit.losses) == 98 and "after 98 steps" in caught.value.__notes__[0]
    assert caught.value.fit.params["loc"] > 0.3


def test_a_fit_is_not_lost_by_the_check_after_the_last_step(monkeypatch):
    def failing(*args):
        raise RuntimeError("the file is gone")

    monkeypatch.setattr(module, "jumps", failing)
    with pytest.warns(UserWarning, match="after the last step failed .*the file is gone"):
        assert credo.fit(model, guide, Y, lr=0.05).stopped.startswith("converged")


@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_a_race_and_a_check_of_convergence_at_a_bad_draw_do_not_end_the_run(monkeypatch, error):
    def failing(*args, **options):
        raise error("at this draw")

    for race in ("race", "race_on_the_way"):
        monkeypatch.setattr(Races, race, failing)
    fit = credo.fit(model, guide, Y, steps=400)
    assert fit.stopped == "after the 400 steps asked for"


def test_ctrl_c_after_the_last_step_keeps_the_answer(monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "jumps", interrupted)
    assert credo.fit(model, guide, Y, lr=0.05).stopped.startswith("converged")


@pytest.mark.parametrize("at", [1, 2, 3, 5, 8, 20])
def test_ctrl_c_before_the_first_step_gives_the_start_of_the_guide(at, unchanged):
    """At each of the first runs of the model: of the check, of planning, of the race."""
    calls = []

    def program(y):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        model(y)

    with unchanged():
        fit = credo.fit(program, guide, Y)
        assert fit.stopped == "interrupted after 0 steps (Ctrl-C)" and fit.losses == ()
        assert fit.params["loc"].item() == pytest.approx(0.3) and fit.params["scale"].item() == pytest.approx(0.5)
        assert fit.sample(4)["z"].shape == (4,) and fit.predict(2)["y"].shape == (2, 4)
        assert list(fit.summary().index) == ["z"] and "0 steps" in repr(fit)


def test_a_run_goes_on_after_ctrl_c_before_its_first_step():
    calls = []

    def program(y):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        model(y)

    runner = credo.SVI(program, guide, lr=0.05)
    assert "interrupted" in runner.run(Y).stopped
    posterior_is_found(runner.run(Y))


@pytest.mark.parametrize("what", [without_density, singular, refused, asserted])
@pytest.mark.parametrize("at", [1, 2, 3, 6])
def test_a_bad_draw_before_the_first_step_is_no_mistake_in_the_pair(what, at):
    """At the first run of the model (the check), and at others of planning."""
    calls = []

    def program(y):
        calls.append(1)
        model(y + what(torch.tensor(1.0 if len(calls) == at else 0.0)))

    posterior_is_found(credo.fit(program, guide, Y, steps=1000, lr=0.05, plan="fast", compile=False))


@pytest.mark.parametrize("error", [OSError, ValueError])
def test_a_run_with_a_pyro_optimiser_keeps_what_was_learnt_too(error):
    """Whose steps go on as Pyro's do: the first error ends the run, as it is."""
    calls = []

    def program(y):
        calls.append(1)
        if len(calls) > 40:
            raise error("the file is gone")
        model(y)

    runner = credo.SVI(program, guide, pyro.optim.Adam({"lr": 0.05}), pyro.infer.Trace_ELBO())
    with pytest.raises(error, match="the file is gone") as caught:
        runner.run(Y, steps=100)
    assert 20 < len(caught.value.fit.losses) <= 40
    calls.clear()
    assert caught.value.fit.sample(3)["z"].shape == (3,)


@pytest.mark.parametrize("at", [1, 2, 30])
def test_ctrl_c_in_a_run_with_a_pyro_optimiser_gives_a_fit(at):
    calls = []

    def program(y):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        model(y)

    fit = credo.SVI(program, guide, pyro.optim.Adam({"lr": 0.05}), pyro.infer.Trace_ELBO()).run(Y, steps=100)
    assert "interrupted" in fit.stopped and len(fit.losses) < at and fit.sample(3)["z"].shape == (3,)

"""A callback sees the run as it is at its step, may end it, and changes nothing that it was not asked to."""

import random
from functools import partial

import numpy as np
import pyro
import pytest
import torch

import credo
from credo.inference.variational.callback import checked_callback
from tests.cases.five_rows import Y, guide, model


def fit(callback=None, steps=250, **options):
    options = {"plan": "fast", "particles": 2, "progress": False, **options}
    return credo.fit(model, guide, Y, steps=steps, callback=callback, **options)


@pytest.mark.parametrize("compile", [False, True])
def test_a_callback_sees_every_hundredth_step_and_the_last_one(compile):
    seen = []

    def callback(svi, step, loss):
        seen.append((step, loss, list(svi.losses), svi.params["loc"].item(), svi.plan.estimator("z")))

    found = fit(callback, compile=compile)
    assert [step for step, *_ in seen] == [100, 200, 250] and len(found.losses) == 250
    for step, loss, losses, _, estimator in seen:
        assert losses == list(found.losses[:step]) and loss == losses[-1] and estimator == "pathwise"
    runner = credo.SVI(model, guide, plan="fast", particles=2, compile=True)
    for step, *_, loc, _ in seen:  # the parameters are those after so many steps
        while len(runner.losses) < step:
            runner.step(Y)
        assert runner.params["loc"].item() == pytest.approx(loc, abs=1e-4)


@pytest.mark.parametrize(("every", "steps"), [(1, 60), (7, 60), (60, 60), (1000, 60), (70, None)])
def test_it_is_called_every_so_many_steps_and_changes_nothing(every, steps):
    seen = []
    plain = fit(steps=steps)
    watched = fit(lambda svi, step, loss: seen.append(step), steps, callback_every=every)
    n = len(plain.losses)
    assert watched.losses == plain.losses and watched.stopped == plain.stopped
    assert seen == [*range(every, n + 1, every)] + [n] * (n % every > 0)
    assert torch.equal(watched.params["loc"], plain.params["loc"])


@pytest.mark.parametrize("answer", [True, np.True_, torch.tensor(True)])
def test_true_ends_the_run(answer):
    found = fit(lambda svi, step, loss: step == 30 and answer, callback_every=10)
    assert found.stopped == "ended by the callback at step 30" and not found.converged and len(found.losses) == 30
    assert found.sample(3)["z"].shape == (3,)


@pytest.mark.parametrize("answer", [None, 1, "yes", 3.5, False, torch.tensor(1.0), np.float64(1)])
def test_other_answers_end_nothing(answer):
    assert fit(lambda svi, step, loss: answer, 100, callback_every=10).stopped == "after the 100 steps asked for"


def test_a_run_until_converged_ends_by_its_callback_too():
    found = fit(lambda svi, step, loss: step >= 150, None, callback_every=50)
    assert found.stopped == "ended by the callback at step 150" and len(found.losses) == 150


def batches(callback=None):
    y = torch.linspace(-1.0, 1.0, 40)
    runner = credo.SVI(model, guide, batch_size=10, plan={"z": "score"}, particles=4, progress=False)
    return runner.run(y, steps=60, callback=callback, callback_every=7)


def test_what_a_callback_draws_and_computes_leaves_the_run_as_it_is(unchanged):
    def callback(svi, step, loss):
        torch.randn(3), np.random.randn(), random.random(), pyro.set_rng_seed(3)
        assert np.isfinite(svi.evaluate_loss(torch.linspace(-1.0, 1.0, 40)))
        assert svi.gradients(torch.linspace(-1.0, 1.0, 40)).keys() == {"loc", "scale"}

    with unchanged():
        assert batches(callback).losses == batches().losses


@pytest.mark.parametrize("compile", [False, True])
def test_a_callback_draws_other_numbers_each_time(compile):
    """They go on from call to call, as in a loop of one's own."""
    seen = []

    def callback(svi, step, loss):
        seen.append((torch.randn(()).item(), np.random.randn(), random.random()))

    fit(callback, callback_every=10, compile=compile)
    assert all(len(set(numbers)) == 25 for numbers in zip(*seen, strict=True))


def test_an_error_in_a_callback_ends_the_run_with_the_fit_so_far():
    def callback(svi, step, loss):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left") as caught:
        fit(callback, callback_every=40)
    assert len(caught.value.fit.losses) == 40 and "40 steps" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="of the callback"):  # a bad step would be skipped; this is none
        fit(lambda svi, step, loss: (_ for _ in ()).throw(ValueError("of the callback")))


def test_ctrl_c_in_a_callback_returns_the_fit():
    def callback(svi, step, loss):
        raise KeyboardInterrupt

    assert fit(callback, callback_every=40).stopped == "interrupted after 40 steps (Ctrl-C)"


def test_a_copy_of_the_parameters_cannot_be_changed_in_vain():
    for change in (lambda p: p["loc"].fill_(3.0), lambda p: p.update(loc=torch.tensor(3.0)), lambda p: p.pop("loc")):
        with pytest.raises(ValueError, match=r"svi.params\['loc'\], which is a copy"):
            fit(lambda svi, step, loss, change=change: change(svi.params))
    fit(lambda svi, step, loss: svi.params["loc"] + 1)  # to read it is fine


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
def test_the_store_changes_the_run(compile, in_place):
    """The run goes on from where the callback puts a parameter, and trains it further."""
    seen = []

    def callback(svi, step, loss):
        seen.append(svi.params["scale"].item())
        if step == 100 and in_place:
            pyro.get_param_store()["scale"].unconstrained().data.fill_(torch.tensor(5.0).log())
        elif step == 100:
            pyro.get_param_store()["scale"] = torch.tensor(5.0)

    fit(callback, 140, callback_every=1, compile=compile)
    assert seen[99] < 1 and 4.5 < seen[100] < 5 and seen[138] < 4.0


def test_a_parameter_of_another_shape_is_refused():
    def callback(svi, step, loss):
        pyro.get_param_store()["loc"] = torch.zeros(3)

    with pytest.raises(ValueError, match=r"'loc': got a value of shape \(3,\), wanted \(\)"):
        fit(callback)


@pytest.mark.parametrize("call", ["step", "run", "race"])
def test_a_callback_cannot_train_the_run_that_it_sees(call):
    with pytest.raises(RuntimeError, match="callback: it would train the run"):
        fit(lambda svi, step, loss: getattr(svi, call)(Y))
    other = credo.SVI(model, guide, compile=False, plan="fast")
    assert fit(lambda svi, step, loss: other.step(Y) and None).losses == fit().losses  # another run may be trained


def test_the_steps_of_a_second_run_are_counted_on():
    seen, runner = [], credo.SVI(model, guide, plan="fast", particles=2, progress=False)
    for _ in range(2):
        runner.run(Y, steps=60, callback=lambda svi, step, loss: seen.append(step), callback_every=50)
    assert seen == [50, 60, 100, 120]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"callback": 3}, "callback: got 3"),
        ({"callback": print, "callback_every": 0}, "callback_every: got 0"),
        ({"callback": print, "callback_every": 2.5}, "callback_every: got 2.5"),
    ],
)
def test_what_cannot_be_a_callback_is_refused_before_the_first_step(options, words):
    with pytest.raises(ValueError, match=words):
        credo.SVI(model, guide, compile=False).run(Y, steps=3, **options)


MORE = {"plain": {}, "clipped": {"clip": 1.0}, "held out": {"validation": (Y + 1.0,), "patience": 5}}


@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
def test_a_watched_run_goes_on_from_its_checkpoint(more, tmp_path):
    """Stopped by Ctrl-C in a callback: rates, clipping, held-out rows and callbacks are those of the whole run."""
    cosine = partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=40)
    options = {"lr": cosine, "callback_every": 10, "checkpoint": tmp_path / "run", "compile": False, **more}
    whole = fit(**{**options, "checkpoint": None})

    def interrupted(svi, step, loss):
        if step == 30:
            raise KeyboardInterrupt

    assert "interrupted after 30 steps" in fit(interrupted, **options).stopped
    seen = []
    rest = fit(lambda svi, step, loss: seen.append(step), **options)
    assert rest.losses == whole.losses and rest.stopped == whole.stopped and seen[0] == 40
    assert torch.equal(rest.params["loc"], whole.params["loc"])


@pytest.mark.parametrize("function", [lambda svi, loss: None, lambda: None, lambda a, b, c, d: None])
def test_a_function_of_other_arguments_is_refused_before_the_first_step(function):
    with pytest.raises(ValueError, match="does not take the three arguments"):
        checked_callback(function, 10)


@pytest.mark.parametrize("function", [lambda *a: None, lambda svi, step, loss, more=1: None, print, max])
def test_functions_that_take_three_arguments_are_accepted(function):
    assert checked_callback(function, 10) == checked_callback(None, 10) == 10

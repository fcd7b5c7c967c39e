"""What ends the stages of a run: their longest length, and the warm-up of its first steps."""

import functools
import os
import signal

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.runtime.parameters import iterate
from credo.inference.variational.course import LONGEST, MANY, MOST, has_races
from credo.inference.variational.races import START
from tests.cases.job import in_job

Y = torch.tensor([1.3, 0.2, 2.0])


def flat_model(y, latents):
    """As many latents as asked for, of which the data see the mean."""
    z = pyro.sample("z", dist.Normal(torch.zeros(latents), 1.0).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z.mean(), 1.0), obs=y)


def flat_guide(y, latents):
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.zeros(latents)), 1.0).to_event(1))


def raced_losses(path, callback=None):
    """(The losses, the parameters) of a run in batches whose plans compete before the first step, and half-way."""
    x = torch.linspace(-1.0, 3.0, 24)

    def model(x):
        loc = pyro.sample("loc", dist.Normal(0.0, 3.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    more = {} if callback is None else {"callback": callback, "callback_every": 1}
    options = {"steps": 60, "batch_size": 4, "every": 7, "compile": False, "progress": False, "seed": 1}
    fit = credo.fit(model, "mean_field", x, checkpoint=path, **options, **more)
    return fit.losses, {name: value.tolist() for name, value in fit.params.items()}


@pytest.fixture
def _races(monkeypatch):
    monkeypatch.setattr("credo.inference.variational.course.START", 60)


def test_several_processes_take_the_steps_of_one_after_a_race_on_the_way(_races, tmp_path):
    one, two = in_job(lambda rank: raced_losses(tmp_path / "two"))
    assert one == two and one[0] == pytest.approx(raced_losses(tmp_path / "one")[0], rel=1e-5)


def test_a_job_goes_on_after_a_race_on_the_way_as_one_that_nobody_disturbed(_races, tmp_path):
    wanted = in_job(lambda rank: raced_losses(tmp_path / "whole"))

    def killed(rank):
        def callback(svi, step, loss):
            if step == 45 and rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)

        return raced_losses(tmp_path / "file", callback)

    assert in_job(killed)[1] is None
    assert in_job(lambda rank: raced_losses(tmp_path / "file")) == wanted


def test_few_steps_have_no_races():
    assert has_races(None) and has_races(START) and not has_races(START - 1)


@pytest.mark.parametrize(
    ("numbers", "least", "most"), [(MANY, float("inf"), float("inf")), (MANY + 1, LONGEST, MOST * LONGEST)]
)
def test_with_many_parameters_a_stage_has_a_longest_length(numbers, least, most, monkeypatch):
    given = []

    def loop(take_steps, ending, **options):
        given.append(ending.convergence.longest())
        return iterate(), "stopped"

    monkeypatch.setattr("credo.inference.variational.run.loop", loop)
    credo.fit(lambda y: flat_model(y, numbers), lambda y: flat_guide(y, numbers), Y)
    assert len(given) == 1 and least <= given[0] <= most


def test_a_run_that_ends_at_its_longest_stages_warns_once_and_says_how_to_go_on(monkeypatch):
    """200 means of 100, from 0, at steps of 0.001: five stages of 300 steps do not get there."""
    monkeypatch.setattr("credo.inference.variational.course.LONGEST", 300)
    monkeypatch.setattr("credo.inference.variational.course.WORK", 1.0)
    monkeypatch.setattr("credo.inference.convergence.newton.MANY", 0)  # as for a network, whose steps Newton leaves be

    def model():
        z = pyro.sample("z", dist.Normal(torch.zeros(200), 100.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=torch.full((200,), 100.0))

    def guide():
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.zeros(200)), 1.0).to_event(1))

    with pytest.warns(UserWarning, match=r"not converged.*Go on: `fit = svi.run") as caught:
        fit = credo.SVI(model, guide, lr=0.001, progress=False).run()
    assert len(caught) == 1 and not fit.converged and "still gaining" in fit.stopped


def unseen(y):
    """A latent that the data say nothing of, so that KL(q || p) alone moves it."""
    pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)


def at_three(y):
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(3.0)), 0.5))


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("warmup", [0, 20])
def test_the_weight_of_the_kl_rises_over_the_steps_asked_for(compile, warmup):
    """Gradient descent of loc² / 2 with weight (t + 1) / (warmup + 1), by hand, in a loop of one's own and in a run."""
    options = {"plan": "fast", "compile": compile, "progress": False, "kl_warmup": warmup}
    optim = functools.partial(torch.optim.SGD, lr=0.1)
    alone, loc = credo.SVI(unseen, at_three, optim, **options), 3.0
    for t in range(40):
        alone.step(Y)
        loc -= 0.1 * loc * min(1.0, (t + 1) / (warmup + 1))
        assert alone.params["loc"].item() == pytest.approx(loc, rel=1e-5)
    seen: list[float] = []
    run = credo.SVI(unseen, at_three, optim, **options)
    run.run(Y, steps=40, callback=lambda svi, *_: seen.append(svi.params["loc"].item()), callback_every=1)
    assert seen[-1] == pytest.approx(loc, rel=1e-5) and len(seen) == 40


def test_a_warm_up_that_leaves_no_step_for_the_average_is_refused():
    svi = credo.SVI(unseen, at_three, kl_warmup=80, progress=False, plan="fast")
    with pytest.raises(ValueError, match="kl_warmup: got 80 for 100 steps, wanted 75 or fewer"):
        svi.run(Y, steps=100)
    with pytest.raises(ValueError, match="kl_warmup"):
        credo.SVI(unseen, at_three, kl_warmup=-1)

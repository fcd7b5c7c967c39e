"""What ends the stages of a run: their longest length, and the warm-up of its first steps."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.runtime.parameters import iterate
from credo.inference.variational.course import LONGEST, MANY, MOST, has_races
from credo.inference.variational.races import START

Y = torch.tensor([1.3, 0.2, 2.0])


def flat_model(y, latents):
    """As many latents as asked for, of which the data see the mean."""
    z = pyro.sample("z", dist.Normal(torch.zeros(latents), 1.0).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z.mean(), 1.0), obs=y)


def flat_guide(y, latents):
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.zeros(latents)), 1.0).to_event(1))


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

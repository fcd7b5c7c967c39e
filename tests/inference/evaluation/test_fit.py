"""`credo.fit` and `credo.plan`, compared with a closed form and with the runner that they call."""

import pytest
import torch

import credo
from tests.cases.job import in_job
from tests.cases.normal_mean import Y, answer
from tests.cases.normal_mean import model as unknown_mean
from tests.cases.planned import X, guide, model


def test_the_mean_field_autoguide_finds_the_posterior():
    fit = credo.fit(unknown_mean, None, Y, steps=800, lr=0.05, progress=False)
    draws, wanted = fit.sample(4000)["z"].double(), answer(Y).marginals["z"]
    assert draws.mean().item() == pytest.approx(wanted.mean.item(), abs=0.05)
    assert draws.std().item() == pytest.approx(wanted.stddev.item(), rel=0.06)


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 1},
        {"lr": 0.1, "particles": 3},
        {"plan": {"loc": "score"}},
        {"optim": torch.optim.SGD, "plan": "fast"},
        {"guide": "map"},
    ],
    ids=str,
)
def test_a_fit_is_a_run_of_the_runner_with_the_same_arguments(options):
    options = dict(options)
    q = options.pop("guide", guide)
    fit = credo.fit(model, q, X, steps=6, compile=False, progress=False, **options)
    runner = credo.SVI(model, q, compile=False, progress=False, **options)
    run = runner.run(X, steps=6)
    assert len(fit.losses) == 6 and fit.losses == run.losses and fit.plan.entries == run.plan.entries
    for name, value in fit.params.items():
        assert torch.equal(value, run.params[name])
    others = credo.fit(model, q, X, steps=6, compile=False, progress=False, **options | {"seed": 5}).losses
    assert q == "map" or others != fit.losses


def test_a_plan_is_that_of_the_runner_and_gets_its_arguments(unchanged):
    runner = credo.SVI(model, guide, seed=2, particles=4, plan={"loc": "score"}, progress=False)
    with unchanged():
        plan = credo.plan(model, guide, X, seed=2, particles=4, plan={"loc": "score"})
    assert plan == runner.race(X)
    assert plan.particles == 4 and plan.estimator("loc") == "score" and plan.variance > 0


def test_processes_of_a_job_with_other_seeds_or_another_start_are_refused():
    def refused(**options):
        with pytest.raises(ValueError) as raised:
            credo.fit(model, guide, X, steps=5, progress=False, shard="particles", particles=2, **options)
        return str(raised.value)

    def work(rank):
        start = credo.fit(model, guide, X, steps=5, progress=False, shard="particles", particles=2)
        return [
            refused(seeds=2 + rank),
            refused(seeds=[0, 1 + rank]),
            refused(seeds=2 if rank else None),
            refused(start=start if rank else None),
        ]

    for number, listed, absent, start in in_job(work):
        assert "other options. rank 1: seeds= is 3, and rank 0 has 2" in number
        assert "other options. rank 1: seeds= " in listed
        assert "rank 1: seeds= is 2, and rank 0 has None" in absent
        assert "rank 1: start= is " in start and "rank 0 has None" in start

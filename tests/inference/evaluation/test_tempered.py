"""A fit at a temperature that is not 1 is not the posterior, and its verdict says so, however good the fit is."""

from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import credo
from credo.inference.evaluation.tempered import temperature_of

Y = torch.tensor([0.3, 1.1, 0.7, 0.2])


def model(y, said=0.5):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    infer = {"temperature": said} if said else {}
    with pyro.plate("N", len(y)), poutine.scale(scale=2.0):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y, infer=infer)


def guide(y, said=0.5):
    loc = pyro.param("loc", torch.tensor(0.5))
    scale = pyro.param("scale", torch.tensor(0.3), constraint=dist.constraints.positive)
    pyro.sample("mu", dist.Normal(loc, scale))


def test_a_good_fit_of_the_tempered_density_is_not_the_posterior():
    fit = credo.fit(model, guide, Y, steps=150, lr=0.05, plan="fast", progress=False, compile=False)
    precision = 1 + 2 * len(Y)
    assert abs(fit.params["loc"] - 2 * Y.sum() / precision) < 0.3 * precision**-0.5
    assert temperature_of(fit) == 0.5
    for verdict in (fit.verdict, credo.check(fit)):
        assert verdict.trust == "no"
        assert verdict.reasons[0].startswith("temperature 0.5: each row counts 2 times, which is not the posterior")
        assert "temperature=1" in verdict.remedy


@pytest.mark.parametrize("guide", [None, "laplace", "full_rank"])
def test_a_fit_without_steps_says_so_too(guide):
    """It is the best normal, of the tempered density: N(2 sum y / 9, 1 / 9) where each of four rows counts twice."""
    fit = credo.fit(model, guide, Y, progress=False, compile=False)
    mean = fit.sample(4000)["mu"].mean()
    assert fit.method != "svi" and abs(mean - 2 * Y.sum() / 9) < 4 / 3 / 4000**0.5
    assert fit.verdict.trust == "no" and sum("temperature 0.5" in reason for reason in fit.verdict.reasons) == 1


def test_a_scale_alone_is_no_temperature():
    fit = credo.fit(model, guide, Y, said=0.0, steps=10, plan="fast", progress=False, compile=False)
    assert temperature_of(fit) == 1
    assert "temperature" not in repr(fit.verdict)


def test_a_fit_by_batches_says_so_from_a_batch():
    settings = {"steps": 2, "batch_size": 2, "plan": "fast", "progress": False, "compile": False}
    fit = credo.fit(model, guide, Y, **settings)
    seen = []

    def watched(y, said=0.5):
        seen.append(len(y))
        return model(y, said)

    assert temperature_of(replace(fit, model=watched)) == 0.5 and seen == [2]
